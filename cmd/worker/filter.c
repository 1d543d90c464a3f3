/* SPDX-License-Identifier: Apache-2.0 */
/* filter: the system calls that a sealed worker may make.  See sandbox.h.
 *
 * The table is the whole truth: what is not in it kills the process with SIGSYS,
 * which the kernel logs with the number of the call and the monitor reports.
 * Threads, timers, eventfds, files and mappings of descriptors all exist before
 * the seal, so that nothing here creates a process, a thread, a socket or a file,
 * and no memory ever becomes executable.
 *
 * Source: seccomp(2), libseccomp's seccomp_rule_add(3), linux/kvm.h. */
#include "cmd/worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <malloc.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel looks at the low 32 bits of a request only; so do we. */
#define LOW32 0xffffffffull

/* What argument `arg` must be: (arg & mask) == value, or, for the own process, its
 * pid.  mask 0: no restriction. */
struct allowed {
	int call;
	const char *name;
	unsigned arg;
	uint64_t mask, value;
	const char *only; /* the restriction in words */
	const char *why;
	bool own_pid;
};

#define CALL(n, reason) {.call = SYS_##n, .name = #n, .why = reason}
#define CALL_IF(n, a, m, v, words, reason)                                                         \
	{.call = SYS_##n, .name = #n, .arg = a, .mask = m, .value = v, .only = words, .why = reason}
#define KVM(request, reason) CALL_IF(ioctl, 1, LOW32, request, #request, reason)
#define FCNTL(command, reason) CALL_IF(fcntl, 1, LOW32, command, #command, reason)

static const struct allowed table[] = {
	/* ---- the machine ---- */
	KVM(KVM_RUN, "run the guest"),
	KVM(KVM_SET_SIGNAL_MASK, "one step of a vCPU, to settle what is pending before a save"),
	KVM(KVM_IRQ_LINE, "interrupt lines of emulated devices"),
	KVM(KVM_SIGNAL_MSI, "interrupts of the synthetic interrupt controller"),
	KVM(KVM_IOEVENTFD, "a guest opens or closes a channel of its bus"),
	KVM(KVM_TRANSLATE, "find the instruction of a crash"),
	KVM(KVM_CHECK_EXTENSION, "compare a state with this host"),
	KVM(KVM_GET_SUPPORTED_CPUID, "compare a state with this host"),
	KVM(KVM_GET_MSR_INDEX_LIST, "which MSRs to save"),
	KVM(KVM_GET_REGS, "save"), KVM(KVM_SET_REGS, "load, reset"),
	KVM(KVM_GET_SREGS2, "save"), KVM(KVM_SET_SREGS2, "load, reset"),
	KVM(KVM_GET_XSAVE2, "save"), KVM(KVM_SET_XSAVE, "load, reset"),
	KVM(KVM_GET_XCRS, "save"), KVM(KVM_SET_XCRS, "load, reset"),
	KVM(KVM_GET_DEBUGREGS, "save"), KVM(KVM_SET_DEBUGREGS, "load, reset"),
	KVM(KVM_GET_MSRS, "save"), KVM(KVM_SET_MSRS, "load, reset"),
	KVM(KVM_GET_LAPIC, "save"), KVM(KVM_SET_LAPIC, "load, reset"),
	KVM(KVM_GET_MP_STATE, "save"), KVM(KVM_SET_MP_STATE, "load, reset"),
	KVM(KVM_GET_VCPU_EVENTS, "save"), KVM(KVM_SET_VCPU_EVENTS, "load, reset"),
	KVM(KVM_GET_CPUID2, "save"), KVM(KVM_SET_CPUID2, "load"),
	KVM(KVM_GET_TSC_KHZ, "save"), KVM(KVM_SET_TSC_KHZ, "load"),
	KVM(KVM_GET_IRQCHIP, "save"), KVM(KVM_SET_IRQCHIP, "load, reset"),
	KVM(KVM_GET_PIT2, "save"), KVM(KVM_SET_PIT2, "load, reset"),
	KVM(KVM_REINJECT_CONTROL, "no backlog of PIT ticks, set while the guest starts"),
	KVM(KVM_GET_DEVICE_ATTR, "TSC offset"), KVM(KVM_SET_DEVICE_ATTR, "TSC offset"),
	/* ---- waiting, waking, time ---- */
	CALL(futex, "locks and queues between threads"),
	CALL(epoll_wait, "the loop"),
	CALL(epoll_ctl, "the loop: connections and consoles come and go"),
	CALL(poll, "last words of a connection, bounded"),
	CALL(timerfd_settime, "timers of devices"),
	CALL(clock_gettime, "time, where the vDSO cannot tell it"),
	CALL(clock_nanosleep, "wait until what an interrupt chip is about to do is done"),
	CALL(restart_syscall, "the kernel resumes an interrupted wait by it"),
	/* ---- descriptors that were handed over ---- */
	CALL(read, "eventfd, timerfd, console input"),
	CALL(write, "eventfd, console output, log"),
	CALL(writev, "the C library's last words before abort"),
	CALL(pread64, "kernel, initrd, a state to load"),
	CALL(pwrite64, "a saved state"),
	CALL(lseek, "size of kernel, initrd, state"),
	CALL_IF(newfstatat, 3, AT_EMPTY_PATH, AT_EMPTY_PATH, "AT_EMPTY_PATH",
		"size of kernel and initrd; there is no file that a path could name"),
	CALL(fstat, "size of kernel and initrd"),
	CALL(close, "connections and consoles"),
	CALL(io_uring_enter, "disks: the ring itself permits reads, writes, flushes and holes only"),
	CALL(ftruncate, "a disk gets another size"),
	CALL_IF(fallocate, 1, LOW32, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "PUNCH_HOLE",
		"can the file of a disk that is added have holes"),
	FCNTL(F_GETFL, "consoles, disks that are added"), FCNTL(F_SETFL, "consoles: non-blocking"),
	FCNTL(F_GET_SEALS, "is a descriptor memory, that is, can it never block us"),
	CALL(accept4, "control connections"),
	CALL(recvmsg, "control connections, with descriptors"),
	CALL(sendmsg, "control connections, with descriptors"),
	CALL(sendto, "console sessions"), CALL(recvfrom, "console sessions"),
	/* ---- memory: never executable, never a mapping of a descriptor ---- */
	CALL_IF(mmap, 2, PROT_EXEC, 0, "not PROT_EXEC; MAP_ANONYMOUS", "heap"),
	CALL_IF(mprotect, 2, PROT_EXEC, 0, "not PROT_EXEC", "heap"),
	CALL(munmap, "heap, end of a machine"), CALL(mremap, "heap"), CALL(brk, "heap"),
	CALL(madvise, "give guest memory back at a reset"),
	CALL(getrandom, "hash seeds, generation ids"),
	/* ---- signals: only within this process ---- */
	{.call = SYS_tgkill, .name = "tgkill", .only = "own process", .why = "kick a vCPU; abort",
	 .own_pid = true},
	CALL(rt_sigtimedwait, "take a kick that has done its work"),
	CALL(rt_sigprocmask, "vCPU threads, abort"), CALL(rt_sigreturn, "end of a handler"),
	CALL(getpid, "tgkill"), CALL(gettid, "tgkill"),
	/* ---- the end ---- */
	CALL(exit, "end of a thread"), CALL(exit_group, "end"),
#ifdef LIFEBOAT_SANITIZED
	/* The one call more that test builds make; they are to differ in nothing else. */
	CALL(sigaltstack, "a thread's end under AddressSanitizer"),
#endif
};

#define COUNT (sizeof(table) / sizeof(table[0]))

static int add(scmp_filter_ctx filter, const struct allowed *a)
{
	struct scmp_arg_cmp cmp[2] = {
		{.arg = a->arg, .op = SCMP_CMP_MASKED_EQ, .datum_a = a->mask, .datum_b = a->value},
		{.arg = 3, .op = SCMP_CMP_MASKED_EQ, .datum_a = MAP_ANONYMOUS,
		 .datum_b = MAP_ANONYMOUS},
	};
	unsigned n = a->mask != 0 ? 1 : 0;

	if (a->call == SYS_mmap)
		n = 2;
	if (a->own_pid) {
		cmp[0] = (struct scmp_arg_cmp){.arg = 0, .op = SCMP_CMP_MASKED_EQ, .datum_a = LOW32,
					       .datum_b = (uint64_t)getpid()};
		n = 1;
	}
	return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, a->call, n, cmp);
}

static int fill(scmp_filter_ctx filter)
{
	/* All threads at once, and a binary tree instead of a long chain: KVM_RUN passes
	 * here at every exit. */
	int r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);

	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	for (size_t i = 0; i < COUNT && r == 0; i++)
		r = add(filter, &table[i]);
	return r == 0 ? seccomp_load(filter) : r;
}

/* A thread that finds every heap in use gets one of its own, and before the ninth the C
 * library asks the kernel how many CPUs there are, which the filter takes for an attack:
 * a crash of all vCPUs of a big machine at once would have been one.  Told how many
 * there may be, it does not ask; nor do vCPUs, which hardly allocate, need more. */
#define HEAPS 2

enum err sandbox_seal(void)
{
	(void)mallopt(M_ARENA_MAX, HEAPS);
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);

	if (!filter)
		return err_note(ERR_NOMEM, 0, "sandbox: system-call filter: out of memory");
	int r = fill(filter);
	seccomp_release(filter);
	if (r != 0)
		return err_note(ERR_UNSUPPORTED, -r, "sandbox: this kernel does not take the "
				"system-call filter");
	return ERR_OK;
}

void sandbox_print(FILE *to)
{
	for (size_t i = 0; i < COUNT; i++)
		(void)fprintf(to, "%s\t%s\t%s\n", table[i].name, table[i].only ? table[i].only : "",
			      table[i].why);
}
