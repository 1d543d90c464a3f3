/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_FS_H
#define BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/err.h"

/* fs: the one door to files.
 *
 * Every file system call of store/ (and of whoever needs durability) goes
 * through here, so that a test can fail, shorten or stop at the Nth call: see
 * fs_fault_set.  Functions retry EINTR, complete short transfers, and note the
 * path in errors: descriptors are named for that by the `what` parameter
 * (borrowed, a path or a description).
 * Any thread.  Errors: err_sys()'s mapping unless said otherwise. */

#define AUTO_FD __attribute__((cleanup(fs_auto_close)))
void fs_auto_close(int *fd); /* closes if >= 0 */

enum fs_op {
	FS_OPEN, FS_READ, FS_WRITE, FS_SYNC, FS_SYNC_DIR, FS_RENAME, FS_UNLINK, FS_MKDIR,
	FS_RMDIR, FS_TRUNCATE, FS_ALLOCATE, FS_LOCK, FS_STAT, FS_LIST, FS_LINK, FS_SEEK,
};

/* What a fault hook orders for one call. */
struct fs_fault {
	int error;	     /* != 0: fail with this errno, nothing done */
	size_t short_bytes;  /* reads, writes: transfer only so many, then (for
				writes) fail with ENOSPC; SIZE_MAX = all */
};

/* Install a hook (NULL removes it) that is asked before every call: op, path or
 * description, byte count (0 if none).  It may also not return (_exit), to play
 * a kill.  Only for tests; set while no other thread uses fs. */
typedef void fs_fault_fn(void *arg, enum fs_op op, const char *what, size_t len,
			 struct fs_fault *fault);
void fs_fault_set(fs_fault_fn *fn, void *arg);
/* For parts of base/ that make file calls of their own: the errno that the hook orders, or 0;
 * *short_bytes (NULL: none can be short) how much may be moved. */
int fs_fault_ask(enum fs_op op, const char *what, size_t len, size_t *short_bytes);

/* open(2) relative to dirfd, O_CLOEXEC added.  With AT_FDCWD a path is a person's and
 * may be anything; below another directory it may be crafted: there symbolic links are
 * not followed, and what is neither a regular file nor a directory is ERR_CORRUPT. */
MUST_USE enum err fs_open(int dirfd, const char *path, int flags, mode_t mode, int *fd);
/* Exactly len bytes at offset; ERR_CORRUPT if the file ends before. */
MUST_USE enum err fs_read_at(int fd, const char *what, void *buf, size_t len, uint64_t offset);
/* Up to len bytes at offset; *got < len only at the end of the file. */
MUST_USE enum err fs_read_some(int fd, const char *what, void *buf, size_t len, uint64_t offset,
			       size_t *got);
/* From and to where there are no offsets (pipes): up to len bytes, *got == 0 only at the end; and
 * exactly len bytes. */
MUST_USE enum err fs_read_next(int fd, const char *what, void *buf, size_t len, size_t *got);
MUST_USE enum err fs_write_next(int fd, const char *what, const void *buf, size_t len);
MUST_USE enum err fs_write_at(int fd, const char *what, const void *buf, size_t len,
			      uint64_t offset);
MUST_USE enum err fs_sync(int fd, const char *what);	  /* fdatasync */
MUST_USE enum err fs_sync_dir(int dirfd, const char *what); /* fsync of a directory */
MUST_USE enum err fs_rename(int dirfd, const char *from, const char *to);
/* rename that refuses an existing target: ERR_BUSY */
MUST_USE enum err fs_rename_new(int dirfd, const char *from, const char *to);
MUST_USE enum err fs_unlink(int dirfd, const char *path);
MUST_USE enum err fs_mkdir(int dirfd, const char *path, mode_t mode); /* existing is ERR_BUSY */
/* Like mkdir -p; what it made is durable. */
MUST_USE enum err fs_mkdirs(const char *path, mode_t mode);
MUST_USE enum err fs_rmdir(int dirfd, const char *path);
MUST_USE enum err fs_truncate(int fd, const char *what, uint64_t len);
MUST_USE enum err fs_allocate(int fd, const char *what, uint64_t offset, uint64_t len);
/* A hole there, which reads as zeros; beyond the end it changes nothing.  ERR_IO where the file
 * system has none. */
MUST_USE enum err fs_punch(int fd, const char *what, uint64_t offset, uint64_t len);
/* Also of a block device. */
MUST_USE enum err fs_size(int fd, const char *what, uint64_t *size);
/* The next stretch of a file of `size` bytes that is no hole, from offset on: [*start, *end), both
 * size if there is none.  Where the file system cannot tell, all is such a stretch.  Moves the
 * descriptor's position. */
MUST_USE enum err fs_next_data(int fd, const char *what, uint64_t offset, uint64_t size,
			       uint64_t *start, uint64_t *end);
/* May this process write there?  ERR_AUTH with the reason if not. */
MUST_USE enum err fs_writable(int dirfd, const char *path);
/* What has that name there; a link counts as FS_OTHER, wherever it leads. */
enum fs_kind { FS_NOTHING, FS_REGULAR, FS_DIRECTORY, FS_OTHER };
MUST_USE enum err fs_kind(int dirfd, const char *path, enum fs_kind *kind);
/* Anything of that name there?  Errors other than ENOENT pass. */
MUST_USE enum err fs_exists(int dirfd, const char *path, bool *exists);
/* Open-file-description lock over the whole file; ERR_BUSY if another holds it. */
MUST_USE enum err fs_lock(int fd, const char *what, bool exclusive, bool wait);

/* f_type of statfs(2) of the file system that a person's path is on. */
MUST_USE enum err fs_type(const char *path, uint64_t *type);

/* Names in a directory except . and .., sorted bytewise, as one malloc'd array
 * of malloc'd strings (given; fs_names_free). */
MUST_USE enum err fs_list(int dirfd, const char *path, char ***names, size_t *count);
void fs_names_free(char **names, size_t count);

/* Whole small file into out (cleared first); ERR_CORRUPT if above max_bytes. */
MUST_USE enum err fs_read_file(int dirfd, const char *path, size_t max_bytes, struct buf *out);

/* Durable replacement: temporary file beside it, write, fdatasync, rename,
 * directory fsync.  After an error the old content (or absence) is intact. */
MUST_USE enum err fs_write_file(int dirfd, const char *path, const void *data, size_t len,
				mode_t mode);
/* The same, but the name must be new: ERR_BUSY if it exists (link + unlink). */
MUST_USE enum err fs_create_file(int dirfd, const char *path, const void *data, size_t len,
				 mode_t mode);

#endif
