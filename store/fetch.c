/* SPDX-License-Identifier: Apache-2.0 */
/* fetch: read a group, expand it, check its pages.
 *
 * A group that is wanted whole is expanded in place; one of which some pages are
 * wanted goes through a small cache.  By digests, only bytes that were hashed and
 * compared after they reached `out` count as verified; by seals, those that a group
 * with a whole seal expanded to. */
#include "store/fetch.h"

#include "base/fs.h"

#include <stdlib.h>
#include <string.h>

struct cached {
	struct pack_id pack;
	uint64_t offset; /* 0: empty */
	uint64_t used;
	bool sealed;
	uint8_t *pages;
};

struct fetch {
	enum fetch_proof proof;
	struct group_codec *codec;
	uint8_t *stored;
	uint64_t clock;
	unsigned depth; /* forwards followed */
	unsigned groups;
	struct cached cache[]; /* groups of them; their memory comes with the first use */
};

enum err fetch_create(enum fetch_proof proof, unsigned groups, struct fetch **out)
{
	struct fetch *f = calloc(1, sizeof(*f) + groups * sizeof(f->cache[0]));
	enum err e;

	if (!f)
		return err_note(ERR_NOMEM, 0, "read from the archive: out of memory");
	f->proof = proof;
	f->groups = groups;
	e = group_codec_create(&f->codec);
	f->stored = malloc(GROUP_STORED_MAX);
	if (e == ERR_OK && !f->stored)
		e = err_note(ERR_NOMEM, 0, "read from the archive: out of memory");
	if (e != ERR_OK) {
		fetch_destroy(f);
		return e;
	}
	*out = f;
	return ERR_OK;
}

void fetch_destroy(struct fetch *f)
{
	if (!f)
		return;
	group_codec_destroy(f->codec);
	for (unsigned i = 0; i < f->groups; i++)
		free(f->cache[i].pages);
	free(f->stored);
	free(f);
}

static enum err expand(struct fetch *f, const struct catalog_pack *p, const struct pack_group *g,
		       uint8_t *out, bool *sealed)
{
	enum err e = fs_read_at(p->fd, p->path, f->stored, g->stored_bytes, g->offset);
	uint32_t len;

	if (e != ERR_OK)
		return e;
	e = pack_group_open(&p->key, g, f->stored, &len, sealed);
	if (e == ERR_OK)
		e = group_decode(f->codec, f->stored, len, g->codec, g->pages, out);
	if (e != ERR_OK)
		return err_context(e, "%s: group at byte %llu", p->path,
				   (unsigned long long)g->offset);
	return ERR_OK;
}

static enum err cached_group(struct fetch *f, const struct catalog_pack *p,
			     const struct pack_group *g, const uint8_t **pages, bool *sealed)
{
	struct cached *oldest = &f->cache[0];
	enum err e;

	for (unsigned i = 0; i < f->groups; i++) {
		struct cached *c = &f->cache[i];

		if (c->offset == g->offset && memcmp(&c->pack, &p->ref.id, sizeof(c->pack)) == 0) {
			c->used = ++f->clock;
			*pages = c->pages;
			*sealed = c->sealed;
			return ERR_OK;
		}
		if (c->used < oldest->used)
			oldest = c;
	}
	oldest->offset = 0;
	if (!oldest->pages && !(oldest->pages = malloc(GROUP_BYTES)))
		return err_note(ERR_NOMEM, 0, "read from the archive: out of memory");
	if ((e = expand(f, p, g, oldest->pages, &oldest->sealed)) != ERR_OK)
		return e;
	oldest->pack = p->ref.id;
	oldest->offset = g->offset;
	oldest->used = ++f->clock;
	*pages = oldest->pages;
	*sealed = oldest->sealed;
	return ERR_OK;
}

static enum err check(const struct catalog_pack *p, uint32_t slot, uint32_t count,
		      const uint8_t *pages, uint32_t *good)
{
	for (uint32_t i = 0; i < count; i++) {
		if (!crypt_page_is(p->crypt, pages + (size_t)i * PAGE_BYTES,
				   &p->dir.digest[slot + i]))
			return err_note(ERR_CORRUPT, 0, "%s: damaged page in slot %u", p->path,
					slot + i);
		++*good;
	}
	return ERR_OK;
}

/* Slots of one group. */
static enum err from_group(struct fetch *f, const struct catalog_pack *p,
			   const struct pack_group *g, uint32_t slot, uint32_t count, uint8_t *out,
			   uint32_t *good)
{
	const uint8_t *pages = NULL;
	bool sealed;
	enum err e;

	if (count == g->pages) {
		e = expand(f, p, g, out, &sealed);
	} else if ((e = cached_group(f, p, g, &pages, &sealed)) == ERR_OK) {
		memcpy(out, pages + (size_t)(slot - g->first_slot) * PAGE_BYTES,
		       (size_t)count * PAGE_BYTES);
	}
	if (e == ERR_OK && sealed && f->proof == FETCH_SEAL) {
		*good += count;
		return ERR_OK;
	}
	return e == ERR_OK ? check(p, slot, count, out, good) : e;
}

/* count slots of a target, which must be the pages that the old directory promises. */
static enum err from_target(struct fetch *f, const struct catalog_pack *p, uint32_t slot,
			    const struct pack_ref *ref, uint32_t target_slot, uint32_t count,
			    uint8_t *out, uint32_t *bad)
{
	const struct catalog_pack *target;
	enum err e = catalog_get(p->catalog, ref, &target);

	if (e != ERR_OK)
		return e;
	for (uint32_t i = 0; e == ERR_OK && i < count; i++)
		if (memcmp(&p->dir.digest[slot + i], &target->dir.digest[target_slot + i],
			   sizeof(struct digest)) != 0)
			e = err_note(ERR_CORRUPT, 0, "%s: the forward of slot %u leads to another page",
				     p->path, slot + i);
	if (e == ERR_OK)
		e = fetch_pages(f, target, target_slot, count, false, out, bad);
	catalog_put(p->catalog, target);
	return e;
}

/* Slots of a pack that was rewritten. */
static enum err forwarded(struct fetch *f, const struct catalog_pack *p, uint32_t slot,
			  uint32_t count, uint8_t *out, uint32_t *bad)
{
	enum err e = ERR_OK;

	if (f->depth == FORWARD_DEPTH)
		return err_note(ERR_CORRUPT, 0, "%s: its forwards lead in a circle", p->path);
	f->depth++;
	for (uint32_t done = 0, part; e == ERR_OK && done < count; done += part) {
		const struct pack_ref *ref;
		uint32_t target_slot, good = 0;

		e = forward_find(&p->forward, slot + done, &ref, &target_slot, &part);
		if (e != ERR_OK)
			break;
		if (part > count - done)
			part = count - done;
		e = from_target(f, p, slot + done, ref, target_slot, part,
				out + (size_t)done * PAGE_BYTES, &good);
		*bad += good;
	}
	f->depth--;
	return e;
}

enum err fetch_pages(struct fetch *f, const struct catalog_pack *p, uint32_t slot, uint32_t count,
		     bool repeat, uint8_t *out, uint32_t *bad)
{
	uint32_t distinct = repeat ? 1 : count, done = 0;
	enum err e = ERR_OK;

	*bad = 0;
	if (p->fd < 0) {
		e = forwarded(f, p, slot, distinct, out, bad);
		done = distinct;
	}
	while (e == ERR_OK && done < distinct) {
		const struct pack_group *g = pack_dir_find(&p->dir, slot + done);
		uint32_t left = g->first_slot + g->pages - slot - done;
		uint32_t part = distinct - done < left ? distinct - done : left;

		e = from_group(f, p, g, slot + done, part, out + (size_t)done * PAGE_BYTES, bad);
		done += part;
	}
	for (uint32_t i = 1; e == ERR_OK && repeat && i < count; i++)
		memcpy(out + (size_t)i * PAGE_BYTES, out, PAGE_BYTES);
	return e;
}
