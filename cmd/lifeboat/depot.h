/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_DEPOT_H
#define CMD_LIFEBOAT_DEPOT_H

#include <stdbool.h>

#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/keys.h"
#include "store/archive.h"

/* depot: the archive that a verb of `lifeboat archive' works on: how it is named, opened and
 * closed.  Main thread. */
struct depot {
	const char *given;	 /* borrowed; NULL: LIFEBOAT_ARCHIVE */
	const char *path;	 /* once open */
	struct archive *archive; /* NULL until open */
	bool second;		 /* another archive than the verb's: has these keys, if any */
	struct keys keys;
};

/* Rows of options, and what they do: ERR_OK if key was one of them, else cli_unknown_key. */
#define DEPOT_OPTIONS CLI_OPTION_ARCHIVE
MUST_USE enum err depot_option(struct depot *d, int key, char *value);

/* The keys of a second archive, each option with a prefix: "to-" makes --to-key-file.  Where none
 * is given, and that archive is encrypted, the verb's own keys are tried. */
enum depot_key {
	DEPOT_FIRST = 0x1900,
	DEPOT_FILE = DEPOT_FIRST,
	DEPOT_PASSPHRASE,
	DEPOT_IDENTITY,
	DEPOT_FD,
	DEPOT_END
};
#define DEPOT_SECOND(prefix)                                                                       \
	{.name = prefix "key-file",                                                                \
	 .key = DEPOT_FILE,                                                                        \
	 .arg = "FILE",                                                                            \
	 .doc = "Key file of that archive (default: the same as of the other)"},                   \
		{.name = prefix "passphrase-file",                                                 \
		 .key = DEPOT_PASSPHRASE,                                                          \
		 .arg = "FILE",                                                                    \
		 .doc = "File whose first line is its passphrase"},                                \
		{.name = prefix "identity",                                                        \
		 .key = DEPOT_IDENTITY,                                                            \
		 .arg = "FILE",                                                                    \
		 .doc = "Private key (PEM) of one of its recipients"},                             \
	{                                                                                          \
		.name = prefix "key-fd", .key = DEPOT_FD, .arg = "N",                              \
		.doc = "Read its key file from this open descriptor"                               \
	}
bool depot_is_second(int key);
MUST_USE enum err depot_second_option(struct depot *second, int key, char *value);

/* Where a word may name an archive or something in one: a path has a slash in it, and nothing
 * in an archive has. */
bool depot_is_path(const char *word);
/* The word as the archive's path.  ERR_USAGE if it was named already. */
MUST_USE enum err depot_name(struct depot *d, const char *word);

MUST_USE enum err depot_open(struct depot *d, bool writable);
/* Keeps the note of e, closes, and returns e with its note. */
MUST_USE enum err depot_close(struct depot *d, enum err e);

/* archive_find, and where the word is an archive's directory instead, a sentence that says so. */
MUST_USE enum err depot_find(const struct depot *d, const char *ref, struct checkpoint_info *out);

#endif
