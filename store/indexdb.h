/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_INDEXDB_H
#define STORE_INDEXDB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "store/pack.h"

/* indexdb: the two LMDB tables of the index, without any policy.
 *
 * LMDB runs without its own locks (MDB_NOLOCK): the caller holds index/txn
 * shared for a read and exclusively for a write.  So a killed process leaves no
 * lock and no reader behind, and several handles in one process do not disturb
 * each other.  One thread at a time per handle. */

struct indexdb;

MUST_USE enum err indexdb_open(const char *dir, bool writable, struct indexdb **out);
void indexdb_close(struct indexdb *db); /* NULL allowed */

/* For each digest whose pack[i] is UINT32_MAX: pack number and slot, if there. */
MUST_USE enum err indexdb_get(struct indexdb *db, const struct digest *digests, size_t n,
			      uint32_t *pack, uint32_t *slot);
/* Read references numbered from *count on, append them to *refs (realloc). */
MUST_USE enum err indexdb_packs(struct indexdb *db, struct pack_ref **refs, uint32_t *count);
/* Add a pack under the next number with its digests by slot. */
MUST_USE enum err indexdb_add(struct indexdb *db, const struct pack_ref *ref,
			      const struct digest *digests, uint32_t number);

/* Calls fn with each entry; anything but ERR_OK ends it. */
typedef enum err indexdb_fn(void *arg, const uint8_t key[8], uint32_t pack, uint32_t slot);
MUST_USE enum err indexdb_walk(struct indexdb *db, indexdb_fn *fn, void *arg);

#endif
