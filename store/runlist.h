/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_RUNLIST_H
#define STORE_RUNLIST_H

#include "store/manifest.h"

/* runlist: collects where the pages of one stream are, and encodes it as blocks.
 * One thread at a time. */

struct runlist {
	struct run last; /* count == 0: none yet */
	struct runs_at at;
	struct buf open; /* the block that grows */
	uint32_t open_runs;
	uint64_t open_first;
	struct manifest_block *block; /* finished ones; without offset */
	uint32_t blocks, room;
	struct buf data; /* their bytes, one after the other */
	uint64_t pages;
};

void runlist_fini(struct runlist *l);
/* page ascends strictly from call to call. */
MUST_USE enum err runlist_add(struct runlist *l, uint64_t page, uint32_t pack, uint32_t slot);
/* A whole run at once; the same order. */
MUST_USE enum err runlist_add_run(struct runlist *l, const struct run *run);
/* Finish the last run and block. */
MUST_USE enum err runlist_finish(struct runlist *l);

#endif
