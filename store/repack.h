/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_REPACK_H
#define STORE_REPACK_H

#include "store/mark.h"
#include "store/shared.h"

/* repack: the pages of some packs that are still needed, written again, and forwards to
 * them.  Nothing is deleted and nothing changes for readers: while a pack has its file,
 * its forward is not used. */

struct repack_result {
	struct pack_ref *made; /* given (free) */
	uint32_t n_made;
	uint64_t made_bytes;
	size_t bad; /* of ids: the pack that could not be read; SIZE_MAX: none */
};

/* Everything is durable when it returns ERR_OK.  After an error nothing of it is left (or, if
 * that could not be removed, a later collection does it); ERR_CORRUPT with bad set: without
 * that pack it may work.  Only for who holds gc.lock. */
MUST_USE enum err repack(struct archive *a, const struct mark *m, const struct pack_id *ids,
			 size_t n, struct progress *progress, struct repack_result *result);

#endif
