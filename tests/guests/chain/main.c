/* SPDX-License-Identifier: Apache-2.0 */
/* chain/main: arguments, the CPUs' loops, the lines, the end.
 *
 * States of a CPU: starting -> stepping -> done = 1, still watching its timers -> done = 2, parked.
 * The boot CPU leaves done = 1 when all others are there, and prints the last value. */
#include "chain/chain.h"

enum { LINE_MAX = 300, CHECK_EVERY = 8 };

struct machine machine;
struct chain_cpu chain_cpus[CPUS_MAX];

static uint32_t line_lock;
static uint64_t line_number;
static volatile uint32_t started;

struct chain_cpu *chain_this(void)
{
	return &chain_cpus[cpu_this()->id];
}

void chain_line(const char *fmt, ...)
{
	char buf[LINE_MAX];
	va_list ap;
	size_t n;

	/* Interrupts stay on: the boot CPU's must empty the ring that others wait for. */
	while (__atomic_exchange_n(&line_lock, 1, __ATOMIC_ACQUIRE) != 0)
		cpu_relax();
	n = format(buf, sizeof buf, "chain: ");
	va_start(ap, fmt);
	n += format_v(buf + n, sizeof buf - n, fmt, ap);
	va_end(ap);
	n += format(buf + n, sizeof buf - n, " #%lu\n", ++line_number);
	serial_write(buf, n);
	__atomic_store_n(&line_lock, 0, __ATOMIC_RELEASE);
}

/* OSXSAVE and XCR0, on every CPU. */
static void vectors_enable(void)
{
	uint64_t cr4;

	if (machine.xcr0 == 0)
		return;
	__asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
	__asm__ volatile("movq %0, %%cr4" : : "r"(cr4 | 1 << 18));
	__asm__ volatile("xsetbv" : : "a"((uint32_t)machine.xcr0), "d"(0), "c"(0));
}

static void machine_detect(void)
{
	struct cpuid one = cpuid(1, 0);
	const char *ring0 = arg_str("ring0", "auto");

	machine.hyperv = hv_present();
	machine.rdtscp = (cpuid(0x80000001, 0).d >> 27 & 1) != 0;
	machine.avx = (one.c >> 26 & 1) != 0 && (one.c >> 28 & 1) != 0;
	if (one.c >> 26 & 1)
		machine.xcr0 = machine.avx ? 7 : 3;
	machine.ring0_cycles = ring0_cycles();
	machine.ring0_emulated = machine.ring0_cycles > RING0_EMULATED;
	machine.ring0_full = str_eq(ring0, "full") ||
			     (str_eq(ring0, "auto") && !machine.ring0_emulated);
	if (!str_eq(ring0, "auto") && !str_eq(ring0, "full") && !str_eq(ring0, "fx"))
		fail("ring0=%s: auto, full or fx", ring0);
}

/* True if SYSCALL brings this CPU to ring 0. */
static uint64_t nothing(void *arg)
{
	(void)arg;
	return 0;
}

static const char *way_back(bool by_syscall)
{
	uint32_t before = cpu_this()->no_gate;

	user_call(nothing, NULL, by_syscall);
	return cpu_this()->no_gate == before ? "works" : "undefined";
}

static void machine_describe(void)
{
	chain_line("machine hyperv=%u tsc_page=%u rdtscp=%u xcr0=%lx cpus=%u tsc_hz=%lu lapic_hz=%lu",
		   machine.hyperv, machine.tsc_page, machine.rdtscp, machine.xcr0, machine.ncpus,
		   tsc_hz, lapic_hz);
	chain_line("ring 0 is %s (%lu cycles an instruction): vectors there by %s; "
		   "in ring 3 by %s; int %s, syscall %s",
		   machine.ring0_emulated ? "emulated" : "native", machine.ring0_cycles,
		   machine.avx && machine.ring0_full ? "fxrstor, fxsave and AVX moves"
						     : "fxrstor and fxsave",
		   machine.avx ? "AVX" : "SSE", way_back(false), way_back(true));
}

static void arguments(void)
{
	uint64_t us = arg_u64("tick_us", 4000), n = arg_u64("cpus", 1);

	if (n < 1 || n > CPUS_MAX)
		fail("cpus=%lu: 1 to %u", n, CPUS_MAX);
	machine.ncpus = (unsigned)n;
	machine.seed = arg_u64("seed", 1);
	machine.steps = arg_u64("steps", 200);
	machine.every = arg_u64("every", machine.steps < 10 ? 1 : machine.steps / 10);
	machine.ring3_every = arg_u64("ring3", 64);
	if (machine.every == 0 || machine.ring3_every == 0 || machine.steps == 0)
		fail("steps, every and ring3 must be at least 1");
	if (us < 100 || us > 1000000)
		fail("tick_us=%lu: 100 to 1000000", us);
	machine.tick_ticks = lapic_hz * us / 1000000;
}

static void memory_share(void)
{
	uint64_t words = (arg_u64("mem", 16) << 20) / 8 / machine.ncpus;

	if (words < 512 || words >> 32 != 0)
		fail("mem: at least 4 KiB and less than 32 GiB a CPU");
	for (unsigned i = 0; i < machine.ncpus; i++) {
		chain_cpus[i].id = i;
		chain_cpus[i].mem = mem_take_dirty(words * 8);
		chain_cpus[i].mem_words = words;
		chain_cpus[i].value = mix64(machine.seed ^ mix64(i + 1));
		for (unsigned r = 0; r < REGS; r++) {
			chain_cpus[i].regs[r] = mix64(machine.seed + 100 * i + r);
			chain_cpus[i].held.regs[r] = mix64(machine.seed + 100 * i + r + 50);
		}
	}
}

static void cpu_prepare(struct chain_cpu *c)
{
	cpu_this()->guest = c;
	vectors_enable();
	user_syscall_init();
	sentinel_set(c);
	step_prepare(c);
}

static void step_line(const struct chain_cpu *c)
{
	chain_line("step %lu/%lu value=%016lx pit=%lu oneshot=%lu periodic=%lu cpu=%u", c->step,
		   machine.steps, c->value, pit_count, c->oneshot, c->periodic, c->id);
}

static void cpu_steps(struct chain_cpu *c)
{
	__atomic_fetch_add(&started, 1, __ATOMIC_SEQ_CST);
	while (started < machine.ncpus)
		cpu_relax();
	timers_start(c);
	irq_enable();
	while (c->step < machine.steps) {
		if (c->step % machine.ring3_every == 0) {
			ring3_check(c);
			chain_line("ring3 ok %lu faults cpu=%u", c->ring3_faults, c->id);
		}
		step_run(c);
		timers_check(c);
		reftime_check(c);
		if (c->step % CHECK_EVERY == 0)
			sentinel_check(c);
		if (c->step % machine.every == 0)
			step_line(c);
	}
	sentinel_check(c);
	c->done = 1;
}

/* The other CPUs, from smp_start(). */
static void other_cpu(void)
{
	struct chain_cpu *c = chain_this();

	cpu_prepare(c);
	cpu_steps(c);
	while (chain_cpus[0].done == 0) {
		timers_check(c);
		cpu_relax();
	}
	irq_disable();
	lapic_timer_stop();
	c->done = 2;
	halt_forever();
}

static uint64_t last_value(void)
{
	uint64_t v = machine.seed;

	for (unsigned i = 0; i < machine.ncpus; i++)
		v = mix64(v ^ chain_cpus[i].value);
	for (unsigned i = 0; i < SHARED_WORDS; i++)
		v = mix64(v ^ chain_shared[i]);
	return v;
}

static bool all_done(uint32_t how)
{
	for (unsigned i = 1; i < machine.ncpus; i++)
		if (chain_cpus[i].done < how)
			return false;
	return true;
}

void guest_main(void)
{
	struct chain_cpu *c = &chain_cpus[0];

	guest_name = "chain";
	irq_init();
	timer_calibrate();
	serial_irq_start(NULL);
	irq_enable();
	machine_detect();
	arguments();
	if (machine.hyperv) {
		uint64_t t;

		if (!hv_enable())
			fail("Hyper-V is announced but does not take hypercall and TSC page");
		machine.tsc_page = hv_page_time(&t);
	}
	memory_share();
	timers_start_boot();
	cpu_prepare(c);
	machine_describe();
	if (!smp_start(machine.ncpus, other_cpu))
		fail("not all of %u CPUs started", machine.ncpus);
	cpu_steps(c);
	while (!all_done(1)) {
		timers_check(c);
		cpu_relax();
	}
	c->done = 1;
	chain_line("DONE value=%016lx steps=%lu", last_value(), machine.steps);
	serial_drain();
	while (!all_done(2))
		cpu_relax();
	if (arg_u64("hold", 0) != 0)
		halt_forever();
	power_off();
}
