/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_INDEXSTATE_H
#define STORE_INDEXSTATE_H

#include "store/runset.h"

/* indexstate: the file that says what the index is, and the lock to change it.
 * Format: FORMAT.md section 7. */

struct indexstate {
	uint64_t epoch, changes;
	uint32_t packs;
	struct runset runs; /* opened only by indexstate_open */
};

/* Held until *fd is closed.  Makes the directory if it is missing. */
MUST_USE enum err indexstate_lock(int root, int *fd);
/* ERR_NOTFOUND, ERR_CORRUPT, ERR_VERSION. */
MUST_USE enum err indexstate_read(int root, struct indexstate *s);
/* Open the runs that were read (runset_fini).  ERR_CORRUPT. */
MUST_USE enum err indexstate_open(int root, struct indexstate *s);
/* Replace it durably. */
MUST_USE enum err indexstate_write(int root, const struct indexstate *s);
/* Remove the runs that are in neither set, and temporaries.  Under the lock. */
MUST_USE enum err indexstate_prune(int root, const struct runset *s, const struct runset *named);

#endif
