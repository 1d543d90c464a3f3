/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_SHARES_H
#define STORE_SHARES_H

#include "store/shared.h"

/* shares: archive_shares; see archive.h. */
MUST_USE enum err shares(struct archive *a, struct progress *progress, archive_share_fn *fn,
			 void *arg);

#endif
