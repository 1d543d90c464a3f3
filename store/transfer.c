/* SPDX-License-Identifier: Apache-2.0 */
/* transfer: see transfer.h.
 *
 * Order: new packs (bytes, names) durable; the forward, bytes and name, durable; then the old file
 * goes.  A crash before that leaves a forward beside its pack and packs that nobody names, which the
 * next collection removes; after it everything is as it should be.
 *
 * The old file may go at once, whoever lives: the forward has all of its slots, not only those that
 * checkpoints need now.  Who has it open reads on, who opens it later finds the forward, and a
 * manifest that is published meanwhile and names it is complete. */
#include "store/transfer.h"

#include "base/fs.h"
#include "base/log.h"
#include "store/moved.h"

#include <stdio.h>
#include <string.h>

static enum err place(void *arg, uint32_t stream, const struct run *run)
{
	(void)stream;
	return moved_place(arg, run);
}

static enum err put_group(struct mend *m, const struct pack_group *g, struct pipeline *p)
{
	enum err e = progress_check(m->progress);

	for (unsigned i = 0; e == ERR_OK && i < g->pages; i++)
		e = pipeline_put(p, 0, g->first_slot + i, m->pages + (size_t)i * PAGE_BYTES);
	return e;
}

static enum err put_all(struct mend *m, const struct mend_sides *s, struct pipeline *p, bool *all)
{
	*all = true;
	for (uint32_t i = 0; *all && i < s->dir->dir.groups; i++) {
		const struct pack_group *g = &s->dir->dir.group[i];
		enum err e = mend_pages(m, s, g, all);

		if (e == ERR_OK && *all)
			e = put_group(m, g, p);
		if (e != ERR_OK)
			return e;
	}
	return *all ? pipeline_finish(p) : ERR_OK;
}

/* *gone: the old file is, or may be. */
static enum err change_over(struct archive *a, struct moved *o, const struct pipeline *p,
			    bool *gone)
{
	char path[LAYOUT_PATH_BYTES];
	enum err e;

	if ((e = moved_sync_dir(a->root, LAYOUT_PACKS)) != ERR_OK ||
	    (e = moved_forward(a->root, o, p)) != ERR_OK ||
	    (e = moved_sync_dir(a->root, LAYOUT_FORWARDS)) != ERR_OK)
		return e;
	layout_pack_path(&o->ref.id, path);
	*gone = true;
	if ((e = fs_unlink(a->root, path)) != ERR_OK)
		return e;
	log_event(LOG_INFO, "repair moved=%s", path);
	return moved_sync_dir(a->root, LAYOUT_PACKS);
}

static enum err start(struct mend *m, struct moved *o, struct pipeline **p)
{
	struct pipeline_options opt = {.root = m->a->root,
				       .crypt = m->a->crypt,
				       .level = m->a->level,
				       .catalog = m->a->catalog,
				       .place = place,
				       .arg = o};
	enum err e = layout_random(opt.writer.b, sizeof(opt.writer.b));

	if (e == ERR_OK)
		e = shared_pool(m->a, &opt.pool);
	return e == ERR_OK ? pipeline_create(&opt, p) : e;
}

enum err transfer(struct mend *m, const struct mend_sides *s, const struct pack_ref *ref,
		  bool *done)
{
	struct moved o = {.ref = *ref};
	struct pipeline *p = NULL;
	char why[ERR_NOTE_BYTES];
	unsigned depth;
	bool all = false, gone = false;
	enum err e = forward_depth(m->a->root, m->a->crypt, &ref->id, &depth);

	*done = false;
	if (e != ERR_OK || depth + 1 >= FORWARD_DEPTH)
		return e;
	if ((e = start(m, &o, &p)) == ERR_OK && (e = put_all(m, s, p, &all)) == ERR_OK && all)
		e = change_over(m->a, &o, p, &gone);
	*done = e == ERR_OK && all;
	snprintf(why, sizeof(why), "%s", err_text());
	if (p && !gone)
		pipeline_remove(p);
	pipeline_destroy(p);
	moved_fini(&o);
	catalog_forget(m->a->catalog);
	return err_note(e, 0, "%s", why);
}
