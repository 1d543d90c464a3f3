/* SPDX-License-Identifier: Apache-2.0 */
/* group: pages compressed together by zstd.
 *
 * Incompressible groups cost little: zstd's level 1 strides over bytes without
 * matches at five to ten times its normal speed, and the room it is given for
 * its output ends where storing raw becomes better. */
#include "store/group.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <zstd.h>
#include <zstd_errors.h>

#define GROUP_LEVEL 1

struct group_codec {
	ZSTD_CCtx *compress;
	ZSTD_DCtx *expand;
};

enum err group_codec_create(struct group_codec **out)
{
	struct group_codec *c = calloc(1, sizeof(*c));

	if (!c)
		return err_note(ERR_NOMEM, 0, "make a compressor: out of memory");
	c->compress = ZSTD_createCCtx();
	c->expand = ZSTD_createDCtx();
	if (!c->compress || !c->expand ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c->compress, ZSTD_c_compressionLevel,
						GROUP_LEVEL))) {
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
	free(c);
}

enum err group_encode(struct group_codec *c, const uint8_t *pages, unsigned n_pages, uint8_t *out,
		      const uint8_t **stored, uint32_t *len, uint8_t *codec)
{
	size_t size = (size_t)n_pages * PAGE_BYTES;
	size_t n = ZSTD_compress2(c->compress, out, size - size / 16, pages, size);

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

void group_sum(const uint8_t *page, struct group_sum *out)
{
	XXH128_hash_t h = XXH3_128bits(page, PAGE_BYTES);

	*out = (struct group_sum){.low = h.low64, .high = h.high64};
}

enum err group_prove(struct group_codec *c, const uint8_t *stored, uint32_t len, uint8_t codec,
		     const struct group_sum *sums, unsigned n_pages, uint8_t *scratch)
{
	enum err e = group_decode(c, stored, len, codec, n_pages, scratch);

	for (unsigned i = 0; e == ERR_OK && i < n_pages; i++) {
		struct group_sum s;

		group_sum(scratch + (size_t)i * PAGE_BYTES, &s);
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
