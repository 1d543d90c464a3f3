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
#include "store/moved.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PART_PAGES 64u

struct repacking {
	struct archive *a;
	struct progress *progress;
	struct moved *old;
	size_t n;
	struct pipeline *pipeline;
	struct fetch *fetch;
	uint8_t *part;
	bool unreadable; /* it was reading that failed */
};

static enum err place(void *arg, uint32_t stream, const struct run *run)
{
	struct repacking *r = arg;

	return moved_place(&r->old[stream], run);
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

static enum err write_forwards(struct repacking *r)
{
	enum err e = moved_sync_dir(r->a->root, LAYOUT_PACKS);

	for (size_t i = 0; e == ERR_OK && i < r->n; i++)
		e = moved_forward(r->a->root, &r->old[i], r->pipeline);
	return e == ERR_OK ? moved_sync_dir(r->a->root, LAYOUT_FORWARDS) : e;
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
				       .level = r->a->level,
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
	if ((e = fetch_create(FETCH_DIGEST, FETCH_GROUPS, &r->fetch)) != ERR_OK ||
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
		moved_fini(&r.old[i]);
	free(r.old);
	free(r.part);
	return e;
}
