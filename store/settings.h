/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_SETTINGS_H
#define STORE_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* settings: the file "archive", two equal records that make a directory an archive.
 *
 *   12   4  bytes of a page
 *   16  16  archive id, random
 *   32  16  dedup domain id (the archive's own, until domains can be shared)
 *   48   8  created, ns since 1970
 *   56   4  digest of pages: 0 = SHA-256
 *   60   4  encryption: 0 = none
 *   64   8  key of the current epoch: 0 = none */

#define SETTINGS_MAGIC "LIFEBOAT"

struct settings {
	uint8_t archive_id[16];
	uint8_t domain_id[16];
	uint64_t created_ns;
};

/* Durably make the file; ERR_BUSY if there is one. */
MUST_USE enum err settings_create(int root);
/* ERR_NOTFOUND, ERR_VERSION (also for features that this program lacks),
 * ERR_CORRUPT.  *damaged: one of the two records is. */
MUST_USE enum err settings_read(int root, struct settings *c, bool *damaged);
MUST_USE enum err settings_decode(const uint8_t *rec, struct settings *c);

#endif
