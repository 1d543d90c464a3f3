/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_SETTINGS_H
#define STORE_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "store/group.h"
#include "store/record.h"

/* settings: the file "archive", two equal records that make a directory an archive.
 *
 *   12   4  bytes of a page
 *   16  16  archive id, random
 *   32  16  dedup domain id; zero where digests are not keyed
 *   48   8  created, ns since 1970
 *   56   4  digest of pages: 0 = SHA-256, 1 = HMAC-SHA256 with the domain's key
 *   60   4  encryption: 0 = none, 1 = AES-256-GCM; equals the field before
 *   64   8  epoch whose key new packs and manifests use; 0 = none
 *   72   4  level of compression, two's complement (group.h)
 *   76  32  seal: HMAC-SHA256 of bytes 0 to 75 under a key from the master key; zero
 *           without encryption */

#define SETTINGS_MAGIC "LIFEBOAT"
#define SETTINGS_SEALED_BYTES 76u

struct settings {
	uint8_t archive_id[16];
	uint8_t domain_id[16];
	uint64_t created_ns;
	bool encrypted;
	uint32_t epoch;
	int level; /* of compression, where nothing else is said */
	struct digest seal;
};

/* A new archive's: random id, now, not encrypted. */
MUST_USE enum err settings_new(struct settings *c);
void settings_encode(const struct settings *c, uint8_t rec[RECORD_BYTES]);
/* Durably make the file; ERR_BUSY if there is one. */
MUST_USE enum err settings_create(int root, const struct settings *c);
/* ERR_NOTFOUND, ERR_VERSION (also for features that this program lacks),
 * ERR_CORRUPT.  *damaged: one of the two records is. */
MUST_USE enum err settings_read(int root, struct settings *c, bool *damaged);
MUST_USE enum err settings_decode(const uint8_t *rec, struct settings *c);

#endif
