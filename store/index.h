/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_INDEX_H
#define STORE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/progress.h"
#include "store/catalog.h"
#include "store/crypt.h"

/* index: where a page with a given digest is already stored.  A cache.
 *
 *   index/state      record: how many packs, which runs; replaced durably
 *   index/packs      references of packs, 76 bytes each, by number; only appended to
 *   index/run-N      sorted entries: first 8 bytes of a digest -> pack number, slot;
 *                    never changed (indexrun.h)
 *   index/lock       held exclusively while any of that is changed
 *
 * Nothing relies on it: every hit is compared with the whole digest in the
 * pack's own directory, and only packs that a manifest names are used.  So it needs no
 * secret and no proof of its own: a false entry is a miss, a lost one costs that a page
 * is stored again, a damaged block, by its check, that the index is made again.  What state
 * names was durable before, so a kill or a power cut costs nothing.
 *
 * Looking up takes no lock: it uses the runs that were there when the index was opened
 * or last added to.
 *
 * Any thread. */

struct index;

struct index_hit {
	uint32_t pack; /* number for index_ref; INDEX_MISS: not stored yet */
	uint32_t slot;
};
#define INDEX_MISS UINT32_MAX

/* Open or rebuild, and add the packs that it does not know yet.  catalog is borrowed
 * until index_close. */
MUST_USE enum err index_open(int root, const struct crypt *crypt, struct catalog *catalog,
			     struct progress *progress, struct index **out);
void index_close(struct index *x); /* NULL allowed */

/* Look up n pages; a failure of the index is a miss. */
void index_lookup(struct index *x, const struct digest *digests, size_t n, struct index_hit *hits);
/* The reference behind a hit's pack number. */
struct pack_ref index_ref(struct index *x, uint32_t pack);

/* Add published packs. */
MUST_USE enum err index_add(struct index *x, const struct pack_ref *refs, size_t n);

/* Remove all of it, so that the next index_open rebuilds.  Who has it open goes on with
 * what there was. */
MUST_USE enum err index_drop(int root);

/* Read all of it, and look up what the packs that it knows hold.  ERR_CORRUPT with a note
 * naming the damage; an index that is not there is none. */
MUST_USE enum err index_verify(int root, const struct crypt *crypt, struct catalog *catalog);

MUST_USE enum err index_bytes(int root, uint64_t *bytes);

#endif
