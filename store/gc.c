/* SPDX-License-Identifier: Apache-2.0 */
/* gc: delete packs that nobody needs, and rewrite those of which little is needed.
 *
 * First what is dead or was condemned by an earlier collection is judged (verdict.c); then,
 * batch by batch, packs of which little is needed are rewritten (repack.c), condemned and
 * judged.  Each step is complete in itself: an interruption leaves at most packs that nobody
 * names and forwards beside their packs, which the next collection removes.
 *
 * One thread; gc.lock is held throughout, but for a dry run, which changes nothing. */
#include "store/gc.h"

#include "base/fs.h"
#include "base/log.h"
#include "store/lease.h"
#include "store/recall.h"
#include "store/repack.h"
#include "store/reserve.h"
#include "store/sweep.h"
#include "store/upkeep.h"
#include "store/verdict.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Live pages that are rewritten at one go: 512 MiB, four packs. */
#define REWRITE_PAGES (4 * PACK_PAGES)

static enum err sync_dir(int root, const char *path)
{
	AUTO_FD int fd = -1;
	enum err e = fs_open(root, path, O_RDONLY | O_DIRECTORY, 0, &fd);

	return e == ERR_OK ? fs_sync_dir(fd, path) : e;
}

/* The forward of a pack that is there and not condemned is what an interrupted collection
 * left: it must not carry marks, nor cover anything later. */
static enum err drop_unused_forwards(struct gc *g)
{
	bool any = false;

	for (size_t i = 0; i < g->mark.n; i++) {
		struct mark_pack *p = &g->mark.pack[i];
		char path[LAYOUT_PATH_BYTES];
		enum err e;

		if (!p->forward || !p->file || verdict_condemned(g, p, false))
			continue;
		p->forward = false;
		if (g->opt->dry_run)
			continue;
		any = true;
		layout_forward_path(&p->ref.id, path);
		if ((e = fs_unlink(g->a->root, path)) != ERR_OK && e != ERR_NOTFOUND)
			return e;
	}
	return any ? sync_dir(g->a->root, LAYOUT_FORWARDS) : ERR_OK;
}

static enum err read_epoch(struct gc *g)
{
	uint64_t epoch;
	enum err e = lease_epoch_read(g->a->root, &epoch);

	verdict_epoch(g, epoch);
	return e;
}

static enum err start(struct gc *g)
{
	enum err e;

	if ((e = condemned_load(g->a->root, !g->opt->dry_run, &g->set)) != ERR_OK ||
	    (e = read_epoch(g)) != ERR_OK ||
	    (e = mark_begin(&g->mark, g->a->root, g->a->crypt, g->progress)) != ERR_OK ||
	    (e = drop_unused_forwards(g)) != ERR_OK)
		return e;
	g->room = g->set.count;
	for (size_t i = 0; i < g->set.count; i++)
		verdict_epoch(g, g->set.item[i].epoch);
	return verdict_look(g);
}

/* ---- what is dead ---- */

static enum err collectable(struct gc *g, const struct mark_pack *p, bool *yes)
{
	enum sweep_writer state;
	enum err e = sweep_writer(g->a->root, &p->ref.id, &state);

	*yes = e == ERR_OK && state == SWEEP_GONE;
	return e;
}

/* All that is dead and not condemned; *out is given. */
static enum err list_dead(struct gc *g, struct condemned **out, size_t *count)
{
	struct condemned *c = calloc(g->mark.n + 1, sizeof(*c));
	size_t n = 0;
	enum err e = c ? ERR_OK : err_note(ERR_NOMEM, 0, "list dead packs: out of memory");

	for (size_t i = 0; e == ERR_OK && i < g->mark.n; i++) {
		const struct mark_pack *p = &g->mark.pack[i];
		bool yes = p->forward;

		if (!verdict_dead(p) || !(p->file || p->forward) || verdict_condemned(g, p, !p->file))
			continue;
		if (p->file)
			e = collectable(g, p, &yes);
		if (yes)
			c[n++] = (struct condemned){.id = p->ref.id, .forward = !p->file};
	}
	*out = c;
	*count = n;
	return e;
}

/* A writer that published between the first look and the question whether it lives: */
static enum err drop_needed(struct gc *g, struct condemned *c, size_t *n)
{
	size_t kept = 0;
	enum err e = verdict_look(g);

	for (size_t i = 0; e == ERR_OK && i < *n; i++)
		if (verdict_dead(mark_find(&g->mark, &c[i].id)))
			c[kept++] = c[i];
	*n = kept;
	return e;
}

static enum err collect_dead(struct gc *g)
{
	for (;;) {
		struct condemned *c = NULL;
		size_t n = 0;
		enum err e = list_dead(g, &c, &n);

		if (e == ERR_OK && n)
			e = drop_needed(g, c, &n);
		if (e == ERR_OK)
			e = verdict_round(g, c, n);
		free(c);
		if (e != ERR_OK || n == 0)
			return e;
		/* Again: a full file system has no room to condemn all at once, and a pack that
		 * went may leave its forward. */
	}
}

/* ---- what is mostly dead ---- */

static bool wasteful(const struct gc *g, const struct mark_pack *p)
{
	return p->file && !p->forward && p->live_slots && !verdict_condemned(g, p, false) &&
	       p->depth + 1u < FORWARD_DEPTH &&
	       (uint64_t)p->live_slots * 100 < (uint64_t)p->ref.slots * g->opt->threshold_percent;
}

struct candidate {
	struct pack_id id;
	uint32_t live;
	uint32_t permille;
};

/* Most gain for what is written first. */
static int by_share(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return (x->permille > y->permille) - (x->permille < y->permille);
}

static enum err list_wasteful(struct gc *g, struct candidate **out, size_t *count)
{
	struct candidate *c = calloc(g->mark.n + 1, sizeof(*c));
	size_t n = 0;

	if (!c)
		return err_note(ERR_NOMEM, 0, "list packs to rewrite: out of memory");
	for (size_t i = 0; i < g->mark.n; i++) {
		const struct mark_pack *p = &g->mark.pack[i];

		if (wasteful(g, p))
			c[n++] = (struct candidate){
				p->ref.id, p->live_slots,
				(uint32_t)((uint64_t)p->live_slots * 1000 / p->ref.slots)};
	}
	if (n)
		qsort(c, n, sizeof(*c), by_share);
	*out = c;
	*count = n;
	return ERR_OK;
}

static enum err adopt(struct gc *g, const struct pack_id *ids, size_t n,
		      const struct repack_result *made)
{
	for (uint32_t i = 0; i < made->n_made; i++) {
		enum err e = mark_add(&g->mark, &made->made[i]);

		if (e != ERR_OK)
			return e;
	}
	for (size_t i = 0; i < n; i++) {
		struct mark_pack *p = mark_find(&g->mark, &ids[i]);

		p->forward = p->changed = true;
	}
	g->result->packs_made += made->n_made;
	g->result->made_bytes += made->made_bytes;
	return ERR_OK;
}

/* Rewrite n packs and condemn them.  *bad as in repack. */
static enum err rewrite(struct gc *g, const struct pack_id *ids, size_t n, size_t *bad)
{
	struct condemned *c = calloc(n, sizeof(*c));
	struct repack_result made = {.made = NULL};
	enum err e = c ? repack(g->a, &g->mark, ids, n, g->progress, &made)
		       : err_note(ERR_NOMEM, 0, "rewrite packs: out of memory");

	*bad = made.bad;
	if (e == ERR_OK)
		e = adopt(g, ids, n, &made);
	free(made.made);
	for (size_t i = 0; e == ERR_OK && i < n; i++)
		c[i] = (struct condemned){.id = ids[i]};
	if (e == ERR_OK)
		e = verdict_round(g, c, n);
	free(c);
	return e;
}

/* From candidate `at' on: as many as fit into limit live pages; *taken of them are done with. */
static enum err rewrite_some(struct gc *g, struct candidate *c, size_t n, uint64_t *limit,
			     size_t *taken)
{
	struct pack_id *ids = calloc(n, sizeof(*ids));
	uint64_t live = 0;
	size_t k = 0, bad = SIZE_MAX;
	enum err e;

	if (!ids)
		return err_note(ERR_NOMEM, 0, "rewrite packs: out of memory");
	while (k < n && (k == 0 || live + c[k].live <= *limit)) {
		live += c[k].live;
		ids[k] = c[k].id;
		k++;
	}
	e = rewrite(g, ids, k, &bad);
	free(ids);
	*taken = k;
	if ((e == ERR_CORRUPT || e == ERR_IO) && bad < k) {
		log_event(LOG_WARN, "gc_leaves why=\"%s\"", err_text());
		err_clear();
		struct candidate damaged = c[bad];

		memmove(c + 1, c, bad * sizeof(*c)); /* to the front, and past it */
		c[0] = damaged;
		*taken = 1;
		g->result->packs_unmoved++;
		return ERR_OK;
	}
	if (e == ERR_NOSPACE && k > 1) {
		*limit = live / 2;
		*taken = 0;
		return ERR_OK;
	}
	if (e == ERR_NOSPACE) { /* others may be smaller, but this is the least share */
		err_clear();
		g->result->packs_unmoved += n;
		*taken = n;
		return ERR_OK;
	}
	return e;
}

static enum err collect_wasteful(struct gc *g)
{
	struct candidate *c;
	uint64_t limit = REWRITE_PAGES, total = 0;
	size_t n, taken = 0;
	enum err e = list_wasteful(g, &c, &n);

	for (size_t i = 0; e == ERR_OK && i < n; i++)
		total += (uint64_t)c[i].live * PAGE_BYTES;
	if (e == ERR_OK && g->progress)
		atomic_fetch_add(&g->progress->total_bytes, total);
	for (size_t at = 0; e == ERR_OK && at < n; at += taken) {
		e = progress_check(g->progress);
		if (e == ERR_OK)
			e = rewrite_some(g, c + at, n - at, &limit, &taken);
	}
	free(c);
	return e;
}

/* ---- the report ---- */

static void count(struct gc *g)
{
	struct archive_gc_result *r = g->result;

	r->checkpoints = g->mark.n_seen;
	for (size_t i = 0; i < g->mark.n; i++) {
		const struct mark_pack *p = &g->mark.pack[i];

		r->packs += p->file;
		if (p->file && p->ref.slots) {
			r->pages += p->ref.slots;
			r->live_pages += p->live_slots;
		}
	}
}

static enum err foresee(struct gc *g)
{
	struct condemned *c;
	struct candidate *w;
	size_t n_dead, n;
	enum err e = list_dead(g, &c, &n_dead);

	for (size_t i = 0; e == ERR_OK && i < n_dead; i++) {
		g->result->packs_removed += !c[i].forward;
		g->result->forwards_removed += c[i].forward;
		if (!c[i].forward)
			g->result->removed_bytes += verdict_bytes(g, &c[i].id);
	}
	free(c);
	if (e == ERR_OK && (e = list_wasteful(g, &w, &n)) == ERR_OK) {
		for (size_t i = 0; i < n; i++) {
			uint64_t bytes = verdict_bytes(g, &w[i].id);

			g->result->packs_rewritten++;
			g->result->removed_bytes += bytes;
			g->result->made_bytes += bytes * w[i].permille / 1000; /* about */
		}
		free(w);
	}
	return e;
}

static enum err tell_holder(void *arg, const struct lease_info *info)
{
	struct gc *g = arg;
	struct archive_holder h = {.pid = info->pid, .since_ns = info->since_ns};
	uint64_t newest = 0;

	for (size_t i = 0; i < g->set.count; i++)
		if (g->set.item[i].epoch > newest)
			newest = g->set.item[i].epoch;
	if (info->epoch >= newest)
		return ERR_OK;
	memcpy(h.what, info->what, sizeof(h.what));
	g->fn(g->arg, &h);
	return ERR_OK;
}

static enum err tell_waiting(struct gc *g)
{
	for (size_t i = 0; i < g->set.count; i++) {
		if (g->set.item[i].forward)
			continue;
		g->result->packs_waiting++;
		g->result->waiting_bytes += verdict_bytes(g, &g->set.item[i].id);
	}
	return g->set.count && g->fn ? lease_list(g->a->root, false, tell_holder, g) : ERR_OK;
}

/* ---- the whole ---- */

static enum err collect(struct gc *g)
{
	enum err e = start(g);

	if (e != ERR_OK)
		return e;
	count(g);
	if (g->opt->dry_run)
		return (e = foresee(g)) == ERR_OK ? tell_waiting(g) : e;
	for (unsigned i = 0; i < 3; i++) {
		if ((e = collect_dead(g)) != ERR_OK || (e = collect_wasteful(g)) != ERR_OK)
			return e;
		if (!g->lifted)
			break;
		g->lifted = false; /* marks are only ever added: look anew */
		mark_end(&g->mark);
		condemned_fini(&g->set);
		if ((e = start(g)) != ERR_OK)
			return e;
	}
	return tell_waiting(g);
}

/* Whatever was done: the reserve follows.  The index learns it when it is opened next. */
static enum err finish(struct gc *g, enum err e)
{
	char why[ERR_NOTE_BYTES];
	enum err then;

	memcpy(why, err_text(), strlen(err_text()) + 1);
	recall_prune(g->a->root);
	then = reserve_fill(g->a->root);
	catalog_forget(g->a->catalog);
	if (then != ERR_OK && then != ERR_NOSPACE && e == ERR_OK)
		return then;
	return err_note(e, 0, "%s", why);
}

enum err gc(struct archive *a, const struct archive_gc_options *opt, struct progress *progress,
	    archive_holder_fn *fn, void *arg, struct archive_gc_result *result)
{
	AUTO_FD int lock = -1;
	bool mine = false;
	struct gc g = {.a = a, .opt = opt, .progress = progress, .fn = fn, .arg = arg,
		       .result = result};
	struct lease *lease = NULL;
	enum err e = ERR_OK;

	memset(result, 0, sizeof(*result));
	if (opt->threshold_percent > 100)
		return err_note(ERR_USAGE, 0, "the threshold is a part in a hundred");
	if (!a->writable && !opt->dry_run)
		return err_note(ERR_USAGE, 0, "the archive was opened for reading only");
	if (opt->dry_run)
		e = lease_take(a->root, "looks for what can be collected", &lease);
	else if ((e = upkeep_begin(a->root, &lock)) == ERR_OK)
		mine = true;
	if (mine)
		e = sweep(a->root, a->crypt);
	if (e == ERR_OK)
		e = collect(&g);
	if (mine)
		e = finish(&g, e);
	lease_end(lease);
	mark_end(&g.mark);
	condemned_fini(&g.set);
	return e;
}
