/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_UPKEEP_H
#define STORE_UPKEEP_H

#include "base/err.h"

/* upkeep: what collections and repairs have in common. */

/* Take gc.lock (*lock is given; closing it ends it) and remove the temporaries that interrupted
 * replacements left: who holds the lock makes all of them, but those of pins/, for which pins/lock
 * is held meanwhile.  ERR_BUSY: another collection or repair is at work. */
MUST_USE enum err upkeep_begin(int root, int *lock);

#endif
