/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_SWEEP_H
#define STORE_SWEEP_H

#include <stdint.h>

#include "base/err.h"
#include "store/crypt.h"

/* sweep: remove what writers left that ended without commit or abort.
 *
 * A pack may go if no manifest names it and its writer is dead; a writer lives as
 * long as its temporary manifest is locked.  While any manifest is unreadable
 * no pack goes, for it may be the one that manifest needs. */
MUST_USE enum err sweep(int root, const struct crypt *crypt);

#endif
