/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_SPAWN_H
#define CMD_LIFEBOAT_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "hv/config.h"
#include "hv/remote.h"

/* spawn: starts a worker and hands it what it may touch.
 *
 * The worker is `lifeboat-worker`, looked for in this order: the file that
 * LIFEBOAT_WORKER names, beside this program, in ../libexec/lifeboat or ../worker
 * relative to it, in the directory that was configured at build time.
 * The caller is the worker's parent and reaps it. */

/* Descriptors are borrowed (the worker gets copies); -1 where there is none.  Close
 * `listen` once the worker has it: as long as any copy is open, a connect after the
 * worker's end waits for an answer that nobody gives. */
struct spawn_fds {
	int listen;	/* bound, listening AF_UNIX stream socket */
	int kernel;	/* read-only; best a sealed memfd */
	int initrd;
	int console[2]; /* far ends of COM1 and COM2 */
	int disks;	/* the descriptors of the configured disks, as a pack (hv/fdpack.h) */
	int lock;	/* the name's lock, kept open by the worker as long as it lives */
	int log;	/* the worker's standard error; -1 = ours */
	/* Where the host does not allow namespaces, run with seccomp alone instead
	 * of refusing (--sandbox=weak). */
	bool weak_sandbox;
	/* The disks hold what the image to be loaded holds, and nothing else may be
	 * started with them. */
	bool disks_from_image;
};
#define SPAWN_FDS_NONE                                                                             \
	(struct spawn_fds){.listen = -1, .kernel = -1, .initrd = -1, .console = {-1, -1},          \
			   .disks = -1, .lock = -1, .log = -1}

/* Start a worker for config.  When this returns ERR_OK the machine is CREATED, the
 * worker's sandbox is closed, and *out (given) is its first connection, subscribed
 * to all events from the start.  A worker whose machine was neither booted nor
 * loaded ends by itself when that connection closes.
 * Otherwise no process is left.  ERR_UNSUPPORTED: no KVM, or the sandbox is not
 * possible; ERR_AUTH: no permission for /dev/kvm; else the worker's own error. */
MUST_USE enum err spawn_worker(const struct vm_config *config, const struct spawn_fds *fds,
			       struct remote **out, pid_t *pid);

/* Wait for the worker's end (blocking).  ERR_OK: the machine ended by its own wish
 * or on request; ERR_GUEST: it crashed (triple fault, internal error); ERR_FAILED:
 * the worker was ended by a signal, which the note explains (SIGSYS: it broke its
 * sandbox). */
MUST_USE enum err spawn_wait(pid_t pid);
/* The same for a wait status that the caller collected itself. */
MUST_USE enum err spawn_status(int wait_status);

/* End a worker at once and reap it.  pid <= 0 is allowed and does nothing. */
void spawn_kill(pid_t pid);

#endif
