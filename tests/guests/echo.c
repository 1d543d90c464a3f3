/* SPDX-License-Identifier: Apache-2.0 */
/* echo: a console partner.  Reads lines by the receive interrupt and answers each in capitals.
 *
 * The receive handler only stores bytes; the main loop, halted in between, does the rest.  README.md
 * lists the commands. */
#include "rt/rt.h"

enum { STORE = 4096, LINE_MAX = 200 };

static volatile uint8_t store[STORE];
static volatile unsigned head, tail, dropped;

static void on_byte(uint8_t b)
{
	if (head - tail == STORE)
		dropped++;
	else
		store[head++ % STORE] = b;
}

static uint8_t next_byte(void)
{
	for (;;) {
		irq_disable();
		if (head != tail)
			break;
		wait_irq();	/* atomically with the check: STI takes effect after the HLT */
	}
	irq_enable();
	return store[tail++ % STORE];
}

/* One line without its end, typed characters shown, backspace understood. */
static void read_line(char *line)
{
	unsigned n = 0;

	for (;;) {
		uint8_t b = next_byte();

		if (b == '\r' || b == '\n') {
			serial_write("\r\n", 2);
			line[n] = '\0';
			return;
		}
		if (b == 0x7f || b == 0x08) {
			if (n > 0) {
				n--;
				serial_write("\b \b", 3);
			}
		} else if (n < LINE_MAX - 1) {
			line[n++] = (char)b;
			serial_write((const char *)&b, 1);
		}
	}
}

/* "flood N": the decimal N, or 0. */
static uint64_t flood_count(const char *s)
{
	uint64_t n = 0;

	if (memcmp(s, "flood ", 6) != 0)
		return 0;
	for (s += 6; *s >= '0' && *s <= '9'; s++)
		n = n * 10 + (uint64_t)(*s - '0');
	return *s == '\0' ? n : 0;
}

static void answer(char *line)
{
	uint64_t n = flood_count(line);

	if (str_eq(line, "quit")) {
		print("echo: bye\r\n");
		serial_drain();
		power_off();
	}
	if (n > 0) {
		for (uint64_t i = 1; i <= n; i++)
			print("flood %lu of %lu: 0123456789abcdefghijklmnopqrstuvwxyz\r\n", i, n);
		return;
	}
	for (char *p = line; *p != '\0'; p++)
		if (*p >= 'a' && *p <= 'z')
			*p = (char)(*p - 'a' + 'A');
	print("echo: %s\r\n", line);
}

void guest_main(void)
{
	static char line[LINE_MAX];

	guest_name = "echo";
	irq_init();
	serial_irq_start(on_byte);
	irq_enable();
	print("echo: ready\r\n");
	for (;;) {
		print("> ");
		read_line(line);
		if (dropped > 0)
			fail("%u received bytes found no room", dropped);
		answer(line);
	}
}
