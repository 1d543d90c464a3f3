/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_WORKER_STEWARD_H
#define CMD_WORKER_STEWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/loop.h"
#include "hv/config.h"
#include "hv/memory.h"
#include "hv/vm.h"

/* steward: the worker's VM together with what people and jobs want of it: who
 * paused it, who holds it, and what happens when it resets, crashes or ends.
 *
 * A hold is a pause that belongs to somebody (a connection, by its address) and
 * ends with it.  There is at most one.  While it lasts, pause and resume of others
 * only decide what the machine does afterwards, and whatever would change the
 * image waits (power button, a reset by the guest) or is refused (reset, load).
 *
 * A guest that resets itself again and again, a few seconds after each start, stands
 * still in between: 100 ms at first, up to 10 s ("reboot-delay").
 *
 * Threads: all on the loop. */
struct steward;

struct steward_parts { /* borrowed, unless said otherwise */
	struct loop *loop;
	const struct vm_config *config;
	int kvm_fd, kernel_fd, initrd_fd; /* -1: none */
	int console_fd[2];		  /* taken; -1: nobody listens yet */
	const struct vm_disk *disks;	  /* one for each of the configuration's; taken */
	bool disks_from_image;
	/* Something happened ("power-off", "paused", ...); text may be "". */
	void (*notify)(void *arg, const char *event, const char *text);
	/* The machine has ended; the worker should, with this exit status. */
	void (*finish)(void *arg, int status);
	void *arg;
};

#define STEWARD_EXIT_DONE 0
#define STEWARD_EXIT_CRASHED 7

struct steward_status {
	const char *state;	 /* "created" | "paused" | "running" */
	const char *stop_reason; /* "", "request", "hold", "boot", "restore", "reboot-delay",
				  * or an event */
	bool held;
	uint64_t uptime_ns, exits, unclaimed, resets;
};

MUST_USE enum err steward_create(const struct steward_parts *parts, struct steward **out);
void steward_destroy(struct steward *m); /* NULL allowed */

void steward_status(const struct steward *m, struct steward_status *out);
const struct vm_config *steward_config(const struct steward *m);
struct memory *steward_memory(struct steward *m);
bool steward_started(const struct steward *m); /* booted or loaded */
/* Borrowed; -1: none. */
int steward_kernel_fd(const struct steward *m);
int steward_initrd_fd(const struct steward *m);

/* The machine, to look at or to change its disks; borrowed. */
const struct vm *steward_vm(const struct steward *m);
/* The same for a change: ERR_BUSY: it was not started, is held, or just ends. */
MUST_USE enum err steward_change(struct steward *m, struct vm **out);
/* What was changed, for those who listen: "disk-added", "disk3". */
void steward_changed(struct steward *m, const char *event, const char *what);

MUST_USE enum err steward_boot(struct steward *m);
MUST_USE enum err steward_pause(struct steward *m, bool *was_running);
MUST_USE enum err steward_resume(struct steward *m);
MUST_USE enum err steward_reset(struct steward *m);
MUST_USE enum err steward_power_button(struct steward *m);
/* The guest's integration services; vm.h.  ERR_GUEST also while it is paused or held. */
MUST_USE enum err steward_guest(const struct steward *m, struct vm_guest *out);
MUST_USE enum err steward_guest_ping(struct steward *m);
MUST_USE enum err steward_guest_time(struct steward *m);
MUST_USE enum err steward_guest_shutdown(struct steward *m, bool restart);
/* The wish to end the worker now. */
void steward_kill(struct steward *m);

MUST_USE enum err steward_hold(struct steward *m, const void *who, bool *was_running,
			       uint64_t *park_ns);
/* ERR_USAGE if who holds nothing.  ERR_GUEST: the guest reset or ended itself in
 * the very moment of the pause, what was captured is of no use. */
MUST_USE enum err steward_release(struct steward *m, const void *who, uint64_t *paused_ns);
bool steward_holds(const struct steward *m, const void *who);
/* who is gone: release what it held, if anything. */
void steward_forget(struct steward *m, const void *who);

MUST_USE enum err steward_save(struct steward *m, struct buf *state); /* appended */
MUST_USE enum err steward_check(struct steward *m, const void *state, size_t len);
MUST_USE enum err steward_load(struct steward *m, const void *state, size_t len);
/* fd is taken. */
MUST_USE enum err steward_console(struct steward *m, unsigned port, bool replay, int fd);

#endif
