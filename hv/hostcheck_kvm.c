/* SPDX-License-Identifier: Apache-2.0 */
/* hostcheck_kvm: KVM measured by a throw-away VM of one vCPU.
 *
 * Its guest is a few instructions in 64-bit mode, ring 0, because that is where kernels
 * run: a KVM without hardware emulates exactly that.  It counts down a register, or
 * leaves by OUT again and again; the same count is made on the host for comparison.
 * The first measurement is tiny and the next ones as long as its speed allows, so that
 * a KVM a thousand times slower takes no longer. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "hv/cpuid.h"
#include "hv/hostcheck_parts.h"
#include "hv/kvm/kvm.h"
#include "hv/kvm/kvm_state.h"
#include "hv/state.h"
#include "hv/vcpu_state.h"

enum {
	CODE = 0x1000,
	TABLES = 0x2000, /* three pages */
	PORT = 0xf4,
	MEASURE_MS = 25,
	STATE_ROUNDS = 8,
};
#define RAM_BYTES (1ull << 20)
#define SPARE_BASE (1ull << 32) /* a slot that nobody touches, for the dirty log */
#define SPARE_BYTES (1ull << 30)
#define HARDWARE_PART 8 /* guest code at an eighth of the host's speed is no emulator's */

/* ---- opening ---- */

static const struct {
	long cap;
	const char *name;
	bool needed;
} caps[] = {
#define CAP(name, needed) {name, #name, needed}
	CAP(KVM_CAP_IRQCHIP, true),
	CAP(KVM_CAP_PIT2, true),
	CAP(KVM_CAP_PIT_STATE2, true),
	CAP(KVM_CAP_USER_MEMORY, true),
	CAP(KVM_CAP_IMMEDIATE_EXIT, true),
	CAP(KVM_CAP_SYNC_REGS, true),
	CAP(KVM_CAP_MP_STATE, true),
	CAP(KVM_CAP_VCPU_EVENTS, true),
	CAP(KVM_CAP_DEBUGREGS, true),
	CAP(KVM_CAP_XSAVE2, true),
	CAP(KVM_CAP_SREGS2, true),
	CAP(KVM_CAP_GET_TSC_KHZ, true),
	CAP(KVM_CAP_VCPU_ATTRIBUTES, true),
	CAP(KVM_CAP_X86_USER_SPACE_MSR, true),
	CAP(KVM_CAP_X86_MSR_FILTER, true),
	CAP(KVM_CAP_SIGNAL_MSI, true),
	CAP(KVM_CAP_IOEVENTFD, true),
	CAP(KVM_CAP_XCRS, false),
	CAP(KVM_CAP_TSC_CONTROL, false),
	CAP(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, false),
	CAP(KVM_CAP_DIRTY_LOG_RING, false),
	CAP(KVM_CAP_DIRTY_LOG_RING_ACQ_REL, false),
	CAP(KVM_CAP_READONLY_MEM, false),
	CAP(KVM_CAP_X2APIC_API, false),
	CAP(KVM_CAP_X86_TRIPLE_FAULT_EVENT, false),
	CAP(KVM_CAP_NR_MEMSLOTS, false),
	CAP(KVM_CAP_MAX_VCPUS, false),
};
static_assert(sizeof(caps) / sizeof(caps[0]) <= HOSTCHECK_MAX_CAPS, "they must fit");

static void hostcheck_kvm_verdict(struct hostcheck *h, enum hostcheck_kvm v, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

static void hostcheck_kvm_verdict(struct hostcheck *h, enum hostcheck_kvm v, const char *fmt, ...)
{
	va_list ap;

	h->kvm = v;
	va_start(ap, fmt);
	vsnprintf(h->kvm_text, sizeof(h->kvm_text), fmt, ap);
	va_end(ap);
}

static void hostcheck_kvm_closed(struct hostcheck *h, int sys)
{
	if (sys == ENOENT)
		hostcheck_kvm_verdict(h, HOSTCHECK_KVM_ABSENT,
				      "there is no /dev/kvm: load kvm_amd or kvm_intel, or switch "
				      "virtualization on in the firmware");
	else if (sys == ENODEV || sys == ENXIO)
		hostcheck_kvm_verdict(h, HOSTCHECK_KVM_NO_DRIVER,
				      "/dev/kvm has no driver behind it: load kvm_amd or kvm_intel");
	else if (sys == EACCES || sys == EPERM)
		hostcheck_kvm_verdict(h, HOSTCHECK_KVM_FORBIDDEN,
				      "no permission to open /dev/kvm: join the group kvm, or run as "
				      "root");
	else
		hostcheck_kvm_verdict(h, HOSTCHECK_KVM_UNUSABLE, "/dev/kvm: %s", strerror(sys));
}

/* True if nothing that is needed is missing. */
static bool hostcheck_kvm_caps(struct hostcheck *h, int fd)
{
	AUTO_BUF struct buf lacks = {0};

	for (size_t i = 0; i < sizeof(caps) / sizeof(caps[0]); i++) {
		int value = kvm_state_extension(fd, caps[i].cap);

		h->caps[h->cap_count++] = (struct hostcheck_cap){
			.name = caps[i].name, .needed = caps[i].needed, .present = value > 0,
			.value = value};
		if (caps[i].needed && value <= 0)
			buf_printf(&lacks, " %s", caps[i].name);
	}
	if (lacks.len > 0)
		hostcheck_kvm_verdict(h, HOSTCHECK_KVM_UNUSABLE,
				      "this KVM is too old: it lacks%s", buf_str(&lacks));
	return lacks.len == 0;
}

void hostcheck_kvm_open(struct hostcheck *h, int *kvm_fd)
{
	AUTO_FD int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int sys;

	*kvm_fd = -1;
	if (fd < 0) {
		hostcheck_kvm_closed(h, errno);
		return;
	}
	h->api_version = kvm_state_api_version(fd);
	if (h->api_version != KVM_API_VERSION) {
		hostcheck_kvm_verdict(h, HOSTCHECK_KVM_UNUSABLE, "/dev/kvm speaks API %d, not %d",
				      h->api_version, KVM_API_VERSION);
		return;
	}
	if (!hostcheck_kvm_caps(h, fd))
		return;
	sys = kvm_state_try_machine(fd);
	if (sys == EBUSY) {
		hostcheck_kvm_verdict(h, HOSTCHECK_KVM_BUSY, "another hypervisor holds this CPU's "
				      "virtualization: stop its machines");
		return;
	}
	if (sys) {
		hostcheck_kvm_verdict(h, HOSTCHECK_KVM_UNUSABLE,
				      "KVM cannot create a machine: %s", strerror(sys));
		return;
	}
	*kvm_fd = fd;
	fd = -1;
}

/* ---- a VM to measure with ---- */

struct bench {
	int vm_fd;
	struct vcpu_ref vcpu;
	size_t run_bytes;
	uint8_t *ram, *spare;
	struct cpuid_table *cpuid;
	struct vcpu_plan *plan;
};

static void bench_close(struct bench *b)
{
	kvm_vcpu_close(b->vcpu.fd, b->vcpu.run, b->run_bytes);
	fs_auto_close(&b->vm_fd);
	if (b->ram)
		munmap(b->ram, RAM_BYTES);
	if (b->spare)
		munmap(b->spare, SPARE_BYTES);
	vcpu_plan_destroy(b->plan);
	cpuid_destroy(b->cpuid);
}

static uint8_t *bench_map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static enum err bench_open(struct bench *b, int kvm_fd)
{
	enum err e;

	*b = (struct bench){.vm_fd = -1, .vcpu.fd = -1};
	b->ram = bench_map(RAM_BYTES);
	b->spare = bench_map(SPARE_BYTES);
	if (!b->ram || !b->spare)
		return err_sys(errno, "host check: map memory");
	if ((e = cpuid_build(kvm_fd, CONFIG_CPU_HOST, 1, &b->cpuid)) != ERR_OK ||
	    (e = kvm_vm_create(kvm_fd, 0xfffbd000, 0xfffbc000, &b->vm_fd)) != ERR_OK ||
	    (e = kvm_vm_create_chips(b->vm_fd)) != ERR_OK ||
	    (e = kvm_vm_set_slot(b->vm_fd, 0, 0, RAM_BYTES, (uintptr_t)b->ram, true)) != ERR_OK ||
	    (e = kvm_vm_set_slot(b->vm_fd, 1, SPARE_BASE, SPARE_BYTES, (uintptr_t)b->spare,
				 true)) != ERR_OK ||
	    (e = kvm_vcpu_create(kvm_fd, b->vm_fd, 0, &b->vcpu.fd, &b->vcpu.run,
				 &b->run_bytes)) != ERR_OK ||
	    (e = cpuid_apply(b->cpuid, b->vcpu.fd, 0)) != ERR_OK)
		return e;
	return vcpu_plan_create(kvm_fd, b->vm_fd, b->vcpu.fd, &b->plan);
}

static struct kvm_segment bench_segment(uint16_t selector, bool code)
{
	return (struct kvm_segment){.limit = 0xffffffff, .selector = selector, .present = 1,
				    .type = code ? 11 : 3, .s = 1, .l = code, .db = !code, .g = 1};
}

/* Run `code` (ends with OUT) with RCX = count and RDI = an address in RAM, through
 * `exits` exits.  ERR_UNSUPPORTED if KVM does not run it. */
static enum err bench_run(struct bench *b, const uint8_t *code, size_t bytes, uint64_t count,
			  uint64_t exits, uint64_t *took_ns)
{
	struct kvm_regs r = {.rip = CODE, .rflags = 2, .rcx = count, .rdi = CODE + 0x800};
	struct kvm_sregs2 s;
	uint64_t start;
	enum err e;

	memcpy(b->ram + CODE, code, bytes);
	le64_put(b->ram + TABLES, (TABLES + 0x1000) | 3);
	le64_put(b->ram + TABLES + 0x1000, (TABLES + 0x2000) | 3);
	le64_put(b->ram + TABLES + 0x2000, 0x83);
	if ((e = kvm_state_get_sregs2(b->vcpu.fd, &s)) != ERR_OK)
		return e;
	s.cr0 = 0x80000033;
	s.cr3 = TABLES;
	s.cr4 = 0x20;
	s.efer = 0x500;
	s.cs = bench_segment(16, true);
	s.ds = s.es = s.fs = s.gs = s.ss = bench_segment(24, false);
	if ((e = kvm_state_set_sregs2(b->vcpu.fd, &s)) != ERR_OK ||
	    (e = kvm_state_set_regs(b->vcpu.fd, &r)) != ERR_OK)
		return e;
	start = clock_mono_ns();
	for (uint64_t i = 0; i < exits; i++) {
		int error = kvm_run(b->vcpu.fd);

		if (error == EINTR || error == EAGAIN)
			i--;
		else if (error || b->vcpu.run->exit_reason != KVM_EXIT_IO)
			return err_note(ERR_UNSUPPORTED, error,
					"KVM does not run a loop of two instructions (exit %u)",
					b->vcpu.run->exit_reason);
	}
	*took_ns = clock_mono_ns() - start;
	/* Complete the last OUT, or the next run begins in the middle of it. */
	b->vcpu.run->immediate_exit = 1;
	(void)kvm_run(b->vcpu.fd);
	b->vcpu.run->immediate_exit = 0;
	return ERR_OK;
}

static double bench_host_loops(void)
{
	uint64_t n = 20000000, start = clock_mono_ns();

	__asm__ volatile("1: dec %0; jnz 1b" : "+r"(n) : : "cc");
	return 20000000.0 * 1e9 / (double)(clock_mono_ns() - start + 1);
}

static enum err bench_speed(struct hostcheck *h, struct bench *b)
{
	/* 1: dec %rcx; jnz 1b; out %al, $PORT */
	static const uint8_t loop[] = {0x48, 0xff, 0xc9, 0x75, 0xfb, 0xe6, PORT};
	/* 1: out %al, $PORT; jmp 1b */
	static const uint8_t leave[] = {0xe6, PORT, 0xeb, 0xfc};
	uint64_t n = 1000, exits = 200, ns = 0;
	enum err e;

	do {
		n *= 8;
		if ((e = bench_run(b, loop, sizeof(loop), n, 1, &ns)) != ERR_OK)
			return e;
	} while (ns < MEASURE_MS * NS_PER_MS && n < 1ull << 40);
	h->guest_loops_per_s = (double)n * 1e9 / (double)ns;
	h->host_loops_per_s = bench_host_loops();
	h->hardware_virtualization =
		h->guest_loops_per_s * HARDWARE_PART > h->host_loops_per_s;
	if ((e = bench_run(b, leave, sizeof(leave), 0, exits, &ns)) != ERR_OK)
		return e;
	h->exit_ns = (double)ns / (double)exits;
	return ERR_OK;
}

/* A page that the guest writes must show, and one that it does not must not. */
static enum err bench_dirty(struct hostcheck *h, struct bench *b)
{
	/* mov %rax, (%rdi); out %al, $PORT */
	static const uint8_t store[] = {0x48, 0x89, 0x07, 0xe6, PORT};
	static uint64_t spare[SPARE_BYTES / 4096 / 64];
	uint64_t bits[RAM_BYTES / 4096 / 64] = {0}, ns = 0, start;
	enum err e;

	/* The first fetch empties the log of what building and running has written. */
	if ((e = kvm_vm_get_dirty(b->vm_fd, 0, bits)) != ERR_OK ||
	    (e = bench_run(b, store, sizeof(store), 0, 1, &ns)) != ERR_OK ||
	    (e = kvm_vm_get_dirty(b->vm_fd, 0, bits)) != ERR_OK)
		return e;
	h->dirty_log = (bits[0] >> (CODE / 4096) & 1) && !(bits[0] >> 63 & 1);
	start = clock_mono_ns();
	if ((e = kvm_vm_get_dirty(b->vm_fd, 1, spare)) != ERR_OK)
		return e;
	h->dirty_log_ns_per_gib = (double)(clock_mono_ns() - start);
	return ERR_OK;
}

static enum err bench_state(struct hostcheck *h, struct bench *b)
{
	uint64_t start = clock_mono_ns(), tsc;
	enum err e = ERR_OK;

	for (int i = 0; i < STATE_ROUNDS && e == ERR_OK; i++) {
		struct state_out *out = NULL;

		if ((e = state_out_create(&out)) == ERR_OK)
			e = vcpu_state_save(b->plan, &b->vcpu, 1, out, &tsc);
		state_out_destroy(out);
	}
	h->state_us_per_vcpu = (double)(clock_mono_ns() - start) / 1000 / STATE_ROUNDS;
	return e;
}

static void hostcheck_kvm_words(struct hostcheck *h, int kvm_fd, const struct bench *b)
{
	size_t msrs;
	int ring = kvm_state_extension(kvm_fd, KVM_CAP_DIRTY_LOG_RING);

	if (ring <= 0)
		ring = kvm_state_extension(kvm_fd, KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
	h->dirty_ring_entries = ring > 0 ? (uint32_t)ring / sizeof(struct kvm_dirty_gfn) : 0;
	h->dirty_manual_protect =
		kvm_state_extension(kvm_fd, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) > 0;
	(void)vcpu_plan_msrs(b->plan, &msrs);
	h->msr_count = (uint32_t)msrs;
	h->tsc_khz = vcpu_plan_tsc_khz(b->plan);
	h->tsc_scaling = vcpu_plan_scales_tsc(b->plan);
	h->tsc_offset = vcpu_plan_sets_tsc(b->plan);
}

enum err hostcheck_kvm_measure(struct hostcheck *h, int kvm_fd)
{
	struct bench b;
	enum err e = bench_open(&b, kvm_fd);

	if (e == ERR_OK) {
		hostcheck_kvm_words(h, kvm_fd, &b);
		if ((e = bench_speed(h, &b)) == ERR_OK && (e = bench_dirty(h, &b)) == ERR_OK)
			e = bench_state(h, &b);
	}
	bench_close(&b);
	if (e == ERR_OK || e == ERR_NOMEM)
		return e;
	hostcheck_kvm_verdict(h, HOSTCHECK_KVM_UNUSABLE, "%s", err_text());
	return ERR_OK;
}
