/* SPDX-License-Identifier: Apache-2.0 */
/* smp: bring up the other CPUs by INIT and SIPI, one after the other.
 *
 * APIC ids are 0..n-1, as both our machine and QEMU number a single socket's CPUs.
 *
 * Source: Intel SDM volume 3, 9.4.4 (MP initialization protocol). */
#include "rt/rt.h"

#include "rt/internal.h"

enum { ICR_LOW = 0x300, ICR_HIGH = 0x310, TRAMPOLINE = 0x8000, BUSY = 1 << 12 };

static void ipi(uint32_t apic_id, uint32_t what)
{
	lapic_write(ICR_HIGH, apic_id << 24);
	lapic_write(ICR_LOW, what);
	while ((lapic_read(ICR_LOW) & BUSY) != 0)
		cpu_relax();
}

static void wait_us(uint64_t us)
{
	uint64_t end = rdtsc() + us * (tsc_hz / 1000000);

	while (rdtsc() < end)
		cpu_relax();
}

static bool start_one(unsigned id)
{
	ap_next_id = id;
	ipi(id, 0x4500);				/* INIT, assert */
	wait_us(2000);
	ipi(id, 0x4600 | TRAMPOLINE >> 12);		/* SIPI */
	for (int i = 0; i < 10000 && cpus[id].online == 0; i++) {
		wait_us(1000);
		if (i == 200 && cpus[id].online == 0)	/* the manual's second SIPI, late */
			ipi(id, 0x4600 | TRAMPOLINE >> 12);
	}
	return cpus[id].online != 0;
}

bool smp_start(unsigned n, void (*fn)(void))
{
	if (n > CPUS_MAX)
		fail("cpus=%u: at most %u", n, CPUS_MAX);
	smp_entry = fn;
	memcpy((void *)TRAMPOLINE, trampoline, (size_t)(trampoline_end - trampoline));
	for (unsigned id = 1; id < n; id++)
		if (!start_one(id))
			return false;
	return true;
}
