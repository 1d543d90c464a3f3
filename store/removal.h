/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_REMOVAL_H
#define STORE_REMOVAL_H

#include "store/shared.h"

/* removal: archive_remove and archive_pin; see archive.h. */
MUST_USE enum err removal(struct archive *a, const struct checkpoint_info *c);
MUST_USE enum err removal_pin(struct archive *a, const struct checkpoint_info *c,
			      const char *owner, struct archive_pin *out);
MUST_USE enum err removal_unpin(struct archive *a, const char *id);

#endif
