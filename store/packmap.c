/* SPDX-License-Identifier: Apache-2.0 */
/* packmap: an open hash table with linear steps.
 *
 * Ids begin with random bytes of their writer and end with a sequence; both are mixed.
 * The table grows at a fill of 3/4. */
#include "store/packmap.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

void packmap_fini(struct packmap *m)
{
	free(m->entry);
	memset(m, 0, sizeof(*m));
}

static struct packmap_entry *seek(const struct packmap *m, const struct pack_id *id)
{
	uint64_t mixed = (le64_get(id->b) ^ le64_get(id->b + 8)) * 0x9e3779b97f4a7c15u;
	size_t i = (size_t)(mixed >> 32) & (m->room - 1);

	while (m->entry[i].used && memcmp(&m->entry[i].id, id, sizeof(*id)) != 0)
		i = (i + 1) & (m->room - 1);
	return &m->entry[i];
}

static enum err grow(struct packmap *m)
{
	struct packmap bigger = {.room = m->room ? 2 * m->room : 64, .count = m->count};

	bigger.entry = calloc(bigger.room, sizeof(*bigger.entry));
	if (!bigger.entry)
		return err_note(ERR_NOMEM, 0, "list the packs of a checkpoint: out of memory");
	for (size_t i = 0; i < m->room; i++)
		if (m->entry[i].used)
			*seek(&bigger, &m->entry[i].id) = m->entry[i];
	free(m->entry);
	*m = bigger;
	return ERR_OK;
}

enum err packmap_get(struct packmap *m, const struct pack_id *id, struct packmap_entry **out)
{
	struct packmap_entry *e;

	if ((m->count + 1) * 4 > m->room * 3) {
		enum err failed = grow(m);

		if (failed != ERR_OK)
			return failed;
	}
	e = seek(m, id);
	if (!e->used) {
		*e = (struct packmap_entry){
			.id = *id, .number = PACKMAP_NONE, .parent = PACKMAP_NONE, .used = true};
		m->count++;
	}
	*out = e;
	return ERR_OK;
}
