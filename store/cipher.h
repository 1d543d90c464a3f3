/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_CIPHER_H
#define STORE_CIPHER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* cipher: AES-256-GCM, and how keys come from keys and passphrases (OpenSSL).
 * Stateless: any thread. */

#define CIPHER_KEY_BYTES 32u
#define CIPHER_NONCE_BYTES 12u
#define CIPHER_TAG_BYTES 16u

/* Seal len bytes: out gets len + CIPHER_TAG_BYTES, the tag last; in and out may be the
 * same.  No nonce may be used twice with one key for different bytes. */
MUST_USE enum err cipher_seal(const uint8_t key[CIPHER_KEY_BYTES],
			      const uint8_t nonce[CIPHER_NONCE_BYTES], const void *aad,
			      size_t aad_len, const uint8_t *in, size_t len, uint8_t *out);
/* Open what cipher_seal made: len counts the tag; out gets len - CIPHER_TAG_BYTES, in
 * and out may be the same.  ERR_CORRUPT: other bytes, aad, nonce or key; what is in out
 * proves nothing then. */
MUST_USE enum err cipher_open(const uint8_t key[CIPHER_KEY_BYTES],
			      const uint8_t nonce[CIPHER_NONCE_BYTES], const void *aad,
			      size_t aad_len, const uint8_t *in, size_t len, uint8_t *out);

/* HKDF-SHA256 (RFC 5869): the key for one purpose, named by label, under key. */
MUST_USE enum err cipher_hkdf(const void *key, size_t key_len, const void *salt, size_t salt_len,
			      const char *label, uint8_t out[CIPHER_KEY_BYTES]);

/* scrypt (RFC 7914) of a passphrase.  The caller has checked the cost: it takes
 * 128 << log2_n * r bytes. */
MUST_USE enum err cipher_scrypt(const void *passphrase, size_t len, const void *salt,
				size_t salt_len, unsigned log2_n, unsigned r, unsigned p,
				uint8_t out[CIPHER_KEY_BYTES]);

#endif
