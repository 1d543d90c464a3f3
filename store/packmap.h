/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_PACKMAP_H
#define STORE_PACKMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/layout.h"

/* packmap: packs by id, each with two numbers: in the checkpoint that is being made,
 * and in its parent.  One thread at a time. */

#define PACKMAP_NONE UINT32_MAX

struct packmap_entry {
	struct pack_id id;
	uint32_t number, parent; /* PACKMAP_NONE: it has none there */
	bool used;
};

struct packmap {
	struct packmap_entry *entry;
	size_t room, count; /* room is a power of two, or 0 */
};

void packmap_fini(struct packmap *m);
/* The entry of id, made if it is new; borrowed until the next call. */
MUST_USE enum err packmap_get(struct packmap *m, const struct pack_id *id,
			      struct packmap_entry **out);

#endif
