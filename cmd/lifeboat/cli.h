/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_CLI_H
#define CMD_LIFEBOAT_CLI_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/progress.h"
#include "cmd/lifeboat/keys.h"

/* cli: what every verb shares: option parsing, exit codes, errors, standard
 * output and interruption.  Only the main thread calls these. */

/* The documented exit code of an error: 0..10, 130. */
int cli_exit_code(enum err e);

/* "lifeboat: NOTE" on standard error; nothing for ERR_OK. */
void cli_print_error(enum err e);

/* Cleaning up after an error can leave notes of its own: keep the first one's before
 * it, and bring it back after.  Not nested. */
void cli_keep_note(enum err e);
MUST_USE enum err cli_kept_note(enum err e);

/* A remark that is not an error: "lifeboat: TEXT" on standard error. */
void cli_say(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* ---- options ---- */

/* One verb.  `option` is called for every option with its key, and with key
 * CLI_ARGUMENT for every positional argument; value is borrowed until the end
 * of the process (it is argv's).  It returns ERR_USAGE with a note for a bad value. */
#define CLI_ARGUMENT 0
struct cli_verb {
	const char *name;     /* "archive init" */
	const char *args_doc; /* "NAME" */
	const char *doc;      /* what it does; after a \v an example */
	const struct argp_option *options; /* ends with {0}; NULL: only --help */
	enum err (*option)(void *args, int key, char *value);
	unsigned min_args, max_args; /* positional */
};

/* Parse; --help and --usage print and exit(0).  ERR_USAGE otherwise. */
MUST_USE enum err cli_parse(const struct cli_verb *verb, int argc, char **argv, void *args);

/* What `option` returns for a key that it does not know (a bug of ours). */
MUST_USE enum err cli_unknown_key(int key);

/* Keys and rows of options that several verbs have. */
enum cli_key {
	CLI_KEY_JSON = 0x1000, CLI_KEY_ARCHIVE, CLI_KEY_LABEL, CLI_KEY_TIMEOUT, CLI_KEY_NO_FORCE,
	CLI_KEY_LINE, CLI_KEY_NO_REPLAY, CLI_KEY_STREAM, CLI_KEY_PAUSED, CLI_KEY_DETACH,
	CLI_KEY_SANDBOX, CLI_KEY_EAGER, CLI_KEY_QUIET, CLI_KEY_AWAIT_REPLY,
};
#define CLI_OPTION_JSON                                                                            \
	{.name = "json", .key = CLI_KEY_JSON, .doc = "Print one JSON document instead of text"}
/* With the rows of its keys, which cli_parse deals with itself (keys.h). */
#define CLI_OPTION_ARCHIVE                                                                         \
	{.name = "archive", .key = CLI_KEY_ARCHIVE, .arg = "PATH",                                 \
	 .doc = "The archive (default: the variable LIFEBOAT_ARCHIVE)"},                           \
	KEYS_OPTIONS
#define CLI_OPTION_QUIET                                                                           \
	{.name = "quiet", .key = CLI_KEY_QUIET, .doc = "No progress and no figures on standard error"}
#define CLI_OPTION_DETACH                                                                          \
	{.name = "detach", .key = CLI_KEY_DETACH, .doc = "Print the machine's name and leave it running"}
#define CLI_OPTION_SANDBOX                                                                         \
	{.name = "sandbox", .key = CLI_KEY_SANDBOX, .arg = "HOW",                                  \
	 .doc = "strict (default), or weak where this host allows no namespaces"}
#define CLI_OPTION_END {.name = NULL}

#define CLI_OPTION_TIMEOUT                                                                         \
	{.name = "timeout", .key = CLI_KEY_TIMEOUT, .arg = "TIME",                                 \
	 .doc = "How long to wait for an answer of the machine's worker (default: 10s)"}

/* A duration above zero. */
MUST_USE enum err cli_timeout(const char *value, uint64_t *ns);

/* The archive to use: given, or LIFEBOAT_ARCHIVE.  *path is borrowed.  ERR_USAGE if neither. */
MUST_USE enum err cli_archive_path(const char *given, const char **path);

/* ---- standard output ---- */

/* First of all: standard descriptors that are closed are taken by something that refuses
 * to be read and written, or the next file opened, an archive's maybe, would be them. */
void cli_hold_standard_fds(void);

/* Bytes, as cli_print; false: they do not get out, see cli_finish_output. */
bool cli_write(const void *p, size_t len);

/* printf that remembers a failure for cli_finish_output. */
void cli_print(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Flush: ERR_IO or ERR_NOSPACE if anything that was printed did not get out. */
MUST_USE enum err cli_finish_output(void);

/* ---- interruption ---- */

/* SIGPIPE ignored; SIGINT and SIGTERM (and SIGHUP) are remembered, the second
 * one ends the process with 130 and a sentence after the terminal was restored. */
void cli_catch_signals(void);

/* The first signal caught, or 0. */
int cli_signal(void);

/* Readable once a signal was caught; for poll; borrowed. */
int cli_signal_fd(void);

/* Set progress->cancel (borrowed) on a signal, until called with NULL. */
void cli_cancel_on_signal(struct progress *progress);

/* ERR_CANCELLED with a note if a signal was caught. */
MUST_USE enum err cli_check_interrupted(void);

/* Sleep for ns or until a signal is caught. */
void cli_sleep(uint64_t ns);

#endif
