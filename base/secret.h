/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

#include <stddef.h>

/* secret: memory for keys and passphrases.
 *
 * Pages of its own, left out of core dumps, kept from swap where the limits of the
 * process allow, wiped before they are given back.  Any thread. */

/* Zeroed; NULL if there is no memory.  For few, small things: it takes whole pages. */
void *secret_alloc(size_t len);
/* len as it was asked for; NULL allowed. */
void secret_free(void *p, size_t len);

/* Overwrite; never optimised away. */
void secret_wipe(void *p, size_t len);

/* From now on this process leaves no core dump, nobody of the same user may look into it
 * with a debugger, and what is allocated from now on is empty in its children. */
void secret_guard_process(void);

#endif
