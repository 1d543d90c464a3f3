/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_PACKCHECK_H
#define STORE_PACKCHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/progress.h"
#include "store/crypt.h"
#include "store/pack.h"
#include "store/pool.h"

/* packcheck: every byte of one pack against what its reference promises. */

struct packcheck {
	bool *bad; /* by slot: this page cannot be given out */
	bool any_bad;
	uint64_t bytes; /* read */
	uint32_t pages; /* that were looked at and are sound */
};

/* Which groups to look at: those of which a slot is wanted, and of these by chance so many of
 * a million.  All zero: every group. */
struct packcheck_scope {
	const uint8_t *slots; /* a bit each, borrowed; NULL: all */
	uint32_t sample_millionths;
	uint64_t seed;
};

/* Called for each finding, from the caller's thread; what: one sentence. */
typedef void packcheck_fn(void *arg, const char *what);

/* ERR_OK also for a damaged pack: the findings tell.  Other errors: the check itself
 * could not be done.  packcheck_fini frees what is in out. */
MUST_USE enum err packcheck(int root, const struct crypt *crypt, struct pool *pool,
			    struct progress *progress, const struct pack_ref *ref,
			    const struct packcheck_scope *scope, packcheck_fn *fn, void *arg,
			    struct packcheck *out);
void packcheck_fini(struct packcheck *c);

#endif
