/* SPDX-License-Identifier: Apache-2.0 */
/* cipher: thin and checked over OpenSSL's EVP.  See cipher.h.
 *
 * Source: NIST SP 800-38D; RFC 5869; RFC 7914. */
#include "store/cipher.h"

#include <assert.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <stdbool.h>
#include <string.h>

/* Fetched once: a search among the providers for each group would cost more than it. */
static EVP_CIPHER *gcm(void)
{
	static EVP_CIPHER *fetched;
	EVP_CIPHER *have = __atomic_load_n(&fetched, __ATOMIC_ACQUIRE), *mine;

	if (have)
		return have;
	mine = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	assert(mine != NULL);
	if (!__atomic_compare_exchange_n(&fetched, &have, mine, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE)) {
		EVP_CIPHER_free(mine);
		return have;
	}
	return mine;
}

static enum err failed(const char *what)
{
	return err_note(ERR_FAILED, 0, "%s: the cryptographic library failed", what);
}

static bool feed(EVP_CIPHER_CTX *c, const void *aad, size_t aad_len, const uint8_t *in, size_t len,
		 uint8_t *out, bool encrypt)
{
	int n = 0;

	assert(len <= INT_MAX && aad_len <= INT_MAX);
	return (!aad_len || EVP_CipherUpdate(c, NULL, &n, aad, (int)aad_len) == 1) &&
	       (!len || EVP_CipherUpdate(c, out, &n, in, (int)len) == 1) &&
	       (!encrypt || EVP_CipherFinal_ex(c, out + len, &n) == 1);
}

enum err cipher_seal(const uint8_t key[CIPHER_KEY_BYTES], const uint8_t nonce[CIPHER_NONCE_BYTES],
		     const void *aad, size_t aad_len, const uint8_t *in, size_t len, uint8_t *out)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	bool ok = c && EVP_CipherInit_ex2(c, gcm(), key, nonce, 1, NULL) == 1 &&
		  feed(c, aad, aad_len, in, len, out, true) &&
		  EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, CIPHER_TAG_BYTES, out + len) == 1;

	EVP_CIPHER_CTX_free(c);
	return ok ? ERR_OK : failed("encrypt");
}

enum err cipher_open(const uint8_t key[CIPHER_KEY_BYTES], const uint8_t nonce[CIPHER_NONCE_BYTES],
		     const void *aad, size_t aad_len, const uint8_t *in, size_t len, uint8_t *out)
{
	uint8_t tag[CIPHER_TAG_BYTES], none[CIPHER_TAG_BYTES];
	EVP_CIPHER_CTX *c;
	bool fed, ok;
	int n = 0;

	if (len < CIPHER_TAG_BYTES)
		return err_note(ERR_CORRUPT, 0, "sealed bytes end too early");
	len -= CIPHER_TAG_BYTES;
	memcpy(tag, in + len, sizeof(tag));
	c = EVP_CIPHER_CTX_new();
	fed = c && EVP_CipherInit_ex2(c, gcm(), key, nonce, 0, NULL) == 1 &&
	      EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, sizeof(tag), tag) == 1 &&
	      feed(c, aad, aad_len, in, len, out, false);
	ok = fed && EVP_CipherFinal_ex(c, none, &n) == 1;
	EVP_CIPHER_CTX_free(c);
	if (!fed)
		return failed("decrypt");
	return ok ? ERR_OK : err_note(ERR_CORRUPT, 0, "sealed bytes are not what was written");
}

static bool derive(const char *algorithm, const OSSL_PARAM *params, uint8_t out[CIPHER_KEY_BYTES])
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, algorithm, NULL);
	EVP_KDF_CTX *c = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	bool ok = c && EVP_KDF_derive(c, out, CIPHER_KEY_BYTES, params) == 1;

	EVP_KDF_CTX_free(c);
	EVP_KDF_free(kdf);
	return ok;
}

static OSSL_PARAM octets(const char *name, const void *p, size_t len)
{
	return OSSL_PARAM_construct_octet_string(name, (void *)(uintptr_t)p, len);
}

enum err cipher_hkdf(const void *key, size_t key_len, const void *salt, size_t salt_len,
		     const char *label, uint8_t out[CIPHER_KEY_BYTES])
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
		octets(OSSL_KDF_PARAM_KEY, key, key_len),
		octets(OSSL_KDF_PARAM_SALT, salt, salt_len),
		octets(OSSL_KDF_PARAM_INFO, label, strlen(label)),
		OSSL_PARAM_construct_end(),
	};

	return derive("HKDF", params, out) ? ERR_OK : failed("derive a key");
}

enum err cipher_scrypt(const void *passphrase, size_t len, const void *salt, size_t salt_len,
		       unsigned log2_n, unsigned r, unsigned p, uint8_t out[CIPHER_KEY_BYTES])
{
	uint64_t n = 1ull << log2_n, memory = (128ull * r * (n + p + 2)) + (1u << 20);
	uint32_t r32 = r, p32 = p;
	OSSL_PARAM params[] = {
		octets(OSSL_KDF_PARAM_PASSWORD, passphrase, len),
		octets(OSSL_KDF_PARAM_SALT, salt, salt_len),
		OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n),
		OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &r32),
		OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &p32),
		OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &memory),
		OSSL_PARAM_construct_end(),
	};

	if (derive("SCRYPT", params, out))
		return ERR_OK;
	return err_note(ERR_NOMEM, 0, "derive a key from a passphrase: %llu MiB of memory are needed",
			(unsigned long long)(memory >> 20));
}
