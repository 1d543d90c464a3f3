/* SPDX-License-Identifier: Apache-2.0 */
/* dedup: an open hash table with linear steps.
 *
 * Digests are uniformly random, so their bytes are the hash.  An empty entry has
 * slot DEDUP_EMPTY. */
#include "store/dedup.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

#define DEDUP_EMPTY UINT32_MAX

void dedup_init(struct dedup *d, int root, size_t limit)
{
	memset(d, 0, sizeof(*d));
	d->limit = limit;
	runset_init(&d->spilled, root, true);
}

void dedup_fini(struct dedup *d)
{
	free(d->entry);
	runset_fini(&d->spilled);
	memset(d, 0, sizeof(*d));
}

/* The entry of key, or the empty one where it belongs. */
static struct index_entry *seek(const struct dedup *d, uint64_t key)
{
	size_t i = (size_t)key & (d->room - 1);

	while (d->entry[i].slot != DEDUP_EMPTY && d->entry[i].key != key)
		i = (i + 1) & (d->room - 1);
	return &d->entry[i];
}

/* A run that cannot be read costs that a page is stored again. */
static bool find_spilled(const struct dedup *d, uint64_t key, uint32_t *pack, uint32_t *slot)
{
	struct index_entry found;
	enum err e = d->spilled.n ? runset_find(&d->spilled, key, &found) : ERR_NOTFOUND;

	if (e == ERR_OK) {
		*pack = found.pack;
		*slot = found.slot;
	} else if (e != ERR_NOTFOUND) {
		err_clear();
	}
	return e == ERR_OK;
}

bool dedup_find(const struct dedup *d, const struct digest *digest, uint32_t *pack, uint32_t *slot)
{
	const struct index_entry *e = d->room ? seek(d, le64_get(digest->b)) : NULL;

	if (!e || e->slot == DEDUP_EMPTY)
		return find_spilled(d, le64_get(digest->b), pack, slot);
	*pack = e->pack;
	*slot = e->slot;
	return true;
}

static enum err spill(struct dedup *d)
{
	size_t n = 0;
	enum err e;

	for (size_t i = 0; i < d->room; i++)
		if (d->entry[i].slot != DEDUP_EMPTY)
			d->entry[n++] = d->entry[i];
	e = runset_add(&d->spilled, d->entry, n);
	memset(d->entry, 0xff, d->room * sizeof(*d->entry));
	d->count = 0;
	return e;
}

static enum err grow(struct dedup *d)
{
	struct dedup bigger = *d;

	bigger.room = d->room ? 2 * d->room : 4096;

	bigger.entry = malloc(bigger.room * sizeof(*bigger.entry));
	if (!bigger.entry)
		return err_note(ERR_NOMEM, 0, "remember the pages of a checkpoint: out of memory");
	memset(bigger.entry, 0xff, bigger.room * sizeof(*bigger.entry));
	for (size_t i = 0; i < d->room; i++)
		if (d->entry[i].slot != DEDUP_EMPTY)
			*seek(&bigger, d->entry[i].key) = d->entry[i];
	free(d->entry);
	*d = bigger;
	return ERR_OK;
}

enum err dedup_add(struct dedup *d, const struct digest *digest, uint32_t pack, uint32_t slot)
{
	struct index_entry *e;

	if ((d->count + 1) * 4 > d->room * 3) {
		enum err failed = d->limit && d->count >= d->limit * 3 / 4 ? spill(d) : grow(d);

		if (failed != ERR_OK)
			return failed;
	}
	e = seek(d, le64_get(digest->b));
	d->count += e->slot == DEDUP_EMPTY;
	*e = (struct index_entry){le64_get(digest->b), pack, slot};
	return ERR_OK;
}
