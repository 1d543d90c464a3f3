/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_HOME_H
#define CMD_LIFEBOAT_HOME_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "hv/remote.h"

/* home: the directories of this user's machines.
 *
 *                LIFEBOAT_HOME set     root                 else
 *   run_dir      $LIFEBOAT_HOME/run    /run/lifeboat        $XDG_RUNTIME_DIR/lifeboat
 *   state_dir    $LIFEBOAT_HOME/state  /var/lib/lifeboat    $XDG_STATE_HOME/lifeboat
 *
 *   run_dir/NAME/lock      locked as long as the machine's monitor or worker lives;
 *                          holds "monitor PID\nworker PID\n"
 *   run_dir/NAME/control   the worker's listening socket, mode 0600
 *   state_dir/NAME.log     events of the machine, one line each
 *   state_dir/NAME.json    how its last run ended
 *
 * A directory in run_dir whose lock is free belongs to nobody: home_open removes it. */

struct home {
	char run_dir[PATH_MAX];
	char state_dir[PATH_MAX];
};

/* Find and make the directories (mode 0700), remove stale ones.  ERR_AUTH: one belongs to
 * another user, or others may write to it. */
MUST_USE enum err home_open(struct home *h);

/* Remove what belongs to nobody, once more. */
MUST_USE enum err home_tidy(const struct home *h);

/* The right to run a machine of that name. */
struct home_claim {
	int dir_fd, lock_fd; /* -1 when not held */
};
#define HOME_CLAIM_NONE {.dir_fd = -1, .lock_fd = -1}

/* ERR_BUSY if a machine of that name runs. */
MUST_USE enum err home_claim(const struct home *h, const char *name, struct home_claim *out);
/* A free name vm-1, vm-2, ... claimed; name holds CONFIG_NAME_BYTES. */
MUST_USE enum err home_claim_any(const struct home *h, char *name, struct home_claim *out);
/* Close our descriptors; the lock stays if another process has it too. */
void home_claim_drop(struct home_claim *c);
/* The machine is gone: remove its directory and give up the lock. */
void home_claim_remove(const struct home *h, const char *name, struct home_claim *c);

/* Listening control socket in the claimed directory, mode 0600 (given). */
MUST_USE enum err home_listen(const struct home_claim *c, const char *name, int *fd);

/* ERR_NOTFOUND, or ERR_USAGE if it is no name, with a sentence. */
MUST_USE enum err home_missing(const char *name);

/* ERR_NOTFOUND with advice if no machine of that name runs.  timeout_ns: see remote.h;
 * 0 is its default.  Whatever is asked on this connection ends with a signal to us. */
MUST_USE enum err home_connect(const struct home *h, const char *name, uint64_t timeout_ns,
			       struct remote **out);

/* End a machine, also one that answers nobody (SIGKILL).  ERR_NOTFOUND. */
MUST_USE enum err home_kill(const struct home *h, const char *name);
/* The same, but by the worker's own hand if it answers: its last words get out. */
MUST_USE enum err home_end(const struct home *h, const char *name, struct remote *r);

/* Is the name claimed by a living process? */
bool home_running(const struct home *h, const char *name);

/* What the lock file says; 0 where it does not. */
void home_pids(const struct home *h, const char *name, int *monitor_pid, int *worker_pid);
void home_note_pids(const struct home_claim *c, int monitor_pid, int worker_pid);

/* Wait until the name is free again; ERR_BUSY after timeout_ns. */
MUST_USE enum err home_wait_gone(const struct home *h, const char *name, uint64_t timeout_ns);

/* Names of running machines, sorted (given; fs_names_free). */
MUST_USE enum err home_list(const struct home *h, char ***names, size_t *count);

#endif
