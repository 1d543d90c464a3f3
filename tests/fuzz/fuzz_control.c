/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_control: the worker's control protocol, from a client that sends anything.
 *
 * Input: the bytes of a connection; two memfds with the same bytes ride on the
 * first.  Behind it stands a machine that is not one (tests/unit/cmd/fake_vm.c).
 * However it goes, the connection's end ends the turn. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cmd/worker/control.h"
#include "cmd/worker/steward.h"
#include "hv/line.h"

#define INPUT_MAX (128u << 10) /* fits the socket's buffer, and two lines */

struct turn {
	struct loop *loop;
	struct control *control;
};

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void on_notify(void *arg, const char *event, const char *text)
{
	struct turn *t = arg;

	if (t->control)
		control_event(t->control, event, text);
}

static void on_finish(void *arg, int status)
{
	struct turn *t = arg;

	check(status == STEWARD_EXIT_DONE || status == STEWARD_EXIT_CRASHED);
	loop_stop(t->loop);
}

/* Our end: read answers, stop when the other side has closed. */
static void on_answer(void *arg, int fd, uint32_t events)
{
	struct turn *t = arg;
	char bytes[65536];

	(void)events;
	if (read(fd, bytes, sizeof(bytes)) <= 0)
		loop_stop(t->loop);
}

static int memory_file(const uint8_t *data, size_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	check(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	return fd;
}

static void send_input(int fd, const uint8_t *data, size_t size)
{
	int fds[2] = {memory_file(data, size), memory_file(data, size)};
	size_t sent;

	/* Refused only when the other end has given up on us already. */
	if (line_send(fd, data, size, fds, 2, &sent) == ERR_OK)
		check(sent == size);
	check(shutdown(fd, SHUT_WR) == 0);
	close(fds[0]);
	close(fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct turn t = {0};
	struct vm_config config;
	struct steward *m;
	struct loop_watch *w;
	int pair[2], big = 4 << 20;

	if (size == 0 || size > INPUT_MAX)
		return 0;
	(void)signal(SIGPIPE, SIG_IGN);
	config_init(&config);
	(void)snprintf(config.name, sizeof(config.name), "fuzz");
	config.memory_bytes = MEMORY_MIN_BYTES;
	check(loop_create(&t.loop) == ERR_OK);
	const struct steward_parts parts = {
		.loop = t.loop, .config = &config, .kvm_fd = -1, .kernel_fd = -1, .initrd_fd = -1,
		.console_fd = {-1, -1}, .notify = on_notify, .finish = on_finish, .arg = &t};
	check(steward_create(&parts, &m) == ERR_OK);
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	(void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
	check(control_create(t.loop, -1, pair[1], m, on_finish, &t, &t.control) == ERR_OK);
	check(loop_add(t.loop, pair[0], EPOLLIN, on_answer, &t, &w) == ERR_OK);
	send_input(pair[0], data, size);
	check(loop_run(t.loop) == ERR_OK);
	loop_remove(w);
	control_destroy(t.control);
	steward_destroy(m);
	loop_destroy(t.loop);
	config_fini(&config);
	close(pair[0]);
	return 0;
}
