/* SPDX-License-Identifier: Apache-2.0 */
/* known: which pages were stored before, and may be used where they are.
 *
 * Part of the pipeline (pipeline.c); all of it belongs to the assigner.  A page that
 * equals the parent's at its position needs nothing but the parent's runs and the
 * directory of a pack that its neighbours are in as well; only what is left asks
 * the index.  A page that is where the region's budget does not reach is stored
 * again (budget.h): for the parent's pages a plan, made from the whole region, says
 * so, for others the order in which they come. */
#include "store/flow.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

enum err known_init(struct pipeline *p)
{
	struct known_state *k = &p->known;
	const struct parent *parent = p->opt.parent;

	k->region = UINT64_MAX;
	if (!parent)
		return ERR_OK;
	parent_view_init(&k->view, parent);
	for (uint32_t i = 0; i < parent->m.n_packs; i++) {
		struct packmap_entry *entry;
		enum err e = packmap_get(&k->map, &parent->m.pack[i].id, &entry);

		if (e != ERR_OK)
			return e;
		entry->parent = i;
	}
	return ERR_OK;
}

void known_fini(struct pipeline *p)
{
	struct known_state *k = &p->known;

	catalog_put(p->opt.catalog, k->held);
	parent_view_fini(&k->view);
	packmap_fini(&k->map);
	free(k->old_number);
}

/* ---- numbers ---- */

static enum err number_of(struct pipeline *p, const struct pack_ref *ref, uint32_t *number)
{
	struct packmap_entry *entry;
	enum err e = packmap_get(&p->known.map, &ref->id, &entry);

	if (e != ERR_OK)
		return e;
	if (entry->number == PACKMAP_NONE)
		return assign_number(p, NULL, ref, number);
	*number = entry->number;
	return ERR_OK;
}

enum err known_parent_number(struct pipeline *p, uint32_t pack, uint32_t *number)
{
	return number_of(p, &p->opt.parent->m.pack[pack], number);
}

enum err known_index_number(struct pipeline *p, uint32_t indexed, uint32_t *number)
{
	struct known_state *k = &p->known;
	struct pack_ref ref;
	enum err e;

	if (indexed >= k->old_room) {
		uint32_t room = 2 * indexed + 64;
		uint32_t *more = realloc(k->old_number, room * sizeof(*more));

		if (!more)
			return err_note(ERR_NOMEM, 0,
					"list the packs of a checkpoint: out of "
					"memory");
		memset(more + k->old_room, 0, (room - k->old_room) * sizeof(*more));
		k->old_number = more;
		k->old_room = room;
	}
	if (k->old_number[indexed] == 0) {
		ref = index_ref(p->opt.index, indexed);
		if ((e = number_of(p, &ref, number)) != ERR_OK)
			return e;
		k->old_number[indexed] = *number + 1;
	}
	*number = k->old_number[indexed] - 1;
	return ERR_OK;
}

/* ---- the parent ---- */

/* The directory of a pack of the parent; NULL if it cannot be had. */
static const struct catalog_pack *hold(struct pipeline *p, uint32_t pack)
{
	struct known_state *k = &p->known;

	if (k->held && k->held_pack == pack)
		return k->held;
	catalog_put(p->opt.catalog, k->held);
	k->held = NULL;
	k->held_pack = pack;
	if (catalog_get(p->opt.catalog, &p->opt.parent->m.pack[pack], &k->held) == ERR_OK)
		return k->held;
	log_event(LOG_WARN, "parent_pack_unusable why=\"%s\"", err_text());
	err_clear();
	return NULL;
}

/* The digest of the parent's page at that place, and where it is; NULL if there is none or
 * it cannot be had. */
static const struct digest *parents(struct pipeline *p, const struct position *at, bool gone_too,
				    struct known *known)
{
	const struct catalog_pack *pack;
	const struct run *run;

	if (parent_view_run(&p->known.view, at->stream, at->page, &run) != ERR_OK) {
		err_clear();
		return NULL;
	}
	if (!run || run->page > at->page || (p->opt.parent->gone[run->pack] && !gone_too))
		return NULL;
	known->pack = run->pack;
	known->slot = run->slot + (run->repeat ? 0 : (uint32_t)(at->page - run->page));
	pack = hold(p, run->pack);
	return pack ? &pack->dir.digest[known->slot] : NULL;
}

/* Is the page what the parent has at its place?  A parent that cannot be read is not
 * asked: then the page is looked up like any other.  A page that is the same by its sum gets its
 * digest here. */
static void ask_parent(struct pipeline *p, struct batch *b, unsigned i)
{
	const struct position *at = &b->pos[i];
	struct known *known = &b->known[i];
	const struct digest *theirs = parents(p, at, b->same[i], known);
	const struct budget *plan;

	if (b->same[i] && theirs)
		b->digest[i] = *theirs;
	else if (b->same[i])
		crypt_page(p->opt.crypt, b->data + (size_t)i * PAGE_BYTES, &b->digest[i]);
	if (!theirs || memcmp(theirs, &b->digest[i], sizeof(*theirs)) != 0)
		return;
	if (p->opt.parent->gone[known->pack])
		return; /* the index knows where its pages are now */
	known->how = KNOWN_BEYOND;
	if (parent_view_plan(&p->known.view, at->stream, at->page, &plan) != ERR_OK)
		err_clear();
	else if (budget_has(plan, known->pack, known->slot))
		known->how = KNOWN_PARENT;
}

void known_look(struct pipeline *p, struct batch *b)
{
	struct digest digest[BATCH_PAGES];
	struct index_hit hit[BATCH_PAGES];
	unsigned page[BATCH_PAGES], n = 0;

	for (unsigned i = 0; i < b->n; i++) {
		b->known[i].how = KNOWN_NOT;
		if (p->opt.parent)
			ask_parent(p, b, i);
		if (b->known[i].how != KNOWN_NOT)
			continue;
		page[n] = i;
		digest[n++] = b->digest[i];
	}
	if (!p->opt.index)
		return;
	if (n)
		index_lookup(p->opt.index, digest, n, hit);
	for (unsigned i = 0; i < n; i++)
		if (hit[i].pack != INDEX_MISS)
			b->known[page[i]] = (struct known){
				.how = KNOWN_INDEX, .pack = hit[i].pack, .slot = hit[i].slot};
}

/* ---- the budget ---- */

/* The plan of the region (NULL: none); what else is there begins anew where a region
 * does. */
static const struct budget *enter(struct pipeline *p, const struct position *at)
{
	struct known_state *k = &p->known;
	const struct budget *plan = NULL;

	if (p->opt.parent && parent_view_plan(&k->view, at->stream, at->page, &plan) != ERR_OK) {
		err_clear();
		plan = NULL;
	}
	if (k->region != at->page / BUDGET_PAGES || k->stream != at->stream) {
		k->region = at->page / BUDGET_PAGES;
		k->stream = at->stream;
		k->fresh_pack = PACKMAP_NONE;
		budget_clear(&k->budget, plan);
	}
	return plan;
}

void known_stored(struct pipeline *p, const struct position *at, uint32_t number, uint32_t slot)
{
	struct known_state *k = &p->known;

	(void)enter(p, at);
	if (k->fresh_pack != PACKMAP_NONE)
		return;
	k->fresh_pack = number;
	k->fresh_slot = slot;
}

/* Was it stored since the region began?  Our packs are numbered as they come. */
static bool fresh(const struct pipeline *p, uint32_t number, uint32_t slot)
{
	const struct known_state *k = &p->known;

	if (k->fresh_pack == PACKMAP_NONE || !p->packs[number].ours)
		return false;
	return number == k->fresh_pack ? slot >= k->fresh_slot : number > k->fresh_pack;
}

bool known_allow(struct pipeline *p, const struct position *at, uint32_t number, uint32_t slot)
{
	struct known_state *k = &p->known;
	const struct budget *plan = enter(p, at);
	uint32_t parent = p->packs[number].parent;

	if (fresh(p, number, slot))
		return true;
	if (plan && parent != PACKMAP_NONE && budget_has(plan, parent, slot))
		return true;
	return budget_take(&k->budget, number, slot);
}

enum err known_place(struct pipeline *p, struct batch *b, unsigned i, bool *there, uint32_t *number,
		     uint32_t *slot)
{
	const struct known *known = &b->known[i];
	enum err e;

	*there = false;
	*slot = known->slot;
	if (known->how == KNOWN_PARENT) {
		*there = true;
		return known_parent_number(p, known->pack, number);
	}
	if (known->how != KNOWN_INDEX)
		return ERR_OK;
	if ((e = known_index_number(p, known->pack, number)) == ERR_OK)
		*there = known_allow(p, &b->pos[i], *number, *slot);
	return e;
}
