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
 * turnstiles or threads share; the assigner alone owns `own`, `known` and the open
 * group, the appender alone the pack that grows. */
#include "store/flow.h"

#include "base/fs.h"
#include "base/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SYNC_QUEUE 4u

/* ---- errors ---- */

void pipeline_fail(struct pipeline *p, enum err e)
{
	AUTO_LOCK(&p->lock);
	if (p->err == ERR_OK) {
		p->err = e;
		snprintf(p->why, sizeof(p->why), "%s", err_text());
	}
	pthread_cond_broadcast(&p->moved);
}

bool pipeline_failed(struct pipeline *p)
{
	AUTO_LOCK(&p->lock);
	return p->err != ERR_OK;
}

static enum err result(struct pipeline *p)
{
	AUTO_LOCK(&p->lock);
	return p->err == ERR_OK ? ERR_OK : err_note(p->err, 0, "%s", p->why);
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
	b->n = b->n_kept = 0;
	return b;
}

static struct group_sum expected(struct pipeline *p, uint32_t stream, uint64_t page)
{
	const struct group_sum *sum = NULL;

	if (p->opt.parent && p->recall && p->opt.parent->stream[stream] != PARENT_NONE)
		sum = recall_expect(p->recall, p->opt.parent->stream[stream], page);
	return sum ? *sum : (struct group_sum){0, 0};
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
	b->expect[b->n] = expected(p, stream, page);
	b->pos[b->n++] = (struct position){stream, page};
	if (b->n == BATCH_PAGES)
		submit(p);
	return ERR_OK;
}

static enum err keep(struct pipeline *p, uint32_t stream, const struct run *run, bool indexed)
{
	struct batch *b = p->filling;
	struct kept *last = b && b->n_kept ? &b->kept[b->n_kept - 1] : NULL;

	if (last && last->stream == stream && last->before == b->n && last->indexed == indexed &&
	    runs_join(&last->run, run))
		return ERR_OK;
	if (b && b->n_kept == BATCH_PAGES) {
		submit(p);
		b = NULL;
	}
	if (!b) {
		b = p->filling = take_batch(p);
		if (!b)
			return result(p);
	}
	b->kept[b->n_kept++] = (struct kept){
		.stream = stream, .before = b->n, .indexed = indexed, .run = *run};
	return ERR_OK;
}

enum err pipeline_keep(struct pipeline *p, uint32_t stream, const struct run *run)
{
	return keep(p, stream, run, false);
}

enum err pipeline_have(struct pipeline *p, uint32_t stream, const struct run *run)
{
	return keep(p, stream, run, true);
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
		enum err e = pipeline_failed(p) ? ERR_OK : pack_sync(pack->writer);

		if (e != ERR_OK)
			pipeline_fail(p, e);
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
	if (p->open && !pipeline_failed(p)) /* nobody assigns any more: it is ours */
		assign_issue(p);
	wait_groups(p);
	if (p->current && !pipeline_failed(p)) {
		if ((e = append_seal(p, p->current)) != ERR_OK)
			pipeline_fail(p, e);
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

void pipeline_published(struct pipeline *p, const struct checkpoint_info *info)
{
	if (p->recall)
		recall_keep(p->recall, info);
}

/* No job of ours is left, and none comes. */
static void quiesce(struct pipeline *p)
{
	enum err cancelled = err_note(ERR_CANCELLED, 0, "interrupted");

	pipeline_fail(p, cancelled);
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
		b->job.run = assign_run;
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
		g->job.run = append_run;
		g->pages = malloc(GROUP_STORED_MAX);
		g->out = malloc(GROUP_STORED_MAX);
		if (!g->pages || !g->out)
			return err_note(ERR_NOMEM, 0, "begin a checkpoint: out of memory");
		g->next = p->free_group;
		p->free_group = g;
	}
	p->credit = p->n_groups - 1; /* one may stay open between batches */
	return ERR_OK;
}

static enum err stock_sums(struct pipeline *p)
{
	const struct parent *parent = p->opt.parent;
	enum err e;

	if (!p->opt.recall)
		return layout_random(p->sum_key.b, sizeof(p->sum_key.b));
	e = recall_open(p->opt.root, p->opt.crypt, &p->opt.writer, parent ? &parent->m : NULL,
			&p->recall);
	if (e == ERR_OK)
		p->sum_key = *recall_key(p->recall);
	return e;
}

enum err pipeline_create(const struct pipeline_options *opt, struct pipeline **out)
{
	struct pipeline *p = calloc(1, sizeof(*p));
	enum err e;

	if (!p)
		return err_note(ERR_NOMEM, 0, "begin a checkpoint: out of memory");
	p->opt = *opt;
	dedup_init(&p->own, opt->root, DEDUP_LIMIT);
	p->n_batches = 2 * pool_threads(opt->pool) + 2;
	p->n_groups = p->n_batches * BATCH_CREDIT + 1;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->moved, NULL);
	if ((e = known_init(p)) != ERR_OK || (e = stock_sums(p)) != ERR_OK ||
	    (e = stock_batches(p)) != ERR_OK ||
	    (e = stock_groups(p)) != ERR_OK ||
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
		crypt_key_wipe(&g->key);
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
	known_fini(p);
	recall_close(p->recall);
	secret_wipe(&p->sum_key, sizeof(p->sum_key));
	dedup_fini(&p->own);
	pthread_cond_destroy(&p->moved);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
