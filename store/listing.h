/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_LISTING_H
#define STORE_LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/archive.h"
#include "store/pack.h"

/* listing: which checkpoints an archive has, and which packs they need. */

struct listing_item {
	char name[ARCHIVE_NAME_BYTES];
	uint64_t number;
};

/* Ordered by name, then number; *items is given (free). */
MUST_USE enum err listing_read(int root, struct listing_item **items, size_t *count);

/* The packs that all checkpoints need, each once, ordered by id.  *refs is given
 * (free).  *complete is false if a manifest could not be read: what it needs is
 * then unknown.  Manifests that contradict each other count as unreadable. */
MUST_USE enum err listing_packs(int root, const struct crypt *crypt, struct pack_ref **refs,
				size_t *count, bool *complete);

/* Find id in refs ordered by id; NULL if absent. */
const struct pack_ref *listing_find(const struct pack_ref *refs, size_t count,
				    const struct pack_id *id);

#endif
