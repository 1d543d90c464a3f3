/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_VERIFY_H
#define STORE_VERIFY_H

#include "store/shared.h"

/* verify: archive_verify; see archive.h. */
MUST_USE enum err verify(struct archive *a, const struct archive_verify_options *opt,
			 struct progress *progress, archive_damage_fn *fn, void *arg,
			 struct archive_verify_result *result);

#endif
