/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_RECIPIENT_H
#define STORE_RECIPIENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/cipher.h"
#include "store/keyslot.h"

/* recipient: somebody's public key (X25519, an elliptic curve of NIST, RSA) to which a
 * key is wrapped, and the private key that unwraps it.
 *
 * Elliptic: the public part of the slot is a fresh public key (SubjectPublicKeyInfo, DER);
 * the wrapping key is HKDF(shared secret, salt = SHA-256 of the fresh key's DER, then
 * SHA-256 of the recipient's DER).  RSA: the public part is a random wrapping key,
 * encrypted by OAEP with SHA-256.
 *
 * Source: RFC 7748, RFC 8017, SEC 1. */

struct recipient; /* a public or a private key */

/* PEM of a public key or a certificate (len bytes, borrowed); what names it in notes.
 * ERR_USAGE: no key in it, or of a kind that cannot encrypt. */
MUST_USE enum err recipient_public(const void *pem, size_t len, const char *what,
				   struct recipient **out);
/* PEM of a private key; passphrase (NULL allowed) opens an encrypted one: ERR_AUTH if it
 * does not or is missing. */
MUST_USE enum err recipient_private(const void *pem, size_t len, const char *passphrase,
				    const char *what, struct recipient **out);
void recipient_destroy(struct recipient *r); /* NULL allowed */

/* Fill in the slot's recipient and public part; by gets the wrapping key. */
MUST_USE enum err recipient_wrap(const struct recipient *r, struct keyslot *s,
				 uint8_t by[CIPHER_KEY_BYTES]);
/* ERR_AUTH if the slot is another recipient's. */
MUST_USE enum err recipient_unwrap(const struct recipient *r, const struct keyslot *s,
				   uint8_t by[CIPHER_KEY_BYTES]);

#endif
