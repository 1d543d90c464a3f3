/* SPDX-License-Identifier: Apache-2.0 */
/* fs: the one door to files.  See fs.h.
 *
 * Each public function asks the fault hook once per system call that it is about
 * to make, so that "the Nth call" of a test is a place a real disk could fail. */
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

static fs_fault_fn *fault_fn;
static void *fault_arg;

void fs_fault_set(fs_fault_fn *fn, void *arg)
{
	fault_fn = fn;
	fault_arg = arg;
}

int fs_fault_ask(enum fs_op op, const char *what, size_t len, size_t *short_bytes)
{
	struct fs_fault f = {.error = 0, .short_bytes = SIZE_MAX};

	if (fault_fn)
		fault_fn(fault_arg, op, what, len, &f);
	if (short_bytes)
		*short_bytes = f.short_bytes;
	return f.error;
}

void fs_auto_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Below a directory that was opened before, names come out of what somebody may have
 * crafted (an archive is untrusted): no symbolic link is followed there, and nothing
 * is waited for that an open can wait for. */
static int open_below(int dirfd, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (unsigned)(flags | O_CLOEXEC | O_NONBLOCK),
		.mode = (flags & O_CREAT) ? mode : 0,
		.resolve = (unsigned)RESOLVE_NO_SYMLINKS,
	};
	int fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));

	if (fd < 0 && errno == ENOSYS)
		fd = openat(dirfd, path, flags | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW, mode);
	return fd;
}

static int open_any(int dirfd, const char *path, int flags, mode_t mode)
{
	if (dirfd == AT_FDCWD)
		return openat(dirfd, path, flags | O_CLOEXEC, mode);
	return open_below(dirfd, path, flags, mode);
}

static enum err refuse_special(int dirfd, const char *path, int fd)
{
	struct stat st;

	if (dirfd == AT_FDCWD)
		return ERR_OK;
	if (fstat(fd, &st) != 0)
		return err_sys(errno, "look at %s", path);
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return err_note(ERR_CORRUPT, 0, "open %s: it is not a regular file", path);
	return ERR_OK;
}

enum err fs_open(int dirfd, const char *path, int flags, mode_t mode, int *out)
{
	int injected = fs_fault_ask(FS_OPEN, path, 0, NULL);
	int fd = -1;

	if (!injected) {
		do
			fd = open_any(dirfd, path, flags, mode);
		while (fd < 0 && errno == EINTR);
		if (fd < 0)
			injected = errno;
	}
	if (injected == EEXIST)
		return err_note(ERR_BUSY, injected, "create %s", path);
	if (injected == ELOOP || injected == ENXIO)
		return err_note(ERR_CORRUPT, 0, "open %s: it is not a regular file", path);
	if (injected)
		return err_sys(injected, "open %s", path);
	enum err e = refuse_special(dirfd, path, fd);
	if (e != ERR_OK) {
		close(fd);
		return e;
	}
	*out = fd;
	return ERR_OK;
}

enum err fs_read_some(int fd, const char *what, void *buf, size_t len, uint64_t offset, size_t *got)
{
	size_t limit, done = 0;
	int e = fs_fault_ask(FS_READ, what, len, &limit);

	if (limit < len)
		len = limit;
	while (!e && done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(offset + done));
		if (n == 0)
			break;
		if (n > 0)
			done += (size_t)n;
		else if (errno != EINTR)
			e = errno;
	}
	if (e)
		return err_sys(e, "read %s at byte %llu", what, (unsigned long long)offset);
	*got = done;
	return ERR_OK;
}

enum err fs_read_at(int fd, const char *what, void *buf, size_t len, uint64_t offset)
{
	size_t got;
	enum err e = fs_read_some(fd, what, buf, len, offset, &got);

	if (e != ERR_OK)
		return e;
	if (got < len)
		return err_note(ERR_CORRUPT, 0, "read %s: it ends at byte %llu, before byte %llu",
				what, (unsigned long long)(offset + got),
				(unsigned long long)(offset + len));
	return ERR_OK;
}

enum err fs_write_at(int fd, const char *what, const void *buf, size_t len, uint64_t offset)
{
	size_t limit, done = 0;
	int e = fs_fault_ask(FS_WRITE, what, len, &limit);
	size_t part = limit < len ? limit : len;

	while (!e && done < part) {
		ssize_t n = pwrite(fd, (const char *)buf + done, part - done, (off_t)(offset + done));
		if (n >= 0)
			done += (size_t)n;
		else if (errno != EINTR)
			e = errno;
	}
	if (!e && done < len)
		e = ENOSPC;
	if (e)
		return err_sys(e, "write %s at byte %llu", what, (unsigned long long)offset);
	return ERR_OK;
}

enum err fs_read_next(int fd, const char *what, void *buf, size_t len, size_t *got)
{
	size_t limit;
	ssize_t n = 0;
	int e = fs_fault_ask(FS_READ, what, len, &limit);

	if (!e) {
		do
			n = read(fd, buf, limit < len ? limit : len);
		while (n < 0 && errno == EINTR);
		e = n < 0 ? errno : 0;
	}
	if (e)
		return err_sys(e, "read %s", what);
	*got = (size_t)n;
	return ERR_OK;
}

enum err fs_write_next(int fd, const char *what, const void *buf, size_t len)
{
	size_t limit, done = 0;
	int e = fs_fault_ask(FS_WRITE, what, len, &limit);
	size_t part = limit < len ? limit : len;

	while (!e && done < part) {
		ssize_t n = write(fd, (const char *)buf + done, part - done);
		if (n >= 0)
			done += (size_t)n;
		else if (errno != EINTR)
			e = errno;
	}
	if (!e && done < len)
		e = ENOSPC;
	return e ? err_sys(e, "write %s", what) : ERR_OK;
}

/* Common tail of the calls that return 0 or -1. */
#define FS_CALL(op, what, len, call)                                                               \
	__extension__({                                                                            \
		int fs_e = fs_fault_ask((op), (what), (len), NULL);                                \
		if (!fs_e) {                                                                       \
			int fs_rc;                                                                 \
			do                                                                         \
				fs_rc = (call);                                                    \
			while (fs_rc < 0 && errno == EINTR);                                       \
			fs_e = fs_rc < 0 ? errno : 0;                                              \
		}                                                                                  \
		fs_e;                                                                              \
	})

enum err fs_sync(int fd, const char *what)
{
	int e = FS_CALL(FS_SYNC, what, 0, fdatasync(fd));

	return e ? err_sys(e, "make %s durable", what) : ERR_OK;
}

enum err fs_sync_dir(int dirfd, const char *what)
{
	int e = FS_CALL(FS_SYNC_DIR, what, 0, fsync(dirfd));

	return e ? err_sys(e, "make directory %s durable", what) : ERR_OK;
}

enum err fs_rename(int dirfd, const char *from, const char *to)
{
	int e = FS_CALL(FS_RENAME, to, 0, renameat(dirfd, from, dirfd, to));

	return e ? err_sys(e, "rename %s to %s", from, to) : ERR_OK;
}

enum err fs_rename_new(int dirfd, const char *from, const char *to)
{
	int e = FS_CALL(FS_RENAME, to, 0, renameat2(dirfd, from, dirfd, to, RENAME_NOREPLACE));

	if (e == EEXIST)
		return err_note(ERR_BUSY, e, "rename %s to %s", from, to);
	if (e == EINVAL || e == ENOSYS) {
		/* A file system without RENAME_NOREPLACE: a link refuses as well. */
		e = FS_CALL(FS_LINK, to, 0, linkat(dirfd, from, dirfd, to, 0));
		if (e == EEXIST)
			return err_note(ERR_BUSY, e, "rename %s to %s", from, to);
		if (!e)
			return fs_unlink(dirfd, from);
	}
	return e ? err_sys(e, "rename %s to %s", from, to) : ERR_OK;
}

enum err fs_unlink(int dirfd, const char *path)
{
	int e = FS_CALL(FS_UNLINK, path, 0, unlinkat(dirfd, path, 0));

	return e ? err_sys(e, "remove %s", path) : ERR_OK;
}

enum err fs_mkdir(int dirfd, const char *path, mode_t mode)
{
	int e = FS_CALL(FS_MKDIR, path, 0, mkdirat(dirfd, path, mode));

	if (e == EEXIST)
		return err_note(ERR_BUSY, e, "make directory %s", path);
	return e ? err_sys(e, "make directory %s", path) : ERR_OK;
}

/* The entry of the directory just made, in the one above it.  One that may be entered but
 * not read cannot be synced, and is somebody else's. */
static enum err sync_entry(const char *path)
{
	size_t up = strlen(path);
	AUTO_FD int fd = -1;

	while (up > 1 && path[up - 1] == '/')
		up--;
	while (up > 0 && path[up - 1] != '/')
		up--;
	char *above = up > 0 ? strndup(path, up) : strdup(".");
	if (!above)
		return err_note(ERR_NOMEM, 0, "make directory %s: out of memory", path);
	enum err e = fs_open(AT_FDCWD, above, O_RDONLY | O_DIRECTORY, 0, &fd);
	if (e == ERR_OK)
		e = fs_sync_dir(fd, above);
	else if (e == ERR_AUTH)
		e = ERR_OK;
	free(above);
	return e;
}

/* ERR_BUSY: it was there. */
static enum err make_and_sync(const char *path, mode_t mode)
{
	enum err e = fs_mkdir(AT_FDCWD, path, mode);

	return e == ERR_OK ? sync_entry(path) : e;
}

enum err fs_mkdirs(const char *path, mode_t mode)
{
	char *copy = strdup(path);
	enum err e = ERR_OK;

	if (!copy)
		return err_note(ERR_NOMEM, 0, "make directory %s: out of memory", path);
	for (char *p = copy + 1; e == ERR_OK && *p; p++) {
		if (*p != '/' || p[-1] == '/')
			continue;
		*p = '\0';
		e = make_and_sync(copy, mode);
		*p = '/';
		if (e == ERR_BUSY)
			e = ERR_OK;
	}
	if (e == ERR_OK)
		e = make_and_sync(copy, mode);
	if (e == ERR_BUSY) {
		struct stat st;
		e = ERR_OK;
		if (stat(copy, &st) == 0 && !S_ISDIR(st.st_mode))
			e = err_note(ERR_IO, ENOTDIR, "make directory %s", path);
	}
	free(copy);
	return e;
}

enum err fs_rmdir(int dirfd, const char *path)
{
	int e = FS_CALL(FS_RMDIR, path, 0, unlinkat(dirfd, path, AT_REMOVEDIR));

	return e ? err_sys(e, "remove directory %s", path) : ERR_OK;
}

enum err fs_truncate(int fd, const char *what, uint64_t len)
{
	int e = FS_CALL(FS_TRUNCATE, what, 0, ftruncate(fd, (off_t)len));

	return e ? err_sys(e, "truncate %s", what) : ERR_OK;
}

enum err fs_allocate(int fd, const char *what, uint64_t offset, uint64_t len)
{
	int e = FS_CALL(FS_ALLOCATE, what, (size_t)len,
			fallocate(fd, 0, (off_t)offset, (off_t)len));

	return e ? err_sys(e, "reserve space for %s", what) : ERR_OK;
}

enum err fs_punch(int fd, const char *what, uint64_t offset, uint64_t len)
{
	int e = FS_CALL(FS_ALLOCATE, what, (size_t)len,
			fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
				  (off_t)len));

	return e ? err_sys(e, "make a hole in %s", what) : ERR_OK;
}

enum err fs_size(int fd, const char *what, uint64_t *size)
{
	struct stat st = {0};
	int e = FS_CALL(FS_STAT, what, 0, fstat(fd, &st));

	if (e)
		return err_sys(e, "look at %s", what);
	*size = (uint64_t)st.st_size;
	if (S_ISBLK(st.st_mode)) {
		off_t end = lseek(fd, 0, SEEK_END);

		if (end < 0)
			return err_sys(errno, "look at %s", what);
		*size = (uint64_t)end;
	}
	return ERR_OK;
}

enum err fs_next_data(int fd, const char *what, uint64_t offset, uint64_t size, uint64_t *start,
		      uint64_t *end)
{
	off_t at = 0;
	int e = FS_CALL(FS_SEEK, what, 0, (at = lseek(fd, (off_t)offset, SEEK_DATA)) < 0 ? -1 : 0);

	*start = *end = size;
	if (e == ENXIO) /* only a hole is left */
		return ERR_OK;
	if (e == EINVAL || e == EOPNOTSUPP || e == ESPIPE) {
		*start = offset;
		return ERR_OK;
	}
	if (!e && (uint64_t)at >= size)
		return ERR_OK;
	*start = (uint64_t)at;
	if (!e)
		e = FS_CALL(FS_SEEK, what, 0, (at = lseek(fd, at, SEEK_HOLE)) < 0 ? -1 : 0);
	if (e)
		return err_sys(e, "look for data in %s", what);
	*end = (uint64_t)at < size ? (uint64_t)at : size;
	return ERR_OK;
}

enum err fs_writable(int dirfd, const char *path)
{
	int e = FS_CALL(FS_STAT, path, 0, faccessat(dirfd, path, W_OK, AT_EACCESS));

	return e ? err_sys(e, "write to %s", path) : ERR_OK;
}

enum err fs_kind(int dirfd, const char *path, enum fs_kind *kind)
{
	struct stat st;
	int e = FS_CALL(FS_STAT, path, 0, fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW));

	if (e && e != ENOENT)
		return err_sys(e, "look at %s", path);
	*kind = e		      ? FS_NOTHING
		: S_ISDIR(st.st_mode) ? FS_DIRECTORY
		: S_ISREG(st.st_mode) ? FS_REGULAR
				      : FS_OTHER;
	return ERR_OK;
}

enum err fs_exists(int dirfd, const char *path, bool *exists)
{
	enum fs_kind kind;
	enum err e = fs_kind(dirfd, path, &kind);

	if (e == ERR_OK)
		*exists = kind != FS_NOTHING;
	return e;
}

enum err fs_lock(int fd, const char *what, bool exclusive, bool wait)
{
	struct flock lock = {.l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};
	int e = FS_CALL(FS_LOCK, what, 0, fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &lock));

	if (e == EAGAIN || e == EACCES)
		return err_note(ERR_BUSY, 0, "%s is locked by another process", what);
	return e ? err_sys(e, "lock %s", what) : ERR_OK;
}

enum err fs_type(const char *path, uint64_t *type)
{
	struct statfs st = {0};
	int e = FS_CALL(FS_STAT, path, 0, statfs(path, &st));

	*type = (uint64_t)st.f_type;
	return e ? err_sys(e, "look at the file system of %s", path) : ERR_OK;
}

void fs_names_free(char **names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(names[i]);
	free(names);
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(DIR *d, char ***names, size_t *count)
{
	size_t cap = 0;
	struct dirent *entry;

	while (errno = 0, (entry = readdir(d)) != NULL) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (*count == cap) {
			cap = cap ? cap * 2 : 64;
			char **more = realloc(*names, cap * sizeof(**names));
			if (!more)
				return ENOMEM;
			*names = more;
		}
		char *name = strdup(entry->d_name);
		if (!name)
			return ENOMEM;
		(*names)[(*count)++] = name;
	}
	return errno;
}

enum err fs_list(int dirfd, const char *path, char ***out, size_t *count)
{
	char **names = NULL;
	size_t n = 0;
	int fd = -1;
	int e = fs_fault_ask(FS_LIST, path, 0, NULL);

	if (!e && (fd = open_any(dirfd, path, O_RDONLY | O_DIRECTORY, 0)) < 0)
		e = errno;
	if (!e) {
		DIR *d = fdopendir(fd);
		if (!d) {
			e = errno;
			close(fd);
		} else {
			e = read_names(d, &names, &n);
			closedir(d);
		}
	}
	if (e) {
		fs_names_free(names, n);
		return err_sys(e, "list %s", path);
	}
	if (n)
		qsort(names, n, sizeof(*names), by_bytes);
	*out = names;
	*count = n;
	return ERR_OK;
}

enum err fs_read_file(int dirfd, const char *path, size_t max_bytes, struct buf *out)
{
	AUTO_FD int fd = -1;
	uint64_t offset = 0;
	size_t got = 1;
	uint8_t part[16384];

	buf_clear(out);
	enum err e = fs_open(dirfd, path, O_RDONLY, 0, &fd);
	while (e == ERR_OK && got > 0) {
		e = fs_read_some(fd, path, part, sizeof(part), offset, &got);
		if (e != ERR_OK)
			break;
		buf_put(out, part, got);
		offset += got;
		if (out->len > max_bytes)
			e = err_note(ERR_CORRUPT, 0, "%s is larger than %zu bytes", path,
				     max_bytes);
	}
	return e == ERR_OK ? buf_check(out) : e;
}

/* Write a new temporary file beside path, durable; its name in tmp. */
static enum err write_temp(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
			   char *tmp, size_t tmp_size)
{
	AUTO_FD int fd = -1;
	static unsigned counter;
	unsigned n = __atomic_add_fetch(&counter, 1, __ATOMIC_RELAXED);

	if (snprintf(tmp, tmp_size, "%s.%d-%u.tmp", path, (int)getpid(), n) >= (int)tmp_size)
		return err_note(ERR_USAGE, ENAMETOOLONG, "write %s", path);
	enum err e = fs_open(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC, mode, &fd);
	if (e != ERR_OK)
		return e;
	e = fs_write_at(fd, tmp, data, len, 0);
	if (e == ERR_OK)
		e = fs_sync(fd, tmp);
	if (e != ERR_OK)
		(void)unlinkat(dirfd, tmp, 0);
	return e;
}

static enum err sync_parent(int dirfd, const char *path)
{
	AUTO_FD int fd = -1;
	const char *slash = strrchr(path, '/');
	char parent[4096] = ".";

	if (slash == path)
		snprintf(parent, sizeof(parent), "/");
	else if (slash)
		snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
	enum err e = fs_open(dirfd, parent, O_RDONLY | O_DIRECTORY, 0, &fd);
	return e == ERR_OK ? fs_sync_dir(fd, parent) : e;
}

static enum err put_file(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
			 enum err (*publish)(int, const char *, const char *))
{
	char tmp[4096];
	enum err e = write_temp(dirfd, path, data, len, mode, tmp, sizeof(tmp));

	if (e != ERR_OK)
		return e;
	e = publish(dirfd, tmp, path);
	if (e != ERR_OK) {
		(void)unlinkat(dirfd, tmp, 0);
		return e;
	}
	return sync_parent(dirfd, path);
}

enum err fs_write_file(int dirfd, const char *path, const void *data, size_t len, mode_t mode)
{
	return put_file(dirfd, path, data, len, mode, fs_rename);
}

enum err fs_create_file(int dirfd, const char *path, const void *data, size_t len, mode_t mode)
{
	return put_file(dirfd, path, data, len, mode, fs_rename_new);
}
