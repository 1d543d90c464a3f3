/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_READER_H
#define STORE_READER_H

#include <pthread.h>

#include "store/cursor.h"
#include "store/fetch.h"
#include "store/lease.h"
#include "store/manifest.h"
#include "store/shared.h"

/* reader: a checkpoint that is being read.  The contracts are those of archive.h. */

struct archive_reader {
	struct archive *a;
	struct lease *lease; /* taken before the manifest was read */
	struct manifest m;
	int fd;
	pthread_mutex_t lock;
	struct lane *idle; /* lanes that no call uses */
};

MUST_USE enum err reader_create(struct archive *a, const struct checkpoint_info *c,
				struct archive_reader **out);
void reader_destroy(struct archive_reader *r);
MUST_USE enum err reader_read(struct archive_reader *r, unsigned index, uint64_t offset, void *buf,
			      size_t len);
/* Put "NAME@N, stream S at byte OFFSET: " before the note of a failed read. */
MUST_USE enum err reader_context(const struct archive_reader *r, unsigned index, uint64_t offset,
				 enum err e);

/* In extract.c: archive_read_all. */
MUST_USE enum err extract(struct archive_reader *r, unsigned index, struct progress *progress,
			  archive_extent_fn *fn, void *arg);

#endif
