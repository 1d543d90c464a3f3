/* SPDX-License-Identifier: Apache-2.0 */
/* user: ring 3 and back.
 *
 * Source: AMD64 manual volume 2, 6.1 (SYSCALL and SYSRET). */
#include "rt/rt.h"

#include "rt/internal.h"

static uint8_t ustacks[CPUS_MAX][USTACK_BYTES] __attribute__((aligned(4096)));

void user_syscall_init(void)
{
	struct cpu *c = cpu_this();

	wrmsr(0xc0000081, 0x0018ull << 48 | 0x0008ull << 32);		/* STAR */
	wrmsr(0xc0000082, (uint64_t)syscall_stubs + 32u * c->id);	/* LSTAR */
	wrmsr(0xc0000083, 0x0c57a2000ull + c->id);			/* CSTAR: nobody comes there */
	wrmsr(0xc0000084, 0x47700);					/* FMASK */
	wrmsr(0xc0000080, rdmsr(0xc0000080) | 1);			/* EFER.SCE */
}

uint64_t user_call(user_fn *fn, void *arg, bool by_syscall)
{
	struct cpu *c = cpu_this();
	uint64_t top = (uint64_t)ustacks[c->id] + USTACK_BYTES;

	return user_enter(fn, arg, top, c, by_syscall ? user_by_syscall : user_by_gate);
}
