/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_INDEXRUN_H
#define STORE_INDEXRUN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/layout.h"

/* indexrun: an immutable file of sorted entries, and how to make one.
 *
 * Keys are the first bytes of digests, so they are evenly spread: an entry with key k
 * belongs into block floor(k * blocks / 2^64), or, if that is full, into the next with
 * room.  So one read finds a key, without any table in memory, in a run of any size.
 * With 200 entries for each block's 255 places, one block in 20,000 overflows.
 *
 * A block is 4096 bytes: 255 places of 16 (key le64, pack le32, slot le32), entries
 * used (le32), number of the run (le32), XXH3-64 of the 4088 bytes before (le64).  The
 * check is against accidents; what somebody writes on purpose is not believed anyway
 * (index.h).  Source of XXH3: libxxhash.
 *
 * A run may be read by any thread. */

#define INDEXRUN_BLOCK_BYTES 4096u
#define INDEXRUN_PLACES 255u
#define INDEXRUN_FILL 200u

struct index_entry {
	uint64_t key;
	uint32_t pack, slot;
};

struct indexrun {
	int fd;
	uint32_t number, blocks; /* blocks that keys are spread over */
	uint64_t entries, file_blocks;
	bool synced;
	char path[LAYOUT_PATH_BYTES];
};

/* Open a run that is known to have so many blocks and entries.  ERR_CORRUPT. */
MUST_USE enum err indexrun_open(int root, const char *path, uint32_t number, uint32_t blocks,
				uint64_t entries, struct indexrun *out);
void indexrun_close(struct indexrun *r);
MUST_USE enum err indexrun_sync(struct indexrun *r);
/* ERR_OK, ERR_NOTFOUND (without a note), ERR_CORRUPT, ERR_IO. */
MUST_USE enum err indexrun_find(const struct indexrun *r, uint64_t key, struct index_entry *out);

/* ---- making: entries in ascending order; of equal keys the first counts ---- */
struct indexrun_writer;
/* expected: at least as many as will come. */
MUST_USE enum err indexrun_create(int root, const char *path, uint32_t number, uint64_t expected,
				  struct indexrun_writer **out);
MUST_USE enum err indexrun_put(struct indexrun_writer *w, const struct index_entry *e);
/* Frees w, whatever happens; the file is not synced yet, and removed after an error. */
MUST_USE enum err indexrun_finish(struct indexrun_writer *w, struct indexrun *out);
void indexrun_abandon(struct indexrun_writer *w); /* NULL allowed */

/* ---- reading all, in ascending order ---- */
struct indexrun_scan;
MUST_USE enum err indexrun_scan_create(const struct indexrun *r, struct indexrun_scan **out);
/* *e = NULL after the last; borrowed until the next call.  ERR_CORRUPT also if the order
 * is wrong. */
MUST_USE enum err indexrun_scan_next(struct indexrun_scan *s, const struct index_entry **e);
void indexrun_scan_destroy(struct indexrun_scan *s); /* NULL allowed */

#endif
