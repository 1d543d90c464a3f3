/* SPDX-License-Identifier: Apache-2.0 */
/* timers: interrupts in flight, and the proof that none got lost.
 *
 * The LAPIC timer of each CPU alternates: 32 one-shots, each armed in the handler of the one before
 * with another delay, then 32 periods of the periodic mode, and so on.  If either is lost, nothing
 * re-arms it and its counter stands still.  The PIT ticks on the boot CPU through the PIC.
 * Every CPU watches its own timers and its neighbour's: a CPU may be halted when it loses its own. */
#include "chain/chain.h"

enum { PIT_IRQ = 0, TURN = 32 };

volatile uint64_t pit_count;
static bool pit_running;

bool watch_stalled(struct watch *w, uint64_t count)
{
	uint64_t now = rdtsc(), slice = now - w->last_tsc;

	w->last_tsc = now;
	if (count != w->count) {
		w->count = count;
		w->stalled_tsc = 0;
		return false;
	}
	w->stalled_tsc += slice < tsc_hz / 10 ? slice : tsc_hz / 10;
	return w->stalled_tsc > 5 * tsc_hz;
}

static void on_pit(struct frame *f)
{
	(void)f;
	pit_count++;
	pic_eoi(PIT_IRQ);
}

/* Between 1/8 and 9/8 of the usual delay. */
static uint32_t next_delay(struct chain_cpu *c)
{
	c->random = c->random * 6364136223846793005 + 1442695040888963407;
	return (uint32_t)(machine.tick_ticks / 8 +
			  (c->random >> 33) * machine.tick_ticks / (1ull << 31));
}

static void on_lapic(struct frame *f)
{
	struct chain_cpu *c = chain_this();

	(void)f;
	if (c->is_periodic)
		c->periodic++;
	else
		c->oneshot++;
	if (++c->run == TURN) {
		c->run = 0;
		c->is_periodic = !c->is_periodic;
		if (c->is_periodic)
			lapic_periodic((uint32_t)machine.tick_ticks);
	}
	if (!c->is_periodic)
		lapic_oneshot(next_delay(c));
	lapic_eoi();
}

void timers_start_boot(void)
{
	uint64_t hz = arg_u64("pit_hz", 100);

	if (hz < 19 || hz > 10000)
		fail("pit_hz=%lu: 19 to 10000", hz);
	irq_handler(VEC_PIC + PIT_IRQ, on_pit);
	irq_handler(VEC_LAPIC_TIMER, on_lapic);
	pit_running = pit_periodic((unsigned)hz);
	if (pit_running)
		pic_unmask(PIT_IRQ);
	else
		chain_line("no PIT: it is not checked");
}

void timers_start(struct chain_cpu *c)
{
	c->random = c->id;
	c->is_periodic = (c->id & 1) != 0;
	if (c->is_periodic)
		lapic_periodic((uint32_t)machine.tick_ticks);
	else
		lapic_oneshot(next_delay(c));
}

void timers_check(struct chain_cpu *c)
{
	struct chain_cpu *next = &chain_cpus[(c->id + 1) % machine.ncpus];
	uint64_t sent, turns;

	turns = c->oneshot + c->periodic;
	if (watch_stalled(&c->watch_own, turns))
		fail("lost timer: LAPIC %s of cpu %u after %lu shots",
		     c->is_periodic ? "periodic" : "one-shot", c->id, turns);
	turns = next->oneshot + next->periodic;
	if (watch_stalled(&c->watch_neighbour, turns) && next->done < 2)
		fail("lost timer: LAPIC %s of cpu %u, seen by cpu %u",
		     next->is_periodic ? "periodic" : "one-shot", next->id, c->id);
	if (c->id != 0)
		return;
	if (pit_running && watch_stalled(&c->watch_pit, pit_count))
		fail("lost timer: PIT after %lu ticks", pit_count);
	if (!serial_pending(&sent))
		sent = ~c->watch_serial.count;
	if (watch_stalled(&c->watch_serial, sent))
		fail("lost serial interrupt after %lu bytes", sent);
}
