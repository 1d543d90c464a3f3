/* SPDX-License-Identifier: Apache-2.0 */
/* copy: a checkpoint of one archive becomes one of another.
 *
 * It gets a number of its own there, for numbers are never given out twice, and keeps its label,
 * the time at which it was made, and as its origin the digest of the first checkpoint that it is a
 * copy of.  By that it is recognised, so that copying again does nothing.
 *
 * What is read is verified on the way out and proven on the way in, as everything is.
 *
 * Threads: the source's pool delivers, one call at a time, while the caller waits; each call
 * puts into the writer, whose owner is thus one thread at a time. */
#include "store/copy.h"

#include "base/bytes.h"
#include "store/manifest.h"

#include <stdio.h>
#include <string.h>

struct copying {
	struct archive_writer *w;
	unsigned stream; /* of w */
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

static enum err copy_streams(struct archive_reader *r, struct archive_writer *w,
			     struct progress *progress)
{
	struct copying c = {.w = w};

	for (unsigned i = 0; i < archive_read_streams(r); i++) {
		const struct archive_stream_info *s = archive_read_stream(r, i);
		enum err e = progress_check(progress);

		if (e == ERR_OK)
			e = archive_stream(w, s->name, s->length, &c.stream);
		if (e == ERR_OK) /* the writer counts the progress, holes apart */
			e = archive_read_all(r, i, NULL, put, &c);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

static enum err copy_into(struct archive_reader *r, const struct checkpoint_info *c,
			  struct archive *to, const char *name, struct progress *progress,
			  struct checkpoint_info *out)
{
	struct checkpoint_parent first = first_of(c);
	struct archive_writer *w;
	enum err e = archive_begin(to, name, progress, &w);

	if (e != ERR_OK)
		return e;
	archive_origin(w, &first, c->created_ns);
	if ((e = copy_streams(r, w, progress)) != ERR_OK) {
		archive_abort(w);
		return e;
	}
	return archive_commit(w, c->label, out);
}

enum err copy(struct archive *from, const struct checkpoint_info *c, struct archive *to,
	      const struct archive_copy_options *opt, struct progress *progress,
	      struct archive_copy_result *result)
{
	const char *name = opt && opt->name ? opt->name : c->name;
	struct search s = {.first = first_of(c), .out = &result->info, .name = name};
	struct archive_reader *r;
	enum err e;

	memset(result, 0, sizeof(*result));
	result->rehashed = !crypt_same_domain(from->crypt, to->crypt);
	if ((e = archive_list(to, compare, &s)) != ERR_OK)
		return e;
	result->existed = s.found;
	if (s.found)
		return ERR_OK;
	if ((e = archive_read_open(from, c, &r)) != ERR_OK)
		return e;
	e = copy_into(r, c, to, name, progress, &result->info);
	archive_read_close(r);
	return e;
}
