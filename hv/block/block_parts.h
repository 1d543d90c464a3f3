/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_BLOCK_BLOCK_PARTS_H
#define HV_BLOCK_BLOCK_PARTS_H

#include <liburing.h>
#include <stdatomic.h>

#include "hv/block/block.h"

/* block_parts: what the files of hv/block know of each other; private. */

struct block {
	const struct block_ops *ops;
	struct block_info info;
	_Atomic uint64_t *changed; /* one bit per BLOCK_TRACK_BYTES */
	size_t changed_words;
};

/* Common part; after info is filled.  block_fini frees what init made. */
MUST_USE enum err block_init(struct block *b, const struct block_ops *ops);
void block_fini(struct block *b);

struct block_queue {
	struct loop *loop;
	struct loop_watch *watch;
	struct io_uring ring;
	bool ring_made;
	int event_fd;
	unsigned depth, in_kernel, busy;
	bool unsubmitted, reaping;
	struct block_io *first, **last; /* wait for their turn */
};

/* The request is done. */
void block_done(struct block_queue *q, struct block_io *io, int error);
/* A place in the ring for the next step of io: it is there, since only so many steps
 * are handed out. */
struct io_uring_sqe *block_queue_step(struct block_queue *q, struct block_io *io);
/* What a test wants of this step: an errno, or 0 and maybe a smaller *len. */
int block_fault(const struct block_io *io, size_t *len);

#endif
