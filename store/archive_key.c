/* SPDX-License-Identifier: Apache-2.0 */
/* archive_key: key files, passphrases and identities, and the wrapping keys they make.
 *
 * Wrapping keys: of a key file HKDF(KEY, salt); of a passphrase scrypt(passphrase, salt);
 * of a recipient as recipient.h says.  Salts are random for each slot. */
#include "store/archive_key.h"

#include "base/bytes.h"
#include "base/digest.h"
#include "base/secret.h"
#include "store/keyslot.h"
#include "store/layout.h"
#include "store/recipient.h"

#include <stdio.h>
#include <string.h>

#define TEXT_MAGIC "lifeboat-key-1 "
#define CHECK_BYTES 8u
#define LABEL "lifeboat key file"

struct archive_key {
	enum keyslot_kind kind;
	uint8_t file[CIPHER_KEY_BYTES];
	size_t passphrase_len;
	uint8_t passphrase[ARCHIVE_KEY_PASSPHRASE_MAX];
	struct recipient *identity;
};

static enum err key_new(enum keyslot_kind kind, struct archive_key **out)
{
	*out = secret_alloc(sizeof(**out));
	if (!*out)
		return err_note(ERR_NOMEM, 0, "read a key: out of memory");
	(*out)->kind = kind;
	return ERR_OK;
}

void archive_key_close(struct archive_key *k)
{
	if (!k)
		return;
	recipient_destroy(k->identity);
	secret_free(k, sizeof(*k));
}

/* ---- key files ---- */

static void check_of(const uint8_t key[CIPHER_KEY_BYTES], char hex[2 * CHECK_BYTES + 1])
{
	struct digest d;

	digest_of(key, CIPHER_KEY_BYTES, &d);
	bytes_hex(d.b, CHECK_BYTES, hex);
}

static bool hex_parse(const char *p, void *out, size_t bytes)
{
	char hex[2 * CIPHER_KEY_BYTES + 1];
	bool ok;

	memcpy(hex, p, 2 * bytes);
	hex[2 * bytes] = '\0';
	ok = bytes_unhex(hex, out, bytes);
	secret_wipe(hex, sizeof(hex));
	return ok;
}

/* One line, without its end. */
static bool line_parse(const char *p, size_t len, uint8_t key[CIPHER_KEY_BYTES])
{
	size_t head = strlen(TEXT_MAGIC);
	uint8_t check[CHECK_BYTES];
	struct digest d;

	if (len != head + 2 * CIPHER_KEY_BYTES + 1 + 2 * CHECK_BYTES ||
	    memcmp(p, TEXT_MAGIC, head) != 0 || p[head + 2 * CIPHER_KEY_BYTES] != ' ' ||
	    !hex_parse(p + head, key, CIPHER_KEY_BYTES) ||
	    !hex_parse(p + len - 2 * CHECK_BYTES, check, CHECK_BYTES))
		return false;
	digest_of(key, CIPHER_KEY_BYTES, &d);
	return memcmp(check, d.b, CHECK_BYTES) == 0;
}

static bool text_parse(const char *p, size_t len, uint8_t key[CIPHER_KEY_BYTES])
{
	bool found = false;

	while (len) {
		const char *nl = memchr(p, '\n', len);
		size_t line = nl ? (size_t)(nl - p) : len;
		size_t text = line && p[line - 1] == '\r' ? line - 1 : line;

		if (text && p[0] != '#') {
			if (found || !line_parse(p, text, key))
				return false;
			found = true;
		}
		p += nl ? line + 1 : line;
		len -= nl ? line + 1 : line;
	}
	return found;
}

enum err archive_key_from_text(const void *text, size_t len, const char *what,
			       struct archive_key **out)
{
	struct archive_key *k;
	enum err e = key_new(KEYSLOT_FILE, &k);

	if (e != ERR_OK)
		return e;
	if (len > ARCHIVE_KEY_TEXT_MAX || !text_parse(text, len, k->file)) {
		archive_key_close(k);
		return err_note(ERR_AUTH, 0, "%s: is no key file, or was changed: a key file is made "
					     "by lifeboat archive init --key-file", what);
	}
	*out = k;
	return ERR_OK;
}

enum err archive_key_make(char text[ARCHIVE_KEY_TEXT_MAX], struct archive_key **out)
{
	char hex[2 * CIPHER_KEY_BYTES + 1], check[2 * CHECK_BYTES + 1];
	struct archive_key *k;
	enum err e = key_new(KEYSLOT_FILE, &k);

	if (e == ERR_OK && (e = layout_random(k->file, sizeof(k->file))) != ERR_OK) {
		archive_key_close(k);
		return e;
	}
	if (e != ERR_OK)
		return e;
	bytes_hex(k->file, sizeof(k->file), hex);
	check_of(k->file, check);
	snprintf(text, ARCHIVE_KEY_TEXT_MAX,
		 "# The key of one or more Lifeboat archives.\n"
		 "# Keep it, and keep it apart from them: without it nothing in them can be read.\n"
		 TEXT_MAGIC "%s %s\n", hex, check);
	secret_wipe(hex, sizeof(hex));
	*out = k;
	return ERR_OK;
}

/* ---- the others ---- */

enum err archive_key_from_passphrase(const void *text, size_t len, struct archive_key **out)
{
	struct archive_key *k;
	enum err e;

	if (len == 0)
		return err_note(ERR_AUTH, 0, "the passphrase is empty");
	if (len > ARCHIVE_KEY_PASSPHRASE_MAX)
		return err_note(ERR_AUTH, 0, "the passphrase is longer than %u bytes",
				ARCHIVE_KEY_PASSPHRASE_MAX);
	if ((e = key_new(KEYSLOT_PASSPHRASE, &k)) != ERR_OK)
		return e;
	memcpy(k->passphrase, text, len);
	k->passphrase_len = len;
	*out = k;
	return ERR_OK;
}

enum err archive_key_from_identity(const void *pem, size_t len, const char *passphrase,
				   const char *what, struct archive_key **out)
{
	struct archive_key *k;
	enum err e = key_new(KEYSLOT_RECIPIENT, &k);

	if (e != ERR_OK)
		return e;
	if ((e = recipient_private(pem, len, passphrase, what, &k->identity)) != ERR_OK) {
		archive_key_close(k);
		return e;
	}
	*out = k;
	return ERR_OK;
}

enum err archive_key_recipient(const void *pem, size_t len, const char *what,
			       struct recipient **out)
{
	return recipient_public(pem, len, what, out);
}

void archive_key_recipient_close(struct recipient *r)
{
	recipient_destroy(r);
}

const char *archive_key_word(const struct archive_key *k)
{
	switch (k->kind) {
	case KEYSLOT_PASSPHRASE: return "passphrase";
	case KEYSLOT_FILE: return "key file";
	default: return "identity";
	}
}

/* ---- wrapping keys ---- */

static enum err derive(const struct archive_key *k, const struct keyslot *s,
		       uint8_t by[CIPHER_KEY_BYTES])
{
	if (k->kind == KEYSLOT_FILE)
		return cipher_hkdf(k->file, sizeof(k->file), s->salt, sizeof(s->salt), LABEL, by);
	return cipher_scrypt(k->passphrase, k->passphrase_len, s->salt, sizeof(s->salt), s->log2_n,
			     s->r, s->p, by);
}

enum err archive_key_wrap(const struct archive_key *k, unsigned log2_n, struct keyslot *s,
			  uint8_t by[CIPHER_KEY_BYTES])
{
	enum err e;

	s->kind = k->kind;
	if (k->kind == KEYSLOT_RECIPIENT)
		return recipient_wrap(k->identity, s, by);
	if (k->kind == KEYSLOT_PASSPHRASE) {
		s->log2_n = (uint8_t)log2_n;
		s->r = KEYSLOT_R;
		s->p = 1;
	}
	e = layout_random(s->salt, sizeof(s->salt));
	return e == ERR_OK ? derive(k, s, by) : e;
}

enum err archive_key_unwrap(const struct archive_key *k, const struct keyslot *s,
			    uint8_t by[CIPHER_KEY_BYTES])
{
	if (s->kind != k->kind)
		return err_note(ERR_NOTFOUND, 0, "key of another kind");
	if (k->kind == KEYSLOT_RECIPIENT)
		return recipient_unwrap(k->identity, s, by);
	return derive(k, s, by);
}
