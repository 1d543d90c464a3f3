/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_CRYPT_H
#define STORE_CRYPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "store/cipher.h"
#include "store/layout.h"

/* crypt: how one archive names its pages and seals its bytes.
 *
 * Everything in store/ that computes the digest of a page does it here, so that no
 * other place knows whether digests are keyed; and what is written is sealed and opened
 * here, which in an archive without encryption changes nothing.
 *
 *   page digest      HMAC-SHA256, key HKDF(domain key, domain id, "lifeboat page")
 *   key of a pack    HKDF(epoch key, archive id || pack id, "lifeboat pack")
 *   of a manifest    HKDF(epoch key, archive id || manifest id, "lifeboat manifest")
 *   of a recall      HKDF(epoch key, archive id || file id, "lifeboat recall")
 *
 * Immutable once made: any thread may use it. */

struct crypt;
struct keyring;

/* The context of the archive with this id.  ring (borrowed during the call) holds its
 * keys; NULL: not encrypted, digests are SHA-256. */
struct crypt_plan {
	const uint8_t *archive_id, *domain_id; /* 16 bytes each */
	uint32_t epoch;			       /* that new things use */
	const struct keyring *ring;
};
MUST_USE enum err crypt_create(const struct crypt_plan *plan, struct crypt **out);
/* Not encrypted. */
MUST_USE enum err crypt_create_plain(const uint8_t archive_id[16], struct crypt **out);
void crypt_destroy(struct crypt *c); /* NULL allowed; wipes */

const uint8_t *crypt_archive_id(const struct crypt *c); /* 16 bytes, borrowed while c lives */
uint32_t crypt_epoch(const struct crypt *c);		/* that new things use; 0 = none */
const uint8_t *crypt_domain_id(const struct crypt *c);	/* 16 bytes, borrowed */
/* The key of the dedup domain, 32 bytes, borrowed; NULL without encryption. */
const uint8_t *crypt_domain(const struct crypt *c);
/* Whether equal pages have equal digests in both. */
bool crypt_same_domain(const struct crypt *a, const struct crypt *b);

/* Whether equal pages have equal digests in both. */
bool crypt_same_domain(const struct crypt *a, const struct crypt *b);

/* The digest by which a page of PAGE_BYTES is known in this archive. */
void crypt_page(const struct crypt *c, const uint8_t *page, struct digest *out);
/* Whether the page has that digest. */
bool crypt_page_is(const struct crypt *c, const uint8_t *page, const struct digest *want);

/* ---- sealing ---- */

/* The key of one pack or manifest; epoch 0: nothing is sealed.  Wiped by the owner. */
struct crypt_key {
	uint32_t epoch;
	uint8_t b[CIPHER_KEY_BYTES];
};
void crypt_key_wipe(struct crypt_key *k);

/* ERR_CORRUPT: what was written in that epoch cannot be opened, for its key is missing,
 * or (epoch 0) is not sealed although the archive is encrypted, or the reverse. */
MUST_USE enum err crypt_pack_key(const struct crypt *c, uint32_t epoch, const struct pack_id *id,
				 struct crypt_key *out);
MUST_USE enum err crypt_manifest_key(const struct crypt *c, uint32_t epoch, const uint8_t id[16],
				     struct crypt_key *out);
/* Of a file of the index's directory (recall.h). */
MUST_USE enum err crypt_recall_key(const struct crypt *c, uint32_t epoch, const uint8_t id[16],
				   struct crypt_key *out);

/* Bytes that sealing adds: CIPHER_TAG_BYTES or 0. */
size_t crypt_overhead(const struct crypt_key *k);
/* Seal item number `item` (a number is never used twice under one key, but for the same
 * bytes): out gets len + crypt_overhead bytes; without encryption a copy.  in and out may
 * be the same. */
MUST_USE enum err crypt_seal(const struct crypt_key *k, uint64_t item, const void *aad,
			     size_t aad_len, const uint8_t *in, size_t len, uint8_t *out);
/* The reverse: len counts the overhead.  ERR_CORRUPT. */
MUST_USE enum err crypt_open(const struct crypt_key *k, uint64_t item, const void *aad,
			     size_t aad_len, const uint8_t *in, size_t len, uint8_t *out);

#endif
