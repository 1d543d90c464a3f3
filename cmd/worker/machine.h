/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_WORKER_MACHINE_H
#define CMD_WORKER_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/loop.h"
#include "hv/config.h"
#include "hv/memory.h"

/* machine: the worker's VM together with what people and jobs want of it: who
 * paused it, who holds it, and what happens when it resets, crashes or ends.
 *
 * A hold is a pause that belongs to somebody (a connection, by its address) and
 * ends with it.  There is at most one.  While it lasts, pause and resume of others
 * only decide what the machine does afterwards, and whatever would change the
 * image waits (power button, a reset by the guest) or is refused (reset, load).
 *
 * Threads: all on the loop. */
struct machine;

struct machine_parts { /* borrowed, unless said otherwise */
	struct loop *loop;
	const struct vm_config *config;
	int kvm_fd, kernel_fd, initrd_fd; /* -1: none */
	int console_fd[2];		  /* taken; -1: nobody listens yet */
	/* Something happened ("power-off", "paused", ...); text may be "". */
	void (*notify)(void *arg, const char *event, const char *text);
	/* The machine has ended; the worker should, with this exit status. */
	void (*finish)(void *arg, int status);
	void *arg;
};

#define MACHINE_EXIT_DONE 0
#define MACHINE_EXIT_CRASHED 7

struct machine_status {
	const char *state;	 /* "created" | "paused" | "running" */
	const char *stop_reason; /* "", "request", "hold", "boot", "restore", or an event */
	bool held;
	uint64_t uptime_ns, exits, unclaimed, resets;
};

MUST_USE enum err machine_create(const struct machine_parts *parts, struct machine **out);
void machine_destroy(struct machine *m); /* NULL allowed */

void machine_status(const struct machine *m, struct machine_status *out);
const struct vm_config *machine_config(const struct machine *m);
struct memory *machine_memory(struct machine *m);
bool machine_started(const struct machine *m); /* booted or loaded */
/* Borrowed; -1: none. */
int machine_kernel_fd(const struct machine *m);
int machine_initrd_fd(const struct machine *m);

MUST_USE enum err machine_boot(struct machine *m);
MUST_USE enum err machine_pause(struct machine *m, bool *was_running);
MUST_USE enum err machine_resume(struct machine *m);
MUST_USE enum err machine_reset(struct machine *m);
MUST_USE enum err machine_power_button(struct machine *m);
/* The wish to end the worker now. */
void machine_kill(struct machine *m);

MUST_USE enum err machine_hold(struct machine *m, const void *who, bool *was_running,
			       uint64_t *park_ns);
/* ERR_USAGE if who holds nothing.  ERR_GUEST: the guest reset or ended itself in
 * the very moment of the pause, what was captured is of no use. */
MUST_USE enum err machine_release(struct machine *m, const void *who, uint64_t *paused_ns);
bool machine_holds(const struct machine *m, const void *who);
/* who is gone: release what it held, if anything. */
void machine_forget(struct machine *m, const void *who);

MUST_USE enum err machine_save(struct machine *m, struct buf *state); /* appended */
MUST_USE enum err machine_check(struct machine *m, const void *state, size_t len);
MUST_USE enum err machine_load(struct machine *m, const void *state, size_t len);
/* fd is taken. */
MUST_USE enum err machine_console(struct machine *m, unsigned port, bool replay, int fd);

#endif
