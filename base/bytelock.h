/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_BYTELOCK_H
#define BASE_BYTELOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* bytelock: shared locks on single bytes of a file, as numbers that many may hold up at once.
 *
 * The bytes need not exist.  Who may only read the file can hold one, and nobody has to be able
 * to write to be seen.  Like fs_lock's, the locks are open-file-description locks: they end with
 * the descriptor, and so with the process, and those of fs_lock (of the whole file) stand in
 * their way.  Any thread. */

#define BYTELOCK_MAX INT64_C(0x7ffffffffffffffe)

/* Hold that byte (at most BYTELOCK_MAX), besides those that this descriptor holds already.  Waits
 * while another has the file exclusively.  what: for notes. */
MUST_USE enum err bytelock_hold(int fd, const char *what, uint64_t byte);
/* The lowest and the highest byte that others hold; *any false: none.  Changes nothing. */
MUST_USE enum err bytelock_look(int fd, const char *what, bool *any, uint64_t *lowest,
				uint64_t *highest);

#endif
