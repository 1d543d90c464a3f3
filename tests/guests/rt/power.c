/* SPDX-License-Identifier: Apache-2.0 */
/* power: every way to end.
 *
 * Our machine's ports come first; the others are QEMU's (PIIX4's ACPI, isa-debug-exit), for
 * comparisons with it.  Unknown ports do nothing. */
#include "rt/rt.h"

const char *guest_name = "guest";

_Noreturn void halt_forever(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

_Noreturn void power_off(void)
{
	outb(0x34, 0x600);
	outw(0x2000, 0x604);
	outb(0, 0xf4);
	halt_forever();
}

_Noreturn void machine_reset(void)
{
	outb(1, 0x602);
	halt_forever();
}

_Noreturn void fail(const char *fmt, ...)
{
	char buf[300];
	size_t n;
	va_list ap;

	irq_disable();
	serial_panic_mode();
	n = format(buf, sizeof buf, "\n%s: FAIL ", guest_name);
	serial_polled(buf, n);
	va_start(ap, fmt);
	n = format_v(buf, sizeof buf, fmt, ap);
	va_end(ap);
	serial_polled(buf, n);
	serial_polled("\n", 1);
	outb(1, 0xf4);
	power_off();
}
