/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_RUNSET_H
#define STORE_RUNSET_H

#include "store/indexrun.h"

/* runset: runs of an index, newest first, and few of them.
 *
 * What is added becomes a run of its own; runs are merged as long as the next older
 * one has less than RUNSET_RATIO times as many entries.  So there are some log4 of
 * them, and each entry is written a few times in its life.
 *
 * One thread at a time, except runset_find, which any may call while nobody changes it. */

#define RUNSET_MAX 27u
#define RUNSET_RATIO 4u

struct runset {
	int root; /* borrowed */
	/* Temporary: the files have no names, and are gone with their descriptors. */
	bool temporary;
	uint32_t next; /* number of the next run */
	uint32_t n;
	struct indexrun run[RUNSET_MAX]; /* newest first */
};

void runset_init(struct runset *s, int root, bool temporary);
void runset_fini(struct runset *s); /* closes; named files stay */

/* The path of a named run. */
void runset_path(uint32_t number, char out[LAYOUT_PATH_BYTES]);

/* Add n > 0 entries, which are sorted here; of equal keys the one with the greatest
 * (pack, slot) counts, and any counts before those of older runs.  The files of named runs
 * that were merged stay: they are the caller's to remove. */
MUST_USE enum err runset_add(struct runset *s, struct index_entry *entries, size_t n);
/* The newest entry with that key.  ERR_NOTFOUND without a note. */
MUST_USE enum err runset_find(const struct runset *s, uint64_t key, struct index_entry *out);
/* The newest in run[*i] or an older one; *i is after that. */
MUST_USE enum err runset_next(const struct runset *s, uint64_t key, uint32_t *i,
			      struct index_entry *out);
uint64_t runset_entries(const struct runset *s);
uint64_t runset_bytes(const struct runset *s);

#endif
