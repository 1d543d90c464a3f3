/* SPDX-License-Identifier: Apache-2.0 */
/* forwardcheck: see forwardcheck.h.  One thread: few packs are rewritten. */
#include "store/forwardcheck.h"

#include "base/fs.h"
#include "store/fetch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PART_PAGES 16u

struct checking {
	struct archive *a;
	struct progress *progress;
	const struct packcheck_scope *scope;
	struct fetch *fetch;
	const struct catalog_pack *pack;
	struct packcheck *out;
	uint8_t part[PART_PAGES * PAGE_BYTES];
};

enum err forwardcheck_applies(const struct archive *a, const struct pack_ref *ref, bool *applies)
{
	char path[LAYOUT_PATH_BYTES];
	bool file, forward = false;
	enum err e;

	layout_pack_path(&ref->id, path);
	e = fs_exists(a->root, path, &file);
	layout_forward_path(&ref->id, path);
	if (e == ERR_OK && !file)
		e = fs_exists(a->root, path, &forward);
	*applies = forward;
	return e;
}

static bool is_damage(enum err e)
{
	return e == ERR_CORRUPT || e == ERR_VERSION || e == ERR_IO;
}

static bool wanted(const struct packcheck_scope *scope, uint32_t slot)
{
	return !scope->slots || (scope->slots[slot / 8] >> slot % 8 & 1);
}

/* What is missing is no finding yet: of a pack that was rewritten again only what was still needed
 * then is left. */
static enum err check_slots(struct checking *c, uint32_t slot, uint32_t count)
{
	uint32_t bad;
	enum err e = fetch_pages(c->fetch, c->pack, slot, count, false, c->part, &bad);

	c->out->bytes += (uint64_t)count * PAGE_BYTES;
	if (!is_damage(e))
		return e;
	if (count > 1) {
		for (uint32_t i = 0; i < count; i++)
			if ((e = check_slots(c, slot + i, 1)) != ERR_OK)
				return e;
		return ERR_OK;
	}
	err_clear();
	c->out->bad[slot] = c->out->any_bad = true;
	return ERR_OK;
}

static enum err check_run(struct checking *c, const struct run *run)
{
	uint32_t slot = (uint32_t)run->page, end = slot + run->count;
	enum err e = ERR_OK;

	for (uint32_t n; e == ERR_OK && slot < end; slot += n) {
		n = 1;
		c->out->bad[slot] = false;
		if (c->scope->sample_millionths || !wanted(c->scope, slot))
			continue;
		while (n < PART_PAGES && slot + n < end && wanted(c->scope, slot + n))
			c->out->bad[slot + n++] = false;
		if ((e = progress_check(c->progress)) == ERR_OK)
			e = check_slots(c, slot, n);
	}
	return e;
}

/* Both copies; the catalog is content with one. */
static enum err check_copies(struct checking *c, const struct pack_ref *ref, packcheck_fn *fn,
			     void *arg)
{
	struct forward f;
	char text[LAYOUT_PATH_BYTES + 64], path[LAYOUT_PATH_BYTES];
	bool damaged = false;
	enum err e = forward_load(c->a->root, c->a->crypt, &ref->id, &f, NULL, &damaged);

	if (e != ERR_OK)
		return e;
	c->out->bytes += 2 * forward_bytes(&f);
	forward_fini(&f);
	layout_forward_path(&ref->id, path);
	snprintf(text, sizeof(text), "%s: one of its two copies is damaged", path);
	if (damaged)
		fn(arg, text);
	return ERR_OK;
}

static enum err check_all(struct checking *c, const struct pack_ref *ref, packcheck_fn *fn,
			  void *arg)
{
	enum err e;

	memset(c->out->bad, true, ref->slots);
	e = check_copies(c, ref, fn, arg);
	if (e == ERR_OK)
		e = catalog_get(c->a->catalog, ref, &c->pack);
	if (is_damage(e)) {
		fn(arg, err_text());
		err_clear();
		c->out->any_bad = true;
		return ERR_OK;
	}
	for (uint32_t i = 0; e == ERR_OK && i < c->pack->forward.n_runs; i++)
		e = check_run(c, &c->pack->forward.run[i]);
	catalog_put(c->a->catalog, c->pack);
	return e;
}

enum err forwardcheck(struct archive *a, struct progress *progress, const struct pack_ref *ref,
		      const struct packcheck_scope *scope, packcheck_fn *fn, void *arg,
		      struct packcheck *out)
{
	struct checking *c = calloc(1, sizeof(*c));
	enum err e;

	memset(out, 0, sizeof(*out));
	out->bad = calloc(ref->slots, sizeof(*out->bad));
	if (!c || !out->bad) {
		free(c);
		packcheck_fini(out);
		return err_note(ERR_NOMEM, 0, "check a rewritten pack: out of memory");
	}
	c->a = a;
	c->progress = progress;
	c->scope = scope;
	c->out = out;
	e = fetch_create(FETCH_DIGEST, FETCH_GROUPS, &c->fetch);
	if (e == ERR_OK)
		e = check_all(c, ref, fn, arg);
	fetch_destroy(c->fetch);
	free(c);
	if (e != ERR_OK)
		packcheck_fini(out);
	return e;
}
