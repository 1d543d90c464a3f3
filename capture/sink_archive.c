/* SPDX-License-Identifier: Apache-2.0 */
/* sink_archive: an image goes into an archive.  See sink.h and store/archive.h.
 *
 * The newest checkpoint of the same name is the parent, if there is one that can be
 * read: most of an image stays where it is, and is found there without the index. */
#include "capture/sink.h"

#include "base/bytes.h"

#include <stdlib.h>

struct sink_archive {
	struct sink base;
	struct archive_writer *writer;
};

static struct archive_writer *writer_of(struct sink *s)
{
	return ((struct sink_archive *)s)->writer; /* base is its first member */
}

static enum err stream(struct sink *s, const char *name, uint64_t length, unsigned *index)
{
	return archive_stream(writer_of(s), name, length, index);
}

static enum err put(struct sink *s, unsigned index, uint64_t offset, const void *p, size_t len)
{
	return archive_put(writer_of(s), index, offset, p, len);
}

static enum err commit(struct sink *s, const char *label, struct checkpoint_info *out)
{
	enum err e = archive_commit(writer_of(s), label, out);

	free(s);
	return e;
}

static void abandon(struct sink *s)
{
	archive_abort(writer_of(s));
	free(s);
}

enum err sink_archive_open(struct archive *a, const char *name, struct progress *progress,
			   struct sink **out)
{
	static const struct sink_ops ops = {
		.stream = stream, .put = put, .commit = commit, .abort = abandon};
	struct sink_archive *s = calloc(1, sizeof(*s));
	struct checkpoint_info parent;

	if (!s)
		return err_note(ERR_NOMEM, 0, "checkpoint: out of memory");
	enum err e = archive_find(a, name, &parent);
	bool usable = e == ERR_OK && !bytes_zero(parent.digest.b, sizeof(parent.digest.b));
	err_clear();
	e = archive_begin_from(a, name, usable ? &parent : NULL, progress, &s->writer);
	if (usable && (e == ERR_CORRUPT || e == ERR_NOTFOUND || e == ERR_IO)) /* costs only its help */
		e = archive_begin(a, name, progress, &s->writer);
	if (e != ERR_OK) {
		free(s);
		return e;
	}
	s->base.ops = &ops;
	*out = &s->base;
	return ERR_OK;
}
