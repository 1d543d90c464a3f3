/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_LINE_H
#define HV_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/err.h"

/* line: text lines with descriptors over a Unix stream socket, for both ends of
 * the control protocol (docs/CONTROL.md).
 *
 * A line is at most LINE_MAX_BYTES with its newline.  Descriptors ride on the
 * first byte of their line and are taken in the order in which they came; at most
 * LINE_MAX_FDS may wait.  The other end is not trusted: what exceeds these bounds
 * is ERR_PEER, and the caller closes the connection.
 * Threads: one at a time per object. */

#define LINE_MAX_BYTES 65536u
#define LINE_MAX_FDS 8u

struct line_io {
	int fd;		 /* owned */
	struct buf in;	 /* received, from `used` on not yet handed out */
	size_t used;
	int fds[LINE_MAX_FDS];
	unsigned fd_count;
	pid_t pid;	 /* sender of the last bytes, 0 if the socket does not pass credentials */
};

/* Take fd.  credentials: let the kernel stamp every message with its sender's pid. */
MUST_USE enum err line_init(struct line_io *io, int fd, bool credentials);
void line_fini(struct line_io *io); /* closes fd and descriptors not taken */

/* One receive (blocking or not, as fd is).  *more is false where nothing was
 * there.  ERR_PEER: closed by the other end, or out of bounds. */
MUST_USE enum err line_receive(struct line_io *io, bool *more);
/* The next whole line, NUL-terminated without its newline, borrowed until the next
 * call; NULL if none is complete. */
char *line_next(struct line_io *io, size_t *len);
/* The oldest waiting descriptor (given), -1 if there is none. */
int line_take_fd(struct line_io *io);
/* Close descriptors that came with no line that wanted them. */
void line_drop_fds(struct line_io *io);

/* Send len bytes, the descriptors (borrowed) on the first.  *sent < len only if fd
 * is non-blocking and full.  ERR_PEER: the other end is gone. */
MUST_USE enum err line_send(int fd, const void *p, size_t len, const int *fds, unsigned fd_count,
			    size_t *sent);

#endif
