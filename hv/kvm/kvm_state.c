/* SPDX-License-Identifier: Apache-2.0 */
/* kvm_state: the ioctls of machine state, each checked.
 *
 * Source: Linux Documentation/virt/kvm/api.rst; devices/vcpu.rst section 4 for the
 * TSC offset (since Linux 5.16). */
#include "hv/kvm/kvm_state.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* One ioctl that gives 0 (or more) or an errno; note "NAME: why". */
static enum err kvm_state_call(int fd, unsigned long request, const void *arg, const char *name)
{
	int r;

	do
		r = ioctl(fd, request, arg);
	while (r < 0 && errno == EINTR);
	return r < 0 ? err_sys(errno, "%s", name) : ERR_OK;
}

#define CALL(fd, request, arg) kvm_state_call(fd, request, arg, #request)

enum err kvm_state_get_regs(int vcpu_fd, struct kvm_regs *out)
{
	return CALL(vcpu_fd, KVM_GET_REGS, out);
}

enum err kvm_state_set_regs(int vcpu_fd, const struct kvm_regs *in)
{
	return CALL(vcpu_fd, KVM_SET_REGS, in);
}

enum err kvm_state_get_sregs2(int vcpu_fd, struct kvm_sregs2 *out)
{
	return CALL(vcpu_fd, KVM_GET_SREGS2, out);
}

enum err kvm_state_set_sregs2(int vcpu_fd, const struct kvm_sregs2 *in)
{
	return CALL(vcpu_fd, KVM_SET_SREGS2, in);
}

enum err kvm_state_get_xsave2(int vcpu_fd, void *buf)
{
	return CALL(vcpu_fd, KVM_GET_XSAVE2, buf);
}

enum err kvm_state_set_xsave(int vcpu_fd, const void *buf)
{
	return CALL(vcpu_fd, KVM_SET_XSAVE, buf);
}

enum err kvm_state_get_xcrs(int vcpu_fd, struct kvm_xcrs *out)
{
	return CALL(vcpu_fd, KVM_GET_XCRS, out);
}

enum err kvm_state_set_xcrs(int vcpu_fd, const struct kvm_xcrs *in)
{
	return CALL(vcpu_fd, KVM_SET_XCRS, in);
}

enum err kvm_state_get_debugregs(int vcpu_fd, struct kvm_debugregs *out)
{
	return CALL(vcpu_fd, KVM_GET_DEBUGREGS, out);
}

enum err kvm_state_set_debugregs(int vcpu_fd, const struct kvm_debugregs *in)
{
	return CALL(vcpu_fd, KVM_SET_DEBUGREGS, in);
}

enum err kvm_state_get_lapic(int vcpu_fd, struct kvm_lapic_state *out)
{
	return CALL(vcpu_fd, KVM_GET_LAPIC, out);
}

enum err kvm_state_set_lapic(int vcpu_fd, const struct kvm_lapic_state *in)
{
	return CALL(vcpu_fd, KVM_SET_LAPIC, in);
}

enum err kvm_state_get_mp_state(int vcpu_fd, uint32_t *out)
{
	struct kvm_mp_state s = {0};
	enum err e = CALL(vcpu_fd, KVM_GET_MP_STATE, &s);

	if (e == ERR_OK)
		*out = s.mp_state;
	return e;
}

enum err kvm_state_set_mp_state(int vcpu_fd, uint32_t in)
{
	struct kvm_mp_state s = {.mp_state = in};

	return CALL(vcpu_fd, KVM_SET_MP_STATE, &s);
}

enum err kvm_state_get_events(int vcpu_fd, struct kvm_vcpu_events *out)
{
	return CALL(vcpu_fd, KVM_GET_VCPU_EVENTS, out);
}

enum err kvm_state_set_events(int vcpu_fd, const struct kvm_vcpu_events *in)
{
	return CALL(vcpu_fd, KVM_SET_VCPU_EVENTS, in);
}

enum err kvm_state_get_msrs(int vcpu_fd, struct kvm_msrs *list, uint32_t *done)
{
	int r = ioctl(vcpu_fd, KVM_GET_MSRS, list);

	if (r < 0)
		return err_sys(errno, "KVM_GET_MSRS");
	*done = (uint32_t)r;
	return ERR_OK;
}

enum err kvm_state_set_msrs(int vcpu_fd, const struct kvm_msrs *list, uint32_t *done)
{
	int r = ioctl(vcpu_fd, KVM_SET_MSRS, list);

	if (r < 0)
		return err_sys(errno, "KVM_SET_MSRS");
	*done = (uint32_t)r;
	return ERR_OK;
}

/* struct kvm_msrs ends in a flexible array: room for one entry behind it. */
union kvm_state_one_msr {
	struct kvm_msrs list;
	uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

static enum err kvm_state_one_msr(int fd, uint32_t index, uint64_t *value)
{
	union kvm_state_one_msr m = {0};
	int r;

	m.list.nmsrs = 1;
	m.list.entries[0].index = index;
	r = ioctl(fd, KVM_GET_MSRS, &m);
	if (r < 0)
		return err_sys(errno, "KVM_GET_MSRS");
	if (r != 1)
		return err_note(ERR_UNSUPPORTED, 0, "KVM_GET_MSRS: MSR %#x cannot be read", index);
	*value = m.list.entries[0].data;
	return ERR_OK;
}

enum err kvm_state_get_msr(int vcpu_fd, uint32_t index, uint64_t *value)
{
	return kvm_state_one_msr(vcpu_fd, index, value);
}

enum err kvm_state_feature_msr(int kvm_fd, uint32_t index, uint64_t *value)
{
	return kvm_state_one_msr(kvm_fd, index, value);
}

enum err kvm_state_get_tsc_offset(int vcpu_fd, uint64_t *out)
{
	struct kvm_device_attr a = {.group = KVM_VCPU_TSC_CTRL,
				    .attr = KVM_VCPU_TSC_OFFSET,
				    .addr = (uintptr_t)out};

	return kvm_state_call(vcpu_fd, KVM_GET_DEVICE_ATTR, &a, "reading KVM_VCPU_TSC_OFFSET");
}

enum err kvm_state_set_tsc_offset(int vcpu_fd, uint64_t in)
{
	struct kvm_device_attr a = {.group = KVM_VCPU_TSC_CTRL,
				    .attr = KVM_VCPU_TSC_OFFSET,
				    .addr = (uintptr_t)&in};

	return kvm_state_call(vcpu_fd, KVM_SET_DEVICE_ATTR, &a, "setting KVM_VCPU_TSC_OFFSET");
}

enum err kvm_state_get_tsc_khz(int vcpu_fd, uint32_t *out)
{
	int r = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0);

	if (r < 0)
		return err_sys(errno, "KVM_GET_TSC_KHZ");
	if (r == 0)
		return err_note(ERR_UNSUPPORTED, 0, "KVM_GET_TSC_KHZ: this host's TSC frequency "
						    "is not known");
	*out = (uint32_t)r;
	return ERR_OK;
}

enum err kvm_state_set_tsc_khz(int vcpu_fd, uint32_t in)
{
	return ioctl(vcpu_fd, KVM_SET_TSC_KHZ, (unsigned long)in) < 0
		       ? err_sys(errno, "KVM_SET_TSC_KHZ to %u kHz", in)
		       : ERR_OK;
}

enum err kvm_state_set_cpuid2(int vcpu_fd, const struct kvm_cpuid2 *in)
{
	return CALL(vcpu_fd, KVM_SET_CPUID2, in);
}

enum err kvm_state_enforce_cpuid(int vcpu_fd)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID, .args = {1}};

	/* EINVAL: before Linux 5.10 */
	if (ioctl(vcpu_fd, KVM_ENABLE_CAP, &cap) < 0 && errno != EINVAL)
		return err_sys(errno, "KVM_CAP_ENFORCE_PV_FEATURE_CPUID");
	return ERR_OK;
}

/* The CPUID ioctls fill a list whose length is not known before: E2BIG means more. */
static enum err kvm_state_cpuid_list(int fd, unsigned long request, const char *name,
				     struct kvm_cpuid2 **out)
{
	for (uint32_t n = 128; n <= 4096; n *= 2) {
		struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + n * sizeof(c->entries[0]));
		int sys;

		if (!c)
			return err_note(ERR_NOMEM, 0, "%s: out of memory", name);
		c->nent = n;
		if (ioctl(fd, request, c) == 0) {
			*out = c;
			return ERR_OK;
		}
		sys = errno;
		free(c);
		if (sys != E2BIG)
			return err_sys(sys, "%s", name);
	}
	return err_note(ERR_UNSUPPORTED, 0, "%s: more leaves than this program can take", name);
}

enum err kvm_state_get_cpuid2(int vcpu_fd, struct kvm_cpuid2 **out)
{
	return kvm_state_cpuid_list(vcpu_fd, KVM_GET_CPUID2, "KVM_GET_CPUID2", out);
}

enum err kvm_state_supported_cpuid(int kvm_fd, struct kvm_cpuid2 **out)
{
	return kvm_state_cpuid_list(kvm_fd, KVM_GET_SUPPORTED_CPUID, "KVM_GET_SUPPORTED_CPUID",
				    out);
}

/* ---- settle ---- */

#define SETTLE_SIGNAL SIGURG
#define KERNEL_SIGSET_BYTES 8

/* KVM_RUN with the signal pending and, inside KVM, not blocked: it returns EINTR
 * before any guest instruction, but after completing what waits. */
static enum err kvm_state_run_interrupted(int vcpu_fd, struct kvm_run *run, const sigset_t *mask)
{
	union {
		struct kvm_signal_mask head;
		uint8_t room[sizeof(struct kvm_signal_mask) + KERNEL_SIGSET_BYTES];
	} m = {0};
	uint8_t immediate = run->immediate_exit;
	enum err e;
	int r;

	m.head.len = KERNEL_SIGSET_BYTES;
	memcpy(m.room + sizeof(struct kvm_signal_mask), mask, KERNEL_SIGSET_BYTES);
	if ((e = CALL(vcpu_fd, KVM_SET_SIGNAL_MASK, &m)) != ERR_OK)
		return e;
	run->immediate_exit = 0;
	r = ioctl(vcpu_fd, KVM_RUN, 0);
	if (r == 0)
		e = err_note(ERR_FAILED, 0, "a parked vCPU left KVM with exit reason %u",
			     run->exit_reason);
	else if (errno != EINTR && errno != EAGAIN)
		e = err_sys(errno, "KVM_RUN of a parked vCPU");
	run->immediate_exit = immediate;
	/* NULL: KVM_RUN takes the thread's own mask again. */
	if (ioctl(vcpu_fd, KVM_SET_SIGNAL_MASK, NULL) < 0 && e == ERR_OK)
		e = err_sys(errno, "KVM_SET_SIGNAL_MASK");
	return e;
}

enum err kvm_state_settle(int vcpu_fd, struct kvm_run *run)
{
	static const struct timespec now = {0};
	sigset_t one, before, inside;
	enum err e;

	sigemptyset(&one);
	sigaddset(&one, SETTLE_SIGNAL);
	pthread_sigmask(SIG_BLOCK, &one, &before);
	inside = before;
	sigdelset(&inside, SETTLE_SIGNAL);
	pthread_kill(pthread_self(), SETTLE_SIGNAL);
	e = kvm_state_run_interrupted(vcpu_fd, run, &inside);
	while (sigtimedwait(&one, NULL, &now) < 0 && errno == EINTR)
		;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return e;
}

/* ---- VM ---- */

enum err kvm_state_get_irqchip(int vm_fd, uint32_t chip, struct kvm_irqchip *out)
{
	memset(out, 0, sizeof(*out));
	out->chip_id = chip;
	return CALL(vm_fd, KVM_GET_IRQCHIP, out);
}

enum err kvm_state_set_irqchip(int vm_fd, const struct kvm_irqchip *in)
{
	return CALL(vm_fd, KVM_SET_IRQCHIP, in);
}

enum err kvm_state_get_pit2(int vm_fd, struct kvm_pit_state2 *out)
{
	memset(out, 0, sizeof(*out));
	return CALL(vm_fd, KVM_GET_PIT2, out);
}

enum err kvm_state_set_pit2(int vm_fd, const struct kvm_pit_state2 *in)
{
	return CALL(vm_fd, KVM_SET_PIT2, in);
}

enum err kvm_state_pit_no_reinject(int vm_fd)
{
	struct kvm_reinject_control c = {.pit_reinject = 0};

	return CALL(vm_fd, KVM_REINJECT_CONTROL, &c);
}

/* ---- system ---- */

int kvm_state_api_version(int kvm_fd)
{
	return ioctl(kvm_fd, KVM_GET_API_VERSION, 0);
}

int kvm_state_try_machine(int kvm_fd)
{
	int vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);

	if (vm_fd < 0)
		return errno;
	close(vm_fd);
	return 0;
}

int kvm_state_extension(int fd, long cap)
{
	int r = ioctl(fd, KVM_CHECK_EXTENSION, cap);

	return r < 0 ? 0 : r;
}

enum err kvm_state_msr_list(int kvm_fd, struct kvm_msr_list **out)
{
	struct kvm_msr_list probe = {.nmsrs = 0}, *l;
	enum err e;

	/* E2BIG is how KVM says how many there are. */
	if (ioctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, &probe) < 0 && errno != E2BIG)
		return err_sys(errno, "KVM_GET_MSR_INDEX_LIST");
	l = calloc(1, sizeof(*l) + probe.nmsrs * sizeof(l->indices[0]));
	if (!l)
		return err_note(ERR_NOMEM, 0, "KVM_GET_MSR_INDEX_LIST: out of memory");
	l->nmsrs = probe.nmsrs;
	if ((e = CALL(kvm_fd, KVM_GET_MSR_INDEX_LIST, l)) != ERR_OK) {
		free(l);
		return e;
	}
	*out = l;
	return ERR_OK;
}
