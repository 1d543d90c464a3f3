/* SPDX-License-Identifier: Apache-2.0 */
/* fdpack: a socket pair of which one end has sent everything and is closed; see
 * fdpack.h.  Source: unix(7), SCM_RIGHTS. */
#include "hv/fdpack.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(FDPACK_MAX * sizeof(int))];
};

enum err fdpack_make(const int *fds, unsigned count, int *pack)
{
	union control control = {0};
	char mark = 'd';
	struct iovec v = {&mark, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control.bytes,
			   .msg_controllen = CMSG_SPACE(count * sizeof(int))};
	struct cmsghdr *c;
	ssize_t n;
	int pair[2], sys;

	assert(count > 0 && count <= FDPACK_MAX);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return err_sys(errno, "pass descriptors on");
	c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	n = sendmsg(pair[0], &m, MSG_NOSIGNAL);
	sys = errno;
	close(pair[0]);
	if (n != 1) {
		close(pair[1]);
		return err_sys(sys, "pass descriptors on");
	}
	*pack = pair[1];
	return ERR_OK;
}

enum err fdpack_open(int pack, int *fds, unsigned count)
{
	union control control;
	char mark;
	struct iovec v = {&mark, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control.bytes,
			   .msg_controllen = sizeof(control.bytes)};
	ssize_t n = recvmsg(pack, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	struct cmsghdr *c = n == 1 ? CMSG_FIRSTHDR(&m) : NULL;
	unsigned got = 0;

	close(pack);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		got = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	if (got == count && !(m.msg_flags & MSG_CTRUNC)) {
		memcpy(fds, CMSG_DATA(c), count * sizeof(int));
		return ERR_OK;
	}
	for (unsigned i = 0; i < got; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
		close(fd);
	}
	return err_note(ERR_PEER, 0, "%u descriptors came where %u were promised", got, count);
}
