/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_FETCH_H
#define STORE_FETCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/catalog.h"

/* fetch: verified pages out of packs.
 *
 * Keeps the last few expanded groups, for pages that share one.  One thread at a
 * time.
 *
 * By what a page counts as verified:
 *
 *   FETCH_DIGEST  its digest, computed anew, is that of the directory: for whoever makes
 *                 new copies of pages, and deletes old ones, on the strength of it.
 *   FETCH_SEAL    that, or the whole seal of its group: for giving pages out.  The
 *                 argument is in FORMAT.md, section 4; without encryption there is no
 *                 seal, and it is the same as FETCH_DIGEST. */

enum fetch_proof { FETCH_DIGEST, FETCH_SEAL };

struct fetch;
/* It keeps up to `groups` expanded ones, GROUP_BYTES each: FETCH_GROUPS for single reads, so many
 * as a fragmented region may have for whole streams. */
#define FETCH_GROUPS 8u
MUST_USE enum err fetch_create(enum fetch_proof proof, unsigned groups, struct fetch **out);
void fetch_destroy(struct fetch *f); /* NULL allowed */

/* The pages of count slots from slot on (or count times that slot, with repeat)
 * into out, each verified.  ERR_CORRUPT: *bad is the first of the
 * pages that cannot be given out, from 0; what is in out is then unspecified. */
MUST_USE enum err fetch_pages(struct fetch *f, const struct catalog_pack *p, uint32_t slot,
			      uint32_t count, bool repeat, uint8_t *out, uint32_t *bad);

#endif
