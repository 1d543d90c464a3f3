/* SPDX-License-Identifier: Apache-2.0 */
/* vcpu: a thread around KVM_RUN, and the answer to every exit; see vcpu.h.
 *
 * Leaving the guest.  Whoever wants a vCPU to park sets `park`, then
 * run->immediate_exit, then sends KICK_SIGNAL.  The vCPU clears immediate_exit
 * and only then looks at `park`.  So either it sees `park`, or immediate_exit is
 * set after it was cleared, and KVM_RUN returns at once; the signal is for a
 * vCPU that is already inside.  The handler does nothing.
 *
 * Settling.  An exit for I/O, MMIO or an MSR is only completed by the next
 * KVM_RUN (RIP moves on, the answer reaches the register).  So a vCPU that is to
 * park enters once more with immediate_exit set: KVM completes, and returns
 * EINTR before any guest instruction.  Completion may ask for more (string I/O,
 * an access that crosses a page), hence a loop.
 *
 * Threads: `lock` guards parked and quit; everything else belongs to the vCPU's
 * thread while it runs, and to the loop thread while it is parked.
 *
 * Source: Linux Documentation/virt/kvm/api.rst, KVM_RUN. */
#include "hv/vcpu.h"

#include "base/bytes.h"
#include "base/log.h"
#include "base/thread.h"
#include "hv/cpuid.h"
#include "hv/hyperv.h"
#include "hv/kvm/kvm.h"
#include "hv/kvm/kvm_state.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KICK_SIGNAL SIGRTMIN
#define INSN_BYTES 15u

struct vcpu {
	const struct vcpu_env *env;
	uint32_t index;
	int fd;
	struct kvm_run *run;
	size_t run_bytes;
	struct thread thread;
	_Atomic bool park;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool parked, quit;
	bool faulted; /* own thread: since the last unpark */
	_Atomic uint64_t exits, unknown_msrs;
	struct log_limit log;
};

/* ---- faults ---- */

static void text_insn(const struct vcpu *v, uint64_t linear, struct buf *text)
{
	const struct kvm_run *run = v->run;
	uint8_t insn[INSN_BYTES];
	size_t len = 0;
	uint64_t physical;

	if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
	    run->emulation_failure.suberror == KVM_INTERNAL_ERROR_EMULATION &&
	    run->emulation_failure.ndata >= 3 &&
	    (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
		len = run->emulation_failure.insn_size;
		len = len < sizeof insn ? len : sizeof insn;
		memcpy(insn, run->emulation_failure.insn_bytes, len);
	} else if (kvm_vcpu_translate(v->fd, linear, &physical)) {
		len = MEMORY_PAGE_BYTES - physical % MEMORY_PAGE_BYTES;
		len = len < sizeof insn ? len : sizeof insn;
		if (memory_read(v->env->memory, gpa(physical), insn, len) != ERR_OK)
			len = 0;
	}
	buf_put_str(text, " code=");
	for (size_t i = 0; i < len; i++)
		buf_printf(text, "%02x", insn[i]);
	if (!len)
		buf_put_str(text, "unreadable");
}

static void text_regs(const struct vcpu *v, struct buf *text)
{
	struct kvm_regs r;
	struct kvm_sregs2 s;

	if (kvm_state_get_regs(v->fd, &r) != ERR_OK || kvm_state_get_sregs2(v->fd, &s) != ERR_OK) {
		buf_printf(text, "; its registers cannot be read");
		return;
	}
	buf_printf(text,
		   "; vcpu=%u rip=%llx rflags=%llx rax=%llx rbx=%llx rcx=%llx rdx=%llx rsi=%llx "
		   "rdi=%llx rbp=%llx rsp=%llx r8=%llx r9=%llx r10=%llx r11=%llx r12=%llx "
		   "r13=%llx r14=%llx r15=%llx",
		   v->index, r.rip, r.rflags, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp,
		   r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15);
	buf_printf(text,
		   " cs=%x:%llx ss=%x ds=%x es=%x fs=%llx gs=%llx cr0=%llx cr2=%llx cr3=%llx "
		   "cr4=%llx efer=%llx gdt=%llx+%x idt=%llx+%x",
		   s.cs.selector, s.cs.base, s.ss.selector, s.ds.selector, s.es.selector,
		   s.fs.base, s.gs.base, s.cr0, s.cr2, s.cr3, s.cr4, s.efer, s.gdt.base,
		   s.gdt.limit, s.idt.base, s.idt.limit);
	text_insn(v, s.cs.base + r.rip, text);
}

static void vcpu_fault(struct vcpu *v, enum vcpu_fault fault, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

static void vcpu_fault(struct vcpu *v, enum vcpu_fault fault, const char *fmt, ...)
{
	AUTO_BUF struct buf text = {0};
	char what[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	buf_put_str(&text, what);
	text_regs(v, &text);
	v->faulted = true;
	v->env->fault(v->env->arg, v->index, fault, buf_str(&text));
	vcpu_request_park(v);
}

static void fault_internal(struct vcpu *v)
{
	static const char *const words[] = {
		[KVM_INTERNAL_ERROR_EMULATION] = "an instruction that it cannot emulate",
		[KVM_INTERNAL_ERROR_SIMUL_EX] = "an exception while delivering one",
		[KVM_INTERNAL_ERROR_DELIVERY_EV] = "an exit while delivering an event",
		[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "an exit that it does not know",
	};
	uint32_t sub = v->run->internal.suberror;
	const char *word = sub < sizeof words / sizeof words[0] ? words[sub] : NULL;

	vcpu_fault(v, VCPU_INTERNAL_ERROR, "KVM gave up on %s (suberror %u)",
		   word ? word : "an internal error", sub);
}

/* ---- the answers ---- */

static void device_error(struct vcpu *v, enum err e, const char *what, uint64_t addr)
{
	if (e != ERR_OK)
		log_limited(&v->log, LOG_WARN, "device-error vcpu=%u %s=0x%llx reason=\"%s\"",
			    v->index, what, (unsigned long long)addr, err_text());
}

/* One of the hypercall page's OUTs, by the guest's kernel?  Ring 3 cannot do them at all
 * (#GP), unless its kernel has given it all ports; then they are ports of nobody. */
static bool is_hypercall(const struct vcpu *v)
{
	const struct kvm_run *run = v->run;
	struct kvm_sregs2 s;

	if (run->io.port != HYPERCALL_PORT_CALL && run->io.port != HYPERCALL_PORT_SIGNAL)
		return false;
	if (run->io.direction != KVM_EXIT_IO_OUT || run->io.size != 4 || run->io.count != 1)
		return false;
	return hyperv_has_page(v->env->hyperv) && kvm_state_get_sregs2(v->fd, &s) == ERR_OK &&
	       s.ss.dpl == 0;
}

static void answer_hypercall(struct vcpu *v)
{
	struct kvm_regs *r = &v->run->s.regs.regs;

	if (v->run->io.port == HYPERCALL_PORT_SIGNAL)
		r->rcx = hyperv_signal(v->env->hyperv, (uint32_t)r->rax);
	else
		r->rax = hyperv_hypercall(v->env->hyperv, r->rcx, r->rdx, r->r8);
	v->run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
}

static void answer_io(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	if (is_hypercall(v)) {
		answer_hypercall(v);
		return;
	}
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		enum err e = run->io.direction == KVM_EXIT_IO_OUT
				     ? bus_write(v->env->bus, BUS_PORT, run->io.port, run->io.size,
						 data)
				     : bus_read(v->env->bus, BUS_PORT, run->io.port, run->io.size,
						data);
		device_error(v, e, "port", run->io.port);
	}
}

/* An access that crosses a page arrives as two, which may have any length. */
static void answer_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint32_t len = run->mmio.len;
	bool whole = len == 1 || len == 2 || len == 4 || len == 8;
	uint32_t step = whole ? len : 1;

	for (uint32_t at = 0; at < len && at < sizeof run->mmio.data; at += step) {
		uint64_t addr = run->mmio.phys_addr + at;
		uint8_t *data = run->mmio.data + at;
		enum err e = run->mmio.is_write
				     ? bus_write(v->env->bus, BUS_MMIO, addr, step, data)
				     : bus_read(v->env->bus, BUS_MMIO, addr, step, data);
		device_error(v, e, "address", addr);
	}
}

static void answer_msr(struct vcpu *v, bool write)
{
	struct kvm_run *run = v->run;
	uint64_t value = 0;
	bool ok = false;

	if (run->msr.index - HYPERV_MSR_FIRST >= HYPERV_MSR_COUNT) {
		log_limited(&v->log, LOG_DEBUG, "unknown-msr vcpu=%u msr=0x%x access=%s", v->index,
			    run->msr.index, write ? "write" : "read");
	} else if (write) {
		ok = hyperv_msr_write(v->env->hyperv, v->index, run->msr.index, run->msr.data);
	} else {
		ok = hyperv_msr_read(v->env->hyperv, v->index, run->msr.index, &value);
		run->msr.data = value;
	}
	run->msr.error = !ok;
	if (!ok)
		atomic_fetch_add_explicit(&v->unknown_msrs, 1, memory_order_relaxed);
}

static void vcpu_answer(struct vcpu *v)
{
	struct kvm_run *run = v->run;

	atomic_fetch_add_explicit(&v->exits, 1, memory_order_relaxed);
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		answer_io(v);
		break;
	case KVM_EXIT_MMIO:
		answer_mmio(v);
		break;
	case KVM_EXIT_X86_RDMSR:
		answer_msr(v, false);
		break;
	case KVM_EXIT_X86_WRMSR:
		answer_msr(v, true);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		break;
	case KVM_EXIT_SHUTDOWN:
		vcpu_fault(v, VCPU_TRIPLE_FAULT, "triple fault");
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		fault_internal(v);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		vcpu_fault(v, VCPU_INTERNAL_ERROR,
			   "the processor refused to enter the guest (reason 0x%llx)",
			   (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_UNKNOWN:
		vcpu_fault(v, VCPU_INTERNAL_ERROR,
			   "KVM does not know why the guest stopped (hardware reason 0x%llx)",
			   (unsigned long long)run->hw.hardware_exit_reason);
		break;
	default: /* only what we switched on can come; a halted vCPU stays in KVM */
		vcpu_fault(v, VCPU_INTERNAL_ERROR, "KVM came back with exit %u, not asked for",
			   run->exit_reason);
		break;
	}
}

/* ---- the thread ---- */

/* Enter once and answer; false if KVM was asked to leave the guest. */
static bool vcpu_enter(struct vcpu *v)
{
	int error = kvm_run(v->fd);

	if (error == EINTR || error == EAGAIN)
		return false;
	if (error == 0)
		vcpu_answer(v);
	else
		vcpu_fault(v, VCPU_INTERNAL_ERROR, "KVM_RUN failed: %s", strerror(error));
	return true;
}

static void set_immediate_exit(struct vcpu *v, uint8_t value)
{
	__atomic_store_n(&v->run->immediate_exit, value, __ATOMIC_SEQ_CST);
}

static void vcpu_loop(struct vcpu *v)
{
	v->faulted = false;
	for (;;) {
		set_immediate_exit(v, 0);
		if (atomic_load(&v->park))
			break;
		(void)vcpu_enter(v);
	}
	set_immediate_exit(v, 1);
	while (!v->faulted && vcpu_enter(v))
		;
}

/* Park until told to run (true) or to end (false). */
static bool vcpu_wait(struct vcpu *v)
{
	AUTO_LOCK(&v->lock);

	v->parked = true;
	pthread_cond_broadcast(&v->changed);
	while (v->parked && !v->quit)
		pthread_cond_wait(&v->changed, &v->lock);
	return !v->quit;
}

static void vcpu_main(void *arg)
{
	struct vcpu *v = arg;
	sigset_t kick;

	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	while (vcpu_wait(v))
		vcpu_loop(v);
}

/* ---- life ---- */

static void kick_handler(int signal)
{
	(void)signal; /* that it interrupts KVM_RUN is all */
}

enum err vcpu_install_kick(void)
{
	struct sigaction sa = {.sa_handler = kick_handler}; /* no SA_RESTART */

	sigemptyset(&sa.sa_mask);
	if (sigaction(KICK_SIGNAL, &sa, NULL) < 0)
		return err_sys(errno, "install the signal handler for vCPUs");
	return ERR_OK;
}

static enum err vcpu_start(struct vcpu *v)
{
	char name[16];
	enum err e;

	snprintf(name, sizeof name, "vcpu%u", v->index);
	if ((e = thread_start(&v->thread, name, vcpu_main, v)) != ERR_OK)
		return e;
	vcpu_wait_parked(v);
	return ERR_OK;
}

enum err vcpu_create(const struct vcpu_env *env, uint32_t index, const struct cpuid_table *cpuid,
		     struct vcpu **out)
{
	struct vcpu *v = calloc(1, sizeof *v);
	enum err e;

	if (!v)
		return err_sys(ENOMEM, "vCPU %u", index);
	v->env = env;
	v->index = index;
	v->fd = -1;
	v->log = (struct log_limit)LOG_LIMIT(8, 10000);
	atomic_store(&v->park, true);
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->changed, NULL);
	e = kvm_vcpu_create(env->kvm_fd, env->vm_fd, index, &v->fd, &v->run, &v->run_bytes);
	if (e != ERR_OK)
		goto fail;
	v->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
	if ((e = cpuid_apply(cpuid, v->fd, index)) != ERR_OK)
		goto fail;
	if ((e = kvm_state_enforce_cpuid(v->fd)) != ERR_OK)
		goto fail;
	if ((e = vcpu_start(v)) != ERR_OK)
		goto fail;
	*out = v;
	return ERR_OK;
fail:
	vcpu_destroy(v);
	return e;
}

void vcpu_destroy(struct vcpu *v)
{
	if (!v)
		return;
	if (v->thread.started) {
		vcpu_request_park(v);
		vcpu_wait_parked(v);
		pthread_mutex_lock(&v->lock);
		v->quit = true;
		pthread_cond_broadcast(&v->changed);
		pthread_mutex_unlock(&v->lock);
		thread_join(&v->thread);
	}
	kvm_vcpu_close(v->fd, v->run, v->run_bytes);
	pthread_cond_destroy(&v->changed);
	pthread_mutex_destroy(&v->lock);
	free(v);
}

int vcpu_fd(const struct vcpu *v)
{
	return v->fd;
}

struct kvm_run *vcpu_run(const struct vcpu *v)
{
	return v->run;
}

void vcpu_request_park(struct vcpu *v)
{
	atomic_store(&v->park, true);
	set_immediate_exit(v, 1);
	pthread_kill(v->thread.id, KICK_SIGNAL);
}

void vcpu_wait_parked(struct vcpu *v)
{
	AUTO_LOCK(&v->lock);

	while (!v->parked)
		pthread_cond_wait(&v->changed, &v->lock);
}

void vcpu_unpark(struct vcpu *v)
{
	AUTO_LOCK(&v->lock);

	assert(v->parked);
	atomic_store(&v->park, false);
	v->parked = false;
	pthread_cond_broadcast(&v->changed);
}

void vcpu_stats(const struct vcpu *v, struct vcpu_stats *out)
{
	out->exits = atomic_load_explicit(&v->exits, memory_order_relaxed);
	out->unknown_msrs = atomic_load_explicit(&v->unknown_msrs, memory_order_relaxed);
}
