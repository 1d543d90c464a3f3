/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_COPY_H
#define STORE_COPY_H

#include "store/shared.h"

/* copy: archive_copy; see archive.h. */
MUST_USE enum err copy(struct archive *from, const struct checkpoint_info *c, struct archive *to,
		       const struct archive_copy_options *opt, struct progress *progress,
		       struct archive_copy_result *result);

#endif
