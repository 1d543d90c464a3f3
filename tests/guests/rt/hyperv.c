/* SPDX-License-Identifier: Apache-2.0 */
/* hyperv: the guest's side of Hyper-V's identity: hypercall page and reference TSC page.
 *
 * Source: Hypervisor Top Level Functional Specification, "Establishing the hypercall interface" and
 * "Partition reference TSC". */
#include "rt/rt.h"

enum { MSR_GUEST_OS_ID = 0x40000000, MSR_HYPERCALL = 0x40000001, MSR_REFERENCE_TSC = 0x40000021 };

static uint8_t hypercall_page[4096] __attribute__((aligned(4096)));
static volatile struct {
	uint32_t sequence, reserved;
	uint64_t scale, offset;
	uint8_t rest[4096 - 24];
} tsc_page __attribute__((aligned(4096)));

bool hv_present(void)
{
	struct cpuid c;

	if ((cpuid(1, 0).c >> 31) == 0)
		return false;
	c = cpuid(0x40000000, 0);
	return c.b == 0x7263694d && c.c == 0x666f736f && c.d == 0x76482074;
}

bool hv_enable(void)
{
	wrmsr(MSR_GUEST_OS_ID, 0x8100000000000001);	/* an open-source system of no known vendor */
	wrmsr(MSR_HYPERCALL, (uint64_t)hypercall_page | 1);
	wrmsr(MSR_REFERENCE_TSC, (uint64_t)&tsc_page | 1);
	return rdmsr(MSR_HYPERCALL) == ((uint64_t)hypercall_page | 1) &&
	       rdmsr(MSR_REFERENCE_TSC) == ((uint64_t)&tsc_page | 1);
}

void *hv_hypercall_page(void)
{
	return hypercall_page;
}

uint64_t hv_hypercall(uint64_t control, uint64_t in, uint64_t out)
{
	uint64_t result;
	register uint64_t r8 __asm__("r8") = out;

	__asm__ volatile("call *%4"
			 : "=a"(result), "+c"(control), "+d"(in), "+r"(r8)
			 : "r"(hypercall_page)
			 : "r9", "r10", "r11", "memory", "cc");
	return result;
}

bool hv_page_time(uint64_t *t_100ns)
{
	uint32_t s;
	uint64_t high, low, tsc;

	do {
		s = tsc_page.sequence;
		if (s == 0)
			return false;
		tsc = rdtsc();
		__asm__ volatile("mulq %3"
				 : "=d"(high), "=a"(low)
				 : "a"(tsc), "r"(tsc_page.scale)
				 : "cc");
		*t_100ns = high + tsc_page.offset;
	} while (tsc_page.sequence != s);
	return true;
}
