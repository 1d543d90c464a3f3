/* SPDX-License-Identifier: Apache-2.0 */
/* vcpu_lapic: reading a LAPIC so that an expired timer is in it.
 *
 * An expiry while the vCPU is parked waits inside KVM and is moved to the IRR by
 * the next KVM_RUN, before the guest runs.  So: read, KVM_RUN with a signal pending
 * (settle), read again; if the counter shows that nothing expired in between, the
 * second read is the truth, otherwise once more.  A counter of 0 may be ahead of
 * the host timer that it describes, hence the wait.
 * A one-shot timer that has expired, and is known to be delivered, is saved as
 * stopped (initial count 0): KVM_SET_LAPIC would let it fire again.  Where the CPU's
 * own VMX timer plays the host timer a settle cannot see it, and the benefit of the
 * doubt is a second interrupt rather than none.
 *
 * Source: Intel SDM 3A 10.5.4 (LAPIC timer); Linux Documentation/virt/kvm/api.rst. */
#include "hv/vcpu_lapic.h"

#include <time.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "hv/kvm/kvm_state.h"

enum {
	LAPIC_IRR = 0x200,
	LAPIC_LVT_TIMER = 0x320,
	LAPIC_TIMER_DIVIDE = 0x3E0,
	LVT_MASKED = 1 << 16,
	LVT_TIMER_MODE = 3 << 17,
	LVT_TIMER_PERIODIC = 1 << 17,
	SETTLE_TRIES = 6,
	SETTLE_WAIT_NS = 60000,
};

static uint32_t vcpu_lapic_get(const struct kvm_lapic_state *l, unsigned offset)
{
	return le32_get(l->regs + offset);
}

static bool vcpu_lapic_on(const struct kvm_lapic_state *l)
{
	return vcpu_lapic_get(l, VCPU_LAPIC_TIMER_INITIAL) != 0 &&
	       !(vcpu_lapic_get(l, LAPIC_LVT_TIMER) & LVT_MASKED);
}

static bool vcpu_lapic_periodic(const struct kvm_lapic_state *l)
{
	return (vcpu_lapic_get(l, LAPIC_LVT_TIMER) & LVT_TIMER_MODE) == LVT_TIMER_PERIODIC;
}

/* KVM's LAPIC counts nanoseconds, divided by 1..128. */
static uint64_t vcpu_lapic_period_ns(const struct kvm_lapic_state *l)
{
	uint32_t d = vcpu_lapic_get(l, LAPIC_TIMER_DIVIDE);
	unsigned shift = ((d & 3) | (d >> 1 & 4)) + 1;

	return (uint64_t)vcpu_lapic_get(l, VCPU_LAPIC_TIMER_INITIAL) << (shift & 7);
}

static bool vcpu_lapic_requested(const struct kvm_lapic_state *l)
{
	uint32_t vector = vcpu_lapic_get(l, LAPIC_LVT_TIMER) & 0xFF;

	return vcpu_lapic_get(l, LAPIC_IRR + (vector >> 5) * 16) >> (vector & 31) & 1;
}

/* No expiry can have happened between the settle that lies between a and b, and b. */
static bool vcpu_lapic_coherent(const struct kvm_lapic_state *a, const struct kvm_lapic_state *b,
				uint64_t elapsed_ns)
{
	uint32_t was = vcpu_lapic_get(a, VCPU_LAPIC_TIMER_CURRENT);
	uint32_t is = vcpu_lapic_get(b, VCPU_LAPIC_TIMER_CURRENT);

	if (vcpu_lapic_periodic(b))
		return was != 0 && is != 0 && is <= was && elapsed_ns < vcpu_lapic_period_ns(b);
	return is != 0 || was == 0;
}

enum err vcpu_lapic_read(const struct vcpu_ref *v, bool timer_in_vmcs,
			 struct kvm_lapic_state *lapic)
{
	static const struct timespec wait = {.tv_nsec = SETTLE_WAIT_NS};
	struct kvm_lapic_state before;
	struct kvm_vcpu_events events;
	enum err e = kvm_state_get_lapic(v->fd, lapic);

	if (e != ERR_OK || !vcpu_lapic_on(lapic))
		return e;
	/* It has no use for timers any more, and KVM_RUN would report the fault here. */
	if ((e = kvm_state_get_events(v->fd, &events)) != ERR_OK || events.triple_fault.pending)
		return e;
	for (int i = 0; i < SETTLE_TRIES; i++) {
		uint64_t start = clock_mono_ns();

		before = *lapic;
		if (vcpu_lapic_get(&before, VCPU_LAPIC_TIMER_CURRENT) == 0)
			nanosleep(&wait, NULL);
		if ((e = kvm_state_settle(v->fd, v->run)) != ERR_OK ||
		    (e = kvm_state_get_lapic(v->fd, lapic)) != ERR_OK)
			return e;
		if (vcpu_lapic_coherent(&before, lapic, clock_mono_ns() - start))
			break;
	}
	if (!vcpu_lapic_periodic(lapic) && vcpu_lapic_get(lapic, VCPU_LAPIC_TIMER_CURRENT) == 0 &&
	    (vcpu_lapic_requested(lapic) || !timer_in_vmcs))
		le32_put(lapic->regs + VCPU_LAPIC_TIMER_INITIAL, 0);
	return ERR_OK;
}

/* The timer may have run on since it was loaded: what KVM holds now stays, IRR
 * included, but for the counter and an expiry that has not reached the IRR. */
enum err vcpu_lapic_restart_timer(const struct vcpu_ref *v, uint32_t initial, uint32_t current)
{
	struct kvm_lapic_state lapic;
	enum err e;

	if (initial == 0)
		return ERR_OK;
	if ((e = kvm_state_get_lapic(v->fd, &lapic)) != ERR_OK)
		return e;
	le32_put(lapic.regs + VCPU_LAPIC_TIMER_INITIAL, initial);
	le32_put(lapic.regs + VCPU_LAPIC_TIMER_CURRENT, current);
	return kvm_state_set_lapic(v->fd, &lapic);
}
