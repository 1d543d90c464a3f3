/* SPDX-License-Identifier: Apache-2.0 */
/* copy: a checkpoint of one archive becomes one of another.
 *
 * It gets a number of its own there, for numbers are never given out twice, and keeps its label,
 * the time at which it was made, and as its origin the digest of the first checkpoint that it is a
 * copy of.  By that it is recognised, so that copying again does nothing.
 *
 * Where both archives know pages by the same digests, those of the source's directories are looked
 * up in the other's index, and only what that lacks is read at all; what it has is taken over
 * where it lies there.  Else, and into an archive that has nothing yet, everything is read, on all
 * cores.  What is read is verified on the way out and proven on the way in, as everything is.
 *
 * Threads: the source's pool delivers, one call at a time, while the caller waits; each call
 * puts into the writer, whose owner is thus one thread at a time. */
#include "store/copy.h"

#include "base/bytes.h"
#include "store/listing.h"
#include "store/reader.h"
#include "store/writer.h"

#include <stdlib.h>
#include <string.h>

#define PIECE_PAGES 128u

struct copying {
	struct archive_reader *r;
	struct archive_writer *w;
	struct progress *progress;
	struct archive_copy_result *result;
	unsigned index, stream; /* of r, of w */
	uint64_t length;	/* of the stream */
	uint8_t *data;		/* PIECE_PAGES; NULL: everything is read */
};

/* The checkpoint that c is a copy of, or c itself. */
static struct checkpoint_parent first_of(const struct checkpoint_info *c)
{
	struct checkpoint_parent first = c->origin;

	if (first.number == 0) {
		memcpy(first.name, c->name, sizeof(first.name));
		first.number = c->number;
		first.digest = c->digest;
	}
	return first;
}

struct search {
	struct checkpoint_parent first;
	struct checkpoint_info *out;
	const char *name;
	bool found;
};

static enum err compare(void *arg, const struct checkpoint_info *info)
{
	struct search *s = arg;
	struct checkpoint_parent mine = first_of(info);

	if (bytes_zero(info->digest.b, DIGEST_BYTES) || strcmp(info->name, s->name) != 0 ||
	    memcmp(&mine.digest, &s->first.digest, sizeof(mine.digest)) != 0)
		return ERR_OK;
	s->found = true;
	*s->out = *info;
	return ERR_OK;
}

static enum err put(void *arg, uint64_t offset, const void *data, size_t len)
{
	struct copying *c = arg;

	return archive_put(c->w, c->stream, offset, data, len);
}

/* ---- only what the other lacks ---- */

static enum err send(struct copying *c, uint64_t page, uint32_t n)
{
	uint64_t offset = page * PAGE_BYTES, len = (uint64_t)n * PAGE_BYTES;
	enum err e;

	if (len > c->length - offset)
		len = c->length - offset;
	e = reader_read(c->r, c->index, offset, c->data, (size_t)len);
	return e == ERR_OK ? archive_put(c->w, c->stream, offset, c->data, (size_t)len) : e;
}

/* n pages from `page` on, of which the digests are known. */
static enum err piece(struct copying *c, uint64_t page, const struct digest *digests, uint32_t n)
{
	struct index_hit hit[PIECE_PAGES];
	enum err e = progress_check(c->progress);

	writer_ask(c->w, digests, n, hit);
	for (uint32_t i = 0, k; e == ERR_OK && i < n; i = k) {
		k = i + 1;
		if (hit[i].pack != INDEX_MISS) {
			c->result->pages_known++;
			e = writer_have(c->w, c->stream, page + i, &hit[i]);
			continue;
		}
		while (k < n && hit[k].pack == INDEX_MISS)
			k++;
		c->result->pages_read += k - i;
		e = send(c, page + i, k - i);
	}
	return e;
}

static enum err one_run(struct copying *c, const struct run *run)
{
	struct archive *from = c->r->a;
	struct digest digests[PIECE_PAGES];
	const struct catalog_pack *p = NULL;
	enum err e = catalog_get(from->catalog, &c->r->m.pack[run->pack], &p);

	for (uint32_t done = 0, n; e == ERR_OK && done < run->count; done += n) {
		n = run->count - done < PIECE_PAGES ? run->count - done : PIECE_PAGES;
		for (uint32_t i = 0; i < n; i++)
			digests[i] = p->dir.digest[run->slot + (run->repeat ? 0 : done + i)];
		e = piece(c, run->page + done, digests, n);
	}
	if (p)
		catalog_put(from->catalog, p);
	return e;
}

static enum err copy_lacking(struct copying *c)
{
	struct cursor cursor;
	const struct run *run;
	enum err e = cursor_init(&cursor, &c->r->m, c->r->fd, c->index);

	while (e == ERR_OK && (e = cursor_next(&cursor, &run)) == ERR_OK && run)
		e = one_run(c, run);
	cursor_fini(&cursor);
	return e;
}

/* ---- the whole checkpoint ---- */

static enum err copy_streams(struct copying *c)
{
	for (c->index = 0; c->index < archive_read_streams(c->r); c->index++) {
		const struct archive_stream_info *s = archive_read_stream(c->r, c->index);
		enum err e = progress_check(c->progress);

		c->length = s->length;
		if (e == ERR_OK)
			e = archive_stream(c->w, s->name, s->length, &c->stream);
		if (e == ERR_OK) /* the writer counts the progress, holes apart */
			e = c->data ? copy_lacking(c)
				    : archive_read_all(c->r, c->index, NULL, put, c);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

/* Has `to` anything that could be recognised? */
static enum err worth_asking(struct archive *to, bool *worth)
{
	struct pack_ref *refs;
	bool complete;
	size_t n;
	enum err e = listing_packs(to->root, to->crypt, &refs, &n, &complete);

	if (e != ERR_OK)
		return e;
	*worth = n > 0;
	free(refs);
	return ERR_OK;
}

static enum err copy_into(struct copying *c, const struct checkpoint_info *info, struct archive *to,
			  const char *name)
{
	struct checkpoint_parent first = first_of(info);
	bool ask = false;
	enum err e = c->result->rehashed ? ERR_OK : worth_asking(to, &ask);

	if (e == ERR_OK && ask && !(c->data = malloc((size_t)PIECE_PAGES * PAGE_BYTES)))
		e = err_note(ERR_NOMEM, 0, "copy a checkpoint: out of memory");
	if (e != ERR_OK || (e = archive_begin(to, name, c->progress, &c->w)) != ERR_OK)
		return e;
	archive_origin(c->w, &first, info->created_ns);
	if ((e = copy_streams(c)) != ERR_OK) {
		archive_abort(c->w);
		return e;
	}
	return archive_commit(c->w, info->label, &c->result->info);
}

enum err copy(struct archive *from, const struct checkpoint_info *c, struct archive *to,
	      const struct archive_copy_options *opt, struct progress *progress,
	      struct archive_copy_result *result)
{
	const char *name = opt && opt->name ? opt->name : c->name;
	struct search s = {.first = first_of(c), .out = &result->info, .name = name};
	struct copying job = {.progress = progress, .result = result};
	enum err e;

	memset(result, 0, sizeof(*result));
	result->rehashed = !crypt_same_domain(from->crypt, to->crypt);
	if ((e = archive_list(to, compare, &s)) != ERR_OK)
		return e;
	result->existed = s.found;
	if (s.found)
		return ERR_OK;
	if ((e = archive_read_open(from, c, &job.r)) != ERR_OK)
		return e;
	e = copy_into(&job, c, to, name);
	free(job.data);
	archive_read_close(job.r);
	return e;
}
