/* SPDX-License-Identifier: Apache-2.0 */
/* time: how fast TSC and LAPIC timer run, and the PIT.
 *
 * Without Hyper-V's frequency MSRs, both are compared with the PIT's counter, read by its latch
 * command, over some 30 ms.  The best of three is taken: what disturbs (a host that runs something
 * else in between) makes an interval look longer by the TSC, never shorter.
 *
 * Source: 8254 data sheet; TLFS, section on frequency MSRs. */
#include "rt/rt.h"

#include "rt/internal.h"

enum {
	PIT_HZ = 1193182, PIT_CH0 = 0x40, PIT_MODE = 0x43,
	LAPIC_COUNT = 0x390,
	WINDOW = PIT_HZ / 32,
};

uint64_t tsc_hz, lapic_hz;

static uint16_t pit_read(void)
{
	uint8_t lo;

	outb(0x00, PIT_MODE);	/* latch channel 0 */
	lo = inb(PIT_CH0);
	return (uint16_t)(inb(PIT_CH0) << 8 | lo);
}

static void pit_rate(uint16_t divisor)
{
	outb(0x34, PIT_MODE);	/* channel 0, low then high, mode 2 */
	outb((uint8_t)divisor, PIT_CH0);
	outb((uint8_t)(divisor >> 8), PIT_CH0);
}

/* One measurement; false if the counter does not move within a long time. */
static bool measure(uint64_t *tsc, uint64_t *lapic)
{
	uint16_t start, moved;
	uint64_t t0, l0, i;

	pit_rate(0);
	start = pit_read();
	for (i = 0; i < 100000 && pit_read() == start; i++)
		continue;
	if (i == 100000)
		return false;
	lapic_oneshot(0xffffffff);
	start = pit_read();
	t0 = rdtsc();
	l0 = lapic_read(LAPIC_COUNT);
	do {
		moved = (uint16_t)(start - pit_read());
		*tsc = rdtsc() - t0;
		*lapic = l0 - lapic_read(LAPIC_COUNT);
	} while (moved < WINDOW);
	*tsc = *tsc * PIT_HZ / moved;
	*lapic = *lapic * PIT_HZ / moved;
	return true;
}

void timer_calibrate(void)
{
	uint64_t t, l;

	if (hv_present()) {
		tsc_hz = rdmsr(0x40000022);
		lapic_hz = rdmsr(0x40000023);
		return;
	}
	for (int i = 0; i < 3; i++) {
		if (!measure(&t, &l))
			fail("neither Hyper-V's frequency MSRs nor a PIT to know the time by");
		if (tsc_hz == 0 || t < tsc_hz)
			tsc_hz = t;
		if (lapic_hz == 0 || l < lapic_hz)
			lapic_hz = l;
	}
	lapic_timer_stop();
}

bool pit_periodic(unsigned hz)
{
	uint16_t start;

	pit_rate((uint16_t)(PIT_HZ / hz));
	start = pit_read();
	for (int i = 0; i < 10000; i++)
		if (pit_read() != start)
			return true;
	return false;
}

uint64_t ring0_cycles(void)
{
	uint64_t best = ~0ull, t;

	for (int i = 0; i < 5; i++) {
		t = rdtsc();
		count_down(200);
		t = rdtsc() - t;
		best = t < best ? t : best;
	}
	return best / 400;
}
