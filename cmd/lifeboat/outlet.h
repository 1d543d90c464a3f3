/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_OUTLET_H
#define CMD_LIFEBOAT_OUTLET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* outlet: bytes on their way out into a file, a device, or standard output.
 *
 * A file is written under a temporary name beside its own and gets that only when it is
 * complete and durable; what is never put is a hole in it.  Where there are no holes (standard
 * output, pipes, devices) zeros are written. */
struct outlet {
	char *path, *temp; /* NULL temp: written directly */
	int fd;
	bool force, pipe, failed; /* failed: the error came from here, not from the archive */
	uint64_t at;		  /* written directly so far */
};

/* path: "-" is standard output, which must not be a terminal.  force: replace what is there;
 * else that is ERR_BUSY.  A device is written to only with force. */
MUST_USE enum err outlet_open(const char *path, bool force, struct outlet *o);
/* Ascending offsets, from one thread at a time. */
MUST_USE enum err outlet_put(struct outlet *o, uint64_t offset, const void *data, size_t len);
/* It is length bytes long, and durable, and has its name.  Frees it if that succeeds. */
MUST_USE enum err outlet_finish(struct outlet *o, uint64_t length);
/* Leave nothing behind; keeps the thread's note.  After outlet_finish it does nothing. */
void outlet_abort(struct outlet *o);

/* A name of our own for what becomes path: beside it, given (free); NULL: out of memory. */
char *outlet_temporary(const char *path);
/* Make the name of path durable. */
MUST_USE enum err outlet_sync_parent(const char *path);

#endif
