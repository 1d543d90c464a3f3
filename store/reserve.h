/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_RESERVE_H
#define STORE_RESERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* reserve: bytes of the file system that are held back, so that a full one can be freed.
 *
 * Removing and collecting have to write before they free anything: a record of 512 bytes
 * (a block on disk) for each pack that is to go, the epoch, leases, forwards, and, on file
 * systems that copy on write, metadata for each removal.  8 MiB are enough for some 1500
 * packs (1500 blocks of 4 KiB, or 190 GiB of packs, at one go) with as much again for the
 * file system itself; more packs are condemned in several goes, each of which frees space. */

#define RESERVE_BYTES (8ull << 20)

/* Make it, or make it whole again; ERR_NOSPACE if there is no room (what is there stays). */
MUST_USE enum err reserve_fill(int root);
/* Give its bytes back to the file system; *freed says whether there were any. */
MUST_USE enum err reserve_release(int root, bool *freed);

#endif
