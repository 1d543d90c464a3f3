/* SPDX-License-Identifier: Apache-2.0 */
/* attach: this process's standard input and output on a machine's serial line.
 *
 * The line's other end drops bytes for a reader that does not keep up, so it is
 * always read, into memory if standard output is slow: up to PENDING_MAX, which
 * is more than a person reads and less than hurts.  Standard output stays
 * blocking, for its other users' sake: it is written when poll says so, in pieces
 * of PIPE_BUF.
 *
 * States of the keys: PLAIN -[Ctrl-]]-> ESCAPED -[any]-> PLAIN
 */
#include "cmd/lifeboat/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/term.h"

#define ESCAPE 0x1d /* Ctrl-] */
#define PENDING_MAX (256u << 20)
#define COMPACT_BYTES (8u << 20) /* written bytes are dropped at least this often */
#define INPUT_BYTES 4096u

struct attach {
	int line; /* the machine's; -1: closed */
	bool terminal, escaped, left, input_open;
	struct buf out; /* from the guest, from `sent' on not yet written */
	size_t sent;
	uint8_t in[2 * INPUT_BYTES]; /* for the guest */
	size_t in_len;
};

/* From the person to the guest, without what is meant for us. */
static void take_keys(struct attach *a, const uint8_t *keys, size_t len)
{
	for (size_t i = 0; i < len && !a->left; i++) {
		uint8_t k = keys[i];

		if (a->terminal && !a->escaped && k == ESCAPE) {
			a->escaped = true;
			continue;
		}
		if (a->escaped && (k == 'd' || k == 'D')) {
			a->left = true;
			continue;
		}
		if (a->escaped && k != ESCAPE)
			a->in[a->in_len++] = ESCAPE;
		a->escaped = false;
		a->in[a->in_len++] = k;
	}
}

static void read_input(struct attach *a)
{
	uint8_t keys[INPUT_BYTES / 2]; /* each can become two */
	ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));

	if (n > 0)
		take_keys(a, keys, (size_t)n);
	else if (n == 0 || (errno != EINTR && errno != EAGAIN))
		a->input_open = false;
}

static void write_line(struct attach *a)
{
	ssize_t n = send(a->line, a->in, a->in_len, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n > 0) {
		a->in_len -= (size_t)n;
		memmove(a->in, a->in + n, a->in_len);
	} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
		a->in_len = 0; /* reading it tells that it is closed */
	}
}

static enum err read_line(struct attach *a)
{
	uint8_t bytes[65536];
	ssize_t n = recv(a->line, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n > 0) {
		buf_put(&a->out, bytes, (size_t)n);
		return buf_check(&a->out);
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		close(a->line);
		a->line = -1;
	}
	return ERR_OK;
}

static enum err write_output(struct attach *a)
{
	size_t left = a->out.len - a->sent;
	ssize_t n = write(STDOUT_FILENO, a->out.data + a->sent, left < PIPE_BUF ? left : PIPE_BUF);

	if (n < 0 && errno != EINTR && errno != EAGAIN)
		return err_sys(errno, "write to standard output");
	if (n > 0)
		a->sent += (size_t)n;
	if (a->sent == a->out.len || a->sent > COMPACT_BYTES) {
		a->out.len -= a->sent;
		memmove(a->out.data, a->out.data + a->sent, a->out.len);
		a->sent = 0;
	}
	return ERR_OK;
}

/* Slots of the poll set. */
enum { P_INPUT, P_LINE, P_OUTPUT, P_SIGNAL, P_COUNT };

static void choose(const struct attach *a, struct pollfd p[P_COUNT])
{
	bool pending = a->out.len > a->sent;
	short line = (short)((a->out.len < PENDING_MAX ? POLLIN : 0) | (a->in_len ? POLLOUT : 0));

	p[P_INPUT] = (struct pollfd){
		.fd = a->input_open && !a->in_len && a->line >= 0 ? STDIN_FILENO : -1,
		.events = POLLIN};
	p[P_LINE] = (struct pollfd){.fd = line ? a->line : -1, .events = line};
	p[P_OUTPUT] = (struct pollfd){.fd = pending ? STDOUT_FILENO : -1, .events = POLLOUT};
	p[P_SIGNAL] = (struct pollfd){.fd = cli_signal_fd(), .events = POLLIN};
}

static enum err turn(struct attach *a)
{
	struct pollfd p[P_COUNT];
	enum err e;

	choose(a, p);
	if (poll(p, P_COUNT, -1) < 0)
		return errno == EINTR ? ERR_OK : err_sys(errno, "wait for a console");
	if (p[P_OUTPUT].revents && (e = write_output(a)) != ERR_OK)
		return e;
	if (p[P_LINE].revents & POLLOUT)
		write_line(a);
	if (p[P_LINE].revents & (POLLIN | POLLHUP | POLLERR) && (e = read_line(a)) != ERR_OK)
		return e;
	if (p[P_INPUT].revents)
		read_input(a);
	return ERR_OK;
}

static enum err run(struct attach *a, enum attach_result *result)
{
	enum err e = ERR_OK;

	while (e == ERR_OK) {
		*result = ATTACH_SIGNAL;
		if (cli_signal())
			return ERR_OK;
		*result = ATTACH_LEFT;
		if (a->left && !a->in_len)
			return ERR_OK;
		*result = ATTACH_ENDED;
		if (a->line < 0 && a->out.len == a->sent)
			return ERR_OK;
		e = turn(a);
	}
	return e;
}

enum err attach_run(int console_fd, enum attach_result *result)
{
	struct attach a = {.line = console_fd,
			   .terminal = term_usable(STDIN_FILENO, STDOUT_FILENO)};
	enum err e = cli_finish_output(); /* what was printed comes first */

	/* Of a terminal in the background reading would stop us. */
	a.input_open = !isatty(STDIN_FILENO) || tcgetpgrp(STDIN_FILENO) == getpgrp();
	if (e == ERR_OK && a.terminal)
		e = term_raw(STDIN_FILENO);
	if (e == ERR_OK)
		e = run(&a, result);
	term_restore();
	if (a.line >= 0)
		close(a.line);
	buf_fini(&a.out);
	return e;
}
