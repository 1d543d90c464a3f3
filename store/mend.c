/* SPDX-License-Identifier: Apache-2.0 */
/* mend: a pack made again beside the damaged one, and put in its place.
 *
 * States: MAKING (a temporary, locked for as long as its maker lives) -> DURABLE -> IN PLACE by a
 * rename -> name durable.  Before the rename nothing has changed; after it the pack is at least as
 * good as before, for every group that was sound was copied, and one that cannot be healed was
 * copied as it was. */
#include "store/mend.h"

#include "base/fs.h"
#include "store/transfer.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum err mend_init(struct mend *m, struct archive *a, struct archive *copy, struct wanted *wanted,
		   struct progress *progress)
{
	*m = (struct mend){.a = a, .copy = copy, .wanted = wanted, .progress = progress};
	m->stored = malloc(GROUP_STORED_MAX);
	m->scratch = malloc(GROUP_STORED_MAX);
	m->pages = malloc(GROUP_STORED_MAX);
	m->out = malloc(GROUP_STORED_MAX);
	if (!m->stored || !m->scratch || !m->pages || !m->out) {
		mend_fini(m);
		return err_note(ERR_NOMEM, 0, "repair a pack: out of memory");
	}
	return group_codec_create(&m->codec);
}

void mend_fini(struct mend *m)
{
	group_codec_destroy(m->codec);
	free(m->stored);
	free(m->scratch);
	free(m->pages);
	free(m->out);
	memset(m, 0, sizeof(*m));
}

static bool is_damage(enum err e)
{
	return e == ERR_CORRUPT || e == ERR_IO || e == ERR_VERSION || e == ERR_NOTFOUND;
}

/* ---- one group ---- */

/* Expand the stored form into m->pages; they are not checked yet. */
static enum err open_group(struct mend *m, const struct catalog_pack *p, const struct pack_group *g,
			   const uint8_t *stored)
{
	uint32_t len;
	bool sealed;
	enum err e;

	if (stored != m->scratch)
		memcpy(m->scratch, stored, g->stored_bytes);
	e = pack_group_open(&p->key, g, m->scratch, &len, &sealed);
	return e == ERR_OK ? group_decode(m->codec, m->scratch, len, g->codec, g->pages, m->pages)
			   : e;
}

/* The stored form of m->pages into m->out; *same: it has the length and codec of the group.
 * Sealing again under the pack's key is harmless as long as nothing but the very bytes that were
 * there leaves this process: the caller sees to that. */
static enum err close_group(struct mend *m, const struct catalog_pack *p,
			    const struct pack_group *g, bool *same)
{
	const uint8_t *stored;
	uint32_t len;
	uint8_t codec;
	enum err e = group_encode(m->codec, p->dir.level, m->pages, g->pages, m->scratch, &stored,
				  &len, &codec);

	*same = e == ERR_OK && len + crypt_overhead(&p->key) == g->stored_bytes && codec == g->codec;
	return *same ? crypt_seal(&p->key, g->first_slot, NULL, 0, stored, len, m->out) : e;
}

/* Is it the stored form that the directory tells?  m->pages then has its pages. */
static bool fits(struct mend *m, const struct catalog_pack *p, const struct pack_group *g,
		 const uint8_t *stored)
{
	uint8_t sum[GROUP_CHECK_BYTES];
	bool good;

	group_check(stored, g->stored_bytes, sum);
	good = memcmp(sum, g->check, sizeof(sum)) == 0 && open_group(m, p, g, stored) == ERR_OK;
	for (unsigned i = 0; good && i < g->pages; i++)
		good = crypt_page_is(m->a->crypt, m->pages + (size_t)i * PAGE_BYTES,
				     &p->dir.digest[g->first_slot + i]);
	err_clear();
	return good;
}

/* From that pack's file into m->stored; zeros where it ends early or cannot be read. */
static bool read_group(struct mend *m, const struct catalog_pack *from, const struct pack_group *g)
{
	size_t got = 0;

	memset(m->stored, 0, g->stored_bytes);
	if (fs_read_some(from->fd, from->path, m->stored, g->stored_bytes, g->offset, &got) !=
	    ERR_OK)
		err_clear();
	return got == g->stored_bytes;
}

/* The same group in the copy, if that has it sound. */
static bool from_copy(struct mend *m, const struct catalog_pack *p, const struct catalog_pack *copy,
		      const struct pack_group *g)
{
	return copy && read_group(m, copy, g) && fits(m, p, g, m->stored);
}

/* Pages of a damaged group that can still be had from it, a bit each; they are in m->pages. */
static uint32_t survivors(struct mend *m, const struct catalog_pack *p, const struct pack_group *g)
{
	uint32_t have = 0;

	if (open_group(m, p, g, m->stored) == ERR_OK)
		for (unsigned i = 0; i < g->pages; i++)
			if (crypt_page_is(m->a->crypt, m->pages + (size_t)i * PAGE_BYTES,
					  &p->dir.digest[g->first_slot + i]))
				have |= 1u << i;
	err_clear();
	return have;
}

/* The pages of a damaged group, from what is left of it and from elsewhere, into m->pages.  lost:
 * those that are nowhere. */
static enum err gather(struct mend *m, const struct catalog_pack *p, const struct pack_group *g,
		       unsigned *lost)
{
	uint32_t have = survivors(m, p, g);

	*lost = 0;
	for (unsigned i = 0; i < g->pages; i++) {
		enum err e;

		if (have & 1u << i)
			continue;
		e = wanted_read(m->wanted, &p->dir.digest[g->first_slot + i],
				m->pages + (size_t)i * PAGE_BYTES);
		if (e == ERR_NOTFOUND)
			++*lost;
		else if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

/* Make the group of its pages: into m->stored if that gives the very bytes.  lost: pages
 * that are nowhere. */
static enum err remake(struct mend *m, const struct catalog_pack *p, const struct pack_group *g,
		       bool *made, unsigned *lost)
{
	bool same;
	enum err e = gather(m, p, g, lost);

	*made = false;
	if (e != ERR_OK || *lost)
		return e;
	if ((e = close_group(m, p, g, &same)) != ERR_OK || !same)
		return e;
	*made = fits(m, p, g, m->out);
	if (*made)
		memcpy(m->stored, m->out, g->stored_bytes);
	return ERR_OK;
}

/* The bytes of one group into m->stored, the best there are. */
static enum err best(struct mend *m, const struct catalog_pack *p, const struct catalog_pack *copy,
		     bool ours, const struct pack_group *g, struct mend_result *result)
{
	unsigned lost;
	bool made;
	enum err e;

	if (ours && read_group(m, p, g) && fits(m, p, g, m->stored))
		return ERR_OK;
	if (from_copy(m, p, copy, g)) {
		result->healed++;
		return ERR_OK;
	}
	if (ours)
		(void)read_group(m, p, g);
	else
		memset(m->stored, 0, g->stored_bytes);
	if ((e = remake(m, p, g, &made, &lost)) != ERR_OK)
		return e;
	if (made) {
		result->healed++;
		return ERR_OK;
	}
	result->lost++;
	result->unfit += lost == 0;
	result->lost_pages += lost;
	return ERR_OK;
}

/* ---- the pack ---- */

static enum err side_get(struct archive *a, const struct pack_ref *ref,
			 const struct catalog_pack **out)
{
	enum err e;

	*out = NULL;
	if (!a)
		return ERR_OK;
	e = catalog_get(a->catalog, ref, out);
	if (e == ERR_OK && (*out)->fd < 0) { /* rewritten: its forward leads on, a file would not */
		catalog_put(a->catalog, *out);
		*out = NULL;
	}
	if (!is_damage(e))
		return e;
	err_clear();
	*out = NULL;
	return ERR_OK;
}

static enum err sides_get(struct mend *m, const struct pack_ref *ref, struct mend_sides *s)
{
	enum err e = side_get(m->a, ref, &s->ours);

	s->copy = NULL;
	if (e == ERR_OK)
		e = side_get(m->copy, ref, &s->copy);
	s->dir = s->ours ? s->ours : s->copy;
	return e;
}

static void sides_put(struct mend *m, struct mend_sides *s)
{
	catalog_put(m->a->catalog, s->ours);
	if (m->copy)
		catalog_put(m->copy->catalog, s->copy);
}

enum err mend_survey(struct mend *m, const struct pack_ref *ref)
{
	struct mend_sides s = {.copy = NULL};
	enum err e = sides_get(m, ref, &s);

	for (uint32_t i = 0; e == ERR_OK && s.dir && i < s.dir->dir.groups; i++) {
		const struct pack_group *g = &s.dir->dir.group[i];
		uint32_t have = 0;

		if ((e = progress_check(m->progress)) != ERR_OK)
			break;
		if ((s.ours && read_group(m, s.ours, g) && fits(m, s.dir, g, m->stored)) ||
		    from_copy(m, s.dir, s.copy, g))
			continue;
		if (s.ours) {
			(void)read_group(m, s.ours, g);
			have = survivors(m, s.dir, g);
		}
		for (unsigned k = 0; e == ERR_OK && k < g->pages; k++)
			if (!(have & 1u << k))
				e = wanted_add(m->wanted, &s.dir->dir.digest[g->first_slot + k]);
	}
	sides_put(m, &s);
	return e;
}

static enum err fill(struct mend *m, const struct mend_sides *s, struct pack_writer *p,
		     const struct pack_ref *ref, struct mend_result *result)
{
	struct pack_ref made;
	enum err e = ERR_OK;

	for (uint32_t i = 0; e == ERR_OK && i < s->dir->dir.groups; i++) {
		const struct pack_group *g = &s->dir->dir.group[i];

		if ((e = progress_check(m->progress)) != ERR_OK ||
		    (e = best(m, s->dir, s->copy, s->ours != NULL, g, result)) != ERR_OK)
			return e;
		e = pack_append(p, m->stored, g->stored_bytes, g->codec, g->check, g->pages);
		progress_add(m->progress, g->stored_bytes, 0);
	}
	if (e != ERR_OK || (e = pack_seal(p, &made)) != ERR_OK)
		return e;
	if (!pack_ref_equal(&made, ref))
		return err_note(ERR_FAILED, 0,
				"a pack that was made again differs from its reference: "
				"nothing was changed");
	return pack_sync(p);
}

enum err mend_pages(struct mend *m, const struct mend_sides *s, const struct pack_group *g, bool *all)
{
	unsigned lost = 0;
	enum err e = ERR_OK;

	if (!(s->ours && read_group(m, s->ours, g) && fits(m, s->dir, g, m->stored)) &&
	    !from_copy(m, s->dir, s->copy, g)) {
		if (s->ours)
			(void)read_group(m, s->ours, g);
		else
			memset(m->stored, 0, g->stored_bytes);
		e = gather(m, s->dir, g, &lost);
	}
	*all = e == ERR_OK && lost == 0;
	return e;
}

static enum err sync_packs(int root)
{
	AUTO_FD int fd = -1;
	enum err e = fs_open(root, LAYOUT_PACKS, O_RDONLY | O_DIRECTORY, 0, &fd);

	return e == ERR_OK ? fs_sync_dir(fd, LAYOUT_PACKS) : e;
}

static enum err replace(struct mend *m, const struct mend_sides *s, const struct pack_ref *ref,
			bool frame, struct mend_result *result)
{
	char path[LAYOUT_PATH_BYTES], temp[LAYOUT_PATH_BYTES + 8], why[ERR_NOTE_BYTES];
	struct pack_writer *p = NULL;
	int root = m->a->root;
	enum err e;

	layout_pack_path(&ref->id, path);
	snprintf(temp, sizeof(temp), "%s.tmp", path);
	e = pack_create_at(root, temp, &ref->id, m->a->crypt, &s->dir->key, s->dir->dir.level,
			   s->dir->dir.digest, &p);
	if (e == ERR_OK)
		e = fill(m, s, p, ref, result);
	pack_close(p);
	result->frame = frame || !s->ours;
	if (e == ERR_OK && (result->healed || result->frame)) {
		e = fs_rename(root, temp, path);
		if (e == ERR_OK)
			e = sync_packs(root);
		if (e == ERR_OK)
			return ERR_OK;
	}
	/* Nothing was gained, or something failed: the temporary goes, the first note stays. */
	snprintf(why, sizeof(why), "%s", err_text());
	(void)!fs_unlink(root, temp);
	return err_note(e, 0, "%s", why);
}

/* Groups of which only the bytes are lost. */
static enum err keep_pages(struct mend *m, const struct mend_sides *s, const struct pack_ref *ref,
			   struct mend_result *result)
{
	bool done;
	enum err e;

	if (result->unfit == 0 || result->unfit < result->lost)
		return ERR_OK;
	if ((e = transfer(m, s, ref, &done)) != ERR_OK || !done)
		return e;
	result->moved = result->unfit;
	result->lost = result->unfit = 0;
	return ERR_OK;
}

enum err mend_pack(struct mend *m, const struct pack_ref *ref, bool frame,
		   struct mend_result *result)
{
	struct mend_sides s = {.copy = NULL};
	enum err e;

	memset(result, 0, sizeof(*result));
	if ((e = sides_get(m, ref, &s)) == ERR_OK && !s.dir)
		result->missing = true;
	else if (e == ERR_OK && (e = replace(m, &s, ref, frame, result)) == ERR_OK)
		e = keep_pages(m, &s, ref, result);
	sides_put(m, &s);
	return e;
}
