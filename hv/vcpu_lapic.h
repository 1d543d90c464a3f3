/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VCPU_LAPIC_H
#define HV_VCPU_LAPIC_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/vcpu_state.h"

/* vcpu_lapic: the LAPIC of a parked vCPU with its timer as it really stands.  Private
 * to vcpu_state.c. */

#define VCPU_LAPIC_TIMER_INITIAL 0x380u /* offsets in KVM's register page */
#define VCPU_LAPIC_TIMER_CURRENT 0x390u

/* timer_in_vmcs: see struct vcpu_plan.  May enter KVM_RUN; no guest code runs. */
MUST_USE enum err vcpu_lapic_read(const struct vcpu_ref *v, bool timer_in_vmcs,
				  struct kvm_lapic_state *lapic);
/* Let the timer count on from there; the rest of the LAPIC stays as it is now. */
MUST_USE enum err vcpu_lapic_restart_timer(const struct vcpu_ref *v, uint32_t initial,
					   uint32_t current);

#endif
