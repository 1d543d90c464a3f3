/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_SALVAGE_H
#define STORE_SALVAGE_H

#include "store/reader.h"

/* salvage: archive_salvage; see archive.h. */
MUST_USE enum err salvage(struct archive_reader *r, unsigned index, uint64_t offset,
			  uint64_t length, struct progress *progress, archive_extent_fn *fn,
			  archive_lost_fn *lost, void *arg);

#endif
