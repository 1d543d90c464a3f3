/* SPDX-License-Identifier: Apache-2.0 */
/* outlet: files that appear when they are complete, and streams of bytes.
 *
 * Threads: put may be called from a pool thread while the main thread waits.  A pipe is written
 * in pieces that do not block once it is ready, so that an interruption is never waited for. */
#include "cmd/lifeboat/outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "cmd/lifeboat/cli.h"

#define ZEROS_BYTES (64u << 10)
#define STDOUT_NAME "standard output"

char *outlet_temporary(const char *path)
{
	char *temp;

	return asprintf(&temp, "%s.lifeboat-%d.tmp", path, (int)getpid()) < 0 ? NULL : temp;
}

static enum err take_fd(struct outlet *o, int fd)
{
	struct stat st;

	if (fd < 0)
		return err_sys(errno, "open %s", o->path);
	o->fd = fd;
	if (fstat(fd, &st) != 0)
		return err_sys(errno, "look at %s", o->path);
	o->pipe = S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode);
	return ERR_OK;
}

static enum err open_standard(struct outlet *o)
{
	if (isatty(STDOUT_FILENO))
		return err_note(ERR_USAGE, 0,
				"a terminal is no place for a disk or a memory: use "
				"--output FILE, or a pipe");
	return take_fd(o, fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
}

static enum err open_file(struct outlet *o)
{
	o->temp = outlet_temporary(o->path);
	if (!o->temp)
		return err_note(ERR_NOMEM, 0, "write %s: out of memory", o->path);
	/* A left-over of a process that had our number is nobody's. */
	if (unlink(o->temp) != 0 && errno != ENOENT)
		return err_sys(errno, "remove %s", o->temp);
	return fs_open(AT_FDCWD, o->temp, O_WRONLY | O_CREAT | O_EXCL, 0600, &o->fd);
}

static enum err open_any(struct outlet *o)
{
	struct stat st;

	if (stat(o->path, &st) != 0) {
		if (errno != ENOENT)
			return err_sys(errno, "look at %s", o->path);
		return open_file(o);
	}
	if (S_ISDIR(st.st_mode))
		return err_note(ERR_USAGE, 0, "%s is a directory: give the name of a file in it",
				o->path);
	if (!o->force)
		return err_note(ERR_BUSY, 0, "%s exists already: use --force to replace it",
				o->path);
	return S_ISREG(st.st_mode) ? open_file(o) : take_fd(o, open(o->path, O_WRONLY | O_CLOEXEC));
}

enum err outlet_open(const char *path, bool force, struct outlet *o)
{
	bool standard = strcmp(path, "-") == 0;
	enum err e;

	*o = (struct outlet){.fd = -1, .force = force};
	o->path = strdup(standard ? STDOUT_NAME : path);
	if (!o->path)
		return err_note(ERR_NOMEM, 0, "write %s: out of memory", path);
	e = standard ? open_standard(o) : open_any(o);
	if (e != ERR_OK)
		outlet_abort(o);
	return e;
}

/* Until the pipe takes a piece, or somebody wants us to end. */
static enum err wait_ready(const struct outlet *o)
{
	struct pollfd p[] = {{.fd = o->fd, .events = POLLOUT},
			     {.fd = cli_signal_fd(), .events = POLLIN}};

	while (poll(p, 2, -1) < 0)
		if (errno != EINTR)
			return err_sys(errno, "write %s", o->path);
	return p[1].revents ? err_note(ERR_CANCELLED, 0, "interrupted") : ERR_OK;
}

static enum err write_direct(struct outlet *o, const uint8_t *data, uint64_t len)
{
	static const uint8_t zeros[ZEROS_BYTES];

	while (len) {
		size_t most = o->pipe ? PIPE_BUF : data ? (size_t)1 << 20 : ZEROS_BYTES;
		size_t n = len < most ? (size_t)len : most;
		enum err e = o->pipe ? wait_ready(o) : ERR_OK;

		if (e == ERR_OK)
			e = fs_write_next(o->fd, o->path, data ? data : zeros, n);
		if (e != ERR_OK)
			return e;
		o->at += n;
		len -= n;
		data = data ? data + n : NULL;
	}
	return ERR_OK;
}

enum err outlet_put(struct outlet *o, uint64_t offset, const void *data, size_t len)
{
	enum err e;

	if (o->temp) {
		e = fs_write_at(o->fd, o->path, data, len, offset);
	} else {
		e = write_direct(o, NULL, offset - o->at);
		if (e == ERR_OK)
			e = write_direct(o, data, len);
	}
	o->failed |= e != ERR_OK;
	return e;
}

enum err outlet_sync_parent(const char *path)
{
	AUTO_FD int fd = -1;
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	char *dir = !slash ? strdup(".") : strndup(path, len ? len : 1);
	enum err e;

	if (!dir)
		return err_note(ERR_NOMEM, 0, "write %s: out of memory", path);
	e = fs_open(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0, &fd);
	if (e == ERR_OK)
		e = fs_sync_dir(fd, dir);
	free(dir);
	return e;
}

static enum err finish_file(struct outlet *o, uint64_t length)
{
	enum err e;

	if ((e = fs_truncate(o->fd, o->path, length)) != ERR_OK ||
	    (e = fs_sync(o->fd, o->path)) != ERR_OK)
		return e;
	e = o->force ? fs_rename(AT_FDCWD, o->temp, o->path)
		     : fs_rename_new(AT_FDCWD, o->temp, o->path);
	if (e == ERR_BUSY)
		return err_note(e, 0, "%s exists already: use --force to replace it", o->path);
	if (e != ERR_OK)
		return e;
	free(o->temp);
	o->temp = NULL;
	return outlet_sync_parent(o->path);
}

static enum err finish_direct(struct outlet *o, uint64_t length)
{
	enum err e = write_direct(o, NULL, length - o->at);

	/* What cannot be made durable (a pipe, /dev/null) is not ours to judge. */
	if (e == ERR_OK && fdatasync(o->fd) != 0 && errno == EIO)
		e = err_sys(EIO, "make %s durable", o->path);
	return e;
}

enum err outlet_finish(struct outlet *o, uint64_t length)
{
	enum err e = o->temp ? finish_file(o, length) : finish_direct(o, length);

	o->failed |= e != ERR_OK;
	if (e == ERR_OK)
		outlet_abort(o);
	return e;
}

void outlet_abort(struct outlet *o)
{
	if (o->temp)
		(void)unlink(o->temp);
	free(o->temp);
	free(o->path);
	o->temp = o->path = NULL;
	fs_auto_close(&o->fd);
}
