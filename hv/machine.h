/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MACHINE_H
#define HV_MACHINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/thread.h"
#include "hv/compat.h"
#include "hv/cpuid.h"
#include "hv/device.h"
#include "hv/dirty.h"
#include "hv/hyperv.h"
#include "hv/irq.h"
#include "hv/vcpu.h"
#include "hv/vcpu_state.h"
#include "hv/vm.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vmgen.h"
#include "hv/vsp/heartbeat.h"
#include "hv/vsp/shutdown.h"
#include "hv/vsp/storage.h"
#include "hv/vsp/timesync.h"

/* machine: the parts of a VM and how they are put together; private to vm.c (the
 * lifecycle), vm_image.c (state) and machine.c.
 * Threads: loop thread, vCPUs parked, unless said otherwise. */

enum { DEV_ACPI_PM, DEV_I8042, DEV_PCI, DEV_RTC, DEV_COM1, DEV_COM2, DEVICES };

struct machine_hooks;

struct stop { /* why the guest does not run on */
	bool set;
	enum vm_event_kind kind;
	char *text; /* owned, NULL: none */
};

struct vm {
	struct vm_config config; /* a copy */
	struct vm_host host;
	const struct machine_hooks *hooks;
	enum vm_state state;
	bool broken; /* a load or reset failed half-way */
	int vm_fd;
	struct memory *memory;
	struct dirty *dirty;
	struct bus *bus;
	struct irq *irq;
	struct synic *synic;
	struct hyperv *hyperv;
	struct vmbus *vmbus;
	struct heartbeat *heartbeat;
	struct shutdown *shutdown;
	struct timesync *timesync;
	struct storage *storage; /* NULL: no disk controller */
	struct vm_disk disks[CONFIG_MAX_DISKS]; /* by LUN; owned */
	uint64_t places_used;			/* bit n: there is, or was, a disk<n> */
	struct vmgen vmgen;
	struct cpuid_table *cpuid;
	struct vcpu_plan *plan;
	struct device *devices[DEVICES];
	struct vcpu_env env;
	struct vcpu *vcpus[CONFIG_MAX_VCPUS];
	struct vcpu_ref refs[CONFIG_MAX_VCPUS];
	struct buf power_on;		/* KVM's part of the state before anything ran */
	uint64_t tsc[CONFIG_MAX_VCPUS]; /* to be set on the next resume ... */
	bool tsc_pending;		/* ... if this is */
	bool loaded;			/* hyperv_loaded is due on the next resume */
	uint64_t resets;
	int wake_fd; /* eventfd: stop or panic is set */
	struct loop_watch *watch;
	struct thread pit_thread; /* vm_state_prepare; see machine_ready */
	enum err pit_error;
	pthread_mutex_t lock;
	struct stop stop;
	char *panic; /* owned */
	unsigned panics; /* told of since the last start */
};

/* What the machine tells its owner: on vCPU threads, maybe with a device locked. */
struct machine_hooks {
	void (*stop)(struct vm *vm, enum vm_event_kind kind, const char *text);
	void (*panic)(struct vm *vm, const char *text);
};

/* Everything below struct vm's host; devices are quiet, vCPUs parked.  After an error
 * the parts that exist are machine_destroy's. */
MUST_USE enum err machine_create(struct vm *vm, const struct machine_hooks *hooks);
void machine_destroy(struct vm *vm); /* half-built allowed */
/* Wait for what machine_create left to run beside it.  Before anything is saved or
 * loaded. */
MUST_USE enum err machine_ready(struct vm *vm);

/* All of them, each with its lock held.  quiesce: last one first; after an error all
 * are as before. */
MUST_USE enum err machine_quiesce(struct vm *vm);
void machine_resume(struct vm *vm);
void machine_reset_devices(struct vm *vm);
/* One section for each device, begun and ended here. */
MUST_USE enum err machine_save_devices(struct vm *vm, struct state_out *out);
MUST_USE enum err machine_load_devices(struct vm *vm, struct state_file *file);
/* Their sections, for compat.h, and the bus's; out has room for MACHINE_SECTIONS_MAX. */
#define MACHINE_SECTIONS_MAX (DEVICES + 1 + VMBUS_SECTIONS_MAX)
size_t machine_sections(const struct vm *vm, struct compat_section *out);

/* ---- machine_bus.c: the synthetic devices ---- */

/* SynIC before Hyper-V's MSRs, the bus after the interrupt lines. */
MUST_USE enum err machine_bus_create(struct vm *vm);
void machine_bus_destroy(struct vm *vm); /* half-built allowed */
/* Right before the first run after a load: another generation, another time. */
MUST_USE enum err machine_bus_loaded(struct vm *vm);
/* Right before every run: what time it is for the guest. */
MUST_USE enum err machine_bus_anchor(struct vm *vm);
MUST_USE enum err machine_bus_save(struct vm *vm, struct state_out *out);
MUST_USE enum err machine_bus_load(struct vm *vm, struct state_file *file);
/* What hyperv_create has to know of the bus. */
struct hypercall_host machine_bus_calls(struct vm *vm);

/* ---- machine_disks.c ---- */

/* The controller with all configured disks, on the bus. */
MUST_USE enum err machine_disks_create(struct vm *vm);
void machine_disks_destroy(struct vm *vm); /* their descriptors; the controller is gone */
/* Quiet.  given is taken if it went well, c->bytes is filled in; its place is free. */
MUST_USE enum err machine_disks_add(struct vm *vm, const struct vm_disk *given,
				    struct config_disk *c);
void machine_disks_remove(struct vm *vm, unsigned lun);
/* May this machine, with these disks, be loaded (else: be booted)? */
MUST_USE enum err machine_disks_check(const struct vm *vm, bool load);

/* KVM's part (vCPUs, interrupt controllers, PIT) as it was before anything ran:
 * remember it in vm->power_on; go back to it (vm->tsc: what TSCs are to start from). */
MUST_USE enum err vm_image_save_power_on(struct vm *vm);
MUST_USE enum err vm_image_load_power_on(struct vm *vm);
/* All sections of a checkpoint, appended to out. */
MUST_USE enum err vm_image_save(struct vm *vm, struct buf *out);
/* The checked, indexed state (given: state_close), if it fits this machine. */
MUST_USE enum err vm_image_open(struct vm *vm, const void *state, size_t len,
				struct state_file **out);
/* After an error the machine is half-loaded. */
MUST_USE enum err vm_image_load(struct vm *vm, struct state_file *file);

#endif
