/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_FENCE_H
#define STORE_FENCE_H

#include "store/lease.h"
#include "store/pipeline.h"

/* fence: may a new checkpoint refer to what it refers to?
 *
 * ERR_BUSY if a pack of others was condemned before the job began, or is gone, or if the lease
 * was taken away.  What is allowed stays until the lease ends: so this need not be done in
 * one step with the rename that publishes. */
MUST_USE enum err fence_check(int root, const struct lease *lease,
			      const struct pipeline_pack *packs, uint32_t n);

#endif
