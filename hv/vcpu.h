/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VCPU_H
#define HV_VCPU_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/bus.h"
#include "hv/memory.h"

/* vcpu: one virtual processor and the thread that runs it.
 *
 * States: PARKED -[vcpu_unpark]-> RUNNING -[vcpu_request_park]-> PARKED
 * A parked vCPU is outside KVM_RUN with its last exit completed inside KVM: its
 * registers are those between two instructions.  All other ioctls on its
 * descriptor are for that state only: they would block in any other.
 *
 * Threads: create, wait, unpark and destroy on the loop thread; request_park from
 * any, the vCPU's own included (it parks after the access that it is doing). */

struct cpuid_table;
struct hyperv;
struct kvm_run;
struct vcpu;

enum vcpu_fault {
	VCPU_TRIPLE_FAULT,
	VCPU_INTERNAL_ERROR, /* KVM gave up, or came back with what we never asked for */
};

/* What all vCPUs of a machine share; borrowed by each for its life.  The fields
 * may still be filled in until the first unpark. */
struct vcpu_env {
	int kvm_fd, vm_fd;
	struct memory *memory;
	struct bus *bus;
	struct hyperv *hyperv;
	/* The vCPU cannot go on.  text: its registers (borrowed during the call).
	 * Called on its own thread; it parks itself afterwards. */
	void (*fault)(void *arg, uint32_t index, enum vcpu_fault fault, const char *text);
	void *arg;
};

/* Create it, give it its CPUID leaves, start its thread: PARKED. */
MUST_USE enum err vcpu_create(const struct vcpu_env *env, uint32_t index,
			      const struct cpuid_table *cpuid, struct vcpu **out);
void vcpu_destroy(struct vcpu *v); /* NULL allowed; any state */
/* Descriptor and shared structure, borrowed; for use while it is parked. */
int vcpu_fd(const struct vcpu *v);
struct kvm_run *vcpu_run(const struct vcpu *v);
/* Ask it to park, do not wait.  Idempotent. */
void vcpu_request_park(struct vcpu *v);
/* Wait until it is parked; it has been asked to. */
void vcpu_wait_parked(struct vcpu *v);
void vcpu_unpark(struct vcpu *v);

struct vcpu_stats {
	uint64_t exits;	/* returns to user space with something to do */
	uint64_t unknown_msrs; /* accesses answered by #GP because nobody has the MSR */
};
void vcpu_stats(const struct vcpu *v, struct vcpu_stats *out);

/* Install the signal handler that kicks vCPUs out of the guest.  Once a process,
 * before the first vcpu_create; a second call is harmless. */
MUST_USE enum err vcpu_install_kick(void);

#endif
