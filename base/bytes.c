/* SPDX-License-Identifier: Apache-2.0 */
/* bytes: growing and bounded byte strings.  See bytes.h. */
#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_fini(struct buf *b)
{
	free(b->data);
	*b = (struct buf){0};
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->failed = false;
}

/* Room for len more bytes; NULL, and the buffer failed, if there is none. */
static uint8_t *grow(struct buf *b, size_t len)
{
	if (b->failed)
		return NULL;
	if (len > SIZE_MAX / 4 || b->len > SIZE_MAX / 4) {
		b->failed = true;
		return NULL;
	}
	if (b->len + len > b->cap) {
		size_t cap = b->cap ? b->cap : 256;
		while (cap < b->len + len)
			cap *= 2;
		uint8_t *data = realloc(b->data, cap);
		if (!data) {
			b->failed = true;
			return NULL;
		}
		b->data = data;
		b->cap = cap;
	}
	uint8_t *at = b->data + b->len;
	b->len += len;
	return at;
}

void buf_put(struct buf *b, const void *p, size_t len)
{
	if (len == 0)
		return;
	uint8_t *at = grow(b, len);
	if (at)
		memcpy(at, p, len);
}

void buf_put_zero(struct buf *b, size_t len)
{
	if (len == 0)
		return;
	uint8_t *at = grow(b, len);
	if (at)
		memset(at, 0, len);
}

void buf_put_le8(struct buf *b, uint8_t v)
{
	buf_put(b, &v, 1);
}

void buf_put_le16(struct buf *b, uint16_t v)
{
	uint8_t p[2];
	le16_put(p, v);
	buf_put(b, p, sizeof(p));
}

void buf_put_le32(struct buf *b, uint32_t v)
{
	uint8_t p[4];
	le32_put(p, v);
	buf_put(b, p, sizeof(p));
}

void buf_put_le64(struct buf *b, uint64_t v)
{
	uint8_t p[8];
	le64_put(p, v);
	buf_put(b, p, sizeof(p));
}

void buf_put_str(struct buf *b, const char *s)
{
	buf_put(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list args;
	char small[256];

	va_start(args, fmt);
	int n = vsnprintf(small, sizeof(small), fmt, args);
	va_end(args);
	if (n < 0) {
		b->failed = true;
		return;
	}
	if ((size_t)n < sizeof(small)) {
		buf_put(b, small, (size_t)n);
		return;
	}
	/* vsnprintf ends with a NUL, which is then taken back. */
	uint8_t *at = grow(b, (size_t)n + 1);
	if (!at)
		return;
	va_start(args, fmt);
	vsnprintf((char *)at, (size_t)n + 1, fmt, args);
	va_end(args);
	b->len--;
}

const char *buf_str(struct buf *b)
{
	uint8_t *at = grow(b, 1);
	if (!at)
		return "";
	*at = 0;
	b->len--;
	return (const char *)b->data;
}

enum err buf_check(const struct buf *b)
{
	if (b->failed)
		return err_note(ERR_NOMEM, 0, "out of memory");
	return ERR_OK;
}

size_t rd_left(const struct rd *r)
{
	return (size_t)(r->end - r->p);
}

const uint8_t *rd_bytes(struct rd *r, size_t len)
{
	if (r->overrun || len > rd_left(r)) {
		r->overrun = true;
		return NULL;
	}
	const uint8_t *at = r->p;
	r->p += len;
	return at;
}

uint8_t rd_le8(struct rd *r)
{
	const uint8_t *p = rd_bytes(r, 1);
	return p ? *p : 0;
}

uint16_t rd_le16(struct rd *r)
{
	const uint8_t *p = rd_bytes(r, 2);
	return p ? le16_get(p) : 0;
}

uint32_t rd_le32(struct rd *r)
{
	const uint8_t *p = rd_bytes(r, 4);
	return p ? le32_get(p) : 0;
}

uint64_t rd_le64(struct rd *r)
{
	const uint8_t *p = rd_bytes(r, 8);
	return p ? le64_get(p) : 0;
}

enum err rd_check(const struct rd *r, const char *what)
{
	if (r->overrun)
		return err_note(ERR_CORRUPT, 0, "%s: ends too early", what);
	return ERR_OK;
}

bool bytes_zero(const void *p, size_t len)
{
	const uint8_t *b = p;
	if (len == 0)
		return true;
	/* Equal to itself shifted by one byte and first byte zero: memcmp is the
	 * fastest loop over memory that there is without writing one. */
	if (len >= 16) {
		static const uint8_t none[16];
		return memcmp(b, none, 16) == 0 && memcmp(b, b + 16, len - 16) == 0;
	}
	for (size_t i = 0; i < len; i++)
		if (b[i])
			return false;
	return true;
}

void bytes_hex(const void *p, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *b = p;
	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[b[i] >> 4];
		out[2 * i + 1] = digits[b[i] & 15];
	}
	out[2 * len] = '\0';
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool bytes_unhex(const char *hex, void *out, size_t len)
{
	uint8_t *b = out;
	for (size_t i = 0; i < len; i++) {
		int hi = digit(hex[2 * i]);
		int lo = hi < 0 ? -1 : digit(hex[2 * i + 1]);
		if (lo < 0)
			return false;
		b[i] = (uint8_t)(hi << 4 | lo);
	}
	return true;
}
