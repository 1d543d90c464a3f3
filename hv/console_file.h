/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_CONSOLE_FILE_H
#define HV_CONSOLE_FILE_H

#include <stddef.h>

#include "base/err.h"

/* console_file: what a guest writes to a serial line, into a file.
 *
 * A thread of its own writes, so that a file system that hangs holds up nobody: a guest
 * that is faster than a disk which works is held back (a write at a time), but where
 * nothing moves for CONSOLE_FILE_STALL_MS what does not fit into CONSOLE_FILE_BYTES is
 * lost, counted, and told in the file ("[lifeboat: N bytes lost]") and the log.
 * Threads: put from any; the rest from one. */

#define CONSOLE_FILE_BYTES (256u << 10)
#define CONSOLE_FILE_STALL_MS 200u
#define CONSOLE_FILE_CLOSE_MS 1000u

struct console_file;

/* Starts the thread.  fd is taken, but not on errors.  failed: a write failed and nothing
 * more will be written; called once, on the thread, without a lock. */
MUST_USE enum err console_file_create(int fd, void (*failed)(void *arg), void *arg,
				      struct console_file **out);
void console_file_put(struct console_file *f, const void *p, size_t len);
/* Writes what is left, for at most CONSOLE_FILE_CLOSE_MS.  Closes fd, or leaves that to the
 * thread where it hangs.  NULL allowed. */
void console_file_destroy(struct console_file *f);

#endif
