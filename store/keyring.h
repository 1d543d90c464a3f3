/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_KEYRING_H
#define STORE_KEYRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/archive_key.h"
#include "store/cipher.h"
#include "store/settings.h"

/* keyring: the keys of one archive, made at init, opened by a person's key.
 *
 *   keys/unlock-X   the master key, once for each way to open it (X: 16 hex digits)
 *   keys/domain     the dedup domain's key, by the master key
 *   keys/epoch-N    the data key of epoch N (from 1), by the master key
 *
 * The master key is used for nothing but opening these and checking the configuration's
 * seal, and is forgotten then. */

#define KEYRING_UNLOCKS_MAX 32u
#define KEYRING_EPOCHS_MAX 1024u
#define KEYRING_LOG2_N 17u /* scrypt's cost for new passphrases: 128 MiB */

struct keyring_epoch {
	uint32_t number;
	uint8_t key[CIPHER_KEY_BYTES];
};

struct keyring { /* secret memory */
	uint8_t domain[CIPHER_KEY_BYTES];
	uint32_t n_epochs;
	struct keyring_epoch epoch[KEYRING_EPOCHS_MAX];
};

struct keyring_plan {
	const struct archive_key *const *keys;
	unsigned n_keys;
	const struct recipient *const *recipients;
	unsigned n_recipients;
	const uint8_t *domain; /* key of a domain that is shared, or NULL: a new one */
	unsigned log2_n;
};

/* Make the files of keys/ for the archive that c describes, and c's seal. */
MUST_USE enum err keyring_make(int root, const struct keyring_plan *plan, struct settings *c);
/* Open.  path names the archive in notes.  ERR_AUTH: the key does not fit; ERR_CORRUPT:
 * files of keys/ are damaged or missing, or the configuration was changed. */
MUST_USE enum err keyring_open(int root, const char *path, const struct settings *c,
			       const struct archive_key *key, struct keyring **out);
/* Which kinds of keys open it; needs none. */
MUST_USE enum err keyring_kinds(int root, bool *passphrase, bool *key_file, bool *identity);
/* For an archive that says that it is not encrypted, which a person is not asked a passphrase for:
 * ERR_CORRUPT if there are keys, for then it is one that somebody made say so. */
MUST_USE enum err keyring_absent(int root, const char *path);
void keyring_close(struct keyring *k); /* NULL allowed; wipes */

/* Call fn with a note for every damaged copy of a file of keys/; needs no key. */
typedef void keyring_finding_fn(void *arg, const char *what);
MUST_USE enum err keyring_verify(int root, const struct settings *c, keyring_finding_fn *fn,
				 void *arg);

/* Write again what is damaged of keys/: from its twin, or from the archive's copy (a root; -1:
 * none), whose files count only if they name the same archive.  fn is called with the path and
 * whether it was healed.  Needs no key. */
typedef void keyring_healing_fn(void *arg, const char *path, bool healed);
MUST_USE enum err keyring_heal(int root, int copy, const struct settings *c,
			       keyring_healing_fn *fn, void *arg);

#endif
