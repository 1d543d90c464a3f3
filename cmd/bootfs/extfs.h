/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_BOOTFS_EXTFS_H
#define CMD_BOOTFS_EXTFS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "cmd/bootfs/parttable.h"

/* extfs: files of an ext2/3/4 file system that a guest wrote; reading only.
 *
 * libext2fs does the reading, over a door of ours (extfs.c) that shows it one partition of
 * one descriptor and nothing else.  What it makes of a hostile file system is its own: so
 * whoever uses this is a process that has nothing to lose (main.c).
 * Errors: ERR_CORRUPT for a damaged file system; ERR_NOTFOUND; ERR_UNSUPPORTED for what
 * libext2fs cannot read (features that it does not know, encrypted files).  One thread. */
struct extfs;

/* disk: borrowed as long as it is open. */
MUST_USE enum err extfs_open(int disk, const struct part *part, struct extfs **out);
void extfs_close(struct extfs *x); /* NULL allowed */

/* Its UUID, as text. */
#define EXTFS_UUID_BYTES 37u
void extfs_uuid(const struct extfs *x, char out[EXTFS_UUID_BYTES]);

/* Was it mounted when it was last written to, so that its journal may hold more? */
bool extfs_dirty(const struct extfs *x);

/* Is there a regular file, or a directory, by that name (links followed)? */
bool extfs_is_file(struct extfs *x, const char *path);

/* A small file as text: ERR_CORRUPT if it is larger than max_bytes or holds a NUL. */
MUST_USE enum err extfs_text(struct extfs *x, const char *path, size_t max_bytes, struct buf *out);

/* A file's content to the end of descriptor `to', at *at, which moves on.  ERR_NOSPACE: it
 * would get larger than max_bytes. */
MUST_USE enum err extfs_copy(struct extfs *x, const char *path, int to, uint64_t max_bytes,
			     uint64_t *at);

/* Call fn with the name of each entry of a directory, at most EXTFS_NAMES of them. */
#define EXTFS_NAMES 65536u
typedef void extfs_name_fn(void *arg, const char *name);
MUST_USE enum err extfs_list(struct extfs *x, const char *path, extfs_name_fn *fn, void *arg);

#endif
