/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VCPU_STATE_H
#define HV_VCPU_STATE_H

#include <linux/kvm.h>
#include <stdbool.h>
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
/* The TSC of this host, and that of the guest: another one only where KVM scales it, after
 * the load of an image that came with it. */
uint32_t vcpu_plan_tsc_khz(const struct vcpu_plan *p);
uint32_t vcpu_plan_guest_tsc_khz(const struct vcpu_plan *p);
/* Can this KVM give a guest another TSC frequency than the host's; and can it set a
 * guest's TSC at all?  Where not, every guest has the host's TSC, and only hyperv.h's
 * clock goes on. */
bool vcpu_plan_scales_tsc(const struct vcpu_plan *p);
bool vcpu_plan_sets_tsc(const struct vcpu_plan *p);
/* MSRs in section vcpu.index that this KVM does not have and that are not 0, as
 * " 0x1b" words, appended (at most a few; names may be NULL); how many. */
unsigned vcpu_state_foreign_msrs(const struct vcpu_plan *p, struct state_file *in, uint32_t index,
				 struct buf *names);

/* Sections vcpu.0..count-1, begun and ended here.  tsc (count values, filled): guest
 * TSC of each at one common instant, as saved. */
MUST_USE enum err vcpu_state_save(const struct vcpu_plan *p, const struct vcpu_ref *vcpus,
				  uint32_t count, struct state_out *out, uint64_t *tsc);
/* Into vCPUs that have their CPUID and never ran; before vm_state_load.  Decodes and
 * checks all sections before it changes any vCPU.  tsc (count values, filled): for
 * vcpu_state_start.  ERR_VERSION names an MSR that does not load. */
MUST_USE enum err vcpu_state_load(struct vcpu_plan *p, const struct vcpu_ref *vcpus,
				  uint32_t count, struct state_file *in, uint64_t *tsc);

/* Right before the first resume after a load or a start (or before a save that comes
 * first): TSC and LAPIC timers stand where they stood when loaded, so that no guest
 * time has passed in between. */
MUST_USE enum err vcpu_state_start(const struct vcpu_plan *p, const struct vcpu_ref *vcpus,
				   uint32_t count, const uint64_t *tsc);

/* Two TSC frequencies (any unit) that are one clock, calibrated twice. */
bool vcpu_state_same_clock(uint64_t a, uint64_t b);

/* Guest TSC of every vCPU at one instant, and setting them (the differences between
 * vCPUs are kept to the cycle). */
MUST_USE enum err vcpu_state_get_tsc(const struct vcpu_ref *vcpus, uint32_t count, uint64_t *tsc);
MUST_USE enum err vcpu_state_set_tsc(const struct vcpu_ref *vcpus, uint32_t count,
				     const uint64_t *tsc);

#endif
