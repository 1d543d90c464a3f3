/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* digest: SHA-256 (OpenSSL), one shot and streaming. */
#define DIGEST_BYTES 32
struct digest { uint8_t b[DIGEST_BYTES]; };

/* Any thread.  Does not fail: an OpenSSL without SHA-256 is a broken host and aborts. */
void digest_of(const void *p, size_t len, struct digest *out);

struct digest_ctx; /* heap; one thread at a time */
MUST_USE enum err digest_create(struct digest_ctx **ctx);
void digest_update(struct digest_ctx *ctx, const void *p, size_t len);
void digest_final(struct digest_ctx *ctx, struct digest *out); /* then reusable, empty */
void digest_destroy(struct digest_ctx *ctx);		       /* NULL allowed */

#endif
