/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_RUNS_H
#define STORE_RUNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

/* runs: where the pages of a stream are.
 *
 * A run says that `count` pages from `page` on are the slots from `slot` on of
 * one pack, or, with `repeat`, that each of them is that one slot.  Runs of a
 * stream ascend and do not overlap; pages in no run are zero.  Runs are kept in
 * blocks that decode alone.  Each run is four varints (7 bits a byte, low first,
 * top bit = more follow), differences to the run before it in the block:
 *
 *   page - end of the run before (of the block's first page, for the first)
 *   count * 2 + repeat
 *   zigzag(pack - pack before)                  (before the first: 0)
 *   zigzag(slot - slot after the run before)    (before the first: 0)
 *
 * The slot after a repeat run is its slot + 1. */

#define RUNS_BLOCK_BYTES 8192u /* a block is closed when it has grown to this */
#define RUNS_BLOCK_MAX (RUNS_BLOCK_BYTES + 64u)

struct run {
	uint64_t page;
	uint32_t count;
	uint32_t pack; /* position in the manifest's list of packs */
	uint32_t slot;
	bool repeat;
};

/* Position that differences are relative to. */
struct runs_at {
	uint64_t page;
	uint32_t pack, slot;
};

void runs_put(struct buf *b, struct runs_at *at, const struct run *run);

/* Decode len bytes of a block that holds n runs of pages [first, end) into runs
 * (n of them).  Slots and packs are not checked here.  ERR_CORRUPT. */
MUST_USE enum err runs_decode(const void *p, size_t len, uint64_t first, uint64_t end, uint32_t n,
			      struct run *runs);

/* Grow last by the run if it continues it; false if that needs a run of its own. */
bool runs_join(struct run *last, const struct run *run);
/* Grow last by one page if it continues it; false if a new run is needed. */
bool runs_extend(struct run *last, uint64_t page, uint32_t pack, uint32_t slot);

#endif
