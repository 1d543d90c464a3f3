/* SPDX-License-Identifier: Apache-2.0 */
/* cli: option parsing, exit codes, errors, standard output and interruption.
 *
 * argp is asked to be silent and its complaints are put in our own words, so
 * that every error of the program has the one form "lifeboat: what: why: what
 * to do" and one exit code.
 *
 * Threads: the main thread only, except the signal handler, which touches only
 * lock-free atomics, the self-pipe, and the terminal settings.
 */
#include "cmd/lifeboat/cli.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/units.h"
#include "cmd/lifeboat/term.h"

int cli_exit_code(enum err e)
{
	switch (e) {
	case ERR_OK: return 0;
	case ERR_FAILED:
	case ERR_IO:
	case ERR_BUSY: return 1;
	case ERR_USAGE: return 2;
	case ERR_NOTFOUND: return 3;
	case ERR_UNSUPPORTED: return 4;
	case ERR_CORRUPT: return 5;
	case ERR_PEER: return 6;
	case ERR_GUEST: return 7;
	case ERR_VERSION: return 8;
	case ERR_NOMEM:
	case ERR_NOSPACE: return 9;
	case ERR_AUTH: return 10;
	case ERR_CANCELLED: return 130;
	}
	return 1;
}

/* Sentences quote guests, workers and archives: what a terminal would obey does
 * not reach it. */
static void put_sentence(const char *text)
{
	fputs("lifeboat: ", stderr);
	for (; *text; text++)
		fputc((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text, stderr);
	fputc('\n', stderr);
}

void cli_print_error(enum err e)
{
	if (e != ERR_OK)
		put_sentence(*err_text() ? err_text() : err_name(e));
}

static char kept[ERR_NOTE_BYTES];

void cli_keep_note(enum err e)
{
	snprintf(kept, sizeof(kept), "%s", e == ERR_OK ? "" : err_text());
}

enum err cli_kept_note(enum err e)
{
	return e == ERR_OK ? ERR_OK : err_note(e, 0, "%s", kept);
}

void cli_say(const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	put_sentence(text);
	free(text);
}

/* ---- options ---- */

#define MAX_OPTIONS 40
#define KEY_HELP 0x7000

struct parse {
	const struct cli_verb *verb;
	const struct argp *argp;
	void *args;
	enum err error;
};

static enum err usage(const struct cli_verb *verb, const char *what, const char *which)
{
	return err_note(ERR_USAGE, 0, "%s: %s%s%s: try `lifeboat %s --help'", verb->name, what,
			which ? " " : "", which ? which : "", verb->name);
}

static const struct argp_option *option_by_name(const struct cli_verb *verb, const char *name,
						size_t len)
{
	for (const struct argp_option *o = verb->options; o && o->name; o++)
		if (strlen(o->name) == len && strncmp(o->name, name, len) == 0)
			return o;
	return NULL;
}

static const struct argp_option *option_by_key(const struct cli_verb *verb, int key)
{
	for (const struct argp_option *o = verb->options; o && o->name; o++)
		if (o->key == key)
			return o;
	return NULL;
}

/* An argument that getopt refused: unknown, ambiguous, without its value or with
 * one that it does not take. */
static enum err bad_option(const struct cli_verb *verb, const struct argp_state *state)
{
	const char *word = state->next > 0 ? state->argv[state->next - 1] : "";
	const char *name = strncmp(word, "--", 2) == 0 ? word + 2 : "";
	const struct argp_option *o = option_by_name(verb, name, strcspn(name, "="));

	if (o && o->arg)
		return usage(verb, "a value is missing after", word);
	if (o)
		return usage(verb, "no value goes with", word);
	return usage(verb, "no such option:", word);
}

/* argp's own --help is silent when its errors are. */
static void help_and_exit(const struct parse *p)
{
	char name[64];

	snprintf(name, sizeof(name), "lifeboat %s", p->verb->name);
	argp_help(p->argp, stdout, ARGP_HELP_USAGE | ARGP_HELP_LONG | ARGP_HELP_DOC, name);
	enum err e = cli_finish_output();
	cli_print_error(e);
	exit(cli_exit_code(e));
}

static error_t take(struct parse *p, int key, char *value)
{
	const struct argp_option *o = key == CLI_ARGUMENT ? NULL : option_by_key(p->verb, key);

	p->error = keys_is_option(key) ? keys_option(key, value)
				       : p->verb->option(p->args, key, value);
	if (p->error != ERR_OK && o)
		p->error = err_context(p->error, "--%s", o->name);
	return p->error == ERR_OK ? 0 : EINVAL;
}

static error_t parse_key(int key, char *value, struct argp_state *state)
{
	struct parse *p = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
	case ARGP_KEY_FINI:
	case ARGP_KEY_SUCCESS:
	case ARGP_KEY_NO_ARGS: return 0;
	case ARGP_KEY_ARGS: return ARGP_ERR_UNKNOWN;
	case ARGP_KEY_ERROR:
		if (p->error == ERR_OK)
			p->error = bad_option(p->verb, state);
		return 0;
	case ARGP_KEY_END:
		if (p->error == ERR_OK && state->arg_num < p->verb->min_args)
			p->error = usage(p->verb, "missing", p->verb->args_doc);
		return p->error == ERR_OK ? 0 : EINVAL;
	case ARGP_KEY_ARG:
		if (state->arg_num < p->verb->max_args)
			return take(p, CLI_ARGUMENT, value);
		p->error = usage(p->verb, "too many words, at", value);
		return EINVAL;
	case KEY_HELP: help_and_exit(p); return 0;
	default: return take(p, key, value);
	}
}

enum err cli_parse(const struct cli_verb *verb, int argc, char **argv, void *args)
{
	struct argp_option options[MAX_OPTIONS] = {{.name = NULL}};
	size_t n = 0;

	/* Two rows are kept: --help, and the end. */
	for (const struct argp_option *o = verb->options; o && o->name; o++) {
		assert(n < MAX_OPTIONS - 2);
		options[n++] = *o;
	}
	options[n] = (struct argp_option){
		.name = "help", .key = KEY_HELP, .doc = "Print this", .group = -1};
	struct argp argp = {.options = options, .parser = parse_key, .args_doc = verb->args_doc,
			    .doc = verb->doc};
	struct parse p = {.verb = verb, .argp = &argp, .args = args};
	int r = argp_parse(&argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, NULL, &p);
	if (p.error != ERR_OK)
		return p.error;
	if (r != 0)
		return err_note(r == ENOMEM ? ERR_NOMEM : ERR_USAGE, r, "%s", verb->name);
	return ERR_OK;
}

enum err cli_unknown_key(int key)
{
	return err_note(ERR_USAGE, 0, "option %d is not handled", key);
}

enum err cli_timeout(const char *value, uint64_t *ns)
{
	enum err e = units_duration(value, ns);

	return e == ERR_OK && *ns == 0 ? err_note(ERR_USAGE, 0, "it must be above zero") : e;
}

enum err cli_archive_path(const char *given, const char **path)
{
	const char *p = given ? given : getenv("LIFEBOAT_ARCHIVE");

	if (!p || !*p)
		return err_note(ERR_USAGE, 0,
				"no archive was named: use --archive PATH or set LIFEBOAT_ARCHIVE");
	*path = p;
	return ERR_OK;
}

/* ---- standard output ---- */

static int output_error; /* errno of the first failure */

void cli_hold_standard_fds(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			continue;
		/* The lowest free number is this one. */
		if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			_exit(1); /* and nowhere to say so */
	}
}

bool cli_write(const void *p, size_t len)
{
	if (fwrite(p, 1, len, stdout) == len)
		return true;
	if (!output_error)
		output_error = errno;
	return false;
}

void cli_print(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (vfprintf(stdout, fmt, ap) < 0 && !output_error)
		output_error = errno;
	va_end(ap);
}

enum err cli_finish_output(void)
{
	if (fflush(stdout) != 0 && !output_error)
		output_error = errno;
	if (!output_error && ferror(stdout))
		output_error = EIO;
	if (!output_error)
		return ERR_OK;
	int sys = output_error;
	/* Nothing more can get out: keep exit() from trying and the caller from
	 * reporting it twice. */
	output_error = 0;
	clearerr(stdout);
	return err_sys(sys, "write to standard output");
}

/* ---- interruption ---- */

static _Atomic int caught;
static _Atomic(struct progress *) cancelled;
static int signal_pipe[2] = {-1, -1};

static void on_signal(int sig)
{
	static const char again[] = "lifeboat: interrupted twice: gave up at once: `lifeboat ps' "
				    "shows what still runs\n";
	int saved = errno, none = 0;

	if (!atomic_compare_exchange_strong(&caught, &none, sig)) {
		term_restore();
		if (write(STDERR_FILENO, again, sizeof(again) - 1) < 0)
			_exit(130);
		_exit(130);
	}
	struct progress *p = atomic_load(&cancelled);
	if (p)
		atomic_store_explicit(&p->cancel, true, memory_order_relaxed);
	if (write(signal_pipe[1], "", 1) < 0) { /* full: readable already */
	}
	errno = saved;
}

void cli_catch_signals(void)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN}, take = {.sa_handler = on_signal};
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

	if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
		perror("lifeboat: pipe");
		exit(1);
	}
	sigaction(SIGPIPE, &ignore, NULL);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		struct sigaction old;

		/* nohup and shells without job control ignore some on purpose. */
		sigaction(signals[i], NULL, &old);
		if (old.sa_handler != SIG_IGN)
			sigaction(signals[i], &take, NULL);
	}
}

int cli_signal(void) { return atomic_load(&caught); }

int cli_signal_fd(void) { return signal_pipe[0]; }

void cli_cancel_on_signal(struct progress *progress)
{
	atomic_store(&cancelled, progress);
	if (progress && cli_signal())
		atomic_store_explicit(&progress->cancel, true, memory_order_relaxed);
}

enum err cli_check_interrupted(void)
{
	return cli_signal() ? err_note(ERR_CANCELLED, 0, "interrupted") : ERR_OK;
}

void cli_sleep(uint64_t ns)
{
	struct pollfd p = {.fd = signal_pipe[0], .events = POLLIN};

	if (poll(&p, 1, (int)((ns + NS_PER_MS - 1) / NS_PER_MS)) < 0 && errno != EINTR)
		abort();
}
