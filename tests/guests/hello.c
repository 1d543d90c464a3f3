/* SPDX-License-Identifier: Apache-2.0 */
/* hello: says one line before anything else, then ends, or misbehaves, as mode= asks.
 *
 * For the start-up benchmark and for the machine's answers to every kind of end.  README.md lists
 * the modes. */
#include "rt/rt.h"

static const char greeting[] = "hello from the tiny guest\n";

void guest_early(void)
{
	for (const char *p = greeting; *p != '\0'; p++)
		outb((uint8_t)*p, 0x3f8);
}

static _Noreturn void triple_fault(void)
{
	static const uint8_t no_table[10];

	__asm__ volatile("lidt %0; ud2" : : "m"(no_table));
	halt_forever();
}

static void unknown_ports(void)
{
	static const uint16_t ports[] = { 0x1f0, 0x300, 0x520, 0xcf8, 0xd000, 0xfffc };

	for (unsigned i = 0; i < sizeof ports / sizeof ports[0]; i++) {
		uint16_t p = ports[i];

		outb(0x12, p);
		if (inb(p) != 0xff || inw(p) != 0xffff || inl(p) != 0xffffffff)
			fail("port %x does not read as all ones", p);
	}
	print("hello: ports ok\n");
}

static void unknown_mmio(void)
{
	static const uint64_t places[] = { 0xc0000000, 0xd0000ff8, 0xf0000000, 0xfeb00000 };

	for (unsigned i = 0; i < sizeof places / sizeof places[0]; i++) {
		uint64_t a = places[i];

		*(volatile uint32_t *)a = 0x12345678;
		if (*(volatile uint8_t *)a != 0xff || *(volatile uint16_t *)a != 0xffff ||
		    *(volatile uint32_t *)a != 0xffffffff || *(volatile uint64_t *)a != ~0ull)
			fail("address %lx does not read as all ones", a);
	}
	print("hello: mmio ok\n");
}

static void panic(void)
{
	static char text[] = "tiny guest panic: the text of a guest that gave up";

	if (!hv_present())
		fail("no Hyper-V to tell about a panic");
	wrmsr(0x40000100, 0x11);
	wrmsr(0x40000101, 0x22);
	wrmsr(0x40000102, 0x33);
	wrmsr(0x40000103, (uint64_t)text);
	wrmsr(0x40000104, sizeof text - 1);
	wrmsr(0x40000105, 3ull << 62);
	print("hello: panicked\n");
}

static void park(void)
{
	halt_forever();
}

static _Noreturn void spin(void)
{
	for (;;)
		cpu_relax();
}

/* The generic event device: GSI 9, and a register that says what happened (0x604, bit 0: the
 * power button). */
enum { GED_GSI = 9, GED_EVENTS = 0x604 };

static void on_event(struct frame *f)
{
	uint32_t events = inl(GED_EVENTS);

	(void)f;
	lapic_eoi();
	if (events & 1)
		power_off();
}

static _Noreturn void idle(void)
{
	irq_init();
	irq_handler(VEC_IOAPIC + GED_GSI, on_event);
	ioapic_route(GED_GSI, VEC_IOAPIC + GED_GSI, 0);
	for (;;)
		wait_irq();
}

static void halt_all(void)
{
	unsigned n = (unsigned)arg_u64("cpus", 1);

	irq_init();
	if (n > 1) {
		timer_calibrate();
		if (!smp_start(n, park))
			fail("not all of %u CPUs started", n);
	}
	print("hello: halted\n");
	halt_forever();
}

void guest_main(void)
{
	const char *mode = arg_str("mode", "off");

	guest_name = "hello";
	if (str_eq(mode, "bad-port"))
		unknown_ports();
	else if (str_eq(mode, "bad-mmio"))
		unknown_mmio();
	else if (str_eq(mode, "panic"))
		panic();
	else if (str_eq(mode, "triple"))
		triple_fault();
	else if (str_eq(mode, "reset"))
		machine_reset();
	else if (str_eq(mode, "i8042"))
		outb(0xfe, 0x64);
	else if (str_eq(mode, "spin"))
		spin();
	else if (str_eq(mode, "hlt-off"))
		halt_all();
	else if (str_eq(mode, "idle"))
		idle();
	else if (!str_eq(mode, "off"))
		fail("mode=%s is not known", mode);
	power_off();
}
