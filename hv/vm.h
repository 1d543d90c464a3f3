/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VM_H
#define HV_VM_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/loop.h"
#include "hv/bus.h"
#include "hv/config.h"
#include "hv/console.h"
#include "hv/memory.h"
#include "hv/state.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vsp/heartbeat.h"
#include "hv/vsp/shutdown.h"
#include "hv/vsp/timesync.h"

/* vm: one machine inside its worker.
 *
 * States: CREATED -[vm_boot|vm_load]-> PAUSED -[vm_resume]-> RUNNING
 *         RUNNING -[vm_pause]-> PAUSED;  PAUSED -[vm_reset]-> PAUSED
 *         RUNNING -[guest power-off, crash, internal error]-> PAUSED with an event
 * In PAUSED every vCPU is parked outside KVM_RUN with its last exit completed, and
 * every device is quiet.
 * Threads: all calls on the worker's loop thread; events arrive there too. */

extern const struct state_kind vm_section_kind; /* section "vm".0: why it stopped */

enum vm_state { VM_CREATED, VM_PAUSED, VM_RUNNING };

enum vm_event_kind {
	VM_EVENT_POWER_OFF,	 /* the guest switched itself off */
	VM_EVENT_RESET,		 /* reset register, i8042 pulse, reset stub */
	VM_EVENT_TRIPLE_FAULT,
	VM_EVENT_DISK_ERROR,	 /* a disk that is to pause on errors had one: text says which;
				  * what failed is tried again when it is resumed */
	VM_EVENT_INTERNAL_ERROR, /* KVM gave up: text has registers and instruction bytes */
	VM_EVENT_GUEST_PANIC,	 /* Hyper-V crash MSRs: text is the end of its log; it runs on */
	VM_EVENT_HEARTBEAT,	 /* text is "healthy" or "lost"; it runs on */
	VM_EVENT_SHUTDOWN_REFUSED, /* the guest does not want to; it runs on */
};
#define VM_PANICS_MAX 16u /* so often is one told of between two resets */
struct vm_event {
	enum vm_event_kind kind;
	const char *text; /* borrowed during the call; may be "" */
};
typedef void vm_event_fn(void *arg, const struct vm_event *event);

struct vm_disk { /* the content of a disk, locked by whoever opened it */
	int fd, direct_fd; /* past the host's cache; -1: not wanted */
};
#define VM_DISK_NONE ((struct vm_disk){-1, -1})

struct vm_host { /* what the worker gives a VM; descriptors are borrowed */
	struct loop *loop;
	int kvm_fd;
	int kernel_fd, initrd_fd; /* -1: none */
	struct console *console[2];
	const struct vm_disk *disks; /* config.disk_count of them; taken */
	/* They hold what the image holds that is to be loaded, and nothing else may be
	 * started with them; without this nothing may be loaded over them. */
	bool disks_from_image;
	vm_event_fn *event;
	void *arg;
};

struct vm;

/* ERR_UNSUPPORTED: this KVM lacks what is needed (every lack named).  ERR_NOMEM. */
MUST_USE enum err vm_create(const struct vm_config *config, const struct vm_host *host,
			    struct vm **out);
void vm_destroy(struct vm *vm); /* NULL allowed; any state */
enum vm_state vm_state(const struct vm *vm);
/* Borrowed; it changes with its disks (vm_disks.h). */
const struct vm_config *vm_config(const struct vm *vm);
/* Load kernel and initrd, set the power-on state. */
MUST_USE enum err vm_boot(struct vm *vm);
MUST_USE enum err vm_resume(struct vm *vm);
MUST_USE enum err vm_pause(struct vm *vm);
/* Back to power-on: RAM cleared, kernel loaded again, every layer reset. */
MUST_USE enum err vm_reset(struct vm *vm);
MUST_USE enum err vm_power_button(struct vm *vm);
/* PAUSED only.  The state blob is appended to out. */
MUST_USE enum err vm_save(struct vm *vm, struct buf *out);
/* CREATED only, RAM filled by the caller before or after, but before vm_resume.
 * Everything that does not fit this host or config is named at once
 * (ERR_VERSION) before anything has changed. */
MUST_USE enum err vm_load(struct vm *vm, const void *state, size_t len);
/* CREATED only.  The comparison that vm_load begins with, and nothing else: a
 * restore asks before it moves memory. */
MUST_USE enum err vm_check(struct vm *vm, const void *state, size_t len);
struct memory *vm_memory(struct vm *vm); /* borrowed */

/* ---- the guest's integration services ---- */

struct vm_guest {
	struct vmbus_info bus;
	struct heartbeat_info heartbeat;
	struct shutdown_info shutdown;
	struct timesync_info timesync;
};
void vm_guest_info(const struct vm *vm, struct vm_guest *out);
/* Ask for a sign of life now; set its clock now; ask it to end or to restart.  All only
 * ask; the answer is seen in vm_guest_info, or as an event.  RUNNING only.  ERR_GUEST: it
 * does not run or has no such service.  ERR_BUSY: the last one is not answered yet. */
MUST_USE enum err vm_guest_ping(struct vm *vm);
MUST_USE enum err vm_guest_time(struct vm *vm);
MUST_USE enum err vm_guest_shutdown(struct vm *vm, bool restart);

struct vm_stats {
	struct bus_stats unclaimed;
	uint64_t exits; /* user-space exits of all vCPUs */
	uint64_t unknown_msrs; /* accesses answered by #GP: nobody has the MSR */
	uint64_t resets;
};
void vm_stats(const struct vm *vm, struct vm_stats *out);

#endif
