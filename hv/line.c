/* SPDX-License-Identifier: Apache-2.0 */
/* line: text lines with descriptors over a Unix stream socket.  See line.h.
 *
 * The kernel ends a receive behind bytes that carried descriptors, so those that
 * one recvmsg returns belong to the last sender's write in it, and the order of
 * descriptors is the order of the lines that brought them.
 * Source: unix(7), cmsg(3). */
#include "hv/line.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECEIVE_BYTES 16384u

enum err line_init(struct line_io *io, int fd, bool credentials)
{
	int on = 1;

	*io = (struct line_io){.fd = fd};
	if (credentials && setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) != 0)
		return err_sys(errno, "control socket: ask for credentials");
	return ERR_OK;
}

void line_fini(struct line_io *io)
{
	line_drop_fds(io);
	if (io->fd >= 0)
		close(io->fd);
	io->fd = -1;
	buf_fini(&io->in);
}

int line_take_fd(struct line_io *io)
{
	if (io->fd_count == 0)
		return -1;
	int fd = io->fds[0];
	io->fd_count--;
	memmove(io->fds, io->fds + 1, io->fd_count * sizeof(io->fds[0]));
	return fd;
}

void line_drop_fds(struct line_io *io)
{
	while (io->fd_count > 0)
		close(io->fds[--io->fd_count]);
}

/* Keep the descriptors of one message; false if they are too many. */
static bool keep_fds(struct line_io *io, const struct cmsghdr *c)
{
	size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	bool fits = true;

	for (size_t i = 0; i < count; i++) {
		int fd;
		memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
		if (io->fd_count < LINE_MAX_FDS) {
			io->fds[io->fd_count++] = fd;
		} else {
			close(fd);
			fits = false;
		}
	}
	return fits;
}

static enum err take_control(struct line_io *io, struct msghdr *msg)
{
	bool fits = !(msg->msg_flags & MSG_CTRUNC);

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS && !keep_fds(io, c))
			fits = false;
		if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len >= CMSG_LEN(sizeof(struct ucred))) {
			struct ucred u;
			memcpy(&u, CMSG_DATA(c), sizeof(u));
			io->pid = u.pid;
		}
	}
	if (!fits)
		return err_note(ERR_PEER, 0, "control connection: more descriptors than %u",
				LINE_MAX_FDS);
	return ERR_OK;
}

/* Drop what was handed out, so that the buffer stays bounded. */
static void compact(struct line_io *io)
{
	if (io->used == 0)
		return;
	io->in.len -= io->used;
	memmove(io->in.data, io->in.data + io->used, io->in.len);
	io->used = 0;
}

enum err line_receive(struct line_io *io, bool *more)
{
	uint8_t bytes[RECEIVE_BYTES];
	union {
		char space[CMSG_SPACE(LINE_MAX_FDS * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	size_t room = LINE_MAX_BYTES - (io->in.len - io->used);
	struct iovec iov = {bytes, room < sizeof(bytes) ? room : sizeof(bytes)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space,
			     .msg_controllen = sizeof(control.space)};
	ssize_t n;
	enum err e;

	*more = false;
	if (room == 0)
		return err_note(ERR_PEER, 0, "control connection: a line longer than %u bytes",
				LINE_MAX_BYTES);
	do {
		n = recvmsg(io->fd, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return ERR_OK;
	if (n < 0)
		return err_note(ERR_PEER, errno, "control connection");
	e = take_control(io, &msg);
	if (e != ERR_OK)
		return e;
	if (n == 0)
		return err_note(ERR_PEER, 0, "control connection: closed by the other end");
	compact(io);
	buf_put(&io->in, bytes, (size_t)n);
	e = buf_check(&io->in);
	if (e != ERR_OK)
		return e;
	*more = true;
	return ERR_OK;
}

char *line_next(struct line_io *io, size_t *len)
{
	size_t left = io->in.len - io->used;
	if (left == 0)
		return NULL;
	uint8_t *start = io->in.data + io->used;
	uint8_t *end = memchr(start, '\n', left);

	if (!end)
		return NULL;
	*end = '\0';
	*len = (size_t)(end - start);
	io->used += *len + 1;
	return (char *)start;
}

enum err line_send(int fd, const void *p, size_t len, const int *fds, unsigned fd_count,
		   size_t *sent)
{
	union {
		char space[CMSG_SPACE(LINE_MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;
	const char *at = p;

	*sent = 0;
	if (fd_count > LINE_MAX_FDS)
		return err_note(ERR_FAILED, 0, "control connection: %u descriptors in one line",
				fd_count);
	while (*sent < len) {
		struct iovec iov = {(void *)(uintptr_t)(at + *sent), len - *sent};
		struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
		if (*sent == 0 && fd_count > 0) {
			memset(&control, 0, sizeof(control));
			msg.msg_control = control.space;
			msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
			struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
			memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
		}
		ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return ERR_OK;
		if (n < 0)
			return err_note(ERR_PEER, errno, "control connection");
		*sent += (size_t)n;
	}
	return ERR_OK;
}
