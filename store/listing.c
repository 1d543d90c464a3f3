/* SPDX-License-Identifier: Apache-2.0 */
/* listing: the manifests of an archive as a list, and the union of their packs. */
#include "store/listing.h"

#include "base/fs.h"
#include "store/manifest.h"

#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b)
{
	const struct listing_item *x = a, *y = b;
	int c = strcmp(x->name, y->name);

	return c ? c : (x->number > y->number) - (x->number < y->number);
}

enum err listing_read(int root, struct listing_item **out, size_t *count)
{
	struct listing_item *items;
	size_t n_names, n = 0;
	char **names;
	enum err e = fs_list(root, LAYOUT_MANIFESTS, &names, &n_names);

	if (e != ERR_OK)
		return e;
	items = calloc(n_names + 1, sizeof(*items));
	if (!items) {
		fs_names_free(names, n_names);
		return err_note(ERR_NOMEM, 0, "list checkpoints: out of memory");
	}
	for (size_t i = 0; i < n_names; i++)
		if (layout_manifest_parse(names[i], items[n].name, &items[n].number))
			n++;
	fs_names_free(names, n_names);
	qsort(items, n, sizeof(*items), by_name);
	*out = items;
	*count = n;
	return ERR_OK;
}

static int by_id(const void *a, const void *b)
{
	return memcmp(a, b, PACK_ID_BYTES); /* the id comes first in a pack_ref */
}

struct gather {
	struct pack_ref *refs;
	size_t count, room;
	bool complete;
};

/* Sort and drop equals; two different references to one pack are a contradiction. */
static void compact(struct gather *g)
{
	size_t n = 0;

	if (g->count)
		qsort(g->refs, g->count, sizeof(*g->refs), by_id);
	for (size_t i = 0; i < g->count; i++) {
		if (n && by_id(&g->refs[n - 1], &g->refs[i]) == 0) {
			g->complete &= pack_ref_equal(&g->refs[n - 1], &g->refs[i]);
			continue;
		}
		g->refs[n++] = g->refs[i];
	}
	g->count = n;
}

static enum err add(struct gather *g, const struct manifest *m)
{
	if (g->count + m->n_packs > g->room) {
		struct pack_ref *more;

		compact(g);
		g->room = 2 * (g->count + m->n_packs) + 64;
		more = realloc(g->refs, g->room * sizeof(*more));
		if (!more)
			return err_note(ERR_NOMEM, 0, "list packs: out of memory");
		g->refs = more;
	}
	if (m->n_packs)
		memcpy(g->refs + g->count, m->pack, m->n_packs * sizeof(*m->pack));
	g->count += m->n_packs;
	return ERR_OK;
}

static enum err add_item(struct gather *g, int root, const struct crypt *crypt,
			 const struct listing_item *item)
{
	AUTO_FD int fd = -1;
	struct manifest m;
	enum err e = manifest_load(root, crypt, item->name, item->number, &m, &fd);

	if (e == ERR_NOTFOUND)
		return ERR_OK; /* taken back since it was listed */
	if (e == ERR_CORRUPT || e == ERR_VERSION || e == ERR_IO || e == ERR_AUTH) {
		g->complete = false;
		return ERR_OK;
	}
	if (e != ERR_OK)
		return e;
	e = add(g, &m);
	manifest_fini(&m);
	return e;
}

enum err listing_packs(int root, const struct crypt *crypt, struct pack_ref **refs,
		       size_t *count, bool *complete)
{
	struct gather g = {.complete = true};
	struct listing_item *items;
	size_t n;
	enum err e = listing_read(root, &items, &n);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < n; i++)
		e = add_item(&g, root, crypt, &items[i]);
	free(items);
	if (e != ERR_OK) {
		free(g.refs);
		return e;
	}
	compact(&g);
	*refs = g.refs;
	*count = g.count;
	*complete = g.complete;
	return ERR_OK;
}

const struct pack_ref *listing_find(const struct pack_ref *refs, size_t count,
				    const struct pack_id *id)
{
	return count ? bsearch(id, refs, count, sizeof(*refs), by_id) : NULL;
}
