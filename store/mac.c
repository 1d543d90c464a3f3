/* SPDX-License-Identifier: Apache-2.0 */
/* mac: HMAC-SHA256 from two prepared states.
 *
 * HMAC(k, m) = H(k ^ opad || H(k ^ ipad || m)).  The states after the two padded keys
 * are kept, so that a page costs one block more than its bare hash.  EVP has the same
 * saving only for one context per thread, and copying one of its contexts allocates,
 * which costs as much as a third of a page's hash; the plain functions that OpenSSL
 * deprecated for their lack of providers copy 112 bytes.
 *
 * Source: RFC 2104; OpenSSL SHA256_Init(3). */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "store/mac.h"

#include "base/secret.h"

#include <assert.h>
#include <openssl/sha.h>
#include <string.h>

struct mac {
	SHA256_CTX inner, outer;
};

static void prepare(SHA256_CTX *c, const uint8_t key[MAC_KEY_BYTES], uint8_t pad)
{
	uint8_t block[SHA256_CBLOCK];
	int ok;

	memset(block, pad, sizeof(block));
	for (unsigned i = 0; i < MAC_KEY_BYTES; i++)
		block[i] ^= key[i];
	ok = SHA256_Init(c) && SHA256_Update(c, block, sizeof(block));
	assert(ok);
	secret_wipe(block, sizeof(block));
}

enum err mac_create(const uint8_t key[MAC_KEY_BYTES], struct mac **out)
{
	struct mac *m = secret_alloc(sizeof(*m));

	if (!m)
		return err_note(ERR_NOMEM, 0, "prepare a key: out of memory");
	prepare(&m->inner, key, 0x36);
	prepare(&m->outer, key, 0x5c);
	*out = m;
	return ERR_OK;
}

void mac_destroy(struct mac *m)
{
	secret_free(m, sizeof(*m));
}

void mac_of(const struct mac *m, const void *p, size_t len, struct digest *out)
{
	SHA256_CTX c = m->inner;
	int ok = SHA256_Update(&c, p, len) && SHA256_Final(out->b, &c);

	assert(ok);
	c = m->outer;
	ok = SHA256_Update(&c, out->b, DIGEST_BYTES) && SHA256_Final(out->b, &c);
	assert(ok);
}
