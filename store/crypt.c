/* SPDX-License-Identifier: Apache-2.0 */
/* crypt: digests of pages, keys of packs and manifests, seals.  See crypt.h. */
#include "store/crypt.h"

#include "base/bytes.h"
#include "base/secret.h"
#include "store/keyring.h"
#include "store/mac.h"

#include <inttypes.h>
#include <string.h>

struct crypt { /* secret memory */
	uint8_t archive_id[16], domain_id[16];
	uint32_t epoch, n_epochs;
	bool keyed;
	uint8_t domain[CIPHER_KEY_BYTES];
	struct mac *page; /* NULL: SHA-256 */
	struct keyring_epoch epochs[KEYRING_EPOCHS_MAX];
};

static enum err mac_derive(const uint8_t key[CIPHER_KEY_BYTES], const uint8_t salt[16],
			   const char *label, struct mac **out)
{
	uint8_t derived[CIPHER_KEY_BYTES];
	enum err e = cipher_hkdf(key, CIPHER_KEY_BYTES, salt, 16, label, derived);

	if (e == ERR_OK)
		e = mac_create(derived, out);
	secret_wipe(derived, sizeof(derived));
	return e;
}

enum err crypt_create(const struct crypt_plan *plan, struct crypt **out)
{
	struct crypt *c = secret_alloc(sizeof(*c));
	enum err e = ERR_OK;

	if (!c)
		return err_note(ERR_NOMEM, 0, "open an archive: out of memory");
	memcpy(c->archive_id, plan->archive_id, 16);
	memcpy(c->domain_id, plan->domain_id, 16);
	if (plan->ring) {
		c->keyed = true;
		c->epoch = plan->epoch;
		memcpy(c->domain, plan->ring->domain, sizeof(c->domain));
		c->n_epochs = plan->ring->n_epochs;
		memcpy(c->epochs, plan->ring->epoch, c->n_epochs * sizeof(c->epochs[0]));
	}
	if (c->keyed)
		e = mac_derive(c->domain, c->domain_id, "lifeboat page", &c->page);
	if (e != ERR_OK) {
		crypt_destroy(c);
		return e;
	}
	*out = c;
	return ERR_OK;
}

enum err crypt_create_plain(const uint8_t archive_id[16], struct crypt **out)
{
	static const uint8_t no_domain[16];
	struct crypt_plan plan = {.archive_id = archive_id, .domain_id = no_domain};

	return crypt_create(&plan, out);
}

void crypt_destroy(struct crypt *c)
{
	if (!c)
		return;
	mac_destroy(c->page);
	secret_free(c, sizeof(*c));
}

const uint8_t *crypt_archive_id(const struct crypt *c)
{
	return c->archive_id;
}

uint32_t crypt_epoch(const struct crypt *c)
{
	return c->epoch;
}

const uint8_t *crypt_domain_id(const struct crypt *c)
{
	return c->domain_id;
}

const uint8_t *crypt_domain(const struct crypt *c)
{
	return c->keyed ? c->domain : NULL;
}

bool crypt_same_domain(const struct crypt *a, const struct crypt *b)
{
	if (!a->keyed || !b->keyed)
		return a->keyed == b->keyed;
	return memcmp(a->domain_id, b->domain_id, sizeof(a->domain_id)) == 0 &&
	       memcmp(a->domain, b->domain, sizeof(a->domain)) == 0;
}

/* ---- pages ---- */

void crypt_page(const struct crypt *c, const uint8_t *page, struct digest *out)
{
	if (c->page)
		mac_of(c->page, page, PAGE_BYTES, out);
	else
		digest_of(page, PAGE_BYTES, out);
}

bool crypt_page_is(const struct crypt *c, const uint8_t *page, const struct digest *want)
{
	struct digest d;

	crypt_page(c, page, &d);
	return memcmp(&d, want, sizeof(d)) == 0;
}

/* ---- sealing ---- */

void crypt_key_wipe(struct crypt_key *k)
{
	secret_wipe(k, sizeof(*k));
}

static enum err item_key(const struct crypt *c, uint32_t epoch, const uint8_t id[16],
			 const char *label, struct crypt_key *out)
{
	uint8_t salt[32];

	memset(out, 0, sizeof(*out));
	if (!c->keyed && epoch == 0)
		return ERR_OK;
	if (!c->keyed)
		return err_note(ERR_CORRUPT, 0, "it is encrypted, and the archive is not");
	if (epoch == 0)
		return err_note(ERR_CORRUPT, 0, "it is not encrypted, and the archive is: it was not "
						"written by who has its keys");
	memcpy(salt, c->archive_id, 16);
	memcpy(salt + 16, id, 16);
	for (uint32_t i = 0; i < c->n_epochs; i++) {
		if (c->epochs[i].number != epoch)
			continue;
		out->epoch = epoch;
		return cipher_hkdf(c->epochs[i].key, CIPHER_KEY_BYTES, salt, sizeof(salt), label,
				   out->b);
	}
	return err_note(ERR_CORRUPT, 0, "the key of epoch %" PRIu32 " is missing or damaged", epoch);
}

enum err crypt_pack_key(const struct crypt *c, uint32_t epoch, const struct pack_id *id,
			struct crypt_key *out)
{
	return item_key(c, epoch, id->b, "lifeboat pack", out);
}

enum err crypt_manifest_key(const struct crypt *c, uint32_t epoch, const uint8_t id[16],
			    struct crypt_key *out)
{
	return item_key(c, epoch, id, "lifeboat manifest", out);
}

enum err crypt_recall_key(const struct crypt *c, uint32_t epoch, const uint8_t id[16],
			  struct crypt_key *out)
{
	return item_key(c, epoch, id, "lifeboat recall", out);
}

size_t crypt_overhead(const struct crypt_key *k)
{
	return k->epoch ? CIPHER_TAG_BYTES : 0;
}

static void nonce_of(uint64_t item, uint8_t nonce[CIPHER_NONCE_BYTES])
{
	memset(nonce, 0, CIPHER_NONCE_BYTES);
	le64_put(nonce, item);
}

static void copy(const uint8_t *in, size_t len, uint8_t *out)
{
	if (in != out && len)
		memcpy(out, in, len);
}

enum err crypt_seal(const struct crypt_key *k, uint64_t item, const void *aad, size_t aad_len,
		    const uint8_t *in, size_t len, uint8_t *out)
{
	uint8_t nonce[CIPHER_NONCE_BYTES];

	nonce_of(item, nonce);
	if (k->epoch)
		return cipher_seal(k->b, nonce, aad, aad_len, in, len, out);
	copy(in, len, out);
	return ERR_OK;
}

enum err crypt_open(const struct crypt_key *k, uint64_t item, const void *aad, size_t aad_len,
		    const uint8_t *in, size_t len, uint8_t *out)
{
	uint8_t nonce[CIPHER_NONCE_BYTES];

	nonce_of(item, nonce);
	if (k->epoch)
		return cipher_open(k->b, nonce, aad, aad_len, in, len, out);
	copy(in, len, out);
	return ERR_OK;
}
