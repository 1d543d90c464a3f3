/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_MARK_H
#define STORE_MARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/progress.h"
#include "store/crypt.h"
#include "store/listing.h"
#include "store/pack.h"

/* mark: which slots of which packs the checkpoints need.
 *
 * One bit for each slot of a pack that a checkpoint lists, and about 120 bytes a pack: 2 MB
 * for ten million pages, 36 MB for a TiB of them.  Bits are only ever added: a second look
 * adds the checkpoints that came since.  One thread. */

struct mark_pack {
	struct pack_ref ref; /* slots == 0: only the id is known, nobody lists it */
	uint8_t *live;	     /* a bit for each slot; NULL: none */
	uint32_t live_slots;
	uint32_t uncovered; /* live slots that its forward does not have */
	uint8_t depth;	    /* forwards that lead here, one after the other */
	bool listed;	    /* by a manifest */
	bool file;	    /* packs/ has it */
	bool forward;	    /* forwards/ has it */
	bool changed;	    /* since its forward was followed */
};

struct mark {
	int root;		   /* borrowed, as are crypt and progress */
	const struct crypt *crypt;
	struct progress *progress;
	struct mark_pack *pack; /* ordered by id */
	size_t n, room;
	struct listing_item *seen; /* manifests that were walked, ordered */
	size_t n_seen;
	/* False if not all is known that is needed; why says what could not be read. */
	bool complete;
	char why[ERR_NOTE_BYTES];
};

/* List the packs and forwards that there are; nothing is marked. */
MUST_USE enum err mark_begin(struct mark *m, int root, const struct crypt *crypt,
			     struct progress *progress);
void mark_end(struct mark *m);
/* Mark what the manifests need that were not seen yet. */
MUST_USE enum err mark_manifests(struct mark *m);
/* Carry the marks on to where forwards lead. */
MUST_USE enum err mark_forwards(struct mark *m);
/* NULL if there is none; until the next call that adds some. */
struct mark_pack *mark_find(const struct mark *m, const struct pack_id *id);
/* A pack that was just made. */
MUST_USE enum err mark_add(struct mark *m, const struct pack_ref *ref);

static inline bool mark_is_live(const struct mark_pack *p, uint32_t slot)
{
	return p->live && p->live[slot / 8] >> slot % 8 & 1;
}

#endif
