/* SPDX-License-Identifier: Apache-2.0 */
/* verdict: packs and forwards are condemned, and deleted when nobody can need them.
 *
 * States of a pack:
 *   NEEDED     some checkpoint needs some of it
 *   CONDEMNED  at epoch C nobody needed more of it than its forward (if it has one) leads to
 *   gone       its file is deleted; what was needed of it is reached by its forward
 * A forward without its pack is NEEDED, CONDEMNED and gone in the same way.
 *
 * One round:
 *   1. write records that condemn, with C = the next epoch;      [crash: noticed again later]
 *   2. make C the epoch: who takes a lease from now on sees the records;
 *   3. ask the leases.  C is *ripe* if all that live have an epoch of at least C;
 *   4. look at the manifests that came since, and sync manifests/;
 *   5. lift what is needed after all;
 *   6. delete what is ripe and whose record still stands, then its record.
 *
 * Why nothing is lost (FORMAT.md, section 10, in full): a pack that is deleted in 6 is not
 * needed by any manifest seen in 4.  A later one could only come from a job that knew the
 * pack; jobs with a lease older than C have ended before 4, and jobs with a younger one have
 * seen the record and may not refer to it (writer.c).  Readers of a checkpoint that was
 * removed in between: see removal.c.
 *
 * One thread; gc.lock is held throughout. */
#include "store/verdict.h"

#include "base/fs.h"
#include "base/log.h"
#include "store/forward.h"
#include "store/lease.h"
#include "store/reserve.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

static enum err sync_dir(int root, const char *path)
{
	AUTO_FD int fd = -1;
	enum err e = fs_open(root, path, O_RDONLY | O_DIRECTORY, 0, &fd);

	return e == ERR_OK ? fs_sync_dir(fd, path) : e;
}

static uint64_t file_bytes(int root, const char *path)
{
	AUTO_FD int fd = -1;
	uint64_t size = 0;

	if (fs_open(root, path, O_RDONLY, 0, &fd) != ERR_OK || fs_size(fd, path, &size) != ERR_OK)
		err_clear(); /* for the report only */
	return size;
}

uint64_t verdict_bytes(struct gc *g, const struct pack_id *id)
{
	char path[LAYOUT_PATH_BYTES];

	layout_pack_path(id, path);
	return file_bytes(g->a->root, path);
}

/* ---- what there is ---- */

enum err verdict_look(struct gc *g)
{
	enum err e;

	if ((e = mark_manifests(&g->mark)) != ERR_OK || (e = mark_forwards(&g->mark)) != ERR_OK)
		return e;
	if (!g->mark.complete)
		return err_note(ERR_CORRUPT, 0, "nothing is collected while not all is known that "
						"is needed: %s", g->mark.why);
	return ERR_OK;
}

void verdict_epoch(struct gc *g, uint64_t epoch)
{
	if (epoch > g->epoch)
		g->epoch = epoch;
}

bool verdict_dead(const struct mark_pack *p)
{
	return p->live_slots == 0 && !p->listed;
}

bool verdict_condemned(const struct gc *g, const struct mark_pack *p, bool forward)
{
	return condemned_find(&g->set, &p->ref.id, forward) != NULL;
}

/* ---- condemning ---- */

/* Give up the reserve, once; false if there is none left. */
static bool spend_reserve(struct gc *g)
{
	bool freed = false;

	if (g->spent || reserve_release(g->a->root, &freed) != ERR_OK)
		return false;
	g->spent = true;
	return freed;
}

static enum err remember(struct gc *g, const struct condemned *c)
{
	if (g->set.count == g->room) {
		size_t room = 2 * g->room + 64;
		struct condemned *more = realloc(g->set.item, room * sizeof(*more));

		if (!more)
			return err_note(ERR_NOMEM, 0, "condemn packs: out of memory");
		g->set.item = more;
		g->room = room;
	}
	g->set.item[g->set.count++] = *c;
	return ERR_OK;
}

static int by_id(const void *a, const void *b)
{
	const struct condemned *x = a, *y = b;
	int c = memcmp(&x->id, &y->id, sizeof(x->id));

	return c ? c : x->forward - y->forward;
}

/* ERR_NOSPACE only if not even one could be written. */
static enum err condemn(struct gc *g, const struct condemned *c, size_t n)
{
	size_t before = g->set.count;
	enum err e = ERR_OK;

	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		e = condemned_add(g->a->root, &c[i]);
		if (e == ERR_NOSPACE && spend_reserve(g))
			e = condemned_add(g->a->root, &c[i]);
		if (e == ERR_OK)
			e = remember(g, &c[i]);
	}
	if (e == ERR_NOSPACE && g->set.count > before + 8) {
		/* The rest comes when these are gone; the epoch needs a few blocks now. */
		for (unsigned i = 0; i < 4; i++) {
			const struct condemned *last = &g->set.item[g->set.count - 1];

			if ((e = condemned_lift(g->a->root, &last->id, last->forward)) != ERR_OK)
				break;
			g->set.count--;
		}
	}
	if (g->set.count)
		qsort(g->set.item, g->set.count, sizeof(*g->set.item), by_id);
	return e;
}

static enum err write_epoch(struct gc *g, uint64_t epoch)
{
	enum err e = lease_epoch_write(g->a->root, epoch);

	if (e == ERR_NOSPACE && spend_reserve(g))
		e = lease_epoch_write(g->a->root, epoch);
	if (e == ERR_OK)
		verdict_epoch(g, epoch);
	return e;
}

/* ---- leases ---- */

static enum err note_lease(void *arg, const struct lease_info *info)
{
	struct gc *g = arg;

	verdict_epoch(g, info->epoch);
	return ERR_OK;
}

static enum err oldest_lease(void *arg, const struct lease_info *info)
{
	struct gc *g = arg;

	if (info->epoch < g->oldest)
		g->oldest = info->epoch;
	return ERR_OK;
}

static enum err ask_leases(struct gc *g)
{
	g->oldest = UINT64_MAX;
	return lease_list(g->a->root, true, oldest_lease, g);
}

/* ---- deleting ---- */

/* Does every live slot really lead to its page?  Asked before the pack goes. */
static enum err forward_holds(struct gc *g, const struct mark_pack *p, bool *holds)
{
	const struct pack_id id = p->ref.id;
	struct pack_dir dir = {.groups = 0};
	struct forward f;
	bool damaged;
	enum err e = forward_load(g->a->root, g->a->crypt, &id, &f, &dir, &damaged);

	*holds = e == ERR_OK && !damaged;
	for (uint32_t i = 0; e == ERR_OK && *holds && i < f.n_runs; i++) {
		const struct run *run = &f.run[i];
		const struct catalog_pack *t;

		e = catalog_get(g->a->catalog, &f.target[run->pack], &t);
		for (uint32_t k = 0; e == ERR_OK && k < run->count; k++)
			*holds &= memcmp(&t->dir.digest[run->slot + (run->repeat ? 0 : k)],
					 &dir.digest[run->page + k], sizeof(struct digest)) == 0;
		if (e == ERR_OK)
			catalog_put(g->a->catalog, t);
	}
	pack_dir_fini(&dir);
	forward_fini(&f);
	if (e == ERR_CORRUPT || e == ERR_NOTFOUND || e == ERR_VERSION) {
		*holds = false;
		err_clear();
		e = ERR_OK;
	}
	return e;
}

/* It is needed after all.  The record goes first: a pack without one keeps its file. */
static enum err lift(struct gc *g, const struct condemned *c, struct mark_pack *p)
{
	char path[LAYOUT_PATH_BYTES];
	enum err e = condemned_lift(g->a->root, &c->id, c->forward);

	if (e != ERR_OK || c->forward || !p || !p->forward || !p->file)
		return e;
	p->forward = false;
	g->lifted = true;
	layout_forward_path(&c->id, path);
	e = fs_unlink(g->a->root, path);
	return e == ERR_OK || e == ERR_NOTFOUND ? sync_dir(g->a->root, LAYOUT_FORWARDS) : e;
}

static enum err remove_pack(struct gc *g, const struct condemned *c, struct mark_pack *p)
{
	uint64_t bytes = verdict_bytes(g, &c->id);
	char path[LAYOUT_PATH_BYTES];
	enum err e;

	layout_pack_path(&c->id, path);
	if ((e = fs_unlink(g->a->root, path)) != ERR_OK && e != ERR_NOTFOUND)
		return e;
	log_event(LOG_INFO, "gc pack=%s", path);
	p->file = false;
	g->result->removed_bytes += bytes;
	if (p->forward)
		g->result->packs_rewritten++;
	else
		g->result->packs_removed++;
	return condemned_lift(g->a->root, &c->id, false);
}

static enum err remove_forward(struct gc *g, const struct condemned *c, struct mark_pack *p)
{
	char path[LAYOUT_PATH_BYTES];
	enum err e;

	layout_forward_path(&c->id, path);
	g->result->removed_bytes += file_bytes(g->a->root, path);
	if ((e = fs_unlink(g->a->root, path)) != ERR_OK && e != ERR_NOTFOUND)
		return e;
	p->forward = false;
	g->result->forwards_removed++;
	return condemned_lift(g->a->root, &c->id, true);
}

/* What of it is needed that would be lost? */
static enum err needed(struct gc *g, const struct condemned *c, const struct mark_pack *p,
		       bool *yes)
{
	bool holds;
	enum err e;

	*yes = !verdict_dead(p);
	if (c->forward || verdict_dead(p) || !p->forward || p->uncovered)
		return ERR_OK;
	e = forward_holds(g, p, &holds);
	*yes = !holds;
	return e;
}

/* One record; *stays: it is not done with. */
static enum err judge(struct gc *g, const struct condemned *c, bool *stays)
{
	struct mark_pack *p = mark_find(&g->mark, &c->id);
	bool yes = false, stands;
	enum err e;

	*stays = false;
	if (!p || !(c->forward ? p->forward : p->file))
		return condemned_lift(g->a->root, &c->id, c->forward); /* done already */
	if ((e = needed(g, c, p, &yes)) != ERR_OK)
		return e;
	if (yes)
		return lift(g, c, p);
	if (g->oldest < c->epoch) {
		*stays = true;
		return ERR_OK;
	}
	if ((e = condemned_stands(g->a->root, c, &stands)) != ERR_OK || !stands)
		return e; /* a checkpoint was removed that listed it */
	return c->forward ? remove_forward(g, c, p) : remove_pack(g, c, p);
}

static enum err judge_all(struct gc *g)
{
	size_t kept = 0;

	for (size_t i = 0; i < g->set.count; i++) {
		struct condemned c = g->set.item[i];
		bool stays;
		enum err e = progress_check(g->progress);

		if (e == ERR_OK)
			e = judge(g, &c, &stays);
		if (e != ERR_OK)
			return e;
		if (stays)
			g->set.item[kept++] = c;
	}
	g->set.count = kept;
	return ERR_OK;
}

/* Condemn n things (their epoch is set here) and judge everything. */
enum err verdict_round(struct gc *g, struct condemned *c, size_t n)
{
	enum err e = lease_list(g->a->root, false, note_lease, g);
	uint64_t epoch = g->epoch + 1;

	for (size_t i = 0; i < n; i++)
		c[i].epoch = epoch;
	if (e == ERR_OK && n)
		e = condemn(g, c, n);
	if (e == ERR_OK && n)
		e = write_epoch(g, epoch);
	if (e != ERR_OK || g->set.count == 0)
		return e;
	if ((e = ask_leases(g)) != ERR_OK || (e = verdict_look(g)) != ERR_OK ||
	    (e = sync_dir(g->a->root, LAYOUT_MANIFESTS)) != ERR_OK)
		return e;
	return judge_all(g);
}

