/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_TERM_H
#define CMD_LIFEBOAT_TERM_H

#include <stdbool.h>

#include "base/err.h"

/* term: the person's terminal in raw mode, and back again on every way out:
 * return, exit(), a fatal signal, a stop and continue. */

/* Both descriptors are terminals and we are in the foreground of the input's. */
bool term_usable(int in_fd, int out_fd);

/* Input byte by byte, no echo, no signals from keys.  Output keeps "newline
 * means carriage return too", which harms no guest and helps the simple ones.
 * in_fd is borrowed until term_restore.  Main thread. */
MUST_USE enum err term_raw(int in_fd);

/* As it was before term_raw; nothing if it is not raw.  Signal-safe. */
void term_restore(void);

#endif
