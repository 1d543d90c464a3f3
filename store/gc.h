/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_GC_H
#define STORE_GC_H

#include "store/shared.h"

/* gc: archive_gc; see archive.h. */
MUST_USE enum err gc(struct archive *a, const struct archive_gc_options *opt,
		     struct progress *progress, archive_holder_fn *fn, void *arg,
		     struct archive_gc_result *result);

#endif
