/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_GROUP_H
#define STORE_GROUP_H

#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "store/crypt.h"
#include "store/layout.h"

/* group: up to GROUP_PAGES pages, compressed together.
 *
 * The stored form is one zstd frame (codec GROUP_ZSTD) or the pages themselves
 * (GROUP_RAW) where compression saves less than a sixteenth.
 * A codec is heap and serves one thread at a time. */

enum group_codec_id { GROUP_RAW = 0, GROUP_ZSTD = 1 };

#define GROUP_CHECK_BYTES 8u /* first bytes of the SHA-256 of the stored form */

/* Room for a group as it is stored, sealed. */
#define GROUP_STORED_MAX (GROUP_BYTES + CIPHER_TAG_BYTES)

struct group_codec;
MUST_USE enum err group_codec_create(struct group_codec **out);
void group_codec_destroy(struct group_codec *c); /* NULL allowed */

/* The stored form of pages (n_pages of them, 1 to GROUP_PAGES).  *stored points
 * to out (GROUP_BYTES of room) or to pages itself; *codec and *len describe it. */
MUST_USE enum err group_encode(struct group_codec *c, const uint8_t *pages, unsigned n_pages,
			       uint8_t *out, const uint8_t **stored, uint32_t *len,
			       uint8_t *codec);

/* Expand into pages (n_pages * PAGE_BYTES of room).  ERR_CORRUPT without a place in
 * the note: the caller knows it.  The bytes are not verified yet. */
MUST_USE enum err group_decode(struct group_codec *c, const uint8_t *stored, uint32_t len,
			       uint8_t codec, unsigned n_pages, uint8_t *pages);

/* 128 bits of XXH3 of a page, taken when its digest is. */
struct group_sum {
	uint64_t low, high;
};
void group_sum(const uint8_t *page, struct group_sum *out);

/* Proof before publishing: stored expands to the pages whose sums these are.  It is
 * against accidents, not against anybody, and so as strong as hashing again: what was
 * changed, by whatever fault, from the first look at a page until its compressed form
 * is ready, agrees with 128 bits by chance only.  The sum must be taken before the digest.
 * ERR_FAILED if it does not agree: broken memory, processor or compressor on this host. */
MUST_USE enum err group_prove(struct group_codec *c, const uint8_t *stored, uint32_t len,
			      uint8_t codec, const struct group_sum *sums, unsigned n_pages,
			      uint8_t *scratch);

void group_check(const uint8_t *stored, uint32_t len, uint8_t check[GROUP_CHECK_BYTES]);

#endif
