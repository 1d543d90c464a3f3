/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_WRITER_H
#define STORE_WRITER_H

#include "store/shared.h"

/* writer: one checkpoint in the making.  The contracts are those of archive.h. */

struct archive_writer;

MUST_USE enum err writer_create(struct archive *a, const char *name,
				const struct checkpoint_info *parent, struct progress *progress,
				struct archive_writer **out);
MUST_USE enum err writer_stream(struct archive_writer *w, const char *stream, uint64_t length,
				unsigned *index);
MUST_USE enum err writer_put(struct archive_writer *w, unsigned index, uint64_t offset,
			     const void *data, size_t len);
MUST_USE enum err writer_resize(struct archive_writer *w, unsigned index, uint64_t length);
MUST_USE enum err writer_keep(struct archive_writer *w, unsigned index, uint64_t offset,
			      uint64_t len);
/* For a copy between archives of one domain: which of n pages are stored already, by their
 * digests, and pages [page, page + 1) that are: they are taken over unread. */
void writer_ask(struct archive_writer *w, const struct digest *digests, size_t n,
		struct index_hit *hits);
MUST_USE enum err writer_have(struct archive_writer *w, unsigned index, uint64_t page,
			      const struct index_hit *hit);
void writer_origin(struct archive_writer *w, const struct checkpoint_parent *origin,
		   uint64_t created_ns);
MUST_USE enum err writer_commit(struct archive_writer *w, const char *label,
				struct checkpoint_info *out);
void writer_abort(struct archive_writer *w);

#endif
