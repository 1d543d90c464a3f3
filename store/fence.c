/* SPDX-License-Identifier: Apache-2.0 */
/* fence: the writer's side of a collection; see FORMAT.md, section 12.5, R1. */
#include "store/fence.h"

#include "store/condemn.h"

enum err fence_check(int root, const struct lease *lease, const struct pipeline_pack *packs,
		     uint32_t n)
{
	struct condemned_set set;
	enum err e = condemned_load(root, false, &set);

	for (uint32_t i = 0; e == ERR_OK && i < n; i++)
		if (!packs[i].ours)
			e = condemned_allows(root, &set, lease_epoch(lease), &packs[i].ref.id);
	condemned_fini(&set);
	return e == ERR_OK ? lease_check(lease) : e;
}
