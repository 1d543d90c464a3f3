/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_LAUNCH_H
#define CMD_LIFEBOAT_LAUNCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/words.h"
#include "hv/config.h"
#include "hv/remote.h"

/* launch: a new machine, from the side of the verb that wants it (run, restore).
 *
 * States: PREPARED -[launch_start]-> CREATED -[launch_keep]-> KEPT
 * Closed before KEPT, however (even by SIGKILL of this process), the machine is
 * gone and nothing of it is left. */
struct launch;

/* Fork the monitor.  Before the process has threads or precious descriptors. */
MUST_USE enum err launch_prepare(const struct home *home, struct launch **out);

/* Start a worker for the machine: config.name is claimed (one is chosen if it is
 * empty, and put there), console files and ptys are opened.  kernel_fd, initrd_fd:
 * taken, -1 for none.  *r: a connection of our own (given). */
MUST_USE enum err launch_start(struct launch *l, const struct home *home, struct machine *machine,
			       int kernel_fd, int initrd_fd, bool weak_sandbox, struct remote **r);

/* e, or, if it is ERR_PEER because the worker has ended, the monitor's account of
 * why it did.  Before launch_keep. */
MUST_USE enum err launch_explain(struct launch *l, enum err e);

/* From now on the machine lives without us. */
MUST_USE enum err launch_keep(struct launch *l);

/* Block until the machine has ended: ERR_OK if it switched itself off or was asked
 * to; else why.  ERR_CANCELLED if a signal came first. */
MUST_USE enum err launch_wait_end(struct launch *l);

/* The same for one that was killed: whatever the reason, and signals do not count. */
void launch_await_end(struct launch *l);

/* Close; an unkept machine is ended, and has ended when this returns.  NULL allowed. */
void launch_close(struct launch *l);

/* The value of --sandbox. */
MUST_USE enum err launch_sandbox(const char *value, bool *weak);

/* Is this a machine that can be here, apart from its name?  ERR_USAGE; ERR_NOMEM
 * for much more memory than the host has. */
MUST_USE enum err launch_check(const struct machine *m);

/* A kernel or initrd as a sealed copy in memory, so that what the machine boots
 * from again, and what its checkpoints hold, is what it started from.
 * ERR_USAGE if it is no regular file, is empty, or larger than max_bytes. */
MUST_USE enum err launch_boot_file(const char *what, const char *path, uint64_t max_bytes,
				   int *fd);

#endif
