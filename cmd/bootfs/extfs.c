/* SPDX-License-Identifier: Apache-2.0 */
/* extfs: libext2fs over one partition of one descriptor.
 *
 * The library reaches storage through an io_manager.  Ours has no names of files: what it
 * "opens" is "DESCRIPTOR:OFFSET:BYTES", it reads within these bounds, and every write is
 * refused.  So a file system that names places beyond its end gets an error, and nothing
 * of the library opens a file.
 *
 * Source: ext2fs/ext2_io.h and ext2fs/ext2fs.h of e2fsprogs 1.47. */
#include "cmd/bootfs/extfs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ext2fs/ext2fs.h>

#include "base/fs.h"

#define PIECE_BYTES 65536u
#define IO_NAME_BYTES 64u

struct extfs {
	ext2_filsys fs;
};

/* ---- the door ---- */

struct door {
	int fd;
	uint64_t offset, bytes;
};

static errcode_t door_close(io_channel c)
{
	if (--c->refcount > 0)
		return 0;
	free(c->private_data);
	free(c->name);
	free(c);
	return 0;
}

static errcode_t door_set_blksize(io_channel c, int bytes)
{
	if (bytes < 512 || bytes > 65536)
		return EXT2_ET_UNEXPECTED_BLOCK_SIZE;
	c->block_size = bytes;
	return 0;
}

/* count: blocks, or, if negative, bytes. */
static errcode_t door_read_blk64(io_channel c, unsigned long long block, int count, void *to)
{
	const struct door *d = c->private_data;
	uint64_t size = (uint64_t)c->block_size, at, len;

	len = count < 0 ? (uint64_t)-(int64_t)count : (uint64_t)count * size;
	if (__builtin_mul_overflow(block, size, &at) || at > d->bytes || len > d->bytes - at)
		return EXT2_ET_SHORT_READ;
	if (fs_read_at(d->fd, "disk", to, len, d->offset + at) == ERR_OK)
		return 0;
	err_clear(); /* the library's caller says it in words of its own */
	return EXT2_ET_SHORT_READ;
}

static errcode_t door_read_blk(io_channel c, unsigned long block, int count, void *to)
{
	return door_read_blk64(c, block, count, to);
}

static errcode_t door_write_blk64(io_channel c, unsigned long long block, int count, const void *from)
{
	(void)c, (void)block, (void)count, (void)from;
	return EXT2_ET_RO_FILSYS;
}

static errcode_t door_write_blk(io_channel c, unsigned long block, int count, const void *from)
{
	return door_write_blk64(c, block, count, from);
}

static errcode_t door_flush(io_channel c)
{
	(void)c;
	return 0;
}

static errcode_t door_open(const char *name, int flags, io_channel *out);

static const struct struct_io_manager door_manager = {
	.magic = EXT2_ET_MAGIC_IO_MANAGER,
	.name = "one partition",
	.open = door_open,
	.close = door_close,
	.set_blksize = door_set_blksize,
	.read_blk = door_read_blk,
	.write_blk = door_write_blk,
	.flush = door_flush,
	.read_blk64 = door_read_blk64,
	.write_blk64 = door_write_blk64,
};

static errcode_t door_open(const char *name, int flags, io_channel *out)
{
	struct door *d = calloc(1, sizeof(*d));
	io_channel c = calloc(1, sizeof(*c));
	char *copy = strdup(name);

	if (!d || !c || !copy || (flags & IO_FLAG_RW) ||
	    sscanf(name, "%d:%" SCNu64 ":%" SCNu64, &d->fd, &d->offset, &d->bytes) != 3) {
		free(d);
		free(c);
		free(copy);
		return flags & IO_FLAG_RW ? EXT2_ET_RO_FILSYS : EXT2_ET_NO_MEMORY;
	}
	c->magic = EXT2_ET_MAGIC_IO_CHANNEL;
	c->manager = (io_manager)(uintptr_t)&door_manager; /* which nobody writes to */
	c->name = copy;
	c->block_size = 1024;
	c->refcount = 1;
	c->private_data = d;
	*out = c;
	return 0;
}

/* ---- errors ---- */

static enum err translate(errcode_t code, const char *what)
{
	switch (code) {
	case EXT2_ET_NO_MEMORY:
	case ENOMEM: return err_note(ERR_NOMEM, 0, "%s: out of memory", what);
	case EXT2_ET_FILE_NOT_FOUND: return err_note(ERR_NOTFOUND, 0, "%s: there is no such file", what);
	case EXT2_ET_UNSUPP_FEATURE:
	case EXT2_ET_RO_UNSUPP_FEATURE:
		return err_note(ERR_UNSUPPORTED, 0,
				"%s: it has features that this host's libext2fs does not know", what);
	default: return err_note(ERR_CORRUPT, 0, "%s: %s", what, error_message(code));
	}
}

/* ---- the file system ---- */

enum err extfs_open(int disk, const struct part *part, struct extfs **out)
{
	char name[IO_NAME_BYTES];
	struct extfs *x = calloc(1, sizeof(*x));

	*out = NULL;
	if (!x)
		return err_note(ERR_NOMEM, 0, "open a file system");
	(void)snprintf(name, sizeof(name), "%d:%" PRIu64 ":%" PRIu64, disk, part->offset, part->bytes);
	errcode_t code = ext2fs_open(name, EXT2_FLAG_64BITS | EXT2_FLAG_SKIP_MMP, 0, 0,
				     (io_manager)(uintptr_t)&door_manager, &x->fs);
	if (code != 0) {
		free(x);
		return translate(code, "file system");
	}
	*out = x;
	return ERR_OK;
}

void extfs_close(struct extfs *x)
{
	if (!x)
		return;
	ext2fs_free(x->fs); /* ext2fs_close would write what it thinks has changed */
	free(x);
}

void extfs_uuid(const struct extfs *x, char out[EXTFS_UUID_BYTES])
{
	const uint8_t *u = x->fs->super->s_uuid;
	size_t at = 0;

	for (unsigned i = 0; i < 16; i++) {
		bytes_hex(u + i, 1, out + at);
		at += 2;
		if (i == 3 || i == 5 || i == 7 || i == 9)
			out[at++] = '-';
	}
	out[at] = '\0';
}

bool extfs_dirty(const struct extfs *x) { return ext2fs_has_feature_journal_needs_recovery(x->fs->super); }

static enum err find(struct extfs *x, const char *path, ext2_ino_t *ino, struct ext2_inode *inode)
{
	errcode_t code = ext2fs_namei_follow(x->fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, ino);

	if (code == 0)
		code = ext2fs_read_inode(x->fs, *ino, inode);
	return code == 0 ? ERR_OK : translate(code, path);
}

bool extfs_is_file(struct extfs *x, const char *path)
{
	struct ext2_inode inode;
	ext2_ino_t ino;

	if (find(x, path, &ino, &inode) == ERR_OK)
		return LINUX_S_ISREG(inode.i_mode);
	err_clear();
	return false;
}

typedef enum err piece_fn(void *arg, const void *data, size_t len);

static enum err read_pieces(ext2_file_t file, const char *path, uint64_t bytes, piece_fn *fn, void *arg)
{
	char *piece = malloc(PIECE_BYTES);
	enum err e = piece ? ERR_OK : err_note(ERR_NOMEM, 0, "read %s", path);

	for (uint64_t done = 0; done < bytes && e == ERR_OK;) {
		unsigned want = bytes - done < PIECE_BYTES ? (unsigned)(bytes - done) : PIECE_BYTES;
		unsigned got = 0;
		errcode_t code = ext2fs_file_read(file, piece, want, &got);

		if (code == 0 && (got == 0 || got > want))
			code = EXT2_ET_SHORT_READ;
		e = code == 0 ? fn(arg, piece, got) : translate(code, path);
		done += got;
	}
	free(piece);
	return e;
}

static enum err read_file(struct extfs *x, const char *path, uint64_t max_bytes, piece_fn *fn, void *arg)
{
	struct ext2_inode inode;
	ext2_ino_t ino;
	ext2_file_t file;
	__u64 bytes = 0;
	enum err e = find(x, path, &ino, &inode);

	if (e != ERR_OK)
		return e;
	if (!LINUX_S_ISREG(inode.i_mode))
		return err_note(ERR_NOTFOUND, 0, "%s: it is not a regular file", path);
	if (inode.i_flags & EXT4_ENCRYPT_FL)
		return err_note(ERR_UNSUPPORTED, 0, "%s: it is encrypted", path);
	errcode_t code = ext2fs_file_open(x->fs, ino, 0, &file);
	if (code != 0)
		return translate(code, path);
	code = ext2fs_file_get_lsize(file, &bytes);
	if (code != 0)
		e = translate(code, path);
	else if (bytes > max_bytes)
		e = err_note(ERR_NOSPACE, 0, "%s: its %" PRIu64 " bytes are more than fit", path,
			     (uint64_t)bytes);
	else
		e = read_pieces(file, path, bytes, fn, arg);
	code = ext2fs_file_close(file);
	return e == ERR_OK && code != 0 ? translate(code, path) : e;
}

static enum err to_text(void *arg, const void *data, size_t len)
{
	buf_put(arg, data, len);
	return buf_check(arg);
}

enum err extfs_text(struct extfs *x, const char *path, size_t max_bytes, struct buf *out)
{
	enum err e;

	buf_clear(out);
	e = read_file(x, path, max_bytes, to_text, out);
	if (e == ERR_NOSPACE)
		return err_note(ERR_CORRUPT, 0, "%s: too large for what it is", path);
	if (e == ERR_OK && strlen(buf_str(out)) != out->len)
		return err_note(ERR_CORRUPT, 0, "%s: it is not text", path);
	return e;
}

struct copy {
	int to;
	uint64_t *at;
};

static enum err to_fd(void *arg, const void *data, size_t len)
{
	const struct copy *c = arg;
	enum err e = fs_write_at(c->to, "boot file", data, len, *c->at);

	*c->at += len;
	return e;
}

enum err extfs_copy(struct extfs *x, const char *path, int to, uint64_t max_bytes, uint64_t *at)
{
	struct copy c = {.to = to, .at = at};

	return read_file(x, path, *at < max_bytes ? max_bytes - *at : 0, to_fd, &c);
}

struct listing {
	extfs_name_fn *fn;
	void *arg;
	unsigned left;
};

static int on_entry(struct ext2_dir_entry *d, int offset, int block_bytes, char *block, void *arg)
{
	struct listing *l = arg;
	char name[EXT2_NAME_LEN + 1];
	int len = ext2fs_dirent_name_len(d);

	(void)offset, (void)block_bytes, (void)block;
	if (l->left-- == 0)
		return DIRENT_ABORT;
	memcpy(name, d->name, (size_t)len); /* a byte at most, so it fits */
	name[len] = '\0';
	if (strlen(name) == (size_t)len)
		l->fn(l->arg, name);
	return 0;
}

enum err extfs_list(struct extfs *x, const char *path, extfs_name_fn *fn, void *arg)
{
	struct listing l = {.fn = fn, .arg = arg, .left = EXTFS_NAMES};
	struct ext2_inode inode;
	ext2_ino_t ino;
	enum err e = find(x, path, &ino, &inode);

	if (e != ERR_OK)
		return e;
	if (!LINUX_S_ISDIR(inode.i_mode))
		return err_note(ERR_NOTFOUND, 0, "%s: it is no directory", path);
	errcode_t code = ext2fs_dir_iterate(x->fs, ino, 0, NULL, on_entry, &l);
	return code == 0 ? ERR_OK : translate(code, path);
}
