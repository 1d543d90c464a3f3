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

/* index: where a page with a given digest is already stored.  A cache.
 *
 *   index/data.mdb   LMDB: first 8 bytes of a digest -> number of a pack, slot;
 *                    number of a pack -> its reference
 *   index/clean      record: size and SHA-256 of data.mdb, made at a clean end
 *   index/live       exists while users have the index open
 *   index/users      locked shared by each user; exclusively by one who checks,
 *                    rebuilds or ends cleanly
 *   index/stale      exists when packs were deleted since the index was made
 *   index/txn        locked shared for lookups, exclusively for additions
 *
 * Nothing relies on it: every hit is compared with the whole digest in the
 * pack's own directory, and only packs that a manifest names are used.  LMDB may
 * crash on a damaged file, so a file is opened only when its digest agrees with
 * the mark; else it is removed and made again from the packs' directories.
 *
 * Any thread. */

struct index;

struct index_hit {
	uint32_t pack; /* number for index_ref; INDEX_MISS: not stored yet */
	uint32_t slot;
};
#define INDEX_MISS UINT32_MAX

/* Open or rebuild, and add the packs that it does not know yet.  path is the
 * archive's absolute path; catalog is borrowed until index_close. */
MUST_USE enum err index_open(int root, const char *path, const struct crypt *crypt,
			     struct catalog *catalog, struct progress *progress,
			     struct index **out);
/* NULL allowed.  Leaves the clean mark if nobody else uses the index. */
void index_close(struct index *x);

/* Look up n pages; a failure of the index is a miss. */
void index_lookup(struct index *x, const struct digest *digests, size_t n, struct index_hit *hits);
/* The reference behind a hit's pack number. */
struct pack_ref index_ref(struct index *x, uint32_t pack);

/* Add a published pack. */
MUST_USE enum err index_add(struct index *x, const struct pack_ref *ref);

/* Remove all of it, so that the next index_open rebuilds.  ERR_BUSY if in use. */
MUST_USE enum err index_drop(int root);

/* Packs were deleted: entries that lead to them would hide later copies of their pages.  The
 * next user who is alone makes the index again. */
MUST_USE enum err index_outdated(int root);

/* Compare the index, if it is at rest and has a clean end behind it, with its
 * mark and with the packs' directories; an index in use or after an unclean end is
 * not looked at (the next user rebuilds it).  ERR_CORRUPT with a note naming the
 * damage. */
MUST_USE enum err index_verify(int root, const char *path, struct catalog *catalog);

MUST_USE enum err index_bytes(int root, uint64_t *bytes);

#endif
