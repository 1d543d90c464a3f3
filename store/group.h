/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_GROUP_H
#define STORE_GROUP_H

#include <stdbool.h>
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

/* Levels of zstd: higher ones are slower and smaller, negative ones faster; not 0.  Reading
 * takes much the same time after all of them, less after the negative ones. */
#define GROUP_LEVEL_MIN	    (-7)
#define GROUP_LEVEL_MAX	    19
#define GROUP_LEVEL_DEFAULT 1
bool group_level_ok(int level);

struct group_codec;
MUST_USE enum err group_codec_create(struct group_codec **out);
void group_codec_destroy(struct group_codec *c); /* NULL allowed */

/* The stored form of pages (n_pages of them, 1 to GROUP_PAGES) at that level.  *stored points
 * to out (GROUP_BYTES of room) or to pages itself; *codec and *len describe it. */
MUST_USE enum err group_encode(struct group_codec *c, int level, const uint8_t *pages,
			       unsigned n_pages, uint8_t *out, const uint8_t **stored, uint32_t *len,
			       uint8_t *codec);

/* Expand into pages (n_pages * PAGE_BYTES of room).  ERR_CORRUPT without a place in
 * the note: the caller knows it.  The bytes are not verified yet. */
MUST_USE enum err group_decode(struct group_codec *c, const uint8_t *stored, uint32_t len,
			       uint8_t codec, unsigned n_pages, uint8_t *pages);

/* Poly1305 of a page under a random key that is kept as a secret (RFC 8439, 2.5), so that nobody
 * who does not know it makes two pages of one sum: a third of the time of a digest.  The
 * sums themselves are secrets too, for that key is used more than once. */
struct group_sum_key {
	uint8_t b[32];
};
struct group_sum {
	uint64_t low, high;
};
void group_sum(struct group_codec *c, const struct group_sum_key *key, const uint8_t *page,
	       struct group_sum *out);

/* Proof before publishing: stored expands to the pages whose sums under that key these are.  It is
 * as strong as hashing again: what was changed, by whatever fault, from the first look at a page
 * until its compressed form is ready, agrees by chance only.  The sum must be taken before the digest.
 * ERR_FAILED if it does not agree: broken memory, processor or compressor on this host. */
MUST_USE enum err group_prove(struct group_codec *c, const uint8_t *stored, uint32_t len,
			      uint8_t codec, const struct group_sum_key *key,
			      const struct group_sum *sums, unsigned n_pages, uint8_t *scratch);

void group_check(const uint8_t *stored, uint32_t len, uint8_t check[GROUP_CHECK_BYTES]);

#endif
