/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* bytes: little-endian integers and growing or bounded byte strings.
 * No alignment is assumed.  Any thread on its own objects. */

static inline uint16_t le16_get(const void *p)
{
	const uint8_t *b = p;
	return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t le32_get(const void *p)
{
	const uint8_t *b = p;
	return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint64_t le64_get(const void *p)
{
	return le32_get(p) | (uint64_t)le32_get((const uint8_t *)p + 4) << 32;
}

static inline void le16_put(void *p, uint16_t v)
{
	uint8_t *b = p;
	b[0] = (uint8_t)v;
	b[1] = (uint8_t)(v >> 8);
}

static inline void le32_put(void *p, uint32_t v)
{
	uint8_t *b = p;
	b[0] = (uint8_t)v;
	b[1] = (uint8_t)(v >> 8);
	b[2] = (uint8_t)(v >> 16);
	b[3] = (uint8_t)(v >> 24);
}

static inline void le64_put(void *p, uint64_t v)
{
	le32_put(p, (uint32_t)v);
	le32_put((uint8_t *)p + 4, (uint32_t)(v >> 32));
}

/* A growing byte string; {0} is empty and valid.  After a failed allocation it
 * is `failed`: puts do nothing, and buf_check reports ERR_NOMEM once at the
 * end, so that encoders need no check per field. */
struct buf {
	uint8_t *data;
	size_t len, cap;
	bool failed;
};

#define AUTO_BUF __attribute__((cleanup(buf_fini)))

void buf_fini(struct buf *b);			   /* frees, resets to {0} */
void buf_clear(struct buf *b);			   /* len = 0, keeps memory */
void buf_put(struct buf *b, const void *p, size_t len);
void buf_put_zero(struct buf *b, size_t len);
void buf_put_le8(struct buf *b, uint8_t v);
void buf_put_le16(struct buf *b, uint16_t v);
void buf_put_le32(struct buf *b, uint32_t v);
void buf_put_le64(struct buf *b, uint64_t v);
void buf_put_str(struct buf *b, const char *s);	   /* without the NUL */
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* NUL-terminated view, borrowed until the next buf call; "" if failed. */
const char *buf_str(struct buf *b);
MUST_USE enum err buf_check(const struct buf *b);

/* A bounded reader over borrowed bytes.  Reading past the end yields zeros and
 * sets `overrun` for good; check it once with rd_check. */
struct rd {
	const uint8_t *p, *end;
	bool overrun;
};

static inline struct rd rd_make(const void *p, size_t len)
{
	return (struct rd){.p = p, .end = (const uint8_t *)p + len};
}
size_t rd_left(const struct rd *r);
const uint8_t *rd_bytes(struct rd *r, size_t len); /* borrowed; NULL on overrun */
uint8_t rd_le8(struct rd *r);
uint16_t rd_le16(struct rd *r);
uint32_t rd_le32(struct rd *r);
uint64_t rd_le64(struct rd *r);
/* ERR_CORRUPT "what: ends too early" if anything was read past the end. */
MUST_USE enum err rd_check(const struct rd *r, const char *what);

/* True if all len bytes are zero.  len any, p any alignment. */
bool bytes_zero(const void *p, size_t len);

/* Lower-case hex of len bytes into out (2*len+1 bytes). */
void bytes_hex(const void *p, size_t len, char *out);
/* Parse exactly len bytes from 2*len hex digits; false if malformed. */
bool bytes_unhex(const char *hex, void *out, size_t len);

/* CRC-32C is not offered on purpose: integrity is SHA-256 everywhere. */

#endif
