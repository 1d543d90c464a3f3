/* SPDX-License-Identifier: Apache-2.0 */
/* digest: SHA-256 by OpenSSL.  See digest.h. */
#include "base/digest.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct digest_ctx {
	EVP_MD_CTX *md;
};

/* One fetched algorithm for the process and one context a thread: fetching and
 * allocating for each 4 KiB page would cost as much as half the hash. */
static EVP_MD *algorithm(void)
{
	static EVP_MD *md;
	EVP_MD *have = __atomic_load_n(&md, __ATOMIC_ACQUIRE);

	if (have)
		return have;
	EVP_MD *mine = EVP_MD_fetch(NULL, "SHA256", NULL);
	assert(mine != NULL);
	if (!__atomic_compare_exchange_n(&md, &have, mine, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE)) {
		EVP_MD_free(mine);
		return have;
	}
	return mine;
}

void digest_of(const void *p, size_t len, struct digest *out)
{
	unsigned n = 0;
	int ok = EVP_Digest(p, len, out->b, &n, algorithm(), NULL);

	assert(ok == 1 && n == DIGEST_BYTES);
}

static void start(struct digest_ctx *c)
{
	int ok = EVP_DigestInit_ex2(c->md, algorithm(), NULL);

	assert(ok == 1);
}

enum err digest_create(struct digest_ctx **out)
{
	struct digest_ctx *c = calloc(1, sizeof(*c));

	if (c)
		c->md = EVP_MD_CTX_new();
	if (!c || !c->md) {
		free(c);
		return err_note(ERR_NOMEM, 0, "digest: out of memory");
	}
	start(c);
	*out = c;
	return ERR_OK;
}

void digest_update(struct digest_ctx *c, const void *p, size_t len)
{
	int ok = EVP_DigestUpdate(c->md, p, len);

	assert(ok == 1);
}

void digest_final(struct digest_ctx *c, struct digest *out)
{
	unsigned n = 0;
	int ok = EVP_DigestFinal_ex(c->md, out->b, &n);

	assert(ok == 1 && n == DIGEST_BYTES);
	start(c);
}

void digest_destroy(struct digest_ctx *c)
{
	if (!c)
		return;
	EVP_MD_CTX_free(c->md);
	free(c);
}
