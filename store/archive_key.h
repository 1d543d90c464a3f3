/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_ARCHIVE_KEY_H
#define STORE_ARCHIVE_KEY_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* archive_key: what a person opens an encrypted archive with, and whom else it may be
 * opened by.
 *
 * A key file is text: lines beginning with # are remarks; one line is
 *
 *   lifeboat-key-1 KEY CHECK
 *
 * KEY 64 hexadecimal digits, CHECK the first 16 of the SHA-256 of the 32 bytes of KEY, so
 * that a slip is told from a wrong key.  Made and owned by the caller; secret memory;
 * wiped on close.  One thread at a time. */

struct archive_key;

#define ARCHIVE_KEY_TEXT_MAX 4096u	/* bytes of a key file */
#define ARCHIVE_KEY_PASSPHRASE_MAX 1024u
#define ARCHIVE_KEY_PEM_MAX 65536u

/* The content of a key file; what names it in notes.  ERR_AUTH: it is none. */
MUST_USE enum err archive_key_from_text(const void *text, size_t len, const char *what,
					struct archive_key **out);
/* A passphrase, as it is (no line end).  ERR_AUTH: empty or too long. */
MUST_USE enum err archive_key_from_passphrase(const void *text, size_t len,
					      struct archive_key **out);
/* The private key (PEM) of a recipient; passphrase, if any, ends with NUL. */
MUST_USE enum err archive_key_from_identity(const void *pem, size_t len, const char *passphrase,
					    const char *what, struct archive_key **out);
/* A new random key, and the key file's text for it in text (ends with NUL). */
MUST_USE enum err archive_key_make(char text[ARCHIVE_KEY_TEXT_MAX], struct archive_key **out);
void archive_key_close(struct archive_key *k); /* NULL allowed */

/* Who else may open an archive that is being made: a public key or a certificate (PEM).
 * ERR_USAGE. */
struct recipient;
MUST_USE enum err archive_key_recipient(const void *pem, size_t len, const char *what,
					struct recipient **out);
void archive_key_recipient_close(struct recipient *r); /* NULL allowed */

/* ---- for keyring.c ---- */
struct keyslot;
/* Fill in how the slot is opened (kind, salt, costs), and the wrapping key. */
MUST_USE enum err archive_key_wrap(const struct archive_key *k, unsigned log2_n,
				   struct keyslot *s, uint8_t by[32]);
/* The wrapping key of the slot.  ERR_NOTFOUND: the slot is of another kind; ERR_AUTH: it
 * is another's. */
MUST_USE enum err archive_key_unwrap(const struct archive_key *k, const struct keyslot *s,
				     uint8_t by[32]);
/* "key file", "passphrase", "identity" */
const char *archive_key_word(const struct archive_key *k);

#endif
