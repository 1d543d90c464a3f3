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
 * time. */

struct fetch;
MUST_USE enum err fetch_create(struct fetch **out);
void fetch_destroy(struct fetch *f); /* NULL allowed */

/* The pages of count slots from slot on (or count times that slot, with repeat)
 * into out, each checked against its digest.  ERR_CORRUPT: *bad is the first of the
 * pages that cannot be given out, from 0; what is in out is then unspecified. */
MUST_USE enum err fetch_pages(struct fetch *f, const struct catalog_pack *p, uint32_t slot,
			      uint32_t count, bool repeat, uint8_t *out, uint32_t *bad);

#endif
