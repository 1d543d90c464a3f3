/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_CATALOG_H
#define STORE_CATALOG_H

#include "base/err.h"
#include "store/crypt.h"
#include "store/forward.h"
#include "store/pack.h"

/* catalog: sealed packs that are in use, open and with their directories.
 *
 * A pack is immutable, so an entry never changes once loaded; entries are
 * counted, and a bounded number of unused ones is kept (neighbours follow).
 * Any thread. */

#define CATALOG_KEEP 48u /* unused packs that stay loaded */

struct catalog;

struct catalog_pack {
	const struct crypt *crypt; /* of the archive, borrowed */
	int fd; /* -1: the pack was rewritten, its pages are where forward says */
	struct catalog *catalog;
	struct forward forward;
	struct crypt_key key;
	struct pack_ref ref;
	struct pack_dir dir;
	char path[LAYOUT_PATH_BYTES];
};

MUST_USE enum err catalog_create(int root, const struct crypt *crypt, struct catalog **out);
void catalog_destroy(struct catalog *c); /* NULL allowed; nothing may be in use */

/* The pack that ref names, loaded and its directory checked against ref; in use
 * until catalog_put.  ERR_CORRUPT if it is missing or damaged. */
MUST_USE enum err catalog_get(struct catalog *c, const struct pack_ref *ref,
			      const struct catalog_pack **out);
/* One more use of a pack that is in use. */
void catalog_hold(struct catalog *c, const struct catalog_pack *p);
void catalog_put(struct catalog *c, const struct catalog_pack *p); /* NULL allowed */
/* Close what is not in use: files that were deleted meanwhile take space until then. */
void catalog_forget(struct catalog *c);

#endif
