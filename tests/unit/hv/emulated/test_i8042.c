/* SPDX-License-Identifier: Apache-2.0 */
/* i8042: the reset pulse and nothing else. */
#include "hv/emulated/i8042.h"

#include "tests/unit/hv/emulated/fake.h"

static unsigned resets;

static void on_reset(void *arg)
{
	assert_ptr_equal(arg, &resets);
	resets++;
}

static struct device *make(void)
{
	struct device *d;

	resets = 0;
	assert_ok(i8042_create(on_reset, &resets, &d));
	d->ops->reset(d->self);
	resume(d);
	return d;
}

static void test_i8042__status_lets_a_waiting_guest_go_on(void **s)
{
	struct device *d = make();

	(void)s;
	assert_int_equal(in8(d, 4) & 0x03, 0); /* both buffers empty */
	assert_int_equal(access_read(d, 1, 1), 0xff);
	device_destroy(d);
}

static void test_i8042__only_pulses_of_line_0_reset(void **s)
{
	struct device *d = make();

	(void)s;
	for (unsigned v = 0; v < 256; v++) {
		unsigned before = resets;
		out8(d, 4, (uint8_t)v);
		assert_int_equal(resets - before, v >= 0xf0 && v % 2 == 0);
	}
	resets = 0;
	out8(d, 0, 0xfe);
	out8(d, 1, 0xfe);
	assert_int_equal(resets, 0);
	device_destroy(d);
}

static void test_i8042__has_a_section_without_fields(void **s)
{
	struct device *a = make(), *b = make();

	(void)s;
	quiesce(a);
	copy_state(a, b, &i8042_state_kind);
	device_destroy(a);
	device_destroy(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_i8042__status_lets_a_waiting_guest_go_on),
		cmocka_unit_test(test_i8042__only_pulses_of_line_0_reset),
		cmocka_unit_test(test_i8042__has_a_section_without_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
