/* SPDX-License-Identifier: Apache-2.0 */
/* parent: an earlier checkpoint's runs, walked side by side with a new one. */
#include "store/parent.h"

#include "base/fs.h"
#include "store/condemn.h"

#include <stdlib.h>
#include <string.h>

/* Packs of which only a forward is left, or soon will be. */
static enum err find_gone(int root, struct parent *p)
{
	struct condemned_set set;
	enum err e = condemned_load(root, false, &set);

	if (e != ERR_OK)
		return e;
	p->gone = calloc(p->m.n_packs + 1u, sizeof(*p->gone));
	if (!p->gone)
		e = err_note(ERR_NOMEM, 0, "open the parent: out of memory");
	for (uint32_t i = 0; e == ERR_OK && i < p->m.n_packs; i++) {
		const struct pack_id *id = &p->m.pack[i].id;
		char path[LAYOUT_PATH_BYTES];
		bool there;

		layout_pack_path(id, path);
		if ((e = fs_exists(root, path, &there)) == ERR_OK)
			p->gone[i] = !there || condemned_find(&set, id, false);
	}
	condemned_fini(&set);
	return e;
}

enum err parent_open(int root, const struct crypt *crypt, const struct checkpoint_info *info,
		     struct parent **out)
{
	struct parent *p = calloc(1, sizeof(*p));
	enum err e;

	if (!p)
		return err_note(ERR_NOMEM, 0, "open the parent: out of memory");
	p->fd = -1;
	p->stream = malloc(MANIFEST_STREAMS_MAX * sizeof(*p->stream));
	e = p->stream ? ERR_OK : err_note(ERR_NOMEM, 0, "open the parent: out of memory");
	if (e == ERR_OK)
		e = manifest_load(root, crypt, info->name, info->number, &p->m, &p->fd);
	if (e == ERR_OK && memcmp(&p->m.info.digest, &info->digest, sizeof(info->digest)) != 0)
		e = err_note(ERR_CORRUPT, 0, "%s@%llu is not the checkpoint it was", info->name,
			     (unsigned long long)info->number);
	if (e == ERR_OK)
		e = find_gone(root, p);
	if (e != ERR_OK) {
		parent_close(p);
		return e;
	}
	memset(p->stream, 0xff, MANIFEST_STREAMS_MAX * sizeof(*p->stream));
	*out = p;
	return ERR_OK;
}

void parent_close(struct parent *p)
{
	if (!p)
		return;
	manifest_fini(&p->m);
	fs_auto_close(&p->fd);
	free(p->stream);
	free(p->gone);
	free(p);
}

void parent_name(const struct parent *p, struct checkpoint_parent *out)
{
	memcpy(out->name, p->m.info.name, sizeof(out->name));
	out->number = p->m.info.number;
	out->digest = p->m.info.digest;
}

void parent_bind(struct parent *p, uint32_t index, const char *name)
{
	for (uint32_t i = 0; i < p->m.n_streams; i++)
		if (strcmp(p->m.stream[i].info.name, name) == 0)
			p->stream[index] = i;
}

bool parent_length(const struct parent *p, uint32_t index, uint64_t *bytes)
{
	uint32_t s = p->stream[index];

	if (s != PARENT_NONE)
		*bytes = p->m.stream[s].info.length;
	return s != PARENT_NONE;
}

/* ---- views ---- */

void parent_view_init(struct parent_view *v, const struct parent *p)
{
	memset(v, 0, sizeof(*v));
	v->p = p;
	v->stream = PARENT_NONE;
	v->region = UINT64_MAX;
}

void parent_view_fini(struct parent_view *v)
{
	cursor_fini(&v->cursor);
	cursor_fini(&v->ahead);
}

static enum err use_stream(struct parent_view *v, uint32_t index)
{
	uint32_t s = v->p->stream[index];
	enum err e;

	if (v->stream == index)
		return ERR_OK;
	parent_view_fini(v);
	parent_view_init(v, v->p);
	if (s != PARENT_NONE) {
		if ((e = cursor_init(&v->cursor, &v->p->m, v->p->fd, s)) != ERR_OK ||
		    (e = cursor_init(&v->ahead, &v->p->m, v->p->fd, s)) != ERR_OK)
			return e;
	}
	v->stream = index;
	return ERR_OK;
}

/* Do not leave a run behind whose block could not be read. */
static enum err lost(struct parent_view *v, enum err e)
{
	v->run.count = 0;
	v->region = UINT64_MAX;
	return e;
}

enum err parent_view_run(struct parent_view *v, uint32_t index, uint64_t page,
			 const struct run **run)
{
	enum err e = use_stream(v, index);
	const struct run *next;
	uint32_t s;

	*run = NULL;
	if (e != ERR_OK)
		return lost(v, e);
	if ((s = v->p->stream[index]) == PARENT_NONE)
		return ERR_OK;
	if (v->run.count && page >= v->run.page && page < v->run.page + v->run.count) {
		*run = &v->run;
		return ERR_OK;
	}
	v->run.count = 0;
	if ((e = cursor_seek(&v->cursor, s, page)) != ERR_OK ||
	    (e = cursor_next(&v->cursor, &next)) != ERR_OK)
		return lost(v, e);
	if (next) {
		v->run = *next;
		*run = &v->run;
	}
	return ERR_OK;
}

/* The places of the pages [first, end) of stream s. */
static enum err places(struct parent_view *v, uint32_t s, uint64_t first, uint64_t end,
		       uint64_t *place, size_t *n)
{
	const struct run *r;
	enum err e = cursor_seek(&v->ahead, s, first);

	*n = 0;
	while (e == ERR_OK && (e = cursor_next(&v->ahead, &r)) == ERR_OK && r && r->page < end) {
		uint64_t from = r->page > first ? r->page : first;
		uint64_t to = r->page + r->count < end ? r->page + r->count : end;

		for (uint64_t at = from; at < to; at++)
			place[(*n)++] = (uint64_t)r->pack << 32 |
					(r->slot + (r->repeat ? 0 : (uint32_t)(at - r->page)));
	}
	return e;
}

enum err parent_view_plan(struct parent_view *v, uint32_t index, uint64_t page,
			  const struct budget **plan)
{
	uint64_t region = page / BUDGET_PAGES, place[BUDGET_PAGES];
	enum err e = use_stream(v, index);
	size_t n = 0;

	*plan = &v->plan;
	if (e == ERR_OK && v->region == region)
		return ERR_OK;
	if (e == ERR_OK && v->p->stream[index] != PARENT_NONE)
		e = places(v, v->p->stream[index], region * BUDGET_PAGES,
			   (region + 1) * BUDGET_PAGES, place, &n);
	if (e != ERR_OK)
		return lost(v, e);
	budget_plan(&v->plan, place, n);
	v->region = region;
	return ERR_OK;
}
