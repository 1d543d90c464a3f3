/* SPDX-License-Identifier: Apache-2.0 */
/* recipient: wrapping keys by public keys, with OpenSSL.  See recipient.h. */
#include "store/recipient.h"

#include "base/digest.h"
#include "base/secret.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "store/layout.h"

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 16384
#define SHARED_MAX 128u
#define LABEL "lifeboat recipient"

struct recipient {
	EVP_PKEY *key;
	uint8_t id[DIGEST_BYTES]; /* of the public key's DER */
};

static bool der_digest(EVP_PKEY *key, uint8_t out[DIGEST_BYTES])
{
	unsigned char *der = NULL;
	struct digest d;
	int n = i2d_PUBKEY(key, &der);

	if (n <= 0)
		return false;
	digest_of(der, (size_t)n, &d);
	memcpy(out, d.b, DIGEST_BYTES);
	OPENSSL_free(der);
	return true;
}

static bool is_rsa(const struct recipient *r)
{
	return EVP_PKEY_is_a(r->key, "RSA") == 1;
}

static bool is_curve(const EVP_PKEY *key)
{
	return EVP_PKEY_is_a(key, "X25519") == 1 || EVP_PKEY_is_a(key, "EC") == 1;
}

/* Takes key. */
static enum err adopt(EVP_PKEY *key, const char *what, struct recipient **out)
{
	struct recipient *r = calloc(1, sizeof(*r));
	int bits;

	if (!r) {
		EVP_PKEY_free(key);
		return err_note(ERR_NOMEM, 0, "%s: out of memory", what);
	}
	r->key = key;
	bits = EVP_PKEY_get_bits(key);
	if (!(is_rsa(r) ? bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX : is_curve(key)) ||
	    !der_digest(key, r->id)) {
		recipient_destroy(r);
		return err_note(ERR_USAGE, 0, "%s: a key of this kind cannot encrypt: use X25519, EC "
					      "or RSA of at least 2048 bits", what);
	}
	*out = r;
	return ERR_OK;
}

/* Never ask a terminal behind our back. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
	const char *given = arg;
	size_t len = given ? strlen(given) : 0;

	(void)writing;
	if (!given || len > (size_t)size)
		return -1;
	memcpy(buf, given, len);
	return (int)len;
}

enum err recipient_public(const void *pem, size_t len, const char *what, struct recipient **out)
{
	EVP_PKEY *key = NULL;
	X509 *cert;
	BIO *b = len <= INT_MAX ? BIO_new_mem_buf(pem, (int)len) : NULL;

	if (!b)
		return err_note(ERR_NOMEM, 0, "%s: out of memory", what);
	key = PEM_read_bio_PUBKEY(b, NULL, no_passphrase, NULL);
	if (!key && BIO_reset(b) >= 0 &&
	    (cert = PEM_read_bio_X509(b, NULL, no_passphrase, NULL)) != NULL) {
		key = X509_get_pubkey(cert);
		X509_free(cert);
	}
	BIO_free(b);
	if (!key)
		return err_note(ERR_USAGE, 0, "%s: no public key and no certificate in PEM form",
				what);
	return adopt(key, what, out);
}

enum err recipient_private(const void *pem, size_t len, const char *passphrase, const char *what,
			   struct recipient **out)
{
	bool locked = memmem(pem, len, "ENCRYPTED", 9) != NULL;
	BIO *b = len <= INT_MAX ? BIO_new_mem_buf(pem, (int)len) : NULL;
	EVP_PKEY *key;

	if (!b)
		return err_note(ERR_NOMEM, 0, "%s: out of memory", what);
	key = PEM_read_bio_PrivateKey(b, NULL, no_passphrase, (void *)(uintptr_t)passphrase);
	BIO_free(b);
	if (key)
		return adopt(key, what, out);
	if (locked)
		return err_note(ERR_AUTH, 0, passphrase ? "%s: the passphrase does not open it"
							: "%s: it is locked by a passphrase: give "
							  "it with --passphrase-file",
				what);
	return err_note(ERR_USAGE, 0, "%s: no private key in PEM form", what);
}

void recipient_destroy(struct recipient *r)
{
	if (!r)
		return;
	EVP_PKEY_free(r->key);
	free(r);
}

/* ---- wrapping ---- */

static enum err failed(const char *what)
{
	return err_note(ERR_FAILED, 0, "%s: the cryptographic library failed", what);
}

static enum err combine(const uint8_t *shared, size_t len, const uint8_t fresh[DIGEST_BYTES],
			const uint8_t recipient[DIGEST_BYTES], uint8_t by[CIPHER_KEY_BYTES])
{
	uint8_t salt[2 * DIGEST_BYTES];

	memcpy(salt, fresh, DIGEST_BYTES);
	memcpy(salt + DIGEST_BYTES, recipient, DIGEST_BYTES);
	return cipher_hkdf(shared, len, salt, sizeof(salt), LABEL, by);
}

static bool agree(EVP_PKEY *mine, EVP_PKEY *theirs, uint8_t *shared, size_t *len)
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(mine, NULL);
	bool ok = c && EVP_PKEY_derive_init(c) == 1 && EVP_PKEY_derive_set_peer(c, theirs) == 1 &&
		  EVP_PKEY_derive(c, shared, len) == 1;

	EVP_PKEY_CTX_free(c);
	return ok;
}

static EVP_PKEY *fresh_like(EVP_PKEY *key)
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(key, NULL);
	EVP_PKEY *fresh = NULL;

	if (c && EVP_PKEY_keygen_init(c) == 1)
		(void)!EVP_PKEY_keygen(c, &fresh);
	EVP_PKEY_CTX_free(c);
	return fresh;
}

static enum err wrap_curve(const struct recipient *r, struct keyslot *s,
			   uint8_t by[CIPHER_KEY_BYTES])
{
	uint8_t shared[SHARED_MAX], id[DIGEST_BYTES], *to = s->public_part;
	size_t len = sizeof(shared);
	EVP_PKEY *fresh = fresh_like(r->key);
	int n = fresh ? i2d_PUBKEY(fresh, NULL) : 0;
	bool ok = n > 0 && n <= (int)KEYSLOT_PUBLIC_MAX && i2d_PUBKEY(fresh, &to) == n &&
		  der_digest(fresh, id) && agree(fresh, r->key, shared, &len);
	enum err e;

	EVP_PKEY_free(fresh);
	s->public_bytes = ok ? (uint32_t)n : 0;
	e = ok ? combine(shared, len, id, r->id, by) : failed("wrap a key");
	secret_wipe(shared, sizeof(shared));
	return e;
}

static bool oaep(EVP_PKEY_CTX *c)
{
	return EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_OAEP_PADDING) == 1 &&
	       EVP_PKEY_CTX_set_rsa_oaep_md(c, EVP_sha256()) == 1 &&
	       EVP_PKEY_CTX_set_rsa_mgf1_md(c, EVP_sha256()) == 1;
}

static enum err wrap_rsa(const struct recipient *r, struct keyslot *s,
			 uint8_t by[CIPHER_KEY_BYTES])
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(r->key, NULL);
	size_t n = KEYSLOT_PUBLIC_MAX;
	enum err e = layout_random(by, CIPHER_KEY_BYTES);

	if (e == ERR_OK && (!c || EVP_PKEY_encrypt_init(c) != 1 || !oaep(c) ||
			    EVP_PKEY_encrypt(c, s->public_part, &n, by, CIPHER_KEY_BYTES) != 1))
		e = failed("wrap a key");
	EVP_PKEY_CTX_free(c);
	s->public_bytes = e == ERR_OK ? (uint32_t)n : 0;
	return e;
}

enum err recipient_wrap(const struct recipient *r, struct keyslot *s, uint8_t by[CIPHER_KEY_BYTES])
{
	memcpy(s->recipient, r->id, sizeof(s->recipient));
	return is_rsa(r) ? wrap_rsa(r, s, by) : wrap_curve(r, s, by);
}

static bool unwrap_rsa(const struct recipient *r, const struct keyslot *s,
		       uint8_t by[CIPHER_KEY_BYTES])
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(r->key, NULL);
	uint8_t plain[RSA_BITS_MAX / 8];
	size_t n = sizeof(plain);
	bool ok = c && EVP_PKEY_decrypt_init(c) == 1 && oaep(c) &&
		  EVP_PKEY_decrypt(c, plain, &n, s->public_part, s->public_bytes) == 1 &&
		  n == CIPHER_KEY_BYTES;

	EVP_PKEY_CTX_free(c);
	if (ok)
		memcpy(by, plain, CIPHER_KEY_BYTES);
	secret_wipe(plain, sizeof(plain));
	return ok;
}

static bool unwrap_curve(const struct recipient *r, const struct keyslot *s,
			 uint8_t by[CIPHER_KEY_BYTES])
{
	const unsigned char *from = s->public_part;
	uint8_t shared[SHARED_MAX], id[DIGEST_BYTES];
	size_t len = sizeof(shared);
	EVP_PKEY *fresh = d2i_PUBKEY(NULL, &from, (long)s->public_bytes);
	bool ok = fresh && from == s->public_part + s->public_bytes && is_curve(fresh) &&
		  der_digest(fresh, id) && agree(r->key, fresh, shared, &len) &&
		  combine(shared, len, id, r->id, by) == ERR_OK;

	EVP_PKEY_free(fresh);
	secret_wipe(shared, sizeof(shared));
	return ok;
}

enum err recipient_unwrap(const struct recipient *r, const struct keyslot *s,
			  uint8_t by[CIPHER_KEY_BYTES])
{
	if (memcmp(r->id, s->recipient, sizeof(r->id)) == 0 &&
	    (is_rsa(r) ? unwrap_rsa(r, s, by) : unwrap_curve(r, s, by)))
		return ERR_OK;
	return err_note(ERR_AUTH, 0, "wrong key");
}
