/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_MAC_H
#define STORE_MAC_H

#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"

/* mac: HMAC-SHA256 (RFC 2104) under one key, many times.  Any thread. */

#define MAC_KEY_BYTES 32u

struct mac;
MUST_USE enum err mac_create(const uint8_t key[MAC_KEY_BYTES], struct mac **out);
void mac_destroy(struct mac *m); /* NULL allowed; wipes */
void mac_of(const struct mac *m, const void *p, size_t len, struct digest *out);

#endif
