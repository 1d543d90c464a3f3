/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_FORWARD_H
#define STORE_FORWARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/crypt.h"
#include "store/pack.h"
#include "store/runs.h"

/* forward: where the pages of a pack are that was rewritten and deleted.
 *
 * forwards/ID is two equal copies, one after the other, of
 *
 *   0        record LBFORWRD: 12 reference of the old pack (68); 80 targets (le32); 84 runs
 *            (le32); 88 bytes of the runs (le32); 92 first slot (le32); 96 slot after the
 *            last (le32); 100 digest of all that follows the record in this copy (32)
 *   512      header of the old pack, as it was
 *   1024     directory of the old pack, as it was stored
 *            targets: references, 68 bytes each
 *            runs: as in a manifest; page = slot of the old pack, pack = place in targets
 *
 * It needs no authentication of its own: the manifest binds the old directory, the old
 * directory holds the digest of each page, and a page that is not the one is not given out,
 * wherever the forward leads.  Slots in no run were needed by nobody. */

#define FORWARD_MAGIC "LBFORWRD"
#define FORWARD_FIXED (2 * RECORD_BYTES)
/* A forward may lead to a pack that was itself rewritten; so many times at most. */
#define FORWARD_DEPTH 16u

struct forward {
	struct pack_ref ref; /* of the old pack */
	uint32_t n_targets, n_runs, runs_bytes;
	uint32_t first, end;
	struct pack_ref *target;
	struct run *run;
};

void forward_fini(struct forward *f);

/* Decode one copy of len bytes; the old directory is not looked into.  ERR_CORRUPT. */
MUST_USE enum err forward_decode(const uint8_t *p, size_t len, struct forward *f);
/* Bytes of one copy. */
uint64_t forward_bytes(const struct forward *f);

/* Read forwards/ID, the first sound copy; dir (NULL: not wanted) gets the old directory,
 * checked by ref.  *damaged: one copy is.  ERR_NOTFOUND, ERR_CORRUPT. */
MUST_USE enum err forward_load(int root, const struct crypt *crypt, const struct pack_id *id,
			       struct forward *f, struct pack_dir *dir, bool *damaged);

/* Write forwards/ID with the bytes of header and directory taken from the pack's file (fd,
 * path); its content is durable when this returns, its name when forwards/ was synced.
 * f: ref, targets and runs; the rest is set. */
MUST_USE enum err forward_write(int root, int fd, const char *path, struct forward *f);

/* Where slot is now: target and its slot, and how many of the next slots follow each other
 * there (with repeat: 1).  ERR_CORRUPT if it is nowhere. */
MUST_USE enum err forward_find(const struct forward *f, uint32_t slot,
			       const struct pack_ref **target, uint32_t *target_slot,
			       uint32_t *count);

/* How many forwards lead to this pack, one after the other; those that cannot be read lead
 * nowhere.  For few questions: each reads them all. */
MUST_USE enum err forward_depth(int root, const struct crypt *crypt, const struct pack_id *id,
				unsigned *depth);

/* The packs whose forwards there are, ordered by id; *ids is given (free). */
MUST_USE enum err forward_list(int root, struct pack_id **ids, size_t *count);

/* Of a list of references (given by malloc, ordered by id), replace those that have a
 * forward and no file any more by what that leads to, until all have files. */
MUST_USE enum err forward_follow(int root, const struct crypt *crypt, struct pack_ref **refs,
				 size_t *count);

#endif
