/* SPDX-License-Identifier: Apache-2.0 */
/* salvage: everything of a stream that is undamaged, and the name of what is not.
 *
 * Three things can be lost: a block of runs (then nobody knows what its part of the
 * stream was), a pack as a whole, and single pages.  Each piece is read at once, and page
 * by page only if that fails.  What was lost and follows each other becomes one finding,
 * with the reason of its first page.
 *
 * One thread, for it runs where something is broken; archive_read_all is the fast way. */
#include "store/salvage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_PAGES 64u

struct salvage {
	struct archive_reader *r;
	unsigned index;
	uint64_t first, end; /* pages wanted */
	struct progress *progress;
	archive_extent_fn *fn;
	archive_lost_fn *lost;
	void *arg;
	uint8_t *data;
	bool *gone; /* by pack of the manifest: it could not be loaded */
	char why[ERR_NOTE_BYTES];
	uint64_t bad, bad_end; /* pages lost so far and not told; empty if equal */
};

static bool is_damage(enum err e)
{
	return e == ERR_CORRUPT || e == ERR_VERSION || e == ERR_IO;
}

static uint64_t cut(const struct salvage *s, uint64_t page)
{
	uint64_t length = s->r->m.stream[s->index].info.length, at = page * PAGE_BYTES;

	return at < length ? at : length;
}

static void tell(struct salvage *s)
{
	if (s->bad < s->bad_end)
		s->lost(s->arg, cut(s, s->bad), cut(s, s->bad_end) - cut(s, s->bad), s->why);
	s->bad = s->bad_end = 0;
}

/* Pages [page, end) are lost, for the reason that this thread's note gives. */
static void lose(struct salvage *s, uint64_t page, uint64_t end)
{
	if (s->bad == s->bad_end || s->bad_end != page) {
		tell(s);
		s->bad = page;
		snprintf(s->why, sizeof(s->why), "%s", err_text());
	}
	s->bad_end = end;
	err_clear();
}

static enum err give(struct salvage *s, uint64_t page, uint32_t count)
{
	tell(s);
	return s->fn(s->arg, cut(s, page), s->data, (size_t)(cut(s, page + count) - cut(s, page)));
}

static enum err read_pages(struct salvage *s, uint64_t page, uint32_t count)
{
	return reader_read(s->r, s->index, cut(s, page), s->data,
			   (size_t)(cut(s, page + count) - cut(s, page)));
}

static enum err piece(struct salvage *s, uint64_t page, uint32_t count)
{
	enum err e = read_pages(s, page, count);

	if (e == ERR_OK)
		return give(s, page, count);
	if (!is_damage(e))
		return e;
	for (uint32_t i = 0; i < count; i++) {
		e = read_pages(s, page + i, 1);
		if (e == ERR_OK)
			e = give(s, page + i, 1);
		else if (is_damage(e)) {
			lose(s, page + i, page + i + 1);
			e = ERR_OK;
		}
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

/* A pack that cannot be loaded is not tried again for each of its pages. */
static enum err pack_there(struct salvage *s, uint32_t pack, bool *there)
{
	const struct catalog_pack *p;
	enum err e;

	*there = !s->gone[pack];
	if (s->gone[pack])
		return err_note(ERR_OK, 0, "its pack is damaged or missing");
	e = catalog_get(s->r->a->catalog, &s->r->m.pack[pack], &p);
	if (e == ERR_OK)
		catalog_put(s->r->a->catalog, p);
	if (!is_damage(e))
		return e;
	s->gone[pack] = true;
	*there = false;
	return ERR_OK;
}

static enum err one_run(struct salvage *s, const struct run *run)
{
	uint64_t from = run->page > s->first ? run->page : s->first;
	uint64_t to = run->page + run->count < s->end ? run->page + run->count : s->end;
	bool there;
	enum err e;

	if (from >= to)
		return ERR_OK;
	if ((e = pack_there(s, run->pack, &there)) != ERR_OK)
		return e;
	if (!there) {
		lose(s, from, to);
		return ERR_OK;
	}
	for (uint32_t n; from < to; from += n) {
		n = to - from < PIECE_PAGES ? (uint32_t)(to - from) : PIECE_PAGES;
		if ((e = progress_check(s->progress)) != ERR_OK ||
		    (e = piece(s, from, n)) != ERR_OK)
			return e;
		progress_add(s->progress, (uint64_t)n * PAGE_BYTES, (uint64_t)n * PAGE_BYTES);
	}
	return ERR_OK;
}

static void lose_block(struct salvage *s, const struct manifest_block *b)
{
	uint64_t from = b->first > s->first ? b->first : s->first;
	uint64_t to = b->end < s->end ? b->end : s->end;

	if (from < to)
		lose(s, from, to);
}

static enum err walk(struct salvage *s, struct cursor *c)
{
	const struct manifest *m = &s->r->m;
	const struct run *run;

	for (;;) {
		enum err e = cursor_next(c, &run);

		if (is_damage(e)) {
			lose_block(s, &m->block[c->block]);
			c->block++;
			c->n = 0;
			continue;
		}
		if (e != ERR_OK || !run || run->page >= s->end)
			return e;
		if ((e = one_run(s, run)) != ERR_OK)
			return e;
	}
}

static enum err prepare(struct salvage *s)
{
	s->data = malloc((size_t)PIECE_PAGES * PAGE_BYTES);
	s->gone = calloc(s->r->m.n_packs + 1u, sizeof(*s->gone));
	if (!s->data || !s->gone)
		return err_note(ERR_NOMEM, 0, "read a checkpoint: out of memory");
	return ERR_OK;
}

enum err salvage(struct archive_reader *r, unsigned index, uint64_t offset, uint64_t length,
		 struct progress *progress, archive_extent_fn *fn, archive_lost_fn *lost, void *arg)
{
	struct salvage s = {
		.r = r, .index = index, .progress = progress, .fn = fn, .lost = lost, .arg = arg};
	struct cursor c = {.m = NULL};
	uint64_t all;
	enum err e;

	if (index >= r->m.n_streams)
		return err_note(ERR_USAGE, 0, "read stream %u: there is none", index);
	all = r->m.stream[index].info.length;
	if (offset > all || length > all - offset)
		return err_note(ERR_USAGE, 0,
				"read %llu bytes at %llu of stream %s: it has only %llu",
				(unsigned long long)length, (unsigned long long)offset,
				r->m.stream[index].info.name, (unsigned long long)all);
	s.first = offset / PAGE_BYTES;
	s.end = (offset + length + PAGE_BYTES - 1) / PAGE_BYTES;
	if ((e = prepare(&s)) == ERR_OK && (e = cursor_init(&c, &r->m, r->fd, index)) == ERR_OK)
		e = walk(&s, &c);
	if (e == ERR_OK)
		tell(&s);
	cursor_fini(&c);
	free(s.data);
	free(s.gone);
	return e;
}
