/* SPDX-License-Identifier: Apache-2.0 */
/* keyslot: encode, decode, seal and open.  See keyslot.h and FORMAT.md section 8. */
#include "store/keyslot.h"

#include "base/bytes.h"
#include "base/digest.h"
#include "base/fs.h"
#include "store/layout.h"
#include "store/record.h"

#include <assert.h>
#include <string.h>

#define MAGIC "LBKEYSLT"
#define AAD_BYTES 128u
#define PUBLIC_OFFSET 188u
#define BODY (KEYSLOT_BYTES - DIGEST_BYTES)

/* What the seal covers without hiding it. */
static void clear_encode(const struct keyslot *s, uint8_t out[AAD_BYTES])
{
	memset(out, 0, AAD_BYTES);
	memcpy(out, MAGIC, 8);
	le32_put(out + 8, FORMAT_VERSION);
	le32_put(out + 12, (uint32_t)s->kind);
	memcpy(out + 16, s->archive_id, 16);
	le64_put(out + 32, s->epoch);
	memcpy(out + 40, s->domain_id, 16);
	memcpy(out + 56, s->salt, 32);
	out[88] = s->log2_n;
	out[89] = s->r;
	out[90] = s->p;
	le32_put(out + 92, s->public_bytes);
	memcpy(out + 96, s->recipient, 32);
}

void keyslot_encode(const struct keyslot *s, uint8_t out[KEYSLOT_BYTES])
{
	struct digest d;

	assert(s->public_bytes <= KEYSLOT_PUBLIC_MAX);
	memset(out, 0, KEYSLOT_BYTES);
	clear_encode(s, out);
	memcpy(out + 128, s->nonce, sizeof(s->nonce));
	memcpy(out + 140, s->sealed, sizeof(s->sealed));
	memcpy(out + PUBLIC_OFFSET, s->public_part, s->public_bytes);
	digest_of(out, BODY, &d);
	memcpy(out + BODY, d.b, DIGEST_BYTES);
}

static bool costs_ok(const struct keyslot *s)
{
	if (s->kind != KEYSLOT_PASSPHRASE)
		return s->log2_n == 0 && s->r == 0 && s->p == 0;
	return s->log2_n >= KEYSLOT_LOG2_N_MIN && s->log2_n <= KEYSLOT_LOG2_N_MAX &&
	       s->r == KEYSLOT_R && s->p >= 1 && s->p <= KEYSLOT_P_MAX;
}

static bool fields_ok(const struct keyslot *s, uint64_t epoch)
{
	bool salted = s->kind == KEYSLOT_PASSPHRASE || s->kind == KEYSLOT_FILE;

	switch (s->kind) {
	case KEYSLOT_PASSPHRASE:
	case KEYSLOT_FILE:
	case KEYSLOT_RECIPIENT:
	case KEYSLOT_DOMAIN:
	case KEYSLOT_EPOCH: break;
	default: return false;
	}
	return costs_ok(s) && (salted || bytes_zero(s->salt, sizeof(s->salt))) &&
	       (s->kind == KEYSLOT_EPOCH ? epoch > 0 && epoch <= UINT32_MAX : epoch == 0) &&
	       (s->kind == KEYSLOT_DOMAIN || bytes_zero(s->domain_id, 16)) &&
	       (s->kind == KEYSLOT_RECIPIENT
			? s->public_bytes > 0
			: s->public_bytes == 0 && bytes_zero(s->recipient, 32));
}

enum err keyslot_decode(const uint8_t in[KEYSLOT_BYTES], const char *what, struct keyslot *s)
{
	struct digest d;

	memset(s, 0, sizeof(*s));
	digest_of(in, BODY, &d);
	if (memcmp(in, MAGIC, 8) != 0 || memcmp(in + BODY, d.b, DIGEST_BYTES) != 0)
		return err_note(ERR_CORRUPT, 0, "%s: damaged key", what);
	if (le32_get(in + 8) != FORMAT_VERSION)
		return err_note(ERR_VERSION, 0, "%s: format version %08x", what, le32_get(in + 8));
	s->kind = (enum keyslot_kind)le32_get(in + 12);
	memcpy(s->archive_id, in + 16, 16);
	s->epoch = (uint32_t)le64_get(in + 32);
	memcpy(s->domain_id, in + 40, 16);
	memcpy(s->salt, in + 56, 32);
	s->log2_n = in[88];
	s->r = in[89];
	s->p = in[90];
	s->public_bytes = le32_get(in + 92);
	memcpy(s->recipient, in + 96, 32);
	memcpy(s->nonce, in + 128, sizeof(s->nonce));
	memcpy(s->sealed, in + 140, sizeof(s->sealed));
	if (s->public_bytes > KEYSLOT_PUBLIC_MAX || in[91] != 0 ||
	    !fields_ok(s, le64_get(in + 32)) ||
	    !bytes_zero(in + PUBLIC_OFFSET + s->public_bytes,
			BODY - PUBLIC_OFFSET - s->public_bytes))
		return err_note(ERR_CORRUPT, 0, "%s: malformed key", what);
	memcpy(s->public_part, in + PUBLIC_OFFSET, s->public_bytes);
	return ERR_OK;
}

enum err keyslot_seal(struct keyslot *s, const uint8_t by[CIPHER_KEY_BYTES],
		      const uint8_t key[CIPHER_KEY_BYTES])
{
	uint8_t aad[AAD_BYTES];
	enum err e = layout_random(s->nonce, sizeof(s->nonce));

	if (e != ERR_OK)
		return e;
	clear_encode(s, aad);
	return cipher_seal(by, s->nonce, aad, sizeof(aad), key, CIPHER_KEY_BYTES, s->sealed);
}

enum err keyslot_open(const struct keyslot *s, const uint8_t by[CIPHER_KEY_BYTES],
		      uint8_t key[CIPHER_KEY_BYTES])
{
	uint8_t aad[AAD_BYTES];
	enum err e;

	clear_encode(s, aad);
	e = cipher_open(by, s->nonce, aad, sizeof(aad), s->sealed, sizeof(s->sealed), key);
	return e == ERR_CORRUPT ? err_note(ERR_AUTH, 0, "wrong key") : e;
}

static void encode_twin(const struct keyslot *s, uint8_t two[2 * KEYSLOT_BYTES])
{
	keyslot_encode(s, two);
	memcpy(two + KEYSLOT_BYTES, two, KEYSLOT_BYTES);
}

enum err keyslot_create(int root, const char *path, const struct keyslot *s)
{
	uint8_t two[2 * KEYSLOT_BYTES];

	encode_twin(s, two);
	return fs_create_file(root, path, two, sizeof(two), 0600);
}

enum err keyslot_write(int root, const char *path, const struct keyslot *s)
{
	uint8_t two[2 * KEYSLOT_BYTES];

	encode_twin(s, two);
	return fs_write_file(root, path, two, sizeof(two), 0600);
}

enum err keyslot_read(int root, const char *path, struct keyslot *s, bool *damaged)
{
	AUTO_BUF struct buf file = {0};
	enum err e = fs_read_file(root, path, 4 * KEYSLOT_BYTES, &file);

	*damaged = false;
	if (e != ERR_OK)
		return e;
	if (file.len < 2 * KEYSLOT_BYTES) {
		*damaged = true;
		buf_put_zero(&file, 2 * KEYSLOT_BYTES - file.len);
		if ((e = buf_check(&file)) != ERR_OK)
			return e;
	}
	*damaged |= file.len != 2 * KEYSLOT_BYTES ||
		    memcmp(file.data, file.data + KEYSLOT_BYTES, KEYSLOT_BYTES) != 0;
	e = keyslot_decode(file.data, path, s);
	if (e == ERR_CORRUPT)
		e = keyslot_decode(file.data + KEYSLOT_BYTES, path, s);
	if (e == ERR_CORRUPT)
		return err_note(e, 0, "%s: both copies of the key are damaged", path);
	return e;
}
