/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_remote: the client of the control protocol, with a worker that a guest has
 * taken over: it answers anything.
 *
 * Input: all that the worker says, written before it is asked. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/remote.h"

#define INPUT_MAX (96u << 10)

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void ask_everything(struct remote *r)
{
	struct buf out = {0};
	struct remote_status s;
	struct remote_event e;
	uint64_t offset = 0, len, ns;
	uint8_t bytes[64];
	int kernel, initrd;
	bool was;

	if (remote_status(r, &s) == ERR_OK) {
		check(memchr(s.name, 0, sizeof(s.name)) && memchr(s.state, 0, sizeof(s.state)));
		check(memchr(s.stop_reason, 0, sizeof(s.stop_reason)) != NULL);
	}
	(void)!remote_hold(r, &was, &ns);
	(void)!remote_config(r, &out);
	if (remote_boot_files(r, &kernel, &initrd) == ERR_OK)
		check(kernel == -1 && initrd == -1); /* it sent none */
	(void)!remote_save(r, &out);
	(void)!remote_check(r, "state", 5);
	(void)!remote_release(r, &ns);
	for (unsigned i = 0; i < 4 && remote_next_event(r, 0, &e) == ERR_OK; i++) {
		check(memchr(e.kind, 0, sizeof(e.kind)) && e.text);
		free(e.text);
	}
	if (remote_next_touched(r, &offset, &len) == ERR_OK)
		check(offset <= remote_memory_bytes(r) && len <= remote_memory_bytes(r) - offset);
	(void)!remote_read(r, offset, bytes, sizeof(bytes));
	buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct remote *r;
	int pair[2], big = 4 << 20, on = 1;

	if (size > INPUT_MAX)
		return 0;
	(void)signal(SIGPIPE, SIG_IGN);
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	(void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
	/* Written before the client asks for credentials, so they are asked for here. */
	check(setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0);
	check(size == 0 || send(pair[1], data, size, 0) == (ssize_t)size);
	check(shutdown(pair[1], SHUT_WR) == 0);
	if (remote_adopt(pair[0], NULL, &r) == ERR_OK) {
		check(remote_memory_bytes(r) <= MEMORY_MAX_BYTES);
		ask_everything(r);
		remote_close(r);
	}
	close(pair[1]);
	return 0;
}
