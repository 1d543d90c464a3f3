/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_RECALL_H
#define STORE_RECALL_H

#include <stdint.h>

#include "base/err.h"
#include "store/crypt.h"
#include "store/group.h"
#include "store/manifest.h"

/* recall: what the pages of a name's newest checkpoint were, by position.  A cache.
 *
 *   index/recall-NAME   a sum (group.h) of each page, keyed; FORMAT.md, section 7
 *
 * A page whose sum is that of the parent's page at its place is that page: it needs no
 * digest.  The sum is Poly1305 under a key that only this file has: whoever makes pages
 * without knowing it (a machine) finds two of one sum by chance only, 2^-95 for a pair
 * that he picks, however often the key is used, for no sum is ever shown to him.
 *
 * It holds for one checkpoint, by the digest of its root; another, none, or a damaged one
 * costs that pages are hashed.  Nothing in it is synced.  Nothing here fails: without
 * memory, room or permission there is no recall.
 *
 * Threads: _expect by the one that puts, _note and _forget by the assigner, the rest by
 * the owner, when nobody does these. */

struct recall;
/* For the writer `id` of a new checkpoint; parent (borrowed; NULL: none) is what it is
 * compared with. */
MUST_USE enum err recall_open(int root, const struct crypt *crypt, const struct writer_id *id,
			      const struct manifest *parent, struct recall **out);
/* What was not kept is removed.  NULL allowed. */
void recall_close(struct recall *r);

/* The key of all sums: the parent's, so that they can be compared, else a new one. */
const struct group_sum_key *recall_key(const struct recall *r);
/* The sum of a page of the parent's stream, borrowed until the next call; NULL: not known.
 * Made for ascending positions. */
const struct group_sum *recall_expect(struct recall *r, uint32_t stream, uint64_t page);

/* The new checkpoint has that page. */
void recall_note(struct recall *r, uint32_t stream, uint64_t page, const struct group_sum *sum);
/* It has pages whose sums nobody knows: do not remember it. */
void recall_forget(struct recall *r);
/* It was published: from now on it is what NAME is compared with. */
void recall_keep(struct recall *r, const struct checkpoint_info *info);

/* Remove those of names that have no checkpoint, and what killed writers left. */
void recall_prune(int root);
void recall_drop(int root); /* all of them */
uint64_t recall_bytes(int root);
/* Read all of them: ERR_CORRUPT, with a note that names the file. */
MUST_USE enum err recall_verify(int root, const struct crypt *crypt);

#endif
