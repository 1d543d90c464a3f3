/* SPDX-License-Identifier: Apache-2.0 */
/* reserve: see reserve.h.
 *
 * Where the file system cannot allocate, random bytes are written: zeros may be stored as
 * a hole. */
#include "store/reserve.h"

#include "base/fs.h"
#include "store/layout.h"

#include <fcntl.h>
#include <stdlib.h>

#define PART_BYTES 65536u

static enum err write_random(int fd, uint64_t from)
{
	uint8_t *part = malloc(PART_BYTES);
	enum err e = part ? layout_random(part, PART_BYTES)
			  : err_note(ERR_NOMEM, 0, "make the reserve: out of memory");

	for (uint64_t at = from / PART_BYTES * PART_BYTES; e == ERR_OK && at < RESERVE_BYTES;
	     at += PART_BYTES)
		e = fs_write_at(fd, LAYOUT_RESERVE, part, PART_BYTES, at);
	free(part);
	return e;
}

enum err reserve_fill(int root)
{
	AUTO_FD int fd = -1;
	uint64_t size;
	enum err e;

	if ((e = fs_open(root, LAYOUT_RESERVE, O_RDWR | O_CREAT, 0600, &fd)) != ERR_OK ||
	    (e = fs_size(fd, LAYOUT_RESERVE, &size)) != ERR_OK || size >= RESERVE_BYTES)
		return e;
	e = fs_allocate(fd, LAYOUT_RESERVE, 0, RESERVE_BYTES);
	if (e == ERR_IO)
		e = write_random(fd, size);
	if (e == ERR_OK)
		e = fs_sync(fd, LAYOUT_RESERVE);
	if (e != ERR_OK && fs_truncate(fd, LAYOUT_RESERVE, size) != ERR_OK)
		return err_context(e, "make the reserve");
	return e;
}

enum err reserve_release(int root, bool *freed)
{
	AUTO_FD int fd = -1;
	uint64_t size;
	enum err e = fs_open(root, LAYOUT_RESERVE, O_RDWR, 0, &fd);

	*freed = false;
	if (e == ERR_NOTFOUND)
		return ERR_OK;
	if (e != ERR_OK || (e = fs_size(fd, LAYOUT_RESERVE, &size)) != ERR_OK || size == 0)
		return e;
	if ((e = fs_truncate(fd, LAYOUT_RESERVE, 0)) != ERR_OK)
		return e;
	*freed = true;
	return fs_sync(fd, LAYOUT_RESERVE);
}
