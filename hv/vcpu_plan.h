/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VCPU_PLAN_H
#define HV_VCPU_PLAN_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/config.h"
#include "hv/vcpu_state.h"

/* vcpu_plan: what this KVM can save of a vCPU, and its MSRs.  Private to vcpu_state.c;
 * creation and questions are in vcpu_state.h. */

enum {
	VCPU_PLAN_MAX_MSRS = 1024,
	VCPU_PLAN_MSR_BYTES = 12, /* one in the state: index u32, value u64 */
};

struct vcpu_plan {
	size_t xsave_bytes;
	uint32_t tsc_khz;	/* of this host */
	uint32_t guest_tsc_khz; /* what the vCPUs have now, all of them the same */
	bool has_xcrs, has_tsc_control, sets_tsc;
	bool timer_in_vmcs; /* the CPU's VMX timer may play the LAPIC's */
	size_t msr_count;
	uint32_t msrs[VCPU_PLAN_MAX_MSRS]; /* ascending */
	/* Scratch of save and load, so that they allocate nothing per vCPU. */
	uint8_t *xsave;
	struct kvm_msrs *batch;
	uint8_t *msr_bytes;
	/* LAPIC timers as loaded, for vcpu_state_start. */
	uint32_t timer_initial[CONFIG_MAX_VCPUS], timer_current[CONFIG_MAX_VCPUS];
};

bool vcpu_plan_has_msr(const struct vcpu_plan *p, uint32_t index);
/* All MSRs of a vCPU into p->msr_bytes, as the state has them. */
MUST_USE enum err vcpu_plan_read_msrs(const struct vcpu_plan *p, int fd);
/* count MSRs of a state into a vCPU.  ERR_VERSION names one that does not go. */
MUST_USE enum err vcpu_plan_write_msrs(const struct vcpu_plan *p, int fd, const uint8_t *bytes,
				       size_t count);

#endif
