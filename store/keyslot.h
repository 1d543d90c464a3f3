/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_KEYSLOT_H
#define STORE_KEYSLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/cipher.h"

/* keyslot: one sealed key in a file of keys/.
 *
 * A slot is 4096 bytes and holds 32 bytes of key, sealed by another key; its file holds
 * it twice.  Each copy proves itself by a digest, so that damage and a wrong key are
 * told apart, and one damaged copy loses nothing.
 *
 *      0    8  magic LBKEYSLT
 *      8    4  format version
 *     12    4  kind
 *     16   16  archive id
 *     32    8  epoch (KEYSLOT_EPOCH), else 0
 *     40   16  dedup domain id (KEYSLOT_DOMAIN), else 0
 *     56   32  salt (KEYSLOT_PASSPHRASE, _FILE), else 0
 *     88    1  scrypt: log2 of N; 89: r; 90: p (KEYSLOT_PASSPHRASE), else 0; 91: 0
 *     92    4  bytes of the public part
 *     96   32  SHA-256 of the recipient's public key (KEYSLOT_RECIPIENT), else 0
 *    128   12  nonce
 *    140   48  the key, sealed: AES-256-GCM, bytes 0 to 127 as additional data; then the tag
 *    188    n  public part (KEYSLOT_RECIPIENT), then zeros
 *   4064   32  SHA-256 of all before */

#define KEYSLOT_BYTES 4096u
#define KEYSLOT_PUBLIC_MAX 3072u

enum keyslot_kind {
	KEYSLOT_PASSPHRASE = 1, /* the master key, by scrypt of a passphrase */
	KEYSLOT_FILE = 2,	/* the master key, by a key file */
	KEYSLOT_RECIPIENT = 3,	/* the master key, by somebody's public key */
	KEYSLOT_DOMAIN = 16,	/* the dedup domain's key, by the master key */
	KEYSLOT_EPOCH = 17,	/* an epoch's data key, by the master key */
};

/* Bounds for what a hostile slot may cost: 512 MiB and some seconds. */
#define KEYSLOT_LOG2_N_MIN 10u
#define KEYSLOT_LOG2_N_MAX 19u
#define KEYSLOT_R 8u
#define KEYSLOT_P_MAX 4u

struct keyslot {
	enum keyslot_kind kind;
	uint8_t archive_id[16];
	uint32_t epoch;
	uint8_t domain_id[16];
	uint8_t salt[32];
	uint8_t log2_n, r, p;
	uint8_t recipient[32];
	uint8_t nonce[CIPHER_NONCE_BYTES];
	uint8_t sealed[CIPHER_KEY_BYTES + CIPHER_TAG_BYTES];
	uint32_t public_bytes;
	uint8_t public_part[KEYSLOT_PUBLIC_MAX];
};

void keyslot_encode(const struct keyslot *s, uint8_t out[KEYSLOT_BYTES]);
/* ERR_CORRUPT, ERR_VERSION; every field was checked when it is ERR_OK. */
MUST_USE enum err keyslot_decode(const uint8_t in[KEYSLOT_BYTES], const char *what,
				 struct keyslot *s);

/* Put key under by (a key of one use or few: the nonce is random) once all else is filled. */
MUST_USE enum err keyslot_seal(struct keyslot *s, const uint8_t by[CIPHER_KEY_BYTES],
			       const uint8_t key[CIPHER_KEY_BYTES]);
/* ERR_AUTH, without a note worth reading, if `by` is not the key. */
MUST_USE enum err keyslot_open(const struct keyslot *s, const uint8_t by[CIPHER_KEY_BYTES],
			       uint8_t key[CIPHER_KEY_BYTES]);

/* The file at path, twice the slot, durable; ERR_BUSY if it exists. */
MUST_USE enum err keyslot_create(int root, const char *path, const struct keyslot *s);
/* The same in the place of what is there. */
MUST_USE enum err keyslot_write(int root, const char *path, const struct keyslot *s);
/* The first sound copy; *damaged: the other is not its equal. */
MUST_USE enum err keyslot_read(int root, const char *path, struct keyslot *s, bool *damaged);

#endif
