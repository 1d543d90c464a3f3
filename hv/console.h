/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_CONSOLE_H
#define HV_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/loop.h"

/* console: the far end of a serial line.
 *
 * Keeps the last CONSOLE_SCROLLBACK bytes that the guest wrote, and copies output
 * to every attached descriptor (stdio, pty, file, `lifeboat console` sessions).
 * Output never blocks the guest: a descriptor that does not keep up loses bytes
 * and is told so by a line "[lifeboat: N bytes lost]"; a file is written in order, and
 * completely unless its file system hangs.  Input comes from all attached descriptors and waits in a bounded
 * queue (when it is full, descriptors are not read: back-pressure).
 * An end of input (a peer that shuts down its side too) detaches; a pty master stays
 * while nobody has its other side open.  A regular file that can be written is not read.
 * Whoever makes a pty sets it raw, or its echo becomes the guest's input.
 * The process ignores SIGPIPE, which a pipe without reader would raise.
 * Threads: console_output and console_input_take from any thread; the rest on the loop. */

#define CONSOLE_SCROLLBACK (1u << 20)
#define CONSOLE_ATTACHED_MAX 32u

struct console;

/* Told on the loop thread when input has become available or room was made. */
typedef void console_input_fn(void *arg);

MUST_USE enum err console_create(struct loop *loop, struct console **out);
/* NULL allowed; closes attached descriptors, waiting up to 1 s for those that are slow. */
void console_destroy(struct console *c);
void console_set_input(struct console *c, console_input_fn *fn, void *arg);
/* The guest wrote len bytes. */
void console_output(struct console *c, const void *p, size_t len);
/* Take up to len bytes of input; 0 if none. */
size_t console_input_take(struct console *c, void *p, size_t len);
/* Attach fd (taken, on errors too; made non-blocking for all who share it).
 * replay: send the scrollback first.  can_input: read from it too.  EOF or error
 * detaches it by itself.  Nothing is sent or read before the loop's next round.
 * ERR_BUSY: CONSOLE_ATTACHED_MAX are attached. */
MUST_USE enum err console_attach(struct console *c, int fd, bool replay, bool can_input);
/* Put the scrollback in out (appended). */
void console_scrollback(struct console *c, struct buf *out);
/* Bytes written by the guest since creation. */
uint64_t console_written(const struct console *c);

#endif
