/* SPDX-License-Identifier: Apache-2.0 */
/* assign: pages are hashed on the pool, and in order looked up and given slots.
 *
 * Part of the pipeline (pipeline.c).  The assigner alone owns the table of new pages,
 * the numbers of old packs and the open group; what it shares is under the
 * pipeline's lock. */
#include "store/flow.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static enum err packs_grow(struct pipeline *p)
{
	uint32_t room = p->packs_room ? 2 * p->packs_room : 64;
	struct pipeline_pack *packs;
	struct growing **grown;

	packs = realloc(p->packs, room * sizeof(*packs));
	if (packs)
		p->packs = packs;
	grown = realloc(p->grown, room * sizeof(*grown));
	if (grown)
		p->grown = grown;
	if (!packs || !grown)
		return err_note(ERR_NOMEM, 0, "list the packs of a checkpoint: out of memory");
	p->packs_room = room;
	return ERR_OK;
}

enum err assign_number(struct pipeline *p, struct growing *grown, const struct pack_ref *ref,
		       uint32_t *number)
{
	struct packmap_entry *entry;
	enum err e;

	if ((e = packmap_get(&p->known.map, grown ? &grown->id : &ref->id, &entry)) != ERR_OK)
		return e;
	AUTO_LOCK(&p->lock);
	if (p->n_packs == p->packs_room && (e = packs_grow(p)) != ERR_OK)
		return e;
	*number = entry->number = p->n_packs++;
	p->grown[*number] = grown;
	p->packs[*number] = (struct pipeline_pack){.ours = grown != NULL, .parent = entry->parent};
	if (ref)
		p->packs[*number].ref = *ref;
	return ERR_OK;
}

/* Does slot of our own pack hold exactly this page? */
static bool own_equal(struct pipeline *p, uint32_t number, uint32_t slot, const struct digest *d)
{
	const struct catalog_pack *pack;
	struct pack_ref ref;
	bool equal;

	pthread_mutex_lock(&p->lock);
	if (!p->grown[number]->sealed) {
		equal = memcmp(&p->grown[number]->digests[slot], d, sizeof(*d)) == 0;
		pthread_mutex_unlock(&p->lock);
		return equal;
	}
	ref = p->packs[number].ref;
	pthread_mutex_unlock(&p->lock);
	if (catalog_get(p->opt.catalog, &ref, &pack) != ERR_OK)
		return false; /* then it is stored again */
	equal = memcmp(&pack->dir.digest[slot], d, sizeof(*d)) == 0;
	catalog_put(p->opt.catalog, pack);
	return equal;
}

static enum err pack_begin(struct pipeline *p)
{
	struct growing *g = calloc(1, sizeof(*g));
	enum err e;

	if (g)
		g->digests = malloc(PACK_PAGES * sizeof(*g->digests));
	if (!g || !g->digests) {
		free(g);
		return err_note(ERR_NOMEM, 0, "begin a pack: out of memory");
	}
	layout_pack_id(&p->opt.writer, p->sequence++, &g->id);
	e = crypt_pack_key(p->opt.crypt, crypt_epoch(p->opt.crypt), &g->id, &g->key);
	if (e != ERR_OK) {
		free(g->digests);
		free(g);
		return e;
	}
	g->next = p->growing;
	p->growing = p->current = g;
	e = assign_number(p, g, NULL, &g->number);
	return e;
}

void assign_issue(struct pipeline *p)
{
	struct group *g = p->open;

	p->open = NULL;
	if (g->pack->slots == PACK_PAGES) {
		g->last_of_pack = true;
		p->current = NULL;
	}
	pthread_mutex_lock(&p->lock);
	g->seq = p->groups_issued++;
	pthread_mutex_unlock(&p->lock);
	pool_submit(p->opt.pool, &g->job, true);
}

static struct group *take_group(struct pipeline *p)
{
	AUTO_LOCK(&p->lock);
	struct group *g = p->free_group;

	assert(g != NULL); /* the batch has credit for it */
	p->free_group = g->next;
	g->n = 0;
	g->last_of_pack = false;
	return g;
}

static enum err store_new(struct pipeline *p, struct batch *b, unsigned i, uint32_t *number,
			  uint32_t *slot)
{
	struct group *g;
	enum err e;

	if (!p->current && (e = pack_begin(p)) != ERR_OK)
		return e;
	if (!p->open) {
		p->open = take_group(p);
		p->open->pack = p->current;
		p->open->first_slot = p->current->slots;
		b->used_credit++;
	}
	g = p->open;
	g->sum[g->n] = b->sum[i];
	memcpy(g->pages + (size_t)g->n++ * PAGE_BYTES, b->data + (size_t)i * PAGE_BYTES,
	       PAGE_BYTES);
	*number = g->pack->number;
	*slot = g->pack->slots++;
	g->pack->digests[*slot] = b->digest[i];
	if ((e = dedup_add(&p->own, &b->digest[i], *number, *slot)) != ERR_OK)
		return e;
	if (g->n == GROUP_PAGES)
		assign_issue(p);
	return ERR_OK;
}

/* Where the page is, or will be. */
static enum err find_place(struct pipeline *p, struct batch *b, unsigned i, struct run *run)
{
	bool there;
	enum err e = known_place(p, b, i, &there, &run->pack, &run->slot);

	if (e != ERR_OK || there)
		return e;
	if (dedup_find(&p->own, &b->digest[i], &run->pack, &run->slot) &&
	    own_equal(p, run->pack, run->slot, &b->digest[i]) &&
	    known_allow(p, &b->pos[i], run->pack, run->slot))
		return ERR_OK;
	if ((e = store_new(p, b, i, &run->pack, &run->slot)) == ERR_OK)
		known_stored(p, &b->pos[i], run->pack, run->slot);
	return e;
}

static enum err place_kept(struct pipeline *p, const struct kept *k)
{
	struct run run = k->run;

	if (p->recall)
		recall_forget(p->recall); /* nobody looked at these pages */

	enum err e = k->indexed ? known_index_number(p, k->run.pack, &run.pack)
				: known_parent_number(p, k->run.pack, &run.pack);

	return e == ERR_OK ? p->opt.place(p->opt.arg, k->stream, &run) : e;
}

static enum err assign(struct pipeline *p, struct batch *b)
{
	unsigned kept = 0;
	enum err e = ERR_OK;

	known_look(p, b);
	for (unsigned i = 0; e == ERR_OK && i <= b->n; i++) {
		struct run run = {.count = 1};

		while (e == ERR_OK && kept < b->n_kept && b->kept[kept].before == i)
			e = place_kept(p, &b->kept[kept++]);
		if (e != ERR_OK || i == b->n)
			break;
		run.page = b->pos[i].page;
		if ((e = find_place(p, b, i, &run)) == ERR_OK)
			e = p->opt.place(p->opt.arg, b->pos[i].stream, &run);
		if (e == ERR_OK && p->recall)
			recall_note(p->recall, b->pos[i].stream, run.page, &b->sum[i]);
	}
	return e;
}

static void assign_turn(struct pipeline *p, struct batch *b)
{
	pthread_mutex_lock(&p->lock);
	p->batch_ring[b->seq % p->n_batches] = b;
	if (p->assigning) {
		pthread_mutex_unlock(&p->lock);
		return;
	}
	p->assigning = true;
	while ((b = p->batch_ring[p->batches_done % p->n_batches]) != NULL) {
		bool skip = p->err != ERR_OK;
		enum err e = ERR_OK;

		p->batch_ring[p->batches_done % p->n_batches] = NULL;
		pthread_mutex_unlock(&p->lock);
		b->used_credit = 0;
		if (!skip && (e = assign(p, b)) != ERR_OK)
			pipeline_fail(p, e);
		pthread_mutex_lock(&p->lock);
		p->credit += BATCH_CREDIT - b->used_credit;
		b->next = p->free_batch;
		p->free_batch = b;
		p->batches_done++;
		pthread_cond_broadcast(&p->moved);
	}
	p->assigning = false;
	pthread_mutex_unlock(&p->lock);
}

static void look(struct batch *b, unsigned i, struct pool_worker *w)
{
	const uint8_t *page = b->data + (size_t)i * PAGE_BYTES;
	const struct group_sum *expect = &b->expect[i];

	group_sum(w->codec, &b->p->sum_key, page, &b->sum[i]); /* before the digest: see group_prove */
	b->same[i] = (expect->low | expect->high) && b->sum[i].low == expect->low &&
		     b->sum[i].high == expect->high;
	if (!b->same[i])
		crypt_page(b->p->opt.crypt, page, &b->digest[i]);
}

void assign_run(struct pool_job *job, struct pool_worker *w)
{
	struct batch *b = (struct batch *)(void *)job;

	if (!pipeline_failed(b->p))
		for (unsigned i = 0; i < b->n; i++)
			look(b, i, w);
	assign_turn(b->p, b);
}
