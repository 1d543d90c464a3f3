/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_SWEEP_H
#define STORE_SWEEP_H

#include <stddef.h>

#include "base/err.h"
#include "store/crypt.h"

/* sweep: remove what writers left that ended without commit or abort.
 *
 * A pack may go if its writer left a temporary manifest that nobody locks, and no manifest
 * names it.  While any manifest is unreadable no pack goes, for it may be the one that
 * manifest needs.  See also gc.h. */
MUST_USE enum err sweep(int root, const struct crypt *crypt);

/* What is known of the writer of a pack: it lives (its temporary manifest is locked); it is
 * dead and never committed (the temporary is there and free); or the temporary is gone:
 * committed, taken back, or lost in a power cut. */
enum sweep_writer { SWEEP_ALIVE, SWEEP_DEAD, SWEEP_GONE };
MUST_USE enum err sweep_writer(int root, const struct pack_id *pack, enum sweep_writer *state);

/* The packs that have a file, ordered by id; *ids is given (free). */
MUST_USE enum err sweep_list(int root, struct pack_id **ids, size_t *count);

#endif
