/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_WORKER_SANDBOX_H
#define CMD_WORKER_SANDBOX_H

#include <stdbool.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/err.h"

/* sandbox: what a worker may still do once a guest can reach it.
 *
 * Order: sandbox_enter while there is one thread and nothing but the handed-over
 * descriptors; then the machine is created with all its threads, timers and
 * descriptors; then sandbox_seal, for all threads at once, before the first guest
 * instruction.  Neither step can be undone. */

/* Namespaces, empty root, unprivileged identity, no capabilities, limits.
 * weak: what this host does not allow is appended to missing (as a list with "; ")
 * instead of being ERR_UNSUPPORTED. */
MUST_USE enum err sandbox_enter(bool weak, struct buf *missing);

/* The system-call filter.  Whatever is not in its table kills the process (SIGSYS). */
MUST_USE enum err sandbox_seal(void);

/* The table of sandbox_seal for people: call, restriction, reason; TAB-separated. */
void sandbox_print(FILE *to);

#endif
