/* SPDX-License-Identifier: Apache-2.0 */
/* channel: JSON packets with descriptors between launcher and monitor. */
#include "cmd/lifeboat/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cmd/lifeboat/cli.h"

union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(CHANNEL_MAX_FDS * sizeof(int))];
};

enum err channel_send(int fd, const json_t *document, const int *fds, size_t count)
{
	char *text = json_dumps(document, JSON_COMPACT);
	union control control = {0};

	if (!text)
		return err_note(ERR_NOMEM, 0, "message between launcher and monitor");
	struct iovec io = {.iov_base = text, .iov_len = strlen(text)};
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
	if (count) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	}
	ssize_t n;
	do
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	int sys = errno;
	free(text);
	if (n < 0)
		return err_note(ERR_PEER, sys, "message between launcher and monitor");
	return ERR_OK;
}

static void take_fds(struct msghdr *m, int *fds, size_t *count)
{
	size_t room = *count;

	*count = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int got;

			memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(got));
			if (*count < room)
				fds[(*count)++] = got;
			else
				close(got);
		}
	}
}

enum err channel_receive(int fd, json_t **document, int *fds, size_t *count)
{
	static char text[CHANNEL_MAX_BYTES];
	union control control;
	size_t none = 0;
	struct iovec io = {.iov_base = text, .iov_len = sizeof(text)};
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	ssize_t n;

	*document = NULL;
	while ((n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {
		enum err e = cli_check_interrupted();

		if (e != ERR_OK)
			return e;
	}
	if (n < 0)
		return err_note(ERR_PEER, errno, "the machine's monitor");
	take_fds(&m, fds, count ? count : &none);
	if (n == 0)
		return err_note(ERR_PEER, 0, "the machine's monitor has ended unexpectedly");
	*document = json_loadb(text, (size_t)n, 0, NULL);
	if (!*document)
		return err_note(ERR_PEER, 0, "the machine's monitor speaks nonsense");
	return ERR_OK;
}
