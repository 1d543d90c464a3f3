/* SPDX-License-Identifier: Apache-2.0 */
/* mini: a bare KVM machine for tests of machine state: some MiB of memory, identity
 * page tables, vCPUs in 64-bit mode, no device but the kernel's chips.  Guest code is
 * position independent and leaves by OUT to MINI_PORT. */
#ifndef TESTS_HV_MINI_H
#define TESTS_HV_MINI_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "hv/cpuid.h"
#include "hv/kvm/kvm.h"
#include "hv/kvm/kvm_state.h"
#include "hv/state.h"
#include "hv/vcpu_state.h"
#include "hv/vm_state.h"
#include "tests/unit/cm.h"

#define MINI_MEMORY (8u << 20)
#define MINI_CODE 0x10000u
#define MINI_STACK 0x80000u /* of vCPU 0; others 64 KiB further each */
#define MINI_IDT 0x4000u
#define MINI_GDT 0x5000u
#define MINI_TABLES 0x20000u
#define MINI_DATA 0x200000u
#define MINI_PORT 0xf4u
#define MINI_VECTOR 0x40u
#define MINI_MAX_VCPUS 4u

struct mini {
	int kvm_fd, vm_fd;
	uint32_t count;
	struct cpuid_table *cpuid;
	struct vcpu_plan *plan;
	struct vcpu_ref vcpus[MINI_MAX_VCPUS];
	size_t run_bytes;
	uint8_t *memory; /* shared with the machine that it goes on in */
};

/* /dev/kvm, or exit 77 (skipped) with the reason. */
static inline int mini_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		printf("skipped: /dev/kvm: %s\n", strerror(errno));
		exit(77);
	}
	return fd;
}

static inline void mini_open(struct mini *m, int kvm_fd, uint32_t count, uint8_t *memory)
{
	*m = (struct mini){.kvm_fd = kvm_fd, .count = count, .memory = memory};
	assert_ok(cpuid_build(kvm_fd, CONFIG_CPU_HOST, count, &m->cpuid));
	assert_ok(kvm_vm_create(kvm_fd, 0xfffbd000, 0xfffbc000, &m->vm_fd));
	assert_ok(kvm_vm_create_chips(m->vm_fd));
	assert_ok(vm_state_prepare(m->vm_fd));
	assert_ok(kvm_vm_trap_msrs(m->vm_fd, 0x40000000, 0x200));
	assert_ok(kvm_vm_set_slot(m->vm_fd, 0, 0, MINI_MEMORY, (uintptr_t)memory, false));
	for (uint32_t i = 0; i < count; i++) {
		assert_ok(kvm_vcpu_create(kvm_fd, m->vm_fd, i, &m->vcpus[i].fd, &m->vcpus[i].run,
					  &m->run_bytes));
		assert_ok(cpuid_apply(m->cpuid, m->vcpus[i].fd, i));
		assert_ok(kvm_state_enforce_cpuid(m->vcpus[i].fd));
	}
	assert_ok(vcpu_plan_create(kvm_fd, m->vm_fd, m->vcpus[0].fd, &m->plan));
}

static inline void mini_close(struct mini *m)
{
	for (uint32_t i = 0; i < m->count; i++)
		kvm_vcpu_close(m->vcpus[i].fd, m->vcpus[i].run, m->run_bytes);
	close(m->vm_fd);
	vcpu_plan_destroy(m->plan);
	cpuid_destroy(m->cpuid);
}

static inline uint8_t *mini_memory(void)
{
	uint8_t *p = mmap(NULL, MINI_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	assert_true(p != MAP_FAILED);
	return p;
}

/* Tables for 4 GiB of 2 MiB pages, a flat GDT, an IDT with one gate. */
static inline void mini_fill(uint8_t *mem, const uint8_t *code, size_t bytes, size_t handler)
{
	uint8_t *gate = mem + MINI_IDT + 16 * MINI_VECTOR;
	uint64_t at = MINI_CODE + handler;

	memcpy(mem + MINI_CODE, code, bytes);
	le64_put(mem + MINI_TABLES, (MINI_TABLES + 0x1000) | 3);
	for (uint64_t i = 0; i < 4; i++) {
		le64_put(mem + MINI_TABLES + 0x1000 + 8 * i, (MINI_TABLES + 0x2000 + 0x1000 * i) | 3);
		for (uint64_t k = 0; k < 512; k++)
			le64_put(mem + MINI_TABLES + 0x2000 + 0x1000 * i + 8 * k,
				 (i << 30 | k << 21) | 0x83);
	}
	le64_put(mem + MINI_GDT + 16, 0x00af9b000000ffffull);
	le64_put(mem + MINI_GDT + 24, 0x00cf93000000ffffull);
	le16_put(gate, (uint16_t)at);
	le16_put(gate + 2, 16);
	le16_put(gate + 4, 0x8e00);
	le16_put(gate + 6, (uint16_t)(at >> 16));
}

static inline struct kvm_segment mini_segment(uint16_t selector, bool is_code)
{
	return (struct kvm_segment){.limit = 0xffffffff, .selector = selector, .present = 1,
				    .type = is_code ? 11 : 3, .s = 1, .l = is_code, .db = !is_code,
				    .g = 1};
}

static inline void mini_start_vcpu(struct mini *m, uint32_t i, uint64_t arg)
{
	struct kvm_segment data = mini_segment(24, false);
	struct kvm_sregs2 s;
	struct kvm_regs r = {.rip = MINI_CODE, .rflags = 2, .rdi = arg,
			     .rsi = MINI_DATA + 0x10000 * i, .rsp = MINI_STACK + 0x10000 * i};

	assert_ok(kvm_state_get_sregs2(m->vcpus[i].fd, &s));
	s.cr0 = 0x80000033;
	s.cr3 = MINI_TABLES;
	s.cr4 = 0x620; /* PAE, OSFXSR, OSXMMEXCPT */
	s.efer = 0x500;
	s.cs = mini_segment(16, true);
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.gdt.base = MINI_GDT;
	s.gdt.limit = 31;
	s.idt.base = MINI_IDT;
	s.idt.limit = 0xfff;
	assert_ok(kvm_state_set_sregs2(m->vcpus[i].fd, &s));
	assert_ok(kvm_state_set_regs(m->vcpus[i].fd, &r));
	assert_ok(kvm_state_set_mp_state(m->vcpus[i].fd, KVM_MP_STATE_RUNNABLE));
}

/* Save all of a parked machine, load it into a fresh one that takes its place. */
static inline void mini_move(struct mini *m)
{
	uint64_t tsc[MINI_MAX_VCPUS];
	struct state_out *out;
	struct state_file *file;
	const uint8_t *p;
	struct mini next;
	size_t len;

	assert_ok(state_out_create(&out));
	assert_ok(vm_state_save(m->vm_fd, out));
	assert_ok(vcpu_state_save(m->plan, m->vcpus, m->count, out, tsc));
	assert_ok(state_out_finish(out, &p, &len));
	assert_ok(state_open(p, len, &file));
	mini_open(&next, m->kvm_fd, m->count, m->memory);
	mini_close(m);
	assert_ok(vcpu_state_load(next.plan, next.vcpus, next.count, file, tsc));
	assert_ok(vm_state_load(next.vm_fd, file));
	assert_ok(vcpu_state_start(next.plan, next.vcpus, next.count, tsc));
	state_close(file);
	state_out_destroy(out);
	*m = next;
}

static struct kvm_run *mini_kicked;

static inline void mini_on_alarm(int signal)
{
	(void)signal;
	if (mini_kicked)
		mini_kicked->immediate_exit = 1;
}

/* Run vCPU i for up to ns; true if it left by MINI_PORT, false if it was parked with
 * its last exit completed. */
static inline bool mini_run(struct mini *m, uint32_t i, uint64_t ns)
{
	struct itimerspec when = {.it_value = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)}};
	struct sigaction sa = {.sa_handler = mini_on_alarm};
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct kvm_run *run = m->vcpus[i].run;
	bool left = false;
	timer_t timer;
	int r;

	sigaction(SIGUSR1, &sa, NULL);
	mini_kicked = run;
	run->immediate_exit = 0;
	assert_int_equal(timer_create(CLOCK_MONOTONIC, &ev, &timer), 0);
	assert_int_equal(timer_settime(timer, 0, &when, NULL), 0);
	r = kvm_run(m->vcpus[i].fd);
	timer_delete(timer);
	mini_kicked = NULL;
	if (r == 0) {
		if (run->exit_reason != KVM_EXIT_IO || run->io.port != MINI_PORT)
			fail_msg("unexpected exit %u", run->exit_reason);
		left = true;
	} else {
		assert_int_equal(r, EINTR);
	}
	run->immediate_exit = 1;
	assert_int_equal(kvm_run(m->vcpus[i].fd), EINTR);
	run->immediate_exit = 0;
	return left;
}

static uint64_t mini_random_state = 88172645463325252ull;

static inline uint64_t mini_random(void)
{
	mini_random_state ^= mini_random_state << 13;
	mini_random_state ^= mini_random_state >> 7;
	mini_random_state ^= mini_random_state << 17;
	return mini_random_state;
}

#endif
