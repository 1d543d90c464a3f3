/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_SHARED_H
#define STORE_SHARED_H

#include "base/digest.h"
#include "store/archive.h"
#include "store/catalog.h"
#include "store/crypt.h"
#include "store/index.h"
#include "store/pool.h"

/* shared: what the parts of store/ share of an open archive.  One thread at a time,
 * except what catalog, index and pool say themselves. */

struct archive {
	int root;
	struct crypt *crypt; /* its id, digests and keys */
	bool writable;
	unsigned threads;
	int level; /* of compression */
	struct pool *pool;	 /* NULL until needed */
	struct catalog *catalog;
	struct index *index;	 /* NULL until a writer needs it */
	uint64_t index_epoch;	 /* epoch of leases before it was opened */
	unsigned writers;	 /* that are open */
	struct index **old_index; /* that writers still use which began before that epoch */
	unsigned old_indexes;
};

/* The index, open and up to that epoch of leases (whose lease the caller holds, counted in
 * writers). */
MUST_USE enum err shared_index(struct archive *a, uint64_t epoch, struct progress *progress);
/* Close all. */
void shared_index_close(struct archive *a);
/* The pool, started if it is not running. */
MUST_USE enum err shared_pool(struct archive *a, struct pool **out);

#endif
