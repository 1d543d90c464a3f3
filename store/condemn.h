/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_CONDEMN_H
#define STORE_CONDEMN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/layout.h"
#include "store/record.h"

/* condemn: what is to be deleted once nobody can need it any more.
 *
 *   condemned/ID.pack, condemned/ID.forward
 *     record LBCONDEM: 12 pack id (16), 28 epoch (le64), 36: 0 pack, 1 forward (le32)
 *
 * A record says: at this epoch no checkpoint needed anything of it, or only what its forward
 * leads to.  It is a note of the collection to itself and to writers, and may be lost at any
 * time: then the thing is merely kept longer.  So it is written without a sync. */

#define CONDEMN_MAGIC "LBCONDEM"

struct condemned {
	struct pack_id id; /* first: the set is sorted by it */
	bool forward;
	uint64_t epoch;
};

struct condemned_set {
	struct condemned *item; /* ordered by id, then pack before forward */
	size_t count;
};

/* Read all; damaged ones are left out, and removed if clean. */
MUST_USE enum err condemned_load(int root, bool clean, struct condemned_set *set);
void condemned_fini(struct condemned_set *set);
/* NULL if it is not condemned. */
const struct condemned *condemned_find(const struct condemned_set *set, const struct pack_id *id,
				       bool forward);

/* Write and remove a record.  Lifting what is not condemned is fine. */
MUST_USE enum err condemned_add(int root, const struct condemned *c);
MUST_USE enum err condemned_lift(int root, const struct pack_id *id, bool forward);
/* May a job whose lease has that epoch let a new checkpoint refer to the pack?  ERR_BUSY if it
 * was condemned before the job began, or is gone. */
MUST_USE enum err condemned_allows(int root, const struct condemned_set *set, uint64_t epoch,
				   const struct pack_id *id);
/* Is it still there? */
MUST_USE enum err condemned_stands(int root, const struct condemned *c, bool *stands);

void condemned_encode(const struct condemned *c, uint8_t rec[RECORD_BYTES]);
/* ERR_CORRUPT. */
MUST_USE enum err condemned_decode(const uint8_t rec[RECORD_BYTES], struct condemned *c);

#endif
