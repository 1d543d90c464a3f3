/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_BLOCK_BLOCK_H
#define HV_BLOCK_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/loop.h"

/* block: the content of a disk, whatever holds it.
 *
 * Raw files and block devices now (block_raw.c); a layer over an archive has the same
 * face later.  All transfers are asynchronous: block_submit hands a request to a queue,
 * and its `done` is called once, on that queue's thread.
 *
 * Ordering: requests that are in flight together may be done in any order, also where
 * they overlap; who needs an order waits for `done`.  A flush covers every write that
 * was done before it was submitted.  A write with `fua` is durable when it is done.
 * Discarded and zeroed ranges read as zeros.
 *
 * Changed blocks: every range that a request may have changed (also one that failed
 * half-way) is in the map when its `done` runs, writes, discards, zeroing and resizing
 * alike.  So whoever takes the map while nothing is in flight misses nothing; what is in
 * flight then comes with the next map.
 *
 * Drain: a queue knows what is in flight (block_queue_busy); users stop submitting and
 * wait for their own requests.  Neither block nor queue keeps state worth saving.
 *
 * Threads: one queue belongs to one loop's thread: submit, kick and done happen there.
 * Several queues may work on one block at the same time. */

#define BLOCK_SECTOR_BYTES 512u
#define BLOCK_MAX_BYTES (64ull << 40)
#define BLOCK_TRACK_BYTES 65536u /* what one bit of the map of changed blocks stands for */
#define BLOCK_ID_BYTES 16u

#define BLOCK_ZERO_PIECES 8u

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_ZERO };

struct block_io {
	/* The submitter's; the first four stay as they were. */
	enum block_op op;
	bool fua;		/* writes, zeroing, discards: durable when done */
	uint64_t offset, bytes; /* multiples of BLOCK_SECTOR_BYTES; 0 for a flush */
	struct iovec *iov;	/* reads, writes: together `bytes` long; used up by the transfer */
	unsigned iov_count;
	void (*done)(struct block_io *io);
	/* The result: 0 or an errno.  ENOSPC, EDQUOT: the host has no room; else the data
	 * could not be read or written. */
	int error;

	/* The block's own. */
	struct block *block;
	struct block_io *next;
	uint64_t at, left;
	bool syncing;
	struct iovec zeros[BLOCK_ZERO_PIECES];
};

struct block;
struct block_queue;

struct block_info {
	uint64_t bytes;
	bool read_only;
	bool discard; /* discards give room back to the host, and read as zeros */
	uint8_t id[BLOCK_ID_BYTES];
};

/* ---- queues ---- */

/* For at most `depth` requests at a time in the kernel; more wait in order.  The
 * loop's fd callbacks run it.  ERR_UNSUPPORTED: this host permits no io_uring. */
MUST_USE enum err block_queue_create(struct loop *loop, unsigned depth, struct block_queue **out);
void block_queue_destroy(struct block_queue *q); /* nothing in flight; NULL allowed */
/* Give the kernel what was submitted since the last time: once after a batch. */
void block_queue_kick(struct block_queue *q);
unsigned block_queue_busy(const struct block_queue *q); /* requests that are not done */

/* ---- disks ---- */

/* What holds the content. */
struct block_ops {
	/* The next step of io, from io->at on, or all of it; block_done in the end. */
	void (*submit)(struct block *b, struct block_queue *q, struct block_io *io);
	/* What the kernel said of a step that the queue carried out. */
	void (*stepped)(struct block *b, struct block_queue *q, struct block_io *io, int result);
	enum err (*resize)(struct block *b, uint64_t bytes);
	void (*destroy)(struct block *b);
};

/* A raw file or block device.  fd is borrowed, open for writing unless read_only, and
 * locked by whoever opened it.  direct_fd: the same file with O_DIRECT, for what is
 * aligned to `direct_align` bytes; -1: everything goes through the host's cache.
 * ERR_USAGE: no such size. */
struct block_raw {
	int fd, direct_fd;
	uint32_t direct_align;
	bool read_only;
	uint8_t id[BLOCK_ID_BYTES];
	const char *name; /* for logs and notes; borrowed */
};
MUST_USE enum err block_raw_create(const struct block_raw *raw, struct block **out);
void block_destroy(struct block *b); /* nothing in flight; NULL allowed */

void block_info(const struct block *b, struct block_info *out);

/* A range that does not lie on the disk or a write to a read-only disk is the
 * submitter's mistake (asserted): check it before. */
void block_submit(struct block *b, struct block_queue *q, struct block_io *io);

/* Nothing in flight.  What is new reads as zeros, if it is a file; a block device has to have
 * that size already (ERR_USAGE).  ERR_NOSPACE, ERR_IO, ERR_AUTH. */
MUST_USE enum err block_resize(struct block *b, uint64_t bytes);

/* ---- changed blocks ---- */

/* OR the map into bits (one a BLOCK_TRACK_BYTES, lowest first; room for block_track_words
 * words) and empty it.  Any thread. */
size_t block_track_words(const struct block *b);
void block_track_take(struct block *b, uint64_t *bits);

/* ---- for tests ---- */

/* Asked before each transfer: != 0 fails it with that errno; *len may be made smaller:
 * a short transfer.  Set while no request is in flight; NULL removes it. */
typedef int block_fault_fn(void *arg, const struct block_io *io, size_t *len);
void block_fault_set(block_fault_fn *fn, void *arg);

#endif
