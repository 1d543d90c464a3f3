/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_KEYS_H
#define CMD_LIFEBOAT_KEYS_H

#include <stdbool.h>

#include "base/err.h"
#include "store/archive.h"

/* keys: where the key of an archive comes from, for every verb that opens one.
 *
 * In this order: --identity, --key-fd, --key-file, --passphrase-file; the variables
 * LIFEBOAT_KEY_FILE, LIFEBOAT_PASSPHRASE_FILE; the terminal, if the archive has a
 * passphrase.  Never the command line itself.  Files must not be readable by others.
 * Main thread. */

/* Where to look; all borrowed, NULL: not said. */
struct keys {
	const char *identity, *key_fd, *key_file, *passphrase_file;
};

/* Rows of options: with CLI_OPTION_ARCHIVE they are in every verb that has that one, and
 * cli_parse hands them to keys_option. */
enum keys_key {
	KEYS_FIRST = 0x1800,
	KEYS_FILE = KEYS_FIRST,
	KEYS_PASSPHRASE,
	KEYS_IDENTITY,
	KEYS_FD,
	KEYS_END,
};
#define KEYS_OPTIONS                                                                               \
	{.name = "key-file", .key = KEYS_FILE, .arg = "FILE",                                      \
	 .doc = "The archive's key file (default: the variable LIFEBOAT_KEY_FILE)"},               \
	{.name = "passphrase-file", .key = KEYS_PASSPHRASE, .arg = "FILE",                         \
	 .doc = "File whose first line is the passphrase (default: the variable "                  \
		"LIFEBOAT_PASSPHRASE_FILE)"},                                                      \
	{.name = "identity", .key = KEYS_IDENTITY, .arg = "FILE",                                  \
	 .doc = "Private key (PEM) of a recipient of the archive"},                                \
	{.name = "key-fd", .key = KEYS_FD, .arg = "N",                                             \
	 .doc = "Read the key file from this open descriptor"}

bool keys_is_option(int key);
/* ERR_USAGE if it was said before. */
MUST_USE enum err keys_option(int key, const char *value);
/* What the options said. */
const struct keys *keys_given(void);

/* archive_open with the key that was given, or that the person is asked for. */
MUST_USE enum err keys_open(const char *path, bool writable, struct archive **out);
/* The same with a key from elsewhere than the options: of a second archive. */
MUST_USE enum err keys_open_with(const struct keys *k, const char *path, bool writable,
				 struct archive **out);

/* Wipe what was read from descriptors, which is kept until then because it cannot be read again:
 * for verbs that go on for long after they have opened their archives. */
void keys_forget(void);

/* What a new archive is to be opened by.  The key file is made if it does not exist. */
#define KEYS_NEW_MAX 3u
struct keys_new {
	struct archive_key *key[KEYS_NEW_MAX];
	unsigned count;
};
/* ERR_USAGE if nothing was given and there is no terminal to ask at. */
MUST_USE enum err keys_make(struct keys_new *out);
void keys_new_close(struct keys_new *n);

/* A recipient's public key or certificate. */
MUST_USE enum err keys_recipient(const char *path, struct recipient **out);

#endif
