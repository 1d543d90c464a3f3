/* SPDX-License-Identifier: Apache-2.0 */
/* source_archive: an image comes out of an archive.  See source.h and
 * store/archive.h. */
#include "restore/source.h"

#include <inttypes.h>
#include <stdlib.h>

struct source_archive {
	struct source base;
	struct archive_reader *reader;
};

static struct archive_reader *reader_of(struct source *s)
{
	return ((struct source_archive *)s)->reader; /* base is its first member */
}

static enum err length(struct source *s, const char *stream, uint64_t *bytes)
{
	unsigned i;
	enum err e = archive_read_find(reader_of(s), stream, &i);

	if (e == ERR_OK)
		*bytes = archive_read_stream(reader_of(s), i)->length;
	return e;
}

static enum err blob(struct source *s, const char *stream, size_t max, struct buf *out)
{
	unsigned i;
	enum err e = archive_read_find(reader_of(s), stream, &i);
	if (e != ERR_OK)
		return e;

	uint64_t bytes = archive_read_stream(reader_of(s), i)->length;
	if (bytes > max)
		return err_note(ERR_CORRUPT, 0, "image: stream %s has %" PRIu64 " bytes, more than any "
				"machine makes", stream, bytes);
	size_t start = out->len;
	buf_put_zero(out, (size_t)bytes);
	e = buf_check(out);
	return e == ERR_OK ? archive_read(reader_of(s), i, 0, out->data + start, (size_t)bytes) : e;
}

static enum err extents(struct source *s, const char *stream, struct progress *progress,
			source_extent_fn *fn, void *arg)
{
	unsigned i;
	enum err e = archive_read_find(reader_of(s), stream, &i);

	return e == ERR_OK ? archive_read_all(reader_of(s), i, progress, fn, arg) : e;
}

static void close_source(struct source *s)
{
	archive_read_close(reader_of(s));
	free(s);
}

enum err source_archive_open(struct archive *a, const struct checkpoint_info *c,
			     struct source **out)
{
	static const struct source_ops ops = {
		.length = length, .blob = blob, .extents = extents, .close = close_source};
	struct source_archive *s = calloc(1, sizeof(*s));

	if (!s)
		return err_note(ERR_NOMEM, 0, "restore: out of memory");
	enum err e = archive_read_open(a, c, &s->reader);
	if (e != ERR_OK) {
		free(s);
		return e;
	}
	s->base.ops = &ops;
	*out = &s->base;
	return ERR_OK;
}
