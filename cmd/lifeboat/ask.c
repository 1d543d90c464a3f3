/* SPDX-License-Identifier: Apache-2.0 */
/* ask: reads a line with the echo off, and puts it on again on every way out. */
#include "cmd/lifeboat/ask.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/secret.h"
#include "cmd/lifeboat/cli.h"

bool ask_possible(void)
{
	return isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

static void put(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return; /* then the person sees no question, and can interrupt */
}

/* Byte by byte: what follows the line is somebody else's. */
static enum err read_line(char *line, size_t room)
{
	struct pollfd p[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
			      {.fd = cli_signal_fd(), .events = POLLIN}};
	size_t n = 0;

	for (;;) {
		char c;
		enum err e;
		ssize_t got;

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return err_sys(errno, "ask for a passphrase");
		if ((e = cli_check_interrupted()) != ERR_OK)
			return e;
		got = read(STDIN_FILENO, &c, 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return err_note(ERR_CANCELLED, 0, "ask for a passphrase: none was given");
		if (c == '\n') {
			line[n] = '\0';
			return ERR_OK;
		}
		if (n + 1 == room)
			return err_note(ERR_USAGE, 0, "ask for a passphrase: it is too long");
		line[n++] = c;
	}
}

static enum err ask(const char *question, const char *what, char *line, size_t room)
{
	struct termios before, silent;
	enum err e;

	if (tcgetattr(STDIN_FILENO, &before) != 0)
		return err_sys(errno, "ask for a passphrase");
	silent = before;
	silent.c_lflag &= ~(tcflag_t)ECHO;
	silent.c_lflag |= ICANON | ISIG;
	/* First the echo, then the question: who answers at once is not seen either. */
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) != 0)
		return err_sys(errno, "ask for a passphrase");
	put(question);
	put(" for ");
	put(what);
	put(": ");
	e = read_line(line, room);
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &before) != 0 && e == ERR_OK)
		e = err_sys(errno, "switch the terminal's echo on");
	put("\n");
	return e;
}

enum err ask_secret(const char *question, const char *what, bool twice, char *line, size_t room)
{
	char *again;
	enum err e = ask(question, what, line, room);

	if (e != ERR_OK || !twice)
		return e;
	if (!(again = secret_alloc(room)))
		return err_note(ERR_NOMEM, 0, "ask for a passphrase: out of memory");
	e = ask("The same again", what, again, room);
	if (e == ERR_OK && strcmp(line, again) != 0)
		e = err_note(ERR_USAGE, 0, "the two passphrases differ: nothing was made");
	secret_free(again, room);
	return e;
}
