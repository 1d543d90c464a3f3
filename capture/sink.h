/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CAPTURE_SINK_H
#define CAPTURE_SINK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/progress.h"
#include "store/archive.h"

/* sink: where an image goes.  One thread at a time.
 * Order: stream* -> put* (ascending per stream) -> commit | abort; both free it. */
struct sink;
struct sink_ops {
	enum err (*stream)(struct sink *s, const char *name, uint64_t length, unsigned *index);
	enum err (*put)(struct sink *s, unsigned index, uint64_t offset, const void *p, size_t len);
	enum err (*commit)(struct sink *s, const char *label, struct checkpoint_info *out);
	void (*abort)(struct sink *s);
};
struct sink { const struct sink_ops *ops; };

MUST_USE enum err sink_archive_open(struct archive *a, const char *name,
				    struct progress *progress, struct sink **out);

#endif
