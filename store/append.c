/* SPDX-License-Identifier: Apache-2.0 */
/* append: groups are compressed and proven on the pool and appended in order.
 *
 * Part of the pipeline (pipeline.c).  The appender alone owns the pack that grows;
 * what it shares is under the pipeline's lock. */
#include "store/flow.h"

#include <stdlib.h>

static void group_free(struct pipeline *p, struct group *g)
{
	AUTO_LOCK(&p->lock);
	g->next = p->free_group;
	p->free_group = g;
	p->credit++;
	pthread_cond_broadcast(&p->moved);
}

enum err append_seal(struct pipeline *p, struct growing *pack)
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
		e = pack_create(p->opt.root, &pack->id, p->opt.crypt, &pack->key, p->opt.level,
				pack->digests, &pack->writer);
	}
	if (e == ERR_OK)
		e = pack_append(pack->writer, g->stored, g->len, g->codec, g->check, g->n);
	if (e == ERR_OK && g->last_of_pack)
		e = append_seal(p, pack);
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
			pipeline_fail(p, e);
		group_free(p, g);
		pthread_mutex_lock(&p->lock);
		p->groups_done++;
		pthread_cond_broadcast(&p->moved);
	}
	p->appending = false;
	pthread_mutex_unlock(&p->lock);
}

/* Seal into whichever buffer the compressed bytes are not in. */
static enum err seal(struct group *g)
{
	uint8_t *to = g->stored == g->out ? g->pages : g->out;
	enum err e = crypt_seal(&g->pack->key, g->first_slot, NULL, 0, g->stored, g->len, to);

	g->stored = to;
	g->len += (uint32_t)crypt_overhead(&g->pack->key);
	return e;
}

/* What is proven is what will be read: the sealed bytes are opened again into the buffer
 * that sealing left free, expanded and hashed. */
static enum err prove(struct group *g, struct pool_worker *w)
{
	const struct crypt_key *key = &g->pack->key;
	uint8_t *again = g->stored == g->out ? g->pages : g->out;
	enum err e = crypt_open(key, g->first_slot, NULL, 0, g->stored, g->len, again);
	uint32_t len = e == ERR_OK ? g->len - (uint32_t)crypt_overhead(key) : 0;

	if (e != ERR_OK && e != ERR_CORRUPT)
		return e;
	return group_prove(w->codec, again, len, g->codec, &g->p->sum_key, g->sum, g->n, w->scratch);
}

static enum err encode(struct group *g, struct pool_worker *w)
{
	enum err e = group_encode(w->codec, g->p->opt.level, g->pages, g->n, g->out, &g->stored,
				  &g->len, &g->codec);

	if (e == ERR_OK && g->pack->key.epoch)
		e = seal(g);
	if (e == ERR_OK)
		e = g->pack->key.epoch
			    ? prove(g, w)
			    : group_prove(w->codec, g->stored, g->len, g->codec, &g->p->sum_key,
					  g->sum, g->n, w->scratch);
	if (e == ERR_OK)
		group_check(g->stored, g->len, g->check);
	return e;
}

void append_run(struct pool_job *job, struct pool_worker *w)
{
	struct group *g = (struct group *)(void *)job;
	struct pipeline *p = g->p;
	enum err e = ERR_OK;

	if (!pipeline_failed(p)) {
		e = encode(g, w);
		if (e != ERR_OK)
			pipeline_fail(p, e);
	}
	append_turn(p, g);
}
