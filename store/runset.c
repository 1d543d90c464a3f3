/* SPDX-License-Identifier: Apache-2.0 */
/* runset: levels of sorted runs, merged in time. */
#include "store/runset.h"

#include "base/fs.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void runset_init(struct runset *s, int root, bool temporary)
{
	*s = (struct runset){.root = root, .temporary = temporary};
}

void runset_fini(struct runset *s)
{
	for (uint32_t i = 0; i < s->n; i++)
		indexrun_close(&s->run[i]);
	s->n = 0;
}

void runset_path(uint32_t number, char out[LAYOUT_PATH_BYTES])
{
	snprintf(out, LAYOUT_PATH_BYTES, LAYOUT_INDEX "/run-%08" PRIx32, number);
}

uint64_t runset_entries(const struct runset *s)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < s->n; i++)
		sum += s->run[i].entries;
	return sum;
}

uint64_t runset_bytes(const struct runset *s)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < s->n; i++)
		sum += s->run[i].file_blocks * INDEXRUN_BLOCK_BYTES;
	return sum;
}

/* Temporary files of several sets may live side by side, for a moment, with their names. */
static enum err begin(struct runset *s, uint64_t expected, struct indexrun_writer **w)
{
	char path[LAYOUT_PATH_BYTES];
	uint64_t unique;
	enum err e = ERR_OK;

	runset_path(s->next, path);
	if (s->temporary) {
		if ((e = layout_random(&unique, sizeof(unique))) != ERR_OK)
			return e;
		snprintf(path, sizeof(path), LAYOUT_INDEX "/%016" PRIx64 ".tmp", unique);
	}
	e = indexrun_create(s->root, path, s->next, expected, w);
	s->next++;
	if (e == ERR_OK && s->temporary && (e = fs_unlink(s->root, path)) != ERR_OK)
		indexrun_abandon(*w);
	return e;
}

/* ---- merging ---- */

struct head {
	struct indexrun_scan *scan;
	const struct index_entry *entry; /* NULL: at its end */
};

static enum err advance(struct head *h)
{
	return indexrun_scan_next(h->scan, &h->entry);
}

/* The head with the smallest key; of equals the newest. */
static struct head *smallest(struct head *h, uint32_t n)
{
	struct head *best = NULL;

	for (uint32_t i = 0; i < n; i++)
		if (h[i].entry && (!best || h[i].entry->key < best->entry->key))
			best = &h[i];
	return best;
}

static enum err merge_all(struct head *h, uint32_t n, struct indexrun_writer *w)
{
	struct head *best;
	enum err e = ERR_OK;

	for (uint32_t i = 0; e == ERR_OK && i < n; i++)
		e = advance(&h[i]);
	while (e == ERR_OK && (best = smallest(h, n)) != NULL)
		if ((e = indexrun_put(w, best->entry)) == ERR_OK)
			e = advance(best);
	return e;
}

/* Make one run of the newest n. */
static enum err merge(struct runset *s, uint32_t n)
{
	struct head head[RUNSET_MAX] = {{0}};
	struct indexrun_writer *w = NULL;
	struct indexrun made;
	uint64_t expected = 0;
	enum err e = ERR_OK;

	for (uint32_t i = 0; i < n; i++)
		expected += s->run[i].entries;
	for (uint32_t i = 0; e == ERR_OK && i < n; i++)
		e = indexrun_scan_create(&s->run[i], &head[i].scan);
	if (e == ERR_OK)
		e = begin(s, expected, &w);
	if (e == ERR_OK && (e = merge_all(head, n, w)) != ERR_OK)
		indexrun_abandon(w);
	else if (e == ERR_OK)
		e = indexrun_finish(w, &made);
	for (uint32_t i = 0; i < n; i++)
		indexrun_scan_destroy(head[i].scan);
	if (e != ERR_OK)
		return e;
	for (uint32_t i = 0; i < n; i++)
		indexrun_close(&s->run[i]);
	memmove(&s->run[1], &s->run[n], (s->n - n) * sizeof(s->run[0]));
	s->n -= n - 1;
	s->run[0] = made;
	return ERR_OK;
}

/* How many of the newest runs belong together. */
static uint32_t mergeable(const struct runset *s)
{
	uint64_t sum = s->run[0].entries;
	uint32_t n = 1;

	while (n < s->n && s->run[n].entries < sum * RUNSET_RATIO)
		sum += s->run[n++].entries;
	return n;
}

/* ---- adding ---- */

static int by_key(const void *x, const void *y)
{
	const struct index_entry *a = x, *b = y;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	if (a->pack != b->pack)
		return a->pack < b->pack ? 1 : -1;
	return (a->slot < b->slot) - (a->slot > b->slot);
}

enum err runset_add(struct runset *s, struct index_entry *entries, size_t n)
{
	struct indexrun_writer *w;
	struct indexrun made;
	uint32_t together;
	enum err e;

	if (s->n == RUNSET_MAX && (e = merge(s, s->n)) != ERR_OK)
		return e;
	qsort(entries, n, sizeof(*entries), by_key);
	if ((e = begin(s, n, &w)) != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < n; i++)
		e = indexrun_put(w, &entries[i]);
	if (e != ERR_OK) {
		indexrun_abandon(w);
		return e;
	}
	if ((e = indexrun_finish(w, &made)) != ERR_OK)
		return e;
	memmove(&s->run[1], &s->run[0], s->n * sizeof(s->run[0]));
	s->run[0] = made;
	s->n++;
	together = mergeable(s);
	return together > 1 ? merge(s, together) : ERR_OK;
}

enum err runset_next(const struct runset *s, uint64_t key, uint32_t *i, struct index_entry *out)
{
	enum err e = ERR_NOTFOUND;

	while (e == ERR_NOTFOUND && *i < s->n)
		e = indexrun_find(&s->run[(*i)++], key, out);
	return e;
}

enum err runset_find(const struct runset *s, uint64_t key, struct index_entry *out)
{
	uint32_t i = 0;

	return runset_next(s, key, &i, out);
}
