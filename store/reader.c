/* SPDX-License-Identifier: Apache-2.0 */
/* reader: random access to a checkpoint's streams.
 *
 * Whole runs go through fetch, which verifies; a page that is wanted in part is
 * fetched whole first.  What no run covers is zero.
 *
 * Threads: each call takes a lane of its own, which holds the place in the runs, some
 * expanded groups and room; so there are as many lanes as there were calls at once, some
 * 900 KB each, and at most LANES_IDLE of them wait for the next call.  `lock` covers the
 * list of idle ones. */
#include "store/reader.h"

#include "base/fs.h"
#include "base/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_STREAM UINT32_MAX
#define PART_PAGES 64u
#define LANES_IDLE 32u

struct lane {
	struct lane *next;
	struct fetch *fetch;
	struct cursor cursor; /* of stream cursor_stream, if it has runs */
	unsigned cursor_stream;
	uint8_t *part; /* PART_PAGES */
};

static void lane_destroy(struct lane *l)
{
	if (!l)
		return;
	cursor_fini(&l->cursor);
	fetch_destroy(l->fetch);
	free(l->part);
	free(l);
}

static enum err lane_create(struct lane **out)
{
	struct lane *l = calloc(1, sizeof(*l));
	enum err e = ERR_OK;

	if (l) {
		l->cursor_stream = NO_STREAM;
		l->part = malloc((size_t)PART_PAGES * PAGE_BYTES);
		e = fetch_create(FETCH_SEAL, FETCH_GROUPS, &l->fetch);
	}
	if (e == ERR_OK && (!l || !l->part))
		e = err_note(ERR_NOMEM, 0, "read a checkpoint: out of memory");
	if (e != ERR_OK)
		lane_destroy(l);
	else
		*out = l;
	return e;
}

static enum err lane_take(struct archive_reader *r, struct lane **out)
{
	pthread_mutex_lock(&r->lock);
	*out = r->idle;
	if (r->idle)
		r->idle = r->idle->next;
	pthread_mutex_unlock(&r->lock);
	return *out ? ERR_OK : lane_create(out);
}

static void lane_give(struct archive_reader *r, struct lane *l)
{
	unsigned n = 0;

	pthread_mutex_lock(&r->lock);
	for (const struct lane *i = r->idle; i; i = i->next)
		n++;
	if (n < LANES_IDLE) {
		l->next = r->idle;
		r->idle = l;
		l = NULL;
	}
	pthread_mutex_unlock(&r->lock);
	lane_destroy(l);
}

enum err reader_create(struct archive *a, const struct checkpoint_info *c,
		       struct archive_reader **out)
{
	struct archive_reader *r = calloc(1, sizeof(*r));
	char what[LEASE_WHAT_BYTES];
	enum err e;

	if (!r)
		return err_note(ERR_NOMEM, 0, "read a checkpoint: out of memory");
	snprintf(what, sizeof(what), "reads %s@%llu", c->name, (unsigned long long)c->number);
	r->a = a;
	r->fd = -1;
	pthread_mutex_init(&r->lock, NULL);
	if ((e = lease_take(a->root, what, &r->lease)) != ERR_OK ||
	    (e = manifest_load(a->root, a->crypt, c->name, c->number, &r->m, &r->fd)) != ERR_OK) {
		reader_destroy(r);
		return e;
	}
	*out = r;
	return ERR_OK;
}

void reader_destroy(struct archive_reader *r)
{
	if (!r)
		return;
	while (r->idle) {
		struct lane *l = r->idle;

		r->idle = l->next;
		lane_destroy(l);
	}
	pthread_mutex_destroy(&r->lock);
	manifest_fini(&r->m);
	fs_auto_close(&r->fd);
	lease_end(r->lease);
	free(r);
}

enum err reader_context(const struct archive_reader *r, unsigned index, uint64_t offset, enum err e)
{
	char ref[MANIFEST_REF_BYTES];

	manifest_ref_text(&r->m.info, ref);
	return err_context(e, "%s, stream %s at byte %llu", ref, r->m.stream[index].info.name,
			   (unsigned long long)offset);
}

/* count pages from `page` on, all of one run. */
static enum err run_pages(struct archive_reader *r, struct lane *l, unsigned index, const struct run *run,
			  uint64_t page, uint32_t count, uint8_t *out)
{
	const struct catalog_pack *p;
	uint32_t skip = run->repeat ? 0 : (uint32_t)(page - run->page), bad = 0;
	enum err e = catalog_get(r->a->catalog, &r->m.pack[run->pack], &p);

	if (e == ERR_OK) {
		e = fetch_pages(l->fetch, p, run->slot + skip, count, run->repeat, out, &bad);
		catalog_put(r->a->catalog, p);
	}
	return e == ERR_OK ? e : reader_context(r, index, (page + bad) * PAGE_BYTES, e);
}

/* Whole pages [page, page + count) into out. */
static enum err pages(struct archive_reader *r, struct lane *l, unsigned index, uint64_t page,
		      uint32_t count, uint8_t *out)
{
	uint64_t end = page + count;
	const struct run *run;
	enum err e = cursor_seek(&l->cursor, index, page);

	memset(out, 0, (size_t)count * PAGE_BYTES);
	while (e == ERR_OK) {
		uint64_t from, to;

		e = cursor_next(&l->cursor, &run);
		if (e != ERR_OK || !run || run->page >= end)
			break;
		from = run->page > page ? run->page : page;
		to = run->page + run->count < end ? run->page + run->count : end;
		e = run_pages(r, l, index, run, from, (uint32_t)(to - from),
			      out + (from - page) * PAGE_BYTES);
		if (e != ERR_OK)
			return e;
	}
	return e == ERR_OK ? e : reader_context(r, index, page * PAGE_BYTES, e);
}

static enum err use_stream(const struct archive_reader *r, struct lane *l, unsigned index)
{
	enum err e;

	if (l->cursor_stream == index)
		return ERR_OK;
	l->cursor_stream = NO_STREAM;
	cursor_fini(&l->cursor);
	e = cursor_init(&l->cursor, &r->m, r->fd, index);
	if (e == ERR_OK)
		l->cursor_stream = index;
	return e;
}

static enum err read_parts(struct archive_reader *r, struct lane *l, unsigned index, uint64_t offset,
			   uint8_t *out, size_t len)
{
	while (len) {
		uint64_t page = offset / PAGE_BYTES, skip = offset % PAGE_BYTES;
		uint64_t want = (skip + len + PAGE_BYTES - 1) / PAGE_BYTES;
		uint32_t count = want < PART_PAGES ? (uint32_t)want : PART_PAGES;
		size_t take = (size_t)count * PAGE_BYTES - skip;
		enum err e = pages(r, l, index, page, count, l->part);

		if (e != ERR_OK)
			return e;
		if (take > len)
			take = len;
		memcpy(out, l->part + skip, take);
		out += take;
		offset += take;
		len -= take;
	}
	return ERR_OK;
}

enum err reader_read(struct archive_reader *r, unsigned index, uint64_t offset, void *buf,
		     size_t len)
{
	struct lane *l;
	enum err e;

	if (index >= r->m.n_streams || offset > r->m.stream[index].info.length ||
	    len > r->m.stream[index].info.length - offset)
		return err_note(ERR_USAGE, 0, "read %zu bytes at %llu of stream %u: there are no "
					      "such bytes",
				len, (unsigned long long)offset, index);
	if ((e = lane_take(r, &l)) != ERR_OK)
		return e;
	if ((e = use_stream(r, l, index)) == ERR_OK)
		e = read_parts(r, l, index, offset, buf, len);
	lane_give(r, l);
	return e;
}
