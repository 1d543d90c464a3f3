/* SPDX-License-Identifier: Apache-2.0 */
/* extract: a whole stream, on all cores, in order.
 *
 * The stream is cut into items of up to ITEM_PAGES pages, so that no group is
 * expanded for two of them where that can be avoided.  Each thread takes the next
 * item, fetches its pages, leaves the item in a ring, and delivers the first in
 * line if nobody does so.  At most `window` items are between taking and delivery.
 *
 * Threads: jobs on the pool, one per thread; the caller waits for all.  `lock`
 * covers the cursor, the ring and the counters; an item belongs to its taker until
 * it is in the ring, then to the deliverer. */
#include "store/reader.h"

#include "base/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ITEM_PAGES 256u
/* Packs in use by the items under way: each costs a descriptor and up to a megabyte
 * of directory.  Pages that follow each other in memory may lie in as many packs as
 * there were checkpoints. */
#define HELD_MAX 128u
/* Expanded groups that each thread keeps, 16 MiB: what a stream has scattered over 2 MiB (budget.h)
 * is expanded once for them. */
#define KEPT_GROUPS 256u

struct piece {
	const struct catalog_pack *pack; /* in use */
	uint64_t page;
	uint32_t slot, count;
	bool repeat;
};

struct item {
	unsigned n, held; /* pieces; packs, counting one again where it changes */
	uint32_t pages;
	uint64_t end; /* page after the last */
	struct piece piece[ITEM_PAGES];
	uint8_t *data;
};

struct taker {
	struct pool_job job; /* first: found from it */
	struct extraction *x;
	struct fetch *fetch;
};

struct extraction {
	struct archive_reader *r;
	unsigned index, window, running, held;
	struct progress *progress;
	archive_extent_fn *fn;
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t moved;
	enum err err;
	char why[ERR_NOTE_BYTES];
	struct cursor cursor;
	struct run rest; /* what is left of the run under the cursor; count 0: nothing */
	bool ended, delivering;
	uint64_t taken, delivered; /* items */
	uint64_t reported;	   /* bytes of the stream */
	struct item *items;
	struct item **ring;
	struct taker *takers;
};

static void fail_locked(struct extraction *x, enum err e)
{
	if (x->err == ERR_OK) {
		x->err = e;
		snprintf(x->why, sizeof(x->why), "%s", err_text());
	}
	pthread_cond_broadcast(&x->moved);
}

/* ---- taking ---- */

/* How many pages of the rest go into the item: to the end of a group rather than
 * into the middle of one. */
static uint32_t share(const struct extraction *x, const struct catalog_pack *p, uint32_t room)
{
	const struct pack_group *g;

	if (x->rest.count <= room)
		return x->rest.count;
	if (x->rest.repeat)
		return room;
	g = pack_dir_find(&p->dir, x->rest.slot + room);
	return g->first_slot > x->rest.slot ? g->first_slot - x->rest.slot : room;
}

static enum err take_piece(struct extraction *x, struct item *it)
{
	struct piece *piece = &it->piece[it->n];
	uint32_t count;
	enum err e = catalog_get(x->r->a->catalog, &x->r->m.pack[x->rest.pack], &piece->pack);

	if (e != ERR_OK)
		return reader_context(x->r, x->index, x->rest.page * PAGE_BYTES, e);
	count = share(x, piece->pack, ITEM_PAGES - it->pages);
	piece->page = x->rest.page;
	piece->slot = x->rest.slot;
	piece->count = count;
	piece->repeat = x->rest.repeat;
	if (it->n == 0 || piece->pack != piece[-1].pack) {
		it->held++;
		x->held++;
	}
	it->n++;
	it->pages += count;
	it->end = piece->page + count;
	x->rest.page += count;
	x->rest.count -= count;
	if (!x->rest.repeat)
		x->rest.slot += count;
	return ERR_OK;
}

static enum err fill_item(struct extraction *x, struct item *it)
{
	it->n = it->held = 0;
	it->pages = 0;
	while (it->pages + GROUP_PAGES <= ITEM_PAGES && (it->n == 0 || x->held < HELD_MAX)) {
		const struct run *run;
		enum err e;

		if (x->rest.count == 0) {
			e = cursor_next(&x->cursor, &run);
			if (e != ERR_OK)
				return reader_context(x->r, x->index, it->end * PAGE_BYTES, e);
			if (!run) {
				x->ended = true;
				return ERR_OK;
			}
			x->rest = *run;
		}
		if ((e = take_piece(x, it)) != ERR_OK)
			return e;
		if (x->rest.count) /* cut at the end of a group: the item is full */
			return ERR_OK;
	}
	return ERR_OK;
}

static void drop_item(struct extraction *x, struct item *it)
{
	for (unsigned i = 0; i < it->n; i++)
		catalog_put(x->r->a->catalog, it->piece[i].pack);
	it->n = 0;
}

/* The next item with something in it; NULL when there is none or all is over. */
static struct item *take_item(struct extraction *x, uint64_t *seq)
{
	AUTO_LOCK(&x->lock);
	struct item *it;
	enum err e;

	while (x->err == ERR_OK && !x->ended &&
	       (x->taken - x->delivered >= x->window || x->held >= HELD_MAX))
		pthread_cond_wait(&x->moved, &x->lock);
	if (x->err != ERR_OK || x->ended)
		return NULL;
	it = &x->items[x->taken % x->window];
	e = progress_check(x->progress);
	if (e == ERR_OK)
		e = fill_item(x, it);
	if (e != ERR_OK)
		fail_locked(x, e);
	if (e != ERR_OK || it->n == 0) {
		drop_item(x, it);
		return NULL;
	}
	*seq = x->taken++;
	return it;
}

static enum err fetch_item(struct taker *t, struct item *it)
{
	uint8_t *out = it->data;

	for (unsigned i = 0; i < it->n; i++) {
		const struct piece *p = &it->piece[i];
		uint32_t bad;
		enum err e = fetch_pages(t->fetch, p->pack, p->slot, p->count, p->repeat, out,
					 &bad);

		if (e != ERR_OK)
			return reader_context(t->x->r, t->x->index, (p->page + bad) * PAGE_BYTES,
					      e);
		out += (size_t)p->count * PAGE_BYTES;
	}
	return ERR_OK;
}

/* ---- delivery ---- */

static enum err deliver(struct extraction *x, const struct item *it)
{
	uint64_t length = x->r->m.stream[x->index].info.length, end;
	const uint8_t *data = it->data;

	for (unsigned i = 0; i < it->n;) {
		uint64_t offset = it->piece[i].page * PAGE_BYTES, size = 0;
		enum err e;

		do
			size += (uint64_t)it->piece[i].count * PAGE_BYTES;
		while (++i < it->n && it->piece[i].page * PAGE_BYTES == offset + size);
		e = x->fn(x->arg, offset, data,
			  (size_t)(offset + size > length ? length - offset : size));
		if (e != ERR_OK)
			return e;
		data += size;
	}
	end = it->end * PAGE_BYTES < length ? it->end * PAGE_BYTES : length;
	progress_add(x->progress, end - x->reported, (uint64_t)it->pages * PAGE_BYTES);
	x->reported = end;
	return progress_check(x->progress);
}

static void deliver_turn(struct extraction *x, struct item *it, uint64_t seq, enum err fetched)
{
	pthread_mutex_lock(&x->lock);
	if (fetched != ERR_OK)
		fail_locked(x, fetched);
	x->ring[seq % x->window] = it;
	if (x->delivering) {
		pthread_mutex_unlock(&x->lock);
		return;
	}
	x->delivering = true;
	while ((it = x->ring[x->delivered % x->window]) != NULL) {
		bool skip = x->err != ERR_OK;
		enum err e = ERR_OK;

		x->ring[x->delivered % x->window] = NULL;
		pthread_mutex_unlock(&x->lock);
		if (!skip)
			e = deliver(x, it);
		drop_item(x, it);
		pthread_mutex_lock(&x->lock);
		if (e != ERR_OK)
			fail_locked(x, e);
		x->held -= it->held;
		x->delivered++;
		pthread_cond_broadcast(&x->moved);
	}
	x->delivering = false;
	pthread_mutex_unlock(&x->lock);
}

static void taker_run(struct pool_job *job, struct pool_worker *w)
{
	struct taker *t = (struct taker *)(void *)job;
	struct extraction *x = t->x;
	struct item *it;
	uint64_t seq;

	(void)w;
	while ((it = take_item(x, &seq)) != NULL)
		deliver_turn(x, it, seq, fetch_item(t, it));
	pthread_mutex_lock(&x->lock);
	x->running--;
	pthread_cond_broadcast(&x->moved);
	pthread_mutex_unlock(&x->lock);
}

/* ---- the caller's side ---- */

static enum err prepare(struct extraction *x, unsigned threads)
{
	enum err e;

	x->items = calloc(x->window, sizeof(*x->items));
	x->ring = calloc(x->window, sizeof(struct item *));
	x->takers = calloc(threads, sizeof(*x->takers));
	if (!x->items || !x->ring || !x->takers)
		return err_note(ERR_NOMEM, 0, "read a checkpoint: out of memory");
	for (unsigned i = 0; i < x->window; i++) {
		x->items[i].data = malloc((size_t)ITEM_PAGES * PAGE_BYTES);
		if (!x->items[i].data)
			return err_note(ERR_NOMEM, 0, "read a checkpoint: out of memory");
	}
	for (unsigned i = 0; i < threads; i++) {
		x->takers[i].x = x;
		x->takers[i].job.run = taker_run;
		if ((e = fetch_create(FETCH_SEAL, KEPT_GROUPS, &x->takers[i].fetch)) != ERR_OK)
			return e;
	}
	return cursor_init(&x->cursor, &x->r->m, x->r->fd, x->index);
}

static void clean(struct extraction *x, unsigned threads)
{
	cursor_fini(&x->cursor);
	for (unsigned i = 0; x->items && i < x->window; i++)
		free(x->items[i].data);
	for (unsigned i = 0; x->takers && i < threads; i++)
		fetch_destroy(x->takers[i].fetch);
	free(x->items);
	free(x->ring);
	free(x->takers);
	pthread_cond_destroy(&x->moved);
	pthread_mutex_destroy(&x->lock);
}

static enum err run(struct extraction *x, struct pool *pool, unsigned threads)
{
	x->running = threads;
	for (unsigned i = 0; i < threads; i++)
		pool_submit(pool, &x->takers[i].job, false);
	pthread_mutex_lock(&x->lock);
	while (x->running)
		pthread_cond_wait(&x->moved, &x->lock);
	pthread_mutex_unlock(&x->lock);
	if (x->err != ERR_OK)
		return err_note(x->err, 0, "%s", x->why);
	progress_add(x->progress, x->r->m.stream[x->index].info.length - x->reported, 0);
	return ERR_OK;
}

enum err extract(struct archive_reader *r, unsigned index, struct progress *progress,
		 archive_extent_fn *fn, void *arg)
{
	struct extraction x = {.r = r, .index = index, .progress = progress, .fn = fn, .arg = arg};
	struct pool *pool;
	unsigned threads;
	enum err e;

	if (index >= r->m.n_streams)
		return err_note(ERR_USAGE, 0, "read stream %u: there is none", index);
	if ((e = shared_pool(r->a, &pool)) != ERR_OK)
		return e;
	threads = pool_threads(pool);
	x.window = 2 * threads + 2;
	pthread_mutex_init(&x.lock, NULL);
	pthread_cond_init(&x.moved, NULL);
	e = prepare(&x, threads);
	if (e == ERR_OK)
		e = run(&x, pool, threads);
	clean(&x, threads);
	return e;
}
