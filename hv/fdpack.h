/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_FDPACK_H
#define HV_FDPACK_H

#include "base/err.h"

/* fdpack: many descriptors as one, to be passed on by processes that need not know them.
 *
 * The pack is a socket in which one message waits that carries them all.  Whoever ends
 * before it was opened takes its contents along.  Any thread. */

#define FDPACK_MAX 200u

/* 1 to FDPACK_MAX descriptors (borrowed) into a pack (given). */
MUST_USE enum err fdpack_make(const int *fds, unsigned count, int *pack);
/* Exactly `count` descriptors (given) out of a pack, which is closed (taken).  ERR_PEER:
 * it holds something else. */
MUST_USE enum err fdpack_open(int pack, int *fds, unsigned count);

#endif
