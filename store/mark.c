/* SPDX-License-Identifier: Apache-2.0 */
/* mark: manifests are walked block by block, and forwards followed until nothing changes. */
#include "store/mark.h"

#include "base/fs.h"
#include "store/forward.h"
#include "store/manifest.h"
#include "store/sweep.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_id(const void *a, const void *b)
{
	return memcmp(a, b, PACK_ID_BYTES); /* the id comes first in all of them */
}

static int by_name(const void *a, const void *b)
{
	const struct listing_item *x = a, *y = b;
	int c = strcmp(x->name, y->name);

	return c ? c : (x->number > y->number) - (x->number < y->number);
}

static void unknown(struct mark *m)
{
	if (m->complete)
		snprintf(m->why, sizeof(m->why), "%s", err_text());
	m->complete = false;
	err_clear();
}

static bool is_damage(enum err e)
{
	return e == ERR_CORRUPT || e == ERR_VERSION || e == ERR_IO || e == ERR_AUTH;
}

/* ---- packs ---- */

struct mark_pack *mark_find(const struct mark *m, const struct pack_id *id)
{
	return m->n ? bsearch(id, m->pack, m->n, sizeof(*m->pack), by_id) : NULL;
}

static enum err grow(struct mark *m, size_t more)
{
	struct mark_pack *packs;
	size_t room = 2 * (m->n + more) + 64;

	if (m->n + more <= m->room)
		return ERR_OK;
	packs = realloc(m->pack, room * sizeof(*packs));
	if (!packs)
		return err_note(ERR_NOMEM, 0, "list packs: out of memory");
	m->pack = packs;
	m->room = room;
	return ERR_OK;
}

/* Make sure that all of n packs (stride bytes apart, id first) are known. */
static enum err learn(struct mark *m, const void *ids, size_t n, size_t stride)
{
	size_t known = m->n;
	enum err e = grow(m, n);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; i < n; i++) {
		const void *id = (const uint8_t *)ids + i * stride;

		if (known && bsearch(id, m->pack, known, sizeof(*m->pack), by_id))
			continue;
		memset(&m->pack[m->n], 0, sizeof(*m->pack));
		memcpy(&m->pack[m->n++].ref.id, id, PACK_ID_BYTES);
	}
	if (m->n > known) {
		size_t kept = 0;

		qsort(m->pack, m->n, sizeof(*m->pack), by_id);
		for (size_t i = 0; i < m->n; i++) /* the new ones may have named one twice */
			if (kept == 0 || by_id(&m->pack[kept - 1], &m->pack[i]) != 0)
				m->pack[kept++] = m->pack[i];
		m->n = kept;
	}
	return ERR_OK;
}

/* The whole reference; two that differ are a contradiction. */
static enum err know(struct mark *m, const struct pack_ref *ref, struct mark_pack **out)
{
	struct mark_pack *p = mark_find(m, &ref->id);

	*out = p;
	if (p->ref.slots && !pack_ref_equal(&p->ref, ref)) {
		(void)!err_note(ERR_CORRUPT, 0, "two references to one pack disagree");
		unknown(m);
		return ERR_OK;
	}
	p->ref = *ref;
	if (!p->live)
		p->live = calloc((ref->slots + 7) / 8, 1);
	return p->live ? ERR_OK : err_note(ERR_NOMEM, 0, "mark pages: out of memory");
}

enum err mark_add(struct mark *m, const struct pack_ref *ref)
{
	struct mark_pack *p;
	enum err e = learn(m, ref, 1, sizeof(*ref));

	if (e == ERR_OK)
		e = know(m, ref, &p);
	if (e == ERR_OK)
		p->file = true;
	return e;
}

/* Slots beyond the pack's end cannot come here: who calls has checked. */
static void set(struct mark_pack *p, uint32_t slot, uint32_t count)
{
	for (uint32_t i = slot; i < slot + count && i < p->ref.slots; i++) {
		if (i % 8 == 0 && i + 8 <= slot + count && p->live[i / 8] == 0xff) {
			i += 7;
			continue;
		}
		if (mark_is_live(p, i))
			continue;
		p->live[i / 8] = (uint8_t)(p->live[i / 8] | 1u << i % 8);
		p->live_slots++;
		p->changed = true;
	}
}

enum err mark_begin(struct mark *m, int root, const struct crypt *crypt, struct progress *progress)
{
	struct pack_id *files = NULL, *forwards = NULL;
	size_t n_files, n_forwards;
	enum err e;

	memset(m, 0, sizeof(*m));
	m->root = root;
	m->crypt = crypt;
	m->progress = progress;
	m->complete = true;
	/* Forwards before packs: a pack goes only after its forward has come. */
	if ((e = forward_list(root, &forwards, &n_forwards)) == ERR_OK &&
	    (e = sweep_list(root, &files, &n_files)) == ERR_OK &&
	    (e = learn(m, files, n_files, sizeof(*files))) == ERR_OK &&
	    (e = learn(m, forwards, n_forwards, sizeof(*forwards))) == ERR_OK) {
		for (size_t i = 0; i < n_files; i++)
			mark_find(m, &files[i])->file = true;
		for (size_t i = 0; i < n_forwards; i++)
			mark_find(m, &forwards[i])->forward = true;
	}
	free(files);
	free(forwards);
	return e;
}

void mark_end(struct mark *m)
{
	for (size_t i = 0; i < m->n; i++)
		free(m->pack[i].live);
	free(m->pack);
	free(m->seen);
	memset(m, 0, sizeof(*m));
}

/* ---- manifests ---- */

static enum err mark_block(const struct manifest *man, int fd, uint32_t block,
			   struct run *runs, struct mark_pack *const *packs)
{
	enum err e = manifest_runs(man, fd, block, runs);

	for (uint32_t i = 0; e == ERR_OK && i < man->block[block].runs; i++)
		set(packs[runs[i].pack], runs[i].slot, runs[i].repeat ? 1 : runs[i].count);
	if (!is_damage(e))
		return e;
	err_clear();
	for (uint32_t i = 0; i < man->n_packs; i++) /* it may have needed any of them */
		set(packs[i], 0, packs[i]->ref.slots);
	return ERR_OK;
}

static enum err mark_blocks(struct mark *m, const struct manifest *man, int fd,
			    struct mark_pack *const *packs)
{
	struct run *runs = malloc(RUNS_BLOCK_MAX / 4 * sizeof(*runs));
	enum err e = runs ? ERR_OK : err_note(ERR_NOMEM, 0, "mark pages: out of memory");

	for (uint32_t b = 0; e == ERR_OK && b < man->n_blocks; b++) {
		e = progress_check(m->progress);
		if (e == ERR_OK)
			e = mark_block(man, fd, b, runs, packs);
	}
	free(runs);
	return e;
}

static enum err mark_manifest(struct mark *m, const struct manifest *man, int fd)
{
	struct mark_pack **packs = calloc(man->n_packs + 1u, sizeof(*packs));
	enum err e = packs ? ERR_OK : err_note(ERR_NOMEM, 0, "mark pages: out of memory");

	if (e == ERR_OK)
		e = learn(m, man->pack, man->n_packs, sizeof(*man->pack));
	for (uint32_t i = 0; e == ERR_OK && i < man->n_packs; i++) {
		e = know(m, &man->pack[i], &packs[i]);
		if (e == ERR_OK)
			packs[i]->listed = true;
	}
	if (e == ERR_OK && m->complete)
		e = mark_blocks(m, man, fd, packs);
	free(packs);
	return e;
}

static enum err mark_item(struct mark *m, const struct listing_item *item)
{
	AUTO_FD int fd = -1;
	struct manifest man;
	enum err e = manifest_load(m->root, m->crypt, item->name, item->number, &man, &fd);

	if (e == ERR_NOTFOUND)
		return ERR_OK; /* removed since it was listed */
	if (is_damage(e)) {
		unknown(m);
		return ERR_OK;
	}
	if (e != ERR_OK)
		return e;
	e = mark_manifest(m, &man, fd);
	progress_add(m->progress, man.file_bytes, man.file_bytes);
	manifest_fini(&man);
	return e;
}

static enum err add_total(struct mark *m, const struct listing_item *item)
{
	AUTO_FD int fd = -1;
	char path[LAYOUT_PATH_BYTES];
	uint64_t size = 0;
	enum err e;

	if (!m->progress)
		return ERR_OK;
	layout_manifest_path(item->name, item->number, path);
	e = fs_open(m->root, path, O_RDONLY, 0, &fd);
	if (e == ERR_OK)
		e = fs_size(fd, path, &size);
	atomic_fetch_add(&m->progress->total_bytes, size);
	return e == ERR_NOTFOUND || is_damage(e) ? ERR_OK : e;
}

static bool was_seen(const struct mark *m, const struct listing_item *item)
{
	return m->n_seen && bsearch(item, m->seen, m->n_seen, sizeof(*item), by_name);
}

/* Names are never used twice: one that was seen is the same now. */
enum err mark_manifests(struct mark *m)
{
	struct listing_item *items;
	size_t n;
	enum err e = listing_read(m->root, &items, &n);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < n; i++)
		if (!was_seen(m, &items[i]))
			e = add_total(m, &items[i]);
	for (size_t i = 0; e == ERR_OK && i < n; i++)
		if (!was_seen(m, &items[i]))
			e = mark_item(m, &items[i]);
	if (e != ERR_OK) {
		free(items);
		return e;
	}
	free(m->seen);
	m->seen = items;
	m->n_seen = n;
	return ERR_OK;
}

/* ---- forwards ---- */

static enum err follow(struct mark *m, struct pack_id id)
{
	struct mark_pack *p = mark_find(m, &id);
	struct forward f;
	bool damaged;
	enum err e = forward_load(m->root, m->crypt, &id, &f, NULL, &damaged);

	p->changed = false;
	if (e == ERR_OK && !pack_ref_equal(&f.ref, &p->ref)) {
		forward_fini(&f);
		e = err_note(ERR_CORRUPT, 0, "the forward of a pack and a reference to it disagree");
	}
	if (is_damage(e) || e == ERR_NOTFOUND) {
		p->uncovered = p->live_slots;
		if (p->live_slots && !p->file) {
			if (e == ERR_NOTFOUND)
				(void)!err_note(e, 0, "the forward of a pack is missing");
			unknown(m);
		}
		err_clear();
		return ERR_OK;
	}
	if (e != ERR_OK)
		return e;
	e = learn(m, f.target, f.n_targets, sizeof(*f.target));
	p = mark_find(m, &id); /* may have moved */
	p->uncovered = p->live_slots;
	for (uint32_t i = 0; e == ERR_OK && i < f.n_runs; i++) {
		const struct run *run = &f.run[i];
		struct mark_pack *t;

		e = know(m, &f.target[run->pack], &t);
		if (e != ERR_OK)
			break;
		if (t->depth <= p->depth)
			t->depth = (uint8_t)(p->depth + 1);
		for (uint32_t k = 0; k < run->count; k++) {
			if ((uint32_t)run->page + k >= p->ref.slots ||
			    !mark_is_live(p, (uint32_t)run->page + k))
				continue;
			p->uncovered--;
			set(t, run->slot + (run->repeat ? 0 : k), 1);
		}
	}
	forward_fini(&f);
	return e;
}

enum err mark_forwards(struct mark *m)
{
	bool any = true;

	for (unsigned depth = 0; any && m->complete; depth++) {
		any = false;
		if (depth > FORWARD_DEPTH) {
			(void)!err_note(ERR_CORRUPT, 0, "forwards of packs lead in a circle");
			unknown(m);
			break;
		}
		for (size_t i = 0; m->complete && i < m->n; i++) {
			size_t before = m->n;
			enum err e;

			if (!m->pack[i].forward || !m->pack[i].changed)
				continue;
			if ((e = progress_check(m->progress)) != ERR_OK ||
			    (e = follow(m, m->pack[i].ref.id)) != ERR_OK)
				return e;
			any = true;
			if (m->n != before)
				i = (size_t)-1; /* they moved: from the start */
		}
	}
	return ERR_OK;
}
