/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_WANTED_H
#define STORE_WANTED_H

#include "store/fetch.h"
#include "store/shared.h"

/* wanted: pages that were lost, by their digests, and where there is one of that digest.
 *
 * First all digests are added, then wanted_search looks for them once in every place, and only
 * what was found is read.  One thread at a time. */

/* A place to look in: an archive (borrowed), or the files that a person named. */
struct wanted_sources {
	struct archive *from; /* NULL: none */
	const char *const *files;
	unsigned n_files;
	/* Packs of the archive itself that are damaged are not looked in; ordered by id. */
	const struct pack_ref *damaged;
	size_t n_damaged;
};

struct wanted;
/* a: the archive that misses the pages; borrowed. */
MUST_USE enum err wanted_create(struct archive *a, struct wanted **out);
void wanted_destroy(struct wanted *w); /* NULL allowed */

MUST_USE enum err wanted_add(struct wanted *w, const struct digest *digest);
/* Sources (borrowed until wanted_destroy) are looked through, all of them once. */
MUST_USE enum err wanted_search(struct wanted *w, const struct wanted_sources *sources,
				struct progress *progress);
/* The page of that digest, checked; ERR_NOTFOUND, without a note worth reading, if none was
 * found or what was found is damaged as well. */
MUST_USE enum err wanted_read(struct wanted *w, const struct digest *digest, uint8_t *page);

#endif
