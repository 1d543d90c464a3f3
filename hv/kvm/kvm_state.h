/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_KVM_KVM_STATE_H
#define HV_KVM_KVM_STATE_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* kvm_state: the ioctls that read and write machine state, checked.
 *
 * Each wraps one ioctl; failures are ERR_IO (or err_sys's mapping) with a note that
 * names it.  vCPU ioctls wait while that vCPU is in KVM_RUN.
 * Source: Linux Documentation/virt/kvm/api.rst. */

/* ---- vCPU ---- */
MUST_USE enum err kvm_state_get_regs(int vcpu_fd, struct kvm_regs *out);
MUST_USE enum err kvm_state_set_regs(int vcpu_fd, const struct kvm_regs *in);
MUST_USE enum err kvm_state_get_sregs2(int vcpu_fd, struct kvm_sregs2 *out);
MUST_USE enum err kvm_state_set_sregs2(int vcpu_fd, const struct kvm_sregs2 *in);
/* buf: as large as KVM_CAP_XSAVE2 of the VM says, at least 4096. */
MUST_USE enum err kvm_state_get_xsave2(int vcpu_fd, void *buf);
MUST_USE enum err kvm_state_set_xsave(int vcpu_fd, const void *buf);
MUST_USE enum err kvm_state_get_xcrs(int vcpu_fd, struct kvm_xcrs *out);
MUST_USE enum err kvm_state_set_xcrs(int vcpu_fd, const struct kvm_xcrs *in);
MUST_USE enum err kvm_state_get_debugregs(int vcpu_fd, struct kvm_debugregs *out);
MUST_USE enum err kvm_state_set_debugregs(int vcpu_fd, const struct kvm_debugregs *in);
MUST_USE enum err kvm_state_get_lapic(int vcpu_fd, struct kvm_lapic_state *out);
MUST_USE enum err kvm_state_set_lapic(int vcpu_fd, const struct kvm_lapic_state *in);
MUST_USE enum err kvm_state_get_mp_state(int vcpu_fd, uint32_t *out);
MUST_USE enum err kvm_state_set_mp_state(int vcpu_fd, uint32_t in);
MUST_USE enum err kvm_state_get_events(int vcpu_fd, struct kvm_vcpu_events *out);
MUST_USE enum err kvm_state_set_events(int vcpu_fd, const struct kvm_vcpu_events *in);
/* *done: how many were transferred before KVM refused one (all: list->nmsrs). */
MUST_USE enum err kvm_state_get_msrs(int vcpu_fd, struct kvm_msrs *list, uint32_t *done);
MUST_USE enum err kvm_state_set_msrs(int vcpu_fd, const struct kvm_msrs *list, uint32_t *done);
MUST_USE enum err kvm_state_get_msr(int vcpu_fd, uint32_t index, uint64_t *value);
MUST_USE enum err kvm_state_get_tsc_offset(int vcpu_fd, uint64_t *out);
MUST_USE enum err kvm_state_set_tsc_offset(int vcpu_fd, uint64_t in);
MUST_USE enum err kvm_state_get_tsc_khz(int vcpu_fd, uint32_t *out);
MUST_USE enum err kvm_state_set_tsc_khz(int vcpu_fd, uint32_t in);
MUST_USE enum err kvm_state_set_cpuid2(int vcpu_fd, const struct kvm_cpuid2 *in);
MUST_USE enum err kvm_state_get_cpuid2(int vcpu_fd, struct kvm_cpuid2 **out); /* given; free() */
/* KVM's own paravirtual MSRs and hypercalls only as far as CPUID offers them: not at
 * all.  Their state would not be saved.  Nothing where KVM has no such switch. */
MUST_USE enum err kvm_state_enforce_cpuid(int vcpu_fd);
/* Enter KVM_RUN with a signal pending: exits and timers that wait are completed, no
 * guest instruction runs.  ERR_FAILED if KVM exits for another reason. */
MUST_USE enum err kvm_state_settle(int vcpu_fd, struct kvm_run *run);

/* ---- VM ---- */
MUST_USE enum err kvm_state_get_irqchip(int vm_fd, uint32_t chip, struct kvm_irqchip *out);
MUST_USE enum err kvm_state_set_irqchip(int vm_fd, const struct kvm_irqchip *in);
MUST_USE enum err kvm_state_get_pit2(int vm_fd, struct kvm_pit_state2 *out);
MUST_USE enum err kvm_state_set_pit2(int vm_fd, const struct kvm_pit_state2 *in);
/* PIT ticks that the guest has not taken yet are not collected for later (KVM's
 * backlog is not part of KVM_GET_PIT2). */
MUST_USE enum err kvm_state_pit_no_reinject(int vm_fd);

/* ---- system ---- */
/* -1 if it is no KVM. */
int kvm_state_api_version(int kvm_fd);
/* Create a machine and give it back at once: 0, or the errno that says why not. */
int kvm_state_try_machine(int kvm_fd);
/* KVM_CHECK_EXTENSION on /dev/kvm or a VM; 0 if absent. */
int kvm_state_extension(int fd, long cap);
/* Both are malloc'd, given; free(). */
MUST_USE enum err kvm_state_supported_cpuid(int kvm_fd, struct kvm_cpuid2 **out);
MUST_USE enum err kvm_state_msr_list(int kvm_fd, struct kvm_msr_list **out);
/* One feature MSR of the host as KVM offers it. */
MUST_USE enum err kvm_state_feature_msr(int kvm_fd, uint32_t index, uint64_t *value);

#endif
