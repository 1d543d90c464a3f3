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

struct dedup_entry {
	uint64_t key;
	uint32_t pack, slot;
};

void dedup_fini(struct dedup *d)
{
	free(d->entry);
	memset(d, 0, sizeof(*d));
}

/* The entry of key, or the empty one where it belongs. */
static struct dedup_entry *seek(const struct dedup *d, uint64_t key)
{
	size_t i = (size_t)key & (d->room - 1);

	while (d->entry[i].slot != DEDUP_EMPTY && d->entry[i].key != key)
		i = (i + 1) & (d->room - 1);
	return &d->entry[i];
}

bool dedup_find(const struct dedup *d, const struct digest *digest, uint32_t *pack, uint32_t *slot)
{
	const struct dedup_entry *e;

	if (!d->room)
		return false;
	e = seek(d, le64_get(digest->b));
	*pack = e->pack;
	*slot = e->slot;
	return e->slot != DEDUP_EMPTY;
}

static enum err grow(struct dedup *d)
{
	struct dedup bigger = {.room = d->room ? 2 * d->room : 4096, .count = d->count};

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
	struct dedup_entry *e;

	if ((d->count + 1) * 4 > d->room * 3) {
		enum err failed = grow(d);

		if (failed != ERR_OK)
			return failed;
	}
	e = seek(d, le64_get(digest->b));
	d->count += e->slot == DEDUP_EMPTY;
	*e = (struct dedup_entry){le64_get(digest->b), pack, slot};
	return ERR_OK;
}
