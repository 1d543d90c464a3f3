/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline: pages in, packs out, on all cores, in order, in bounded memory.
 *
 * Batches of pages and groups are taken from fixed stocks.  A batch takes, before it
 * starts, credit for as many groups as it can fill; so no step ever waits for a
 * buffer, and only put waits.  Two turnstiles keep the order: whoever finishes hashing
 * (or compressing) leaves its batch (or group) at its place in a ring, and the
 * first in line is worked off by whoever finds nobody doing so.
 *
 * The first error stops everything: later jobs only pass through.
 *
 * Threads: put, finish and destroy belong to the owner; steps run on the pool;
 * one thread of our own makes sealed packs durable.  `lock` covers what both
 * turnstiles or threads share; the assigner alone owns `own`, `old_ordinal` and the open
 * group, the appender alone the pack that grows. */
#include "store/pipeline.h"

#include "base/fs.h"
#include "base/thread.h"
#include "store/dedup.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_PAGES 128u
#define BATCH_CREDIT (BATCH_PAGES / GROUP_PAGES + 1)
#define SYNC_QUEUE 4u

struct position {
	uint32_t stream;
	uint64_t page;
};

struct batch {
	struct pool_job job; /* first: found from it */
	struct pipeline *p;
	struct batch *next;
	uint64_t seq;
	unsigned n, used_credit;
	struct position pos[BATCH_PAGES];
	struct digest digest[BATCH_PAGES];
	struct index_hit hit[BATCH_PAGES];
	uint8_t *data;
};

/* A pack of ours while it grows. */
struct growing {
	struct pack_id id;
	struct digest *digests; /* by slot; freed when sealed */
	uint32_t slots;		/* assigned */
	struct pack_writer *writer;
	bool created, sealed;
	uint32_t number; /* in packs[] */
	struct growing *next;
};

struct group {
	struct pool_job job; /* first: found from it */
	struct pipeline *p;
	struct group *next;
	uint64_t seq;
	unsigned n;
	struct growing *pack;
	uint32_t first_slot;
	uint8_t *pages, *out;
	const uint8_t *stored;
	uint32_t len;
	uint8_t codec, check[GROUP_CHECK_BYTES];
	bool last_of_pack;
};

struct pipeline {
	struct pipeline_options opt;
	pthread_mutex_t lock;
	pthread_cond_t moved;
	enum err err;
	char why[ERR_NOTE_BYTES];

	struct batch *batches, *free_batch, *filling;
	struct group *groups, *free_group, *open;
	unsigned n_batches, n_groups, credit;
	struct batch **batch_ring;
	struct group **group_ring;
	uint64_t batches_issued, batches_done, groups_issued, groups_done;
	bool assigning, appending;

	struct dedup own;
	uint32_t *old_ordinal; /* index's pack number -> number in packs + 1 */
	uint32_t old_room;
	struct growing *growing, *current; /* newest first; the one being filled */
	uint32_t sequence;

	struct pipeline_pack *packs;
	struct growing **grown; /* by pack number; NULL for old packs */
	uint32_t n_packs, packs_room;
	uint64_t stored;

	struct queue *to_sync;
	struct thread syncer;
};

/* ---- errors ---- */

static void fail(struct pipeline *p, enum err e)
{
	AUTO_LOCK(&p->lock);
	if (p->err == ERR_OK) {
		p->err = e;
		snprintf(p->why, sizeof(p->why), "%s", err_text());
	}
	pthread_cond_broadcast(&p->moved);
}

static bool failed(struct pipeline *p)
{
	AUTO_LOCK(&p->lock);
	return p->err != ERR_OK;
}

static enum err result(struct pipeline *p)
{
	AUTO_LOCK(&p->lock);
	return p->err == ERR_OK ? ERR_OK : err_note(p->err, 0, "%s", p->why);
}

/* ---- append: in order, into packs ---- */

static void group_free(struct pipeline *p, struct group *g)
{
	AUTO_LOCK(&p->lock);
	g->next = p->free_group;
	p->free_group = g;
	p->credit++;
	pthread_cond_broadcast(&p->moved);
}

static enum err seal(struct pipeline *p, struct growing *pack)
{
	struct pack_ref ref;
	struct digest *digests;
	enum err e = pack_seal(pack->writer, &ref);

	if (e != ERR_OK)
		return e;
	pthread_mutex_lock(&p->lock);
	p->packs[pack->number].ref = ref;
	p->stored += pack_size(pack->writer);
	pack->sealed = true;
	digests = pack->digests;
	pack->digests = NULL;
	pthread_mutex_unlock(&p->lock);
	free(digests);
	if (p->opt.progress)
		atomic_fetch_add_explicit(&p->opt.progress->stored_bytes,
					  pack_file_bytes(&ref), memory_order_relaxed);
	if (!queue_push(p->to_sync, pack))
		return err_note(ERR_CANCELLED, 0, "interrupted");
	return ERR_OK;
}

static enum err append(struct pipeline *p, struct group *g)
{
	struct growing *pack = g->pack;
	enum err e = ERR_OK;

	if (!pack->writer) {
		pack->created = true; /* from here on there may be a file */
		e = pack_create(p->opt.root, &pack->id, p->opt.archive_id, pack->digests,
				&pack->writer);
	}
	if (e == ERR_OK)
		e = pack_append(pack->writer, g->stored, g->len, g->codec, g->check, g->n);
	if (e == ERR_OK && g->last_of_pack)
		e = seal(p, pack);
	return e;
}

static void append_turn(struct pipeline *p, struct group *g)
{
	pthread_mutex_lock(&p->lock);
	p->group_ring[g->seq % p->n_groups] = g;
	if (p->appending) {
		pthread_mutex_unlock(&p->lock);
		return;
	}
	p->appending = true;
	while ((g = p->group_ring[p->groups_done % p->n_groups]) != NULL) {
		bool skip = p->err != ERR_OK;
		enum err e = ERR_OK;

		p->group_ring[p->groups_done % p->n_groups] = NULL;
		pthread_mutex_unlock(&p->lock);
		if (!skip && (e = append(p, g)) != ERR_OK)
			fail(p, e);
		group_free(p, g);
		pthread_mutex_lock(&p->lock);
		p->groups_done++;
		pthread_cond_broadcast(&p->moved);
	}
	p->appending = false;
	pthread_mutex_unlock(&p->lock);
}

static void group_run(struct pool_job *job, struct pool_worker *w)
{
	struct group *g = (struct group *)(void *)job;
	struct pipeline *p = g->p;
	enum err e = ERR_OK;

	if (!failed(p)) {
		e = group_encode(w->codec, g->pages, g->n, g->out, &g->stored, &g->len,
				 &g->codec);
		if (e == ERR_OK)
			e = group_prove(w->codec, g->stored, g->len, g->codec,
					g->pack->digests + g->first_slot, g->n, w->scratch);
		if (e == ERR_OK)
			group_check(g->stored, g->len, g->check);
		else
			fail(p, e);
	}
	append_turn(p, g);
}

/* ---- assign: in order, look up and choose slots ---- */

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

/* A new number for a pack: grown (ours) or ref (published). */
static enum err number_pack(struct pipeline *p, struct growing *grown, const struct pack_ref *ref,
			    uint32_t *number)
{
	AUTO_LOCK(&p->lock);
	if (p->n_packs == p->packs_room) {
		enum err e = packs_grow(p);

		if (e != ERR_OK)
			return e;
	}
	*number = p->n_packs++;
	p->grown[*number] = grown;
	p->packs[*number] = (struct pipeline_pack){.ours = grown != NULL};
	if (ref)
		p->packs[*number].ref = *ref;
	return ERR_OK;
}

static enum err old_number(struct pipeline *p, uint32_t indexed, uint32_t *number)
{
	struct pack_ref ref;
	enum err e;

	if (indexed >= p->old_room) {
		uint32_t room = 2 * indexed + 64;
		uint32_t *more = realloc(p->old_ordinal, room * sizeof(*more));

		if (!more)
			return err_note(ERR_NOMEM, 0, "list the packs of a checkpoint: out of "
						      "memory");
		memset(more + p->old_room, 0, (room - p->old_room) * sizeof(*more));
		p->old_ordinal = more;
		p->old_room = room;
	}
	if (p->old_ordinal[indexed] == 0) {
		ref = index_ref(p->opt.index, indexed);
		if ((e = number_pack(p, NULL, &ref, number)) != ERR_OK)
			return e;
		p->old_ordinal[indexed] = *number + 1;
	}
	*number = p->old_ordinal[indexed] - 1;
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
	g->next = p->growing;
	p->growing = p->current = g;
	e = number_pack(p, g, NULL, &g->number);
	return e;
}

static void issue_group(struct pipeline *p)
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
	memcpy(g->pages + (size_t)g->n++ * PAGE_BYTES, b->data + (size_t)i * PAGE_BYTES,
	       PAGE_BYTES);
	*number = g->pack->number;
	*slot = g->pack->slots++;
	g->pack->digests[*slot] = b->digest[i];
	if ((e = dedup_add(&p->own, &b->digest[i], *number, *slot)) != ERR_OK)
		return e;
	if (g->n == GROUP_PAGES)
		issue_group(p);
	return ERR_OK;
}

static enum err assign(struct pipeline *p, struct batch *b)
{
	index_lookup(p->opt.index, b->digest, b->n, b->hit);
	for (unsigned i = 0; i < b->n; i++) {
		uint32_t number, slot;
		enum err e = ERR_OK;

		if (b->hit[i].pack != INDEX_MISS) {
			e = old_number(p, b->hit[i].pack, &number);
			slot = b->hit[i].slot;
		} else if (!dedup_find(&p->own, &b->digest[i], &number, &slot) ||
			   !own_equal(p, number, slot, &b->digest[i])) {
			e = store_new(p, b, i, &number, &slot);
		}
		if (e == ERR_OK)
			e = p->opt.place(p->opt.arg, b->pos[i].stream, b->pos[i].page, number,
					 slot);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
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
			fail(p, e);
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

static void batch_run(struct pool_job *job, struct pool_worker *w)
{
	struct batch *b = (struct batch *)(void *)job;

	(void)w;
	if (!failed(b->p))
		for (unsigned i = 0; i < b->n; i++)
			digest_of(b->data + (size_t)i * PAGE_BYTES, PAGE_BYTES, &b->digest[i]);
	assign_turn(b->p, b);
}

/* ---- the owner's side ---- */

static void submit(struct pipeline *p)
{
	struct batch *b = p->filling;

	p->filling = NULL;
	pthread_mutex_lock(&p->lock);
	b->seq = p->batches_issued++;
	pthread_mutex_unlock(&p->lock);
	pool_submit(p->opt.pool, &b->job, false);
}

static struct batch *take_batch(struct pipeline *p)
{
	AUTO_LOCK(&p->lock);
	struct batch *b;

	while (p->err == ERR_OK && (!p->free_batch || p->credit < BATCH_CREDIT))
		pthread_cond_wait(&p->moved, &p->lock);
	if (p->err != ERR_OK)
		return NULL;
	b = p->free_batch;
	p->free_batch = b->next;
	p->credit -= BATCH_CREDIT;
	b->n = 0;
	return b;
}

enum err pipeline_put(struct pipeline *p, uint32_t stream, uint64_t page, const uint8_t *data)
{
	struct batch *b = p->filling;

	if (!b) {
		b = p->filling = take_batch(p);
		if (!b)
			return result(p);
	}
	memcpy(b->data + (size_t)b->n * PAGE_BYTES, data, PAGE_BYTES);
	b->pos[b->n++] = (struct position){stream, page};
	if (b->n == BATCH_PAGES)
		submit(p);
	return ERR_OK;
}

static void wait_batches(struct pipeline *p)
{
	AUTO_LOCK(&p->lock);
	while (p->batches_done < p->batches_issued || p->assigning)
		pthread_cond_wait(&p->moved, &p->lock);
}

static void wait_groups(struct pipeline *p)
{
	AUTO_LOCK(&p->lock);
	while (p->groups_done < p->groups_issued || p->appending)
		pthread_cond_wait(&p->moved, &p->lock);
}

static void sync_main(void *arg)
{
	struct pipeline *p = arg;
	void *item;

	while (queue_pop(p->to_sync, &item)) {
		struct growing *pack = item;
		enum err e = failed(p) ? ERR_OK : pack_sync(pack->writer);

		if (e != ERR_OK)
			fail(p, e);
		pack_close(pack->writer);
		pack->writer = NULL;
	}
}

enum err pipeline_finish(struct pipeline *p)
{
	enum err e;

	if (p->filling)
		submit(p);
	wait_batches(p);
	if (p->open && !failed(p)) /* nobody assigns any more: it is ours */
		issue_group(p);
	wait_groups(p);
	if (p->current && !failed(p)) {
		if ((e = seal(p, p->current)) != ERR_OK)
			fail(p, e);
		p->current = NULL;
	}
	queue_close(p->to_sync);
	thread_join(&p->syncer);
	return result(p);
}

const struct pipeline_pack *pipeline_packs(const struct pipeline *p, uint32_t *count)
{
	*count = p->n_packs;
	return p->packs;
}

uint64_t pipeline_stored(const struct pipeline *p)
{
	return p->stored;
}

/* No job of ours is left, and none comes. */
static void quiesce(struct pipeline *p)
{
	enum err cancelled = err_note(ERR_CANCELLED, 0, "interrupted");

	fail(p, cancelled);
	wait_batches(p);
	wait_groups(p);
	queue_close(p->to_sync);
	thread_join(&p->syncer);
}

void pipeline_remove(struct pipeline *p)
{
	char path[LAYOUT_PATH_BYTES];

	quiesce(p);
	for (struct growing *g = p->growing; g; g = g->next) {
		if (!g->created)
			continue;
		layout_pack_path(&g->id, path);
		if (fs_unlink(p->opt.root, path) != ERR_OK)
			err_clear(); /* the next sweep tries again */
	}
}

/* ---- making and ending ---- */

static enum err stock_batches(struct pipeline *p)
{
	p->batches = calloc(p->n_batches, sizeof(*p->batches));
	p->batch_ring = calloc(p->n_batches, sizeof(struct batch *));
	if (!p->batches || !p->batch_ring)
		return err_note(ERR_NOMEM, 0, "begin a checkpoint: out of memory");
	for (unsigned i = 0; i < p->n_batches; i++) {
		struct batch *b = &p->batches[i];

		b->p = p;
		b->job.run = batch_run;
		b->data = malloc((size_t)BATCH_PAGES * PAGE_BYTES);
		if (!b->data)
			return err_note(ERR_NOMEM, 0, "begin a checkpoint: out of memory");
		b->next = p->free_batch;
		p->free_batch = b;
	}
	return ERR_OK;
}

static enum err stock_groups(struct pipeline *p)
{
	p->groups = calloc(p->n_groups, sizeof(*p->groups));
	p->group_ring = calloc(p->n_groups, sizeof(struct group *));
	if (!p->groups || !p->group_ring)
		return err_note(ERR_NOMEM, 0, "begin a checkpoint: out of memory");
	for (unsigned i = 0; i < p->n_groups; i++) {
		struct group *g = &p->groups[i];

		g->p = p;
		g->job.run = group_run;
		g->pages = malloc(GROUP_BYTES);
		g->out = malloc(GROUP_BYTES);
		if (!g->pages || !g->out)
			return err_note(ERR_NOMEM, 0, "begin a checkpoint: out of memory");
		g->next = p->free_group;
		p->free_group = g;
	}
	p->credit = p->n_groups - 1; /* one may stay open between batches */
	return ERR_OK;
}

enum err pipeline_create(const struct pipeline_options *opt, struct pipeline **out)
{
	struct pipeline *p = calloc(1, sizeof(*p));
	enum err e;

	if (!p)
		return err_note(ERR_NOMEM, 0, "begin a checkpoint: out of memory");
	p->opt = *opt;
	p->n_batches = 2 * pool_threads(opt->pool) + 2;
	p->n_groups = p->n_batches * BATCH_CREDIT + 1;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->moved, NULL);
	if ((e = stock_batches(p)) != ERR_OK || (e = stock_groups(p)) != ERR_OK ||
	    (e = queue_create(SYNC_QUEUE, &p->to_sync)) != ERR_OK ||
	    (e = thread_start(&p->syncer, "lb-sync", sync_main, p)) != ERR_OK) {
		pipeline_destroy(p);
		return e;
	}
	*out = p;
	return ERR_OK;
}

void pipeline_destroy(struct pipeline *p)
{
	if (!p)
		return;
	if (p->to_sync)
		quiesce(p);
	queue_destroy(p->to_sync);
	while (p->growing) {
		struct growing *g = p->growing;

		p->growing = g->next;
		pack_close(g->writer);
		free(g->digests);
		free(g);
	}
	for (unsigned i = 0; p->batches && i < p->n_batches; i++)
		free(p->batches[i].data);
	for (unsigned i = 0; p->groups && i < p->n_groups; i++) {
		free(p->groups[i].pages);
		free(p->groups[i].out);
	}
	free(p->batches);
	free(p->groups);
	free(p->batch_ring);
	free(p->group_ring);
	free(p->packs);
	free(p->grown);
	free(p->old_ordinal);
	dedup_fini(&p->own);
	pthread_cond_destroy(&p->moved);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
