/* SPDX-License-Identifier: Apache-2.0 */
/* term: raw mode, and the way back from it.
 *
 * States: COOKED -[term_raw]-> RAW -[term_restore, exit, fatal signal]-> COOKED
 * SIGCONT in RAW sets raw mode again, because the shell has changed it.
 */
#include "cmd/lifeboat/term.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

static struct termios cooked, raw;
static _Atomic int raw_fd = -1;

static const int fatal[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGQUIT};
#define FATALS (sizeof(fatal) / sizeof(fatal[0]))
static struct sigaction before[FATALS], before_cont;

bool term_usable(int in_fd, int out_fd)
{
	return isatty(in_fd) && isatty(out_fd) && tcgetpgrp(in_fd) == getpgrp();
}

void term_restore(void)
{
	int fd = atomic_exchange(&raw_fd, -1);

	if (fd < 0)
		return;
	tcsetattr(fd, TCSADRAIN, &cooked);
	for (size_t i = 0; i < FATALS; i++)
		sigaction(fatal[i], &before[i], NULL);
	sigaction(SIGCONT, &before_cont, NULL);
}

/* The old handler is back after term_restore, so the signal takes its course. */
static void on_fatal(int sig)
{
	term_restore();
	raise(sig);
}

static void on_continue(int sig)
{
	int saved = errno, fd = atomic_load(&raw_fd);

	(void)sig;
	if (fd >= 0)
		tcsetattr(fd, TCSADRAIN, &raw);
	errno = saved;
}

enum err term_raw(int in_fd)
{
	static bool registered;
	struct sigaction die = {.sa_handler = on_fatal}, cont = {.sa_handler = on_continue};

	if (tcgetattr(in_fd, &cooked) != 0)
		return err_sys(errno, "read the terminal's settings");
	raw = cooked;
	cfmakeraw(&raw);
	raw.c_oflag |= OPOST | ONLCR;
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	if (!registered && atexit(term_restore) != 0)
		return err_note(ERR_NOMEM, 0, "prepare to restore the terminal");
	registered = true;
	for (size_t i = 0; i < FATALS; i++)
		sigaction(fatal[i], &die, &before[i]);
	sigaction(SIGCONT, &cont, &before_cont);
	atomic_store(&raw_fd, in_fd);
	if (tcsetattr(in_fd, TCSADRAIN, &raw) != 0) {
		int sys = errno;

		term_restore();
		return err_sys(sys, "switch the terminal to raw mode");
	}
	return ERR_OK;
}
