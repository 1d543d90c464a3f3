/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VCPU_STATE_H
#define HV_VCPU_STATE_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/state.h"

/* vcpu_state: everything KVM knows of a vCPU, to sections "vcpu".N and back.
 *
 * All calls while every vCPU is parked outside KVM_RUN with its last exit completed
 * (one KVM_RUN with immediate_exit after it); from one thread, any.  save may call
 * KVM_RUN itself with a pending signal (no guest instruction runs), so that a LAPIC
 * timer which expired while parked shows up in the saved LAPIC.  It uses
 * KVM_SET_SIGNAL_MASK for that and switches it off again: kicks of the VM must not
 * depend on that ioctl. */

extern const struct state_kind vcpu_state_kind;

struct vcpu_ref { /* both borrowed */
	int fd;
	struct kvm_run *run;
};

/* What this KVM can save of a vCPU: its MSR list, size of XSAVE, capabilities. */
struct vcpu_plan;

/* After KVM_SET_CPUID2 of that vCPU.  kvm_fd: /dev/kvm.  ERR_UNSUPPORTED names what
 * this KVM lacks. */
MUST_USE enum err vcpu_plan_create(int kvm_fd, int vm_fd, int vcpu_fd, struct vcpu_plan **out);
void vcpu_plan_destroy(struct vcpu_plan *p); /* NULL allowed */
/* Indices of the MSRs that are saved, ascending; borrowed. */
const uint32_t *vcpu_plan_msrs(const struct vcpu_plan *p, size_t *count);
size_t vcpu_plan_xsave_bytes(const struct vcpu_plan *p);
uint32_t vcpu_plan_tsc_khz(const struct vcpu_plan *p);

/* Sections vcpu.0..count-1, begun and ended here.  tsc (count values, filled): guest
 * TSC of each at one common instant, as saved. */
MUST_USE enum err vcpu_state_save(const struct vcpu_plan *p, const struct vcpu_ref *vcpus,
				  uint32_t count, struct state_out *out, uint64_t *tsc);
/* Into vCPUs that have their CPUID and never ran, after vm_state_load.  Decodes and
 * checks all sections before it changes any vCPU.  tsc (count values, filled): to be
 * given to vcpu_state_set_tsc again right before the first resume, so that no guest
 * time passes between.  ERR_VERSION names an MSR that does not load. */
MUST_USE enum err vcpu_state_load(const struct vcpu_plan *p, const struct vcpu_ref *vcpus,
				  uint32_t count, struct state_file *in, uint64_t *tsc);

/* Guest TSC of every vCPU at one instant, and setting them (the differences between
 * vCPUs are kept to the cycle). */
MUST_USE enum err vcpu_state_get_tsc(const struct vcpu_ref *vcpus, uint32_t count, uint64_t *tsc);
MUST_USE enum err vcpu_state_set_tsc(const struct vcpu_ref *vcpus, uint32_t count,
				     const uint64_t *tsc);

#endif
