/* SPDX-License-Identifier: Apache-2.0 */
/* bytelock: see bytelock.h.
 *
 * The kernel names one lock that would stand in the way of a range, not the first: so the range is
 * narrowed to what lies before it (behind it), until nothing does.  Somebody who comes or goes
 * meanwhile is seen or not, as with any other question.
 *
 * Source: fcntl(2), open file description locks. */
#include "base/bytelock.h"

#include <errno.h>
#include <fcntl.h>

#include "base/fs.h"

enum err bytelock_hold(int fd, const char *what, uint64_t byte)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 1};
	int e = fs_fault_ask(FS_LOCK, what, 0, NULL);

	lock.l_start = byte < (uint64_t)BYTELOCK_MAX ? (off_t)byte : (off_t)BYTELOCK_MAX;
	while (!e && fcntl(fd, F_OFD_SETLKW, &lock) != 0)
		if (errno != EINTR)
			e = errno;
	return e ? err_sys(e, "lock %s", what) : ERR_OK;
}

struct range {
	int64_t first, last; /* bytes */
};

/* A range that is held of [from, from + len); len 0: to the end of all. */
static enum err held(int fd, const char *what, int64_t from, int64_t len, bool *any,
		     struct range *r)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = from, .l_len = len};
	int e = fs_fault_ask(FS_LOCK, what, 0, NULL);

	if (!e && fcntl(fd, F_OFD_GETLK, &lock) != 0)
		e = errno;
	if (e)
		return err_sys(e, "look for locks of %s", what);
	*any = lock.l_type != F_UNLCK;
	/* It may begin before: bytes next to each other that one holder has are one lock. */
	if (*any)
		*r = (struct range){lock.l_start > from ? lock.l_start : from,
				    lock.l_len ? lock.l_start + lock.l_len - 1 : INT64_MAX};
	return ERR_OK;
}

enum err bytelock_look(int fd, const char *what, bool *any, uint64_t *lowest, uint64_t *highest)
{
	struct range low = {0}, high;
	bool more;
	enum err e = held(fd, what, 0, 0, any, &low);

	*lowest = *highest = 0;
	if (e != ERR_OK || !*any)
		return e;
	high = low;
	for (more = true; e == ERR_OK && more && low.first > 0;)
		e = held(fd, what, 0, low.first, &more, &low);
	for (more = true; e == ERR_OK && more && high.last < INT64_MAX;)
		e = held(fd, what, high.last + 1, 0, &more, &high);
	*lowest = (uint64_t)low.first;
	*highest = (uint64_t)high.last;
	return e;
}
