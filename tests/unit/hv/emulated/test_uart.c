/* SPDX-License-Identifier: Apache-2.0 */
/* uart: the 16550A as its data sheet and the drivers of real guests expect it. */
#include "hv/emulated/uart.h"

#include "tests/unit/hv/emulated/fake.h"

enum { GSI = 4 };
enum {
	RBR = 0, THR = 0, DLL = 0, IER = 1, DLM = 1, IIR = 2, FCR = 2,
	LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7,
};
enum { NONE = 1, EMPTY = 2, DATA = 4, LINE = 6, TIMEOUT = 0xc, MODEM = 0, FIFO = 0xc0 };

/* A console in place of the real one: a string in, a string out. */
struct console {
	uint8_t out[512];
	size_t out_len;
	const char *in;
	console_input_fn *fn;
	void *arg;
};

static struct console con;

void console_set_input(struct console *c, console_input_fn *fn, void *arg)
{
	c->fn = fn;
	c->arg = arg;
}

void console_output(struct console *c, const void *p, size_t len)
{
	assert_true(c->out_len + len <= sizeof(c->out));
	memcpy(c->out + c->out_len, p, len);
	c->out_len += len;
}

size_t console_input_take(struct console *c, void *p, size_t len)
{
	size_t n = c->in ? strlen(c->in) : 0;

	if (n > len)
		n = len;
	if (n)
		memcpy(p, c->in, n);
	c->in = n ? c->in + n : c->in;
	return n;
}

static void type(const char *text)
{
	con.in = text;
	con.fn(con.arg);
}

static struct device *make(void)
{
	struct device *d;

	con = (struct console){0};
	lines = (struct irq){0};
	assert_ok(uart_create(&lines, GSI, &con, 0, &d));
	d->ops->reset(d->self);
	resume(d);
	return d;
}

/* FIFO on, 8n1, OUT2, interrupts as given. */
static void start(struct device *d, uint8_t ier)
{
	out8(d, LCR, 3);
	out8(d, FCR, 1);
	out8(d, MCR, 0x0b);
	out8(d, IER, ier);
}

static void test_uart__sends_what_is_written(void **s)
{
	struct device *d = make();

	(void)s;
	for (const char *p = "hello"; *p; p++) {
		assert_int_equal(in8(d, LSR) & 0x60, 0x60);
		out8(d, THR, (uint8_t)*p);
	}
	assert_int_equal(con.out_len, 5);
	assert_memory_equal(con.out, "hello", 5);
	device_destroy(d);
	assert_null(con.fn);
}

static void test_uart__a_wide_access_is_bytes(void **s)
{
	struct device *d = make();

	(void)s;
	out8(d, SCR, 0x5a);
	assert_int_equal(access_read(d, MSR, 2), 0x5ab0);
	access_write(d, SCR, 1, 0xa5);
	assert_int_equal(in8(d, SCR), 0xa5);
	assert_int_equal(access_read(d, SCR, 2), 0xffa5);
	device_destroy(d);
}

static void test_uart__divisor_hides_behind_dlab(void **s)
{
	struct device *d = make();

	(void)s;
	out8(d, IER, 0x05);
	out8(d, LCR, 0x83);
	out8(d, DLL, 0x34);
	out8(d, DLM, 0x12);
	assert_int_equal(in8(d, DLL), 0x34);
	assert_int_equal(in8(d, DLM), 0x12);
	out8(d, LCR, 0x03);
	assert_int_equal(in8(d, IER), 0x05);
	assert_int_equal(con.out_len, 0);
	device_destroy(d);
}

/* Linux tells a 16550A from its forebears and successors by these. */
static void test_uart__is_detected_as_16550a(void **s)
{
	struct device *d = make();

	(void)s;
	out8(d, IER, 0xff);
	assert_int_equal(in8(d, IER), 0x0f);
	out8(d, IER, 0);
	out8(d, MCR, 0x1a); /* loop, OUT2, RTS: DCD and CTS come back */
	assert_int_equal(in8(d, MSR) & 0xf0, 0x90);
	out8(d, MCR, 0);
	assert_int_equal(in8(d, IIR) >> 6, 0);
	out8(d, FCR, 1);
	assert_int_equal(in8(d, IIR) >> 6, 3);
	out8(d, LCR, 0xbf);
	assert_int_not_equal(in8(d, FCR), 0); /* no extended feature register */
	device_destroy(d);
}

static void test_uart__fifo_size_shows_in_loop_back(void **s)
{
	struct device *d = make();
	unsigned n = 0;

	(void)s;
	out8(d, FCR, 0x07);
	out8(d, MCR, 0x10);
	for (unsigned i = 0; i < 40; i++)
		out8(d, THR, (uint8_t)i);
	assert_true(in8(d, LSR) & 2); /* overrun, told once */
	assert_false(in8(d, LSR) & 2);
	for (; in8(d, LSR) & 1; n++)
		assert_int_equal(in8(d, RBR), n);
	assert_int_equal(n, 16);
	assert_int_equal(con.out_len, 0);
	device_destroy(d);
}

static void test_uart__overrun_without_fifo_keeps_the_newest(void **s)
{
	struct device *d = make();

	(void)s;
	out8(d, MCR, 0x10);
	out8(d, THR, 'a');
	out8(d, THR, 'b');
	assert_int_equal(in8(d, LSR) & 0x03, 0x03);
	assert_int_equal(in8(d, RBR), 'b');
	assert_int_equal(in8(d, LSR) & 0x01, 0);
	device_destroy(d);
}

static void test_uart__input_waits_outside_and_is_not_overrun(void **s)
{
	struct device *d = make();
	const char *text = "forty characters of input, quite a burst";

	(void)s;
	start(d, 1);
	type(text);
	assert_int_equal(strlen(con.in), strlen(text) - 16);
	for (const char *p = text; *p; p++) {
		assert_true(in8(d, LSR) & 1);
		assert_int_equal(in8(d, RBR), *p);
	}
	assert_int_equal(in8(d, LSR), 0x60);
	device_destroy(d);
}

static void test_uart__received_data_interrupts_by_trigger_or_timeout(void **s)
{
	struct device *d = make();

	(void)s;
	start(d, 1);
	out8(d, FCR, 0x81); /* trigger at 8 */
	assert_int_equal(in8(d, IIR), FIFO | NONE);
	type("1234567");
	assert_true(lines.level[GSI]);
	assert_int_equal(in8(d, IIR), FIFO | TIMEOUT);
	type("8");
	assert_int_equal(in8(d, IIR), FIFO | DATA);
	assert_int_equal(in8(d, IIR), FIFO | DATA); /* only reading the data ends it */
	for (int i = 0; i < 8; i++)
		in8(d, RBR);
	assert_int_equal(in8(d, IIR), FIFO | NONE);
	assert_false(lines.level[GSI]);
	device_destroy(d);
}

static void test_uart__empty_interrupt_is_cleared_by_iir_and_raised_by_enabling(void **s)
{
	struct device *d = make();

	(void)s;
	start(d, 0);
	for (int i = 0; i < 2; i++) { /* Linux tests a chip by doing this twice */
		out8(d, IER, 2);
		assert_true(lines.level[GSI]);
		assert_int_equal(in8(d, IIR), FIFO | EMPTY);
		assert_false(lines.level[GSI]);
		assert_int_equal(in8(d, IIR), FIFO | NONE);
		out8(d, IER, 0);
	}
	assert_int_equal(lines.rises[GSI], 2);
	device_destroy(d);
}

/* The heart of "no interrupt is lost" on an edge-triggered line. */
static void test_uart__each_byte_sent_makes_a_new_edge(void **s)
{
	struct device *d = make();
	unsigned before;

	(void)s;
	start(d, 2);
	/* Pending already, IIR not read: the driver writes from elsewhere (a printk). */
	before = lines.rises[GSI];
	out8(d, THR, 'x');
	assert_int_equal(lines.rises[GSI], before + 1);
	assert_true(lines.level[GSI]);
	/* After the handler looked. */
	assert_int_equal(in8(d, IIR), FIFO | EMPTY);
	assert_false(lines.level[GSI]);
	out8(d, THR, 'y');
	assert_int_equal(lines.rises[GSI], before + 2);
	device_destroy(d);
}

static void test_uart__second_cause_keeps_the_line_up_and_is_found(void **s)
{
	struct device *d = make();
	unsigned rises;

	(void)s;
	start(d, 3);
	type("k");
	rises = lines.rises[GSI];
	assert_int_equal(in8(d, IIR), FIFO | DATA); /* trigger is 1; first by priority */
	in8(d, RBR);
	assert_true(lines.level[GSI]);
	assert_int_equal(in8(d, IIR), FIFO | EMPTY);
	assert_int_equal(in8(d, IIR), FIFO | NONE);
	assert_false(lines.level[GSI]);
	assert_int_equal(lines.rises[GSI], rises);
	device_destroy(d);
}

static void test_uart__priority_of_causes(void **s)
{
	struct device *d = make();

	(void)s;
	start(d, 0);
	out8(d, FCR, 0x07);
	out8(d, MCR, 0x1b);
	in8(d, MSR);
	out8(d, MCR, 0x18);	/* RTS and DTR fall: deltas */
	out8(d, LCR, 0x43);	/* break: marked byte */
	out8(d, LCR, 0x03);
	out8(d, IER, 0x0f);
	assert_false(lines.level[GSI]); /* in loop-back OUT2's pin is off */
	assert_int_equal(in8(d, IIR), FIFO | LINE);
	assert_int_equal(in8(d, LSR), 0x60 | 0x80 | 0x10 | 0x08 | 0x01);
	assert_int_equal(in8(d, LSR), 0x61); /* told once */
	assert_int_equal(in8(d, IIR), FIFO | DATA);
	assert_int_equal(in8(d, RBR), 0);
	assert_int_equal(in8(d, IIR), FIFO | EMPTY);
	assert_int_equal(in8(d, IIR), FIFO | MODEM);
	assert_int_equal(in8(d, MSR), 0x80 | 0x03);
	assert_int_equal(in8(d, IIR), FIFO | NONE);
	device_destroy(d);
}

static void test_uart__error_marks_stay_with_their_byte(void **s)
{
	struct device *d = make();

	(void)s;
	out8(d, FCR, 0x07);
	out8(d, MCR, 0x10);
	out8(d, IER, 4);
	out8(d, THR, 'a');
	out8(d, LCR, 0x43);
	assert_int_equal(in8(d, LSR), 0x60 | 0x80 | 0x01); /* somewhere in the FIFO */
	assert_int_equal(in8(d, IIR), FIFO | NONE);	   /* not at its head yet */
	assert_int_equal(in8(d, RBR), 'a');
	assert_int_equal(in8(d, IIR), FIFO | LINE);
	assert_true(in8(d, LSR) & 0x10);
	out8(d, LCR, 0x43); /* the same break, held */
	in8(d, RBR);
	assert_int_equal(in8(d, LSR), 0x60);
	device_destroy(d);
}

static void test_uart__ring_tells_its_trailing_edge_only(void **s)
{
	struct device *d = make();

	(void)s;
	out8(d, MCR, 0x10);
	in8(d, MSR);
	out8(d, MCR, 0x14);
	assert_int_equal(in8(d, MSR), 0x40);
	out8(d, MCR, 0x10);
	assert_int_equal(in8(d, MSR), 0x04);
	assert_int_equal(in8(d, MSR), 0);
	device_destroy(d);
}

static void test_uart__out2_is_the_gate(void **s)
{
	struct device *d = make();

	(void)s;
	out8(d, IER, 2);
	assert_false(lines.level[GSI]);
	assert_int_equal(lines.calls, 1); /* that of resume */
	out8(d, MCR, 0x08);
	assert_true(lines.level[GSI]);
	out8(d, MCR, 0);
	assert_false(lines.level[GSI]);
	device_destroy(d);
}

static void test_uart__fcr_clears_the_receiver(void **s)
{
	struct device *d = make();

	(void)s;
	start(d, 1);
	type("abc");
	assert_true(lines.level[GSI]);
	out8(d, FCR, 0x03);
	assert_int_equal(in8(d, LSR), 0x60);
	assert_false(lines.level[GSI]);
	type("d");
	out8(d, FCR, 0); /* leaving FIFO mode empties too */
	assert_int_equal(in8(d, LSR), 0x60);
	assert_int_equal(in8(d, IIR), NONE);
	out8(d, FCR, 0xc6); /* ignored without the enable bit */
	out8(d, FCR, 0x01);
	type("e");
	assert_int_equal(in8(d, IIR), FIFO | DATA);
	device_destroy(d);
}

static void test_uart__reset_is_power_on(void **s)
{
	struct device *d = make();

	(void)s;
	start(d, 3);
	type("abc");
	d->ops->reset(d->self);
	assert_false(lines.level[GSI]);
	assert_int_equal(in8(d, IER), 0);
	assert_int_equal(in8(d, IIR), NONE);
	assert_int_equal(in8(d, LCR), 0);
	assert_int_equal(in8(d, MCR), 0);
	assert_int_equal(in8(d, LSR), 0x60);
	assert_int_equal(in8(d, MSR), 0xb0);
	device_destroy(d);
}

static void test_uart__quiet_touches_no_line_and_takes_no_input(void **s)
{
	struct device *d = make();
	unsigned calls;

	(void)s;
	start(d, 1);
	quiesce(d);
	calls = lines.calls;
	type("later");
	assert_int_equal(strlen(con.in), 5);
	assert_int_equal(lines.calls, calls);
	resume(d);
	assert_true(lines.level[GSI]);
	assert_int_equal(in8(d, RBR), 'l');
	device_destroy(d);
}

static void test_uart__everything_in_flight_survives(void **s)
{
	struct device *a = make(), *b;
	struct irq *second = &lines;

	(void)s;
	start(a, 0x0f);
	out8(a, FCR, 0xc1);
	out8(a, SCR, 0x77);
	out8(a, MCR, 0x1b);
	out8(a, LCR, 0x43); /* a marked byte */
	out8(a, LCR, 0x03);
	out8(a, MCR, 0x0b);
	type("typed, not read");
	out8(a, THR, '!'); /* an empty event that nobody has seen */
	quiesce(a);

	assert_ok(uart_create(second, GSI, NULL, 0, &b));
	copy_state(a, b, &uart_state_kind);
	assert_same_state(a, b, &uart_state_kind);
	lines = (struct irq){0};
	resume(b);
	assert_true(lines.level[GSI]);
	assert_int_equal(in8(b, IIR), FIFO | LINE);
	assert_true(in8(b, LSR) & 0x10);
	assert_int_equal(in8(b, RBR), 0);
	assert_int_equal(in8(b, SCR), 0x77);
	assert_int_equal(in8(b, IIR), FIFO | DATA);
	for (const char *p = "typed, not read"; *p; p++)
		assert_int_equal(in8(b, RBR), *p);
	assert_int_equal(in8(b, IIR), FIFO | EMPTY);
	device_destroy(a);
	device_destroy(b);
}

/* Replace the value of a one-byte field of the saved blob. */
static void test_uart__load_refuses_what_the_chip_cannot_hold(void **s)
{
	static const struct { uint16_t tag; uint8_t value; } bad[] = {
		{1, 0x10}, {2, 0x02}, {2, 0xc0}, {4, 0x20}, {7, 0x01}, {8, 0x10}, {9, 2},
	};

	(void)s;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct device *a = make(), *b;
		struct state_out *out;
		const uint8_t *p;
		uint8_t blob[512];
		size_t len, at;

		save_device(a, &uart_state_kind, &out, &p, &len);
		assert_true(len <= sizeof(blob));
		memcpy(blob, p, len);
		/* header 16, section 32, then fields of 8 + length */
		for (at = 48; at < len && le16_get(blob + at) != bad[i].tag;)
			at += 8 + le32_get(blob + at + 4);
		assert_true(at + 8 < len);
		blob[at + 8] = bad[i].value;
		assert_ok(uart_create(&lines, GSI, NULL, 0, &b));
		assert_err(load_device(b, &uart_state_kind, blob, len), ERR_CORRUPT);
		assert_same_state(a, b, &uart_state_kind); /* unchanged */
		state_out_destroy(out);
		device_destroy(a);
		device_destroy(b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_uart__sends_what_is_written),
		cmocka_unit_test(test_uart__a_wide_access_is_bytes),
		cmocka_unit_test(test_uart__divisor_hides_behind_dlab),
		cmocka_unit_test(test_uart__is_detected_as_16550a),
		cmocka_unit_test(test_uart__fifo_size_shows_in_loop_back),
		cmocka_unit_test(test_uart__overrun_without_fifo_keeps_the_newest),
		cmocka_unit_test(test_uart__input_waits_outside_and_is_not_overrun),
		cmocka_unit_test(test_uart__received_data_interrupts_by_trigger_or_timeout),
		cmocka_unit_test(test_uart__empty_interrupt_is_cleared_by_iir_and_raised_by_enabling),
		cmocka_unit_test(test_uart__each_byte_sent_makes_a_new_edge),
		cmocka_unit_test(test_uart__second_cause_keeps_the_line_up_and_is_found),
		cmocka_unit_test(test_uart__priority_of_causes),
		cmocka_unit_test(test_uart__error_marks_stay_with_their_byte),
		cmocka_unit_test(test_uart__ring_tells_its_trailing_edge_only),
		cmocka_unit_test(test_uart__out2_is_the_gate),
		cmocka_unit_test(test_uart__fcr_clears_the_receiver),
		cmocka_unit_test(test_uart__reset_is_power_on),
		cmocka_unit_test(test_uart__quiet_touches_no_line_and_takes_no_input),
		cmocka_unit_test(test_uart__everything_in_flight_survives),
		cmocka_unit_test(test_uart__load_refuses_what_the_chip_cannot_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
