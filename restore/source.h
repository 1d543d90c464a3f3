/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RESTORE_SOURCE_H
#define RESTORE_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/progress.h"
#include "store/archive.h"

/* source: where an image comes from.  One thread at a time. */
typedef enum err source_extent_fn(void *arg, uint64_t offset, const void *p, size_t len);
struct source;
struct source_ops {
	/* ERR_NOTFOUND if the image has no such stream. */
	enum err (*length)(struct source *s, const char *stream, uint64_t *length);
	/* A whole small stream, appended to out; ERR_CORRUPT above max bytes. */
	enum err (*blob)(struct source *s, const char *stream, size_t max, struct buf *out);
	/* All non-zero extents, ascending; calls one at a time, any thread. */
	enum err (*extents)(struct source *s, const char *stream, struct progress *progress,
			    source_extent_fn *fn, void *arg);
	void (*close)(struct source *s);
};
struct source { const struct source_ops *ops; };

MUST_USE enum err source_archive_open(struct archive *a, const struct checkpoint_info *c,
				      struct source **out);

#endif
