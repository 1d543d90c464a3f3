/* SPDX-License-Identifier: Apache-2.0 */
/* repack: see repack.h.
 *
 * Order: the live pages are read, each checked against its digest, and go through the
 * pipeline of checkpoints (which compresses, proves, appends and syncs) without an index;
 * packs/ is synced; forwards are written and synced; forwards/ is synced.  A crash before the
 * end leaves packs that nobody names, and forwards beside the packs that they are of:
 * both are garbage to the next collection.
 *
 * Threads: place is called by the pipeline's threads, one at a time; the runs belong to it
 * until pipeline_finish has returned. */
#include "store/repack.h"

#include "base/fs.h"
#include "store/fetch.h"
#include "store/pipeline.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PART_PAGES 64u

struct old {
	struct pack_ref ref;
	struct run *run; /* page: the old slot; pack: number in the pipeline */
	uint32_t n_runs, room;
};

struct repacking {
	struct archive *a;
	struct progress *progress;
	struct old *old;
	size_t n;
	struct pipeline *pipeline;
	struct fetch *fetch;
	uint8_t *part;
	bool unreadable; /* it was reading that failed */
};

static enum err place(void *arg, uint32_t stream, const struct run *run)
{
	struct repacking *r = arg;
	struct old *o = &r->old[stream];

	if (o->n_runs && runs_join(&o->run[o->n_runs - 1], run))
		return ERR_OK;
	if (o->n_runs == o->room) {
		uint32_t room = o->room ? 2 * o->room : 64;
		struct run *more = realloc(o->run, room * sizeof(*more));

		if (!more)
			return err_note(ERR_NOMEM, 0, "rewrite a pack: out of memory");
		o->run = more;
		o->room = room;
	}
	o->run[o->n_runs++] = *run;
	return ERR_OK;
}

/* Slots [slot, slot + count), all live. */
static enum err move_part(struct repacking *r, uint32_t stream, const struct catalog_pack *p,
			  uint32_t slot, uint32_t count)
{
	uint32_t bad;
	enum err e = fetch_pages(r->fetch, p, slot, count, false, r->part, &bad);

	r->unreadable = e != ERR_OK;
	for (uint32_t i = 0; e == ERR_OK && i < count; i++)
		e = pipeline_put(r->pipeline, stream, slot + i, r->part + (size_t)i * PAGE_BYTES);
	progress_add(r->progress, (uint64_t)count * PAGE_BYTES, (uint64_t)count * PAGE_BYTES);
	return e == ERR_OK ? progress_check(r->progress) : e;
}

static enum err move_live(struct repacking *r, uint32_t stream, const struct mark_pack *live,
			  const struct catalog_pack *p)
{
	uint32_t slots = p->dir.slots, count;
	enum err e = ERR_OK;

	for (uint32_t slot = 0; e == ERR_OK && slot < slots; slot += count) {
		count = 1;
		if (!mark_is_live(live, slot))
			continue;
		while (count < PART_PAGES && slot + count < slots &&
		       mark_is_live(live, slot + count))
			count++;
		e = move_part(r, stream, p, slot, count);
	}
	return e;
}

static enum err move_all(struct repacking *r, const struct mark *m, size_t *bad)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct catalog_pack *p;
		enum err e = catalog_get(r->a->catalog, &r->old[i].ref, &p);

		r->unreadable = e != ERR_OK;
		if (e == ERR_OK) {
			e = move_live(r, (uint32_t)i, mark_find(m, &r->old[i].ref.id), p);
			catalog_put(r->a->catalog, p);
		}
		if (r->unreadable && (e == ERR_CORRUPT || e == ERR_IO))
			*bad = i;
		if (e != ERR_OK)
			return e;
	}
	return pipeline_finish(r->pipeline);
}

/* ---- forwards ---- */

/* The packs that the runs of o lead to, and the runs in terms of these. */
static enum err number_targets(struct old *o, const struct pipeline_pack *packs, uint32_t n_packs,
			       struct forward *f)
{
	uint32_t *number = calloc(n_packs + 1u, sizeof(*number));

	f->target = calloc(n_packs + 1u, sizeof(*f->target));
	if (!number || !f->target) {
		free(number);
		return err_note(ERR_NOMEM, 0, "write the forward of a pack: out of memory");
	}
	for (uint32_t i = 0; i < o->n_runs; i++) {
		uint32_t *mine = &number[o->run[i].pack];

		if (!*mine) {
			f->target[f->n_targets++] = packs[o->run[i].pack].ref;
			*mine = f->n_targets;
		}
		o->run[i].pack = *mine - 1;
	}
	free(number);
	f->ref = o->ref;
	f->run = o->run;
	f->n_runs = o->n_runs;
	return ERR_OK;
}

static enum err write_forward(struct repacking *r, struct old *o, const struct pipeline_pack *packs,
			      uint32_t n_packs)
{
	AUTO_FD int fd = -1;
	struct forward f = {.n_targets = 0};
	char path[LAYOUT_PATH_BYTES];
	enum err e;

	layout_pack_path(&o->ref.id, path);
	e = fs_open(r->a->root, path, O_RDONLY, 0, &fd);
	if (e == ERR_OK)
		e = number_targets(o, packs, n_packs, &f);
	if (e == ERR_OK)
		e = forward_write(r->a->root, fd, path, &f);
	free(f.target);
	return e;
}

static enum err sync_dir(int root, const char *path)
{
	AUTO_FD int fd = -1;
	enum err e = fs_open(root, path, O_RDONLY | O_DIRECTORY, 0, &fd);

	return e == ERR_OK ? fs_sync_dir(fd, path) : e;
}

static enum err write_forwards(struct repacking *r)
{
	uint32_t n;
	const struct pipeline_pack *packs = pipeline_packs(r->pipeline, &n);
	enum err e = sync_dir(r->a->root, LAYOUT_PACKS);

	for (size_t i = 0; e == ERR_OK && i < r->n; i++)
		e = write_forward(r, &r->old[i], packs, n);
	return e == ERR_OK ? sync_dir(r->a->root, LAYOUT_FORWARDS) : e;
}

static void remove_forwards(struct repacking *r)
{
	char path[LAYOUT_PATH_BYTES];

	for (size_t i = 0; i < r->n; i++) {
		layout_forward_path(&r->old[i].ref.id, path);
		if (fs_unlink(r->a->root, path) != ERR_OK)
			err_clear(); /* beside its pack it is ignored */
	}
}

/* ---- the whole ---- */

static enum err prepare(struct repacking *r, const struct mark *m, const struct pack_id *ids)
{
	struct pipeline_options opt = {.root = r->a->root,
				       .crypt = r->a->crypt,
				       .catalog = r->a->catalog,
				       .place = place,
				       .arg = r};
	enum err e;

	r->old = calloc(r->n, sizeof(*r->old));
	r->part = malloc((size_t)PART_PAGES * PAGE_BYTES);
	if (!r->old || !r->part)
		return err_note(ERR_NOMEM, 0, "rewrite packs: out of memory");
	for (size_t i = 0; i < r->n; i++)
		r->old[i].ref = mark_find(m, &ids[i])->ref;
	if ((e = fetch_create(&r->fetch)) != ERR_OK ||
	    (e = layout_random(opt.writer.b, sizeof(opt.writer.b))) != ERR_OK ||
	    (e = shared_pool(r->a, &opt.pool)) != ERR_OK)
		return e;
	return pipeline_create(&opt, &r->pipeline);
}

static enum err tell(struct repacking *r, struct repack_result *result)
{
	uint32_t n;
	const struct pipeline_pack *packs = pipeline_packs(r->pipeline, &n);

	result->made = calloc(n + 1u, sizeof(*result->made));
	if (!result->made)
		return err_note(ERR_NOMEM, 0, "rewrite packs: out of memory");
	for (uint32_t i = 0; i < n; i++)
		result->made[i] = packs[i].ref;
	result->n_made = n;
	result->made_bytes = pipeline_stored(r->pipeline);
	return ERR_OK;
}

enum err repack(struct archive *a, const struct mark *m, const struct pack_id *ids, size_t n,
		struct progress *progress, struct repack_result *result)
{
	struct repacking r = {.a = a, .progress = progress, .n = n};
	enum err e;

	*result = (struct repack_result){.bad = SIZE_MAX};
	e = prepare(&r, m, ids);
	if (e == ERR_OK)
		e = move_all(&r, m, &result->bad);
	if (e == ERR_OK)
		e = tell(&r, result);
	if (e == ERR_OK && (e = write_forwards(&r)) != ERR_OK)
		remove_forwards(&r);
	if (e != ERR_OK) {
		char why[ERR_NOTE_BYTES];

		snprintf(why, sizeof(why), "%s", err_text());
		if (r.pipeline)
			pipeline_remove(r.pipeline);
		(void)!err_note(e, 0, "%s", why);
	}
	pipeline_destroy(r.pipeline);
	fetch_destroy(r.fetch);
	for (size_t i = 0; r.old && i < n; i++)
		free(r.old[i].run);
	free(r.old);
	free(r.part);
	return e;
}
