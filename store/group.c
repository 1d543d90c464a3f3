/* SPDX-License-Identifier: Apache-2.0 */
/* group: pages compressed together by zstd.
 *
 * Incompressible groups cost little: zstd's lower levels stride over bytes without
 * matches at five to ten times their normal speed, and the room they are given for
 * their output ends where storing raw becomes better. */
#include "store/group.h"

#include "base/bytes.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

struct group_codec {
	ZSTD_CCtx *compress;
	int level; /* that compress is set to */
	ZSTD_DCtx *expand;
	EVP_MAC_CTX *sum;
};

static EVP_MAC_CTX *sum_create(void)
{
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "POLY1305", NULL);
	EVP_MAC_CTX *c = mac ? EVP_MAC_CTX_new(mac) : NULL;

	EVP_MAC_free(mac);
	return c;
}

enum err group_codec_create(struct group_codec **out)
{
	struct group_codec *c = calloc(1, sizeof(*c));

	if (!c)
		return err_note(ERR_NOMEM, 0, "make a compressor: out of memory");
	c->compress = ZSTD_createCCtx();
	c->expand = ZSTD_createDCtx();
	c->sum = sum_create();
	if (!c->compress || !c->expand || !c->sum) {
		group_codec_destroy(c);
		return err_note(ERR_NOMEM, 0, "make a compressor: out of memory");
	}
	*out = c;
	return ERR_OK;
}

void group_codec_destroy(struct group_codec *c)
{
	if (!c)
		return;
	ZSTD_freeCCtx(c->compress);
	ZSTD_freeDCtx(c->expand);
	EVP_MAC_CTX_free(c->sum);
	free(c);
}

bool group_level_ok(int level)
{
	return level >= GROUP_LEVEL_MIN && level <= GROUP_LEVEL_MAX && level != 0;
}

static size_t compress(struct group_codec *c, int level, const uint8_t *pages, size_t size,
		       uint8_t *out)
{
	if (c->level != level) {
		size_t n = ZSTD_CCtx_setParameter(c->compress, ZSTD_c_compressionLevel, level);

		if (ZSTD_isError(n))
			return n;
		c->level = level;
	}
	return ZSTD_compress2(c->compress, out, size - size / 16, pages, size);
}

enum err group_encode(struct group_codec *c, int level, const uint8_t *pages, unsigned n_pages,
		      uint8_t *out, const uint8_t **stored, uint32_t *len, uint8_t *codec)
{
	size_t size = (size_t)n_pages * PAGE_BYTES, n = compress(c, level, pages, size, out);

	if (!ZSTD_isError(n)) {
		*stored = out;
		*len = (uint32_t)n;
		*codec = GROUP_ZSTD;
		return ERR_OK;
	}
	if (ZSTD_getErrorCode(n) != ZSTD_error_dstSize_tooSmall)
		return err_note(ERR_FAILED, 0, "compress a group: %s", ZSTD_getErrorName(n));
	*stored = pages;
	*len = (uint32_t)size;
	*codec = GROUP_RAW;
	return ERR_OK;
}

enum err group_decode(struct group_codec *c, const uint8_t *stored, uint32_t len, uint8_t codec,
		      unsigned n_pages, uint8_t *pages)
{
	size_t size = (size_t)n_pages * PAGE_BYTES, n;

	if (codec == GROUP_RAW) {
		if (len != size)
			return err_note(ERR_CORRUPT, 0, "raw group has the wrong length");
		memcpy(pages, stored, size);
		return ERR_OK;
	}
	if (codec != GROUP_ZSTD)
		return err_note(ERR_CORRUPT, 0, "group has an unknown codec");
	n = ZSTD_decompressDCtx(c->expand, pages, size, stored, len);
	if (ZSTD_isError(n))
		return err_note(ERR_CORRUPT, 0, "group does not expand: %s",
				ZSTD_getErrorName(n));
	if (n != size)
		return err_note(ERR_CORRUPT, 0, "group expands to the wrong length");
	return ERR_OK;
}

void group_sum(struct group_codec *c, const struct group_sum_key *key, const uint8_t *page,
	       struct group_sum *out)
{
	uint8_t b[16];
	size_t n = 0;
	int ok = EVP_MAC_init(c->sum, key->b, sizeof(key->b), NULL) == 1 &&
		 EVP_MAC_update(c->sum, page, PAGE_BYTES) == 1 &&
		 EVP_MAC_final(c->sum, b, &n, sizeof(b)) == 1;

	assert(ok && n == sizeof(b));
	*out = (struct group_sum){.low = le64_get(b), .high = le64_get(b + 8)};
}

enum err group_prove(struct group_codec *c, const uint8_t *stored, uint32_t len, uint8_t codec,
		     const struct group_sum_key *key, const struct group_sum *sums,
		     unsigned n_pages, uint8_t *scratch)
{
	enum err e = group_decode(c, stored, len, codec, n_pages, scratch);

	for (unsigned i = 0; e == ERR_OK && i < n_pages; i++) {
		struct group_sum s;

		group_sum(c, key, scratch + (size_t)i * PAGE_BYTES, &s);
		if (s.low != sums[i].low || s.high != sums[i].high)
			e = ERR_CORRUPT;
	}
	if (e != ERR_OK)
		return err_note(ERR_FAILED, 0,
				"check of a compressed group: it does not expand to what was put: "
				"this host's memory or processor may be faulty: nothing was "
				"published, test the host");
	return ERR_OK;
}

void group_check(const uint8_t *stored, uint32_t len, uint8_t check[GROUP_CHECK_BYTES])
{
	struct digest d;

	digest_of(stored, len, &d);
	memcpy(check, d.b, GROUP_CHECK_BYTES);
}
