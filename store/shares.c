/* SPDX-License-Identifier: Apache-2.0 */
/* shares: whose the stored bytes are.
 *
 * For every slot of a window of packs: which checkpoint needs it, or that several do, of
 * one name or of more.  Checkpoints are walked in the order of their names, so that "has this one
 * (this name) counted the slot already" is a comparison with the last who did.  A
 * page costs its part of its group's stored bytes, in 1/256 bytes.
 *
 * The pages of a pack that was rewritten are where its forward leads, and count there.
 *
 * Memory: 16 bytes a slot, for WINDOW packs at a time, whatever the size of the archive;
 * each window reads the manifests again that name one of its packs. */
#include "store/shares.h"

#include "base/fs.h"
#include "store/cursor.h"
#include "store/listing.h"
#include "store/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW 128u
#define NOT_HERE UINT32_MAX
#define OF_NAME 0x80000000u /* owner: several checkpoints of one name; its number below */
#define OF_MANY UINT32_MAX

struct slot {
	uint32_t owner;	    /* 0: nobody; item + 1; OF_NAME | name; OF_MANY */
	uint32_t last_item; /* + 1: who counted it last */
	uint32_t last_name; /* + 1 */
	uint32_t cost;	    /* 1/256 bytes */
};

struct sharing {
	struct archive *a;
	struct progress *progress;
	struct listing_item *items;
	size_t n_items, n_names;
	uint32_t *name_of;			 /* by item */
	struct archive_share *of_item, *of_name; /* bytes in 1/256 until given out */
	bool *gone;				 /* by item: removed meanwhile */
	struct pack_ref *refs;
	size_t n_refs;
	struct slot *slots; /* WINDOW * PACK_PAGES */
};

static bool is_damage(enum err e)
{
	return e == ERR_CORRUPT || e == ERR_VERSION || e == ERR_IO || e == ERR_AUTH;
}

/* ---- before ---- */

static enum err allocate(struct sharing *s)
{
	s->name_of = calloc(s->n_items + 1, sizeof(*s->name_of));
	s->of_item = calloc(s->n_items + 1, sizeof(*s->of_item));
	s->of_name = calloc(s->n_items + 1, sizeof(*s->of_name));
	s->slots = calloc((size_t)WINDOW * PACK_PAGES, sizeof(*s->slots));
	s->gone = calloc(s->n_items + 1, sizeof(*s->gone));
	if (!s->gone || !s->name_of || !s->of_item || !s->of_name || !s->slots)
		return err_note(ERR_NOMEM, 0, "count what checkpoints share: out of memory");
	for (size_t i = 0; i < s->n_items; i++) {
		if (i == 0 || strcmp(s->items[i].name, s->items[i - 1].name) != 0)
			s->n_names++;
		s->name_of[i] = (uint32_t)(s->n_names - 1);
		memcpy(s->of_item[i].name, s->items[i].name, ARCHIVE_NAME_BYTES);
		memcpy(s->of_name[s->n_names - 1].name, s->items[i].name, ARCHIVE_NAME_BYTES);
		s->of_item[i].number = s->items[i].number;
	}
	return ERR_OK;
}

static void add_info(struct archive_share *share, const struct checkpoint_info *info)
{
	share->checkpoints++;
	share->logical_bytes += info->logical_bytes;
	share->nonzero_bytes += info->nonzero_bytes;
	share->added_bytes += info->stored_bytes;
}

static void mark_damaged(struct sharing *s, size_t i)
{
	s->of_item[i].damaged = s->of_name[s->name_of[i]].damaged = true;
	err_clear();
}

/* ---- one window ---- */

/* What each slot of a pack costs; 0 where its directory cannot be read. */
static enum err fill_costs(struct sharing *s, const struct pack_ref *ref, struct slot *slots)
{
	const struct catalog_pack *p;
	enum err e = catalog_get(s->a->catalog, ref, &p);

	if (is_damage(e)) {
		err_clear();
		return ERR_OK;
	}
	if (e != ERR_OK)
		return e;
	for (uint32_t i = 0; i < p->dir.groups; i++) {
		const struct pack_group *g = &p->dir.group[i];

		for (uint32_t k = 0; k < g->pages; k++)
			slots[g->first_slot + k].cost = (g->stored_bytes << 8) / g->pages;
	}
	catalog_put(s->a->catalog, p);
	return ERR_OK;
}

static void count_slot(struct sharing *s, struct slot *slot, uint32_t item)
{
	uint32_t name = s->name_of[item];

	if (slot->last_item != item + 1) {
		slot->last_item = item + 1;
		s->of_item[item].referenced_bytes += slot->cost;
	}
	if (slot->last_name != name + 1) {
		slot->last_name = name + 1;
		s->of_name[name].referenced_bytes += slot->cost;
	}
	if (slot->owner == 0)
		slot->owner = item + 1;
	else if (slot->owner == OF_MANY || slot->owner == item + 1)
		return;
	else if (slot->owner & OF_NAME)
		slot->owner = (slot->owner & ~OF_NAME) == name ? slot->owner : OF_MANY;
	else
		slot->owner = s->name_of[slot->owner - 1] == name ? OF_NAME | name : OF_MANY;
}

/* Where the packs of one manifest are. */
struct whereabouts {
	uint32_t *at;			     /* in the window, by pack; NOT_HERE */
	const struct catalog_pack **forward; /* in use; of packs that were rewritten, else NULL */
	uint32_t n;
	bool any;
};

static void whereabouts_fini(struct sharing *s, struct whereabouts *w)
{
	for (uint32_t i = 0; w->forward && i < w->n; i++)
		catalog_put(s->a->catalog, w->forward[i]);
	free(w->forward);
	free(w->at);
}

/* first, n: the window. */
static enum err whereabouts_init(struct sharing *s, const struct manifest *m, size_t first,
				 size_t n, struct whereabouts *w)
{
	w->n = m->n_packs;
	w->at = malloc((m->n_packs + 1u) * sizeof(*w->at));
	w->forward = calloc(m->n_packs + 1u, sizeof(*w->forward));
	if (!w->at || !w->forward)
		return err_note(ERR_NOMEM, 0, "count what checkpoints share: out of memory");
	for (uint32_t i = 0; i < m->n_packs; i++) {
		const struct pack_ref *ref = listing_find(s->refs + first, n, &m->pack[i].id);
		enum err e;

		w->at[i] = ref ? (uint32_t)(ref - (s->refs + first)) : NOT_HERE;
		w->any |= ref != NULL;
		if (ref || listing_find(s->refs, s->n_refs, &m->pack[i].id))
			continue;
		e = catalog_get(s->a->catalog, &m->pack[i], &w->forward[i]);
		if (e != ERR_OK && !is_damage(e))
			return e;
		if (e != ERR_OK)
			w->forward[i] = NULL;
		w->any |= w->forward[i] != NULL;
		err_clear();
	}
	return ERR_OK;
}

/* The slot of the window that a slot of a rewritten pack leads to; NULL if it is elsewhere. */
static struct slot *follow(struct sharing *s, size_t first, size_t n, const struct catalog_pack *p,
			   uint32_t slot)
{
	const struct catalog_pack *held = NULL, *next;
	const struct pack_ref *ref = NULL, *found;
	uint32_t count;

	for (unsigned depth = 0; p->fd < 0; depth++) {
		if (depth == FORWARD_DEPTH ||
		    forward_find(&p->forward, slot, &ref, &slot, &count) != ERR_OK ||
		    catalog_get(s->a->catalog, ref, &next) != ERR_OK) {
			err_clear();
			catalog_put(s->a->catalog, held);
			return NULL;
		}
		catalog_put(s->a->catalog, held);
		p = held = next;
	}
	found = listing_find(s->refs + first, n, &p->ref.id);
	catalog_put(s->a->catalog, held);
	return found ? &s->slots[(size_t)(found - (s->refs + first)) * PACK_PAGES + slot] : NULL;
}

static enum err count_stream(struct sharing *s, const struct manifest *m, int fd, uint32_t stream,
			     const struct whereabouts *w, size_t first, size_t n, uint32_t item)
{
	struct cursor c;
	const struct run *run;
	enum err e = cursor_init(&c, m, fd, stream);

	while (e == ERR_OK && (e = cursor_next(&c, &run)) == ERR_OK && run) {
		for (uint32_t i = 0; i < (run->repeat ? 1 : run->count); i++) {
			struct slot *slot = NULL;

			if (w->at[run->pack] != NOT_HERE)
				slot = &s->slots[(size_t)w->at[run->pack] * PACK_PAGES + run->slot +
						 i];
			else if (w->forward[run->pack])
				slot = follow(s, first, n, w->forward[run->pack], run->slot + i);
			if (slot)
				count_slot(s, slot, item);
		}
	}
	cursor_fini(&c);
	if (!is_damage(e))
		return e;
	mark_damaged(s, item);
	return ERR_OK;
}

static enum err count_item(struct sharing *s, uint32_t item, size_t first, size_t n)
{
	AUTO_FD int fd = -1;
	struct manifest m;
	struct whereabouts w = {.at = NULL};
	enum err e = manifest_load(s->a->root, s->a->crypt, s->items[item].name,
				   s->items[item].number, &m, &fd);

	if (e == ERR_NOTFOUND) { /* removed since it was listed */
		s->gone[item] = true;
		err_clear();
		return ERR_OK;
	}
	if (is_damage(e)) {
		mark_damaged(s, item);
		return ERR_OK;
	}
	if (e != ERR_OK)
		return e;
	if (first == 0) {
		add_info(&s->of_item[item], &m.info);
		add_info(&s->of_name[s->name_of[item]], &m.info);
	}
	e = whereabouts_init(s, &m, first, n, &w);
	for (uint32_t i = 0; e == ERR_OK && w.any && i < m.n_streams; i++)
		e = count_stream(s, &m, fd, i, &w, first, n, item);
	whereabouts_fini(s, &w);
	manifest_fini(&m);
	return e;
}

static void sum_exclusive(struct sharing *s, size_t n)
{
	for (size_t i = 0; i < n * PACK_PAGES; i++) {
		const struct slot *slot = &s->slots[i];

		if (slot->owner == 0 || slot->owner == OF_MANY)
			continue;
		if (slot->owner & OF_NAME) {
			s->of_name[slot->owner & ~OF_NAME].exclusive_bytes += slot->cost;
			continue;
		}
		s->of_item[slot->owner - 1].exclusive_bytes += slot->cost;
		s->of_name[s->name_of[slot->owner - 1]].exclusive_bytes += slot->cost;
	}
}

static enum err window(struct sharing *s, size_t first)
{
	size_t n = s->n_refs - first < WINDOW ? s->n_refs - first : WINDOW;

	memset(s->slots, 0, n * PACK_PAGES * sizeof(*s->slots));
	for (size_t i = 0; i < n; i++) {
		enum err e = progress_check(s->progress);

		if (e == ERR_OK)
			e = fill_costs(s, &s->refs[first + i], s->slots + i * PACK_PAGES);
		if (e != ERR_OK)
			return e;
	}
	for (uint32_t i = 0; i < s->n_items; i++) {
		enum err e = progress_check(s->progress);

		if (e == ERR_OK)
			e = count_item(s, i, first, n);
		if (e != ERR_OK)
			return e;
	}
	sum_exclusive(s, n);
	return ERR_OK;
}

/* ---- after ---- */

static enum err give(archive_share_fn *fn, void *arg, const struct archive_share *share)
{
	struct archive_share whole = *share;

	whole.referenced_bytes >>= 8;
	whole.exclusive_bytes >>= 8;
	return fn(arg, &whole);
}

static enum err give_all(const struct sharing *s, archive_share_fn *fn, void *arg)
{
	for (size_t i = 0; i < s->n_items; i++) {
		bool last = i + 1 == s->n_items || s->name_of[i + 1] != s->name_of[i];
		const struct archive_share *name = &s->of_name[s->name_of[i]];
		enum err e = s->gone[i] ? ERR_OK : give(fn, arg, &s->of_item[i]);

		if (e == ERR_OK && last && (name->checkpoints || name->damaged))
			e = give(fn, arg, name);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

enum err shares(struct archive *a, struct progress *progress, archive_share_fn *fn, void *arg)
{
	struct sharing s = {.a = a, .progress = progress};
	bool complete;
	enum err e;

	if ((e = listing_read(a->root, &s.items, &s.n_items)) == ERR_OK &&
	    (e = allocate(&s)) == ERR_OK)
		e = listing_packs(a->root, a->crypt, &s.refs, &s.n_refs, &complete);
	if (e == ERR_OK)
		e = forward_follow(a->root, a->crypt, &s.refs, &s.n_refs);
	for (size_t first = 0; e == ERR_OK && (first == 0 || first < s.n_refs); first += WINDOW)
		e = window(&s, first);
	if (e == ERR_OK)
		e = give_all(&s, fn, arg);
	free(s.items);
	free(s.name_of);
	free(s.of_item);
	free(s.gone);
	free(s.of_name);
	free(s.refs);
	free(s.slots);
	return e;
}
