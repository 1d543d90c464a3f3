/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_DEDUP_H
#define STORE_DEDUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "store/runset.h"

/* dedup: the new pages of one writer, by the first 8 bytes of their digest.
 *
 * Until a checkpoint is committed nobody else may use its packs, so they are not
 * in the index but here: 16 bytes a page at a fill of at most 3/4.  Beyond a limit they
 * go into temporary runs (runset.h), so that memory does not grow with the checkpoint.
 * A find is a candidate; the caller compares the whole digest.  One thread at a time. */

#define DEDUP_LIMIT (1u << 20) /* pages in memory: 32 MiB */

struct dedup {
	struct index_entry *entry;
	size_t room, count; /* room is a power of two, or 0 */
	size_t limit;	    /* 0: none */
	struct runset spilled;
};

/* root: of the archive, borrowed. */
void dedup_init(struct dedup *d, int root, size_t limit);

void dedup_fini(struct dedup *d);
bool dedup_find(const struct dedup *d, const struct digest *digest, uint32_t *pack,
		uint32_t *slot);
/* In place of one with the same 8 bytes: what is stored again lies nearer to what comes. */
MUST_USE enum err dedup_add(struct dedup *d, const struct digest *digest, uint32_t pack,
			    uint32_t slot);

#endif
