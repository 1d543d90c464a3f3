/* SPDX-License-Identifier: Apache-2.0 */
/* rtc: time of day, what a guest does to it, and what of it is state. */
#include "hv/emulated/rtc.h"

#include "base/clock.h"
#include "tests/unit/hv/emulated/fake.h"

/* 2026-11-23 17:10:05 UTC, a Monday */
#define NOW_S 1795453805ull

static uint64_t now_ns;

static uint64_t fake_real_ns(void)
{
	return now_ns;
}

static struct device *make(uint64_t s)
{
	struct device *d;

	now_ns = s * NS_PER_SEC;
	assert_ok(rtc_create(&d));
	rtc_set_clock(d, fake_real_ns);
	d->ops->reset(d->self);
	resume(d);
	return d;
}

static uint8_t get(struct device *d, uint8_t reg)
{
	out8(d, 0, reg);
	return in8(d, 1);
}

static void set(struct device *d, uint8_t reg, uint8_t value)
{
	out8(d, 0, reg);
	out8(d, 1, value);
}

static void assert_time(struct device *d, const uint8_t expect[8])
{
	static const uint8_t regs[] = {0x32, 9, 8, 7, 6, 4, 2, 0};

	for (size_t i = 0; i < sizeof(regs); i++)
		if (get(d, regs[i]) != expect[i])
			fail_msg("register 0x%02x is 0x%02x, expected 0x%02x", regs[i],
				 get(d, regs[i]), expect[i]);
}
#define ASSERT_TIME(d, ...) assert_time(d, (const uint8_t[]){__VA_ARGS__})

static void test_rtc__shows_the_wall_clock_in_every_form(void **s)
{
	struct device *d = make(NOW_S);

	(void)s;
	ASSERT_TIME(d, 0x20, 0x26, 0x11, 0x23, 2, 0x17, 0x10, 0x05);
	set(d, 0x0b, 0x06);
	ASSERT_TIME(d, 20, 26, 11, 23, 2, 17, 10, 5);
	set(d, 0x0b, 0x00);
	ASSERT_TIME(d, 0x20, 0x26, 0x11, 0x23, 2, 0x85, 0x10, 0x05);
	set(d, 0x0b, 0x04);
	ASSERT_TIME(d, 20, 26, 11, 23, 2, 0x80 | 5, 10, 5);
	device_destroy(d);
}

static void test_rtc__midnight_and_noon_on_the_12_hour_clock(void **s)
{
	static const uint8_t expect[24] = {
		0x12, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x10, 0x11,
		0x92, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x90, 0x91,
	};
	struct device *d = make(0);

	(void)s;
	set(d, 0x0b, 0);
	for (unsigned h = 0; h < 24; h++) {
		now_ns = h * 3600 * NS_PER_SEC;
		assert_int_equal(get(d, 4), expect[h]);
		/* and back, by writing it */
		set(d, 4, expect[h]);
		assert_int_equal(get(d, 4), expect[h]);
		ASSERT_TIME(d, 0x19, 0x70, 1, 1, 5, expect[h], 0, 0);
	}
	device_destroy(d);
}

static void test_rtc__calendar_at_its_corners(void **s)
{
	static const struct { uint64_t s; uint8_t expect[8]; } cases[] = {
		{0, {0x19, 0x70, 1, 1, 5, 0, 0, 0}},
		{951782399, {0x20, 0x00, 2, 0x28, 2, 0x23, 0x59, 0x59}},
		{951782400, {0x20, 0x00, 2, 0x29, 3, 0, 0, 0}},
		{1709164800, {0x20, 0x24, 2, 0x29, 5, 0, 0, 0}},
		{4102444799, {0x20, 0x99, 0x12, 0x31, 5, 0x23, 0x59, 0x59}},
		{4107542400, {0x21, 0x00, 3, 1, 2, 0, 0, 0}}, /* 2100 is no leap year */
	};
	struct device *d = make(0);

	(void)s;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		now_ns = cases[i].s * NS_PER_SEC;
		assert_time(d, cases[i].expect);
	}
	device_destroy(d);
}

/* As Linux sets the time: hold, divider reset, registers, let go. */
static void test_rtc__a_set_clock_runs_on_from_there(void **s)
{
	struct device *d = make(NOW_S);
	static const uint8_t value[][2] = {{9, 0x30}, {8, 0x02}, {7, 0x28}, {4, 0x23},
					   {2, 0x59}, {0, 0x58}, {0x32, 0x20}};

	(void)s;
	set(d, 0x0b, 0x82);
	set(d, 0x0a, 0x76);
	for (size_t i = 0; i < sizeof(value) / sizeof(*value); i++)
		set(d, value[i][0], value[i][1]);
	now_ns += 30 * NS_PER_SEC; /* held: the clock stands */
	assert_int_equal(get(d, 0), 0x58);
	set(d, 0x0b, 0x02);
	assert_int_equal(get(d, 0), 0x58); /* the divider still holds it */
	set(d, 0x0a, 0x26);
	ASSERT_TIME(d, 0x20, 0x30, 2, 0x28, 5, 0x23, 0x59, 0x58);
	now_ns += NS_PER_SEC / 2; /* first update half a second after the divider starts */
	assert_int_equal(get(d, 0), 0x59);
	now_ns += NS_PER_SEC;
	ASSERT_TIME(d, 0x20, 0x30, 3, 1, 6, 0, 0, 0);
	device_destroy(d);
}

static void test_rtc__set_alone_keeps_the_phase_of_the_second(void **s)
{
	struct device *d = make(NOW_S);

	(void)s;
	now_ns += 900 * NS_PER_MS;
	set(d, 0x0b, 0x82);
	set(d, 0, 0x30);
	set(d, 0x0b, 0x02);
	assert_int_equal(get(d, 0), 0x30);
	now_ns += 100 * NS_PER_MS;
	assert_int_equal(get(d, 0), 0x31);
	device_destroy(d);
}

static void test_rtc__nonsense_from_a_guest_becomes_some_time(void **s)
{
	struct device *d = make(NOW_S);

	(void)s;
	for (unsigned form = 0; form < 8; form += 2) {
		set(d, 0x0b, (uint8_t)(0x80 | form));
		for (unsigned reg = 0; reg < 10; reg++)
			set(d, (uint8_t)reg, (uint8_t)(0xff - form));
		set(d, 0x32, 0xff);
		set(d, 0x0b, (uint8_t)form);
		set(d, 0x0b, 0x06);
		assert_in_range(get(d, 8), 1, 12);
		assert_in_range(get(d, 7), 1, 31);
		assert_in_range(get(d, 4), 0, 23);
		assert_in_range(get(d, 0x32), 0, 99);
	}
	device_destroy(d);
}

static void test_rtc__update_in_progress_comes_before_the_second_changes(void **s)
{
	struct device *d = make(NOW_S);

	(void)s;
	assert_int_equal(get(d, 0x0a), 0x26);
	now_ns += NS_PER_SEC - 2228000 - 1;
	assert_int_equal(get(d, 0x0a), 0x26);
	now_ns += 1;
	assert_int_equal(get(d, 0x0a), 0xa6);
	assert_int_equal(get(d, 0), 0x05);
	now_ns += 2228000;
	assert_int_equal(get(d, 0x0a), 0x26);
	assert_int_equal(get(d, 0), 0x06);
	now_ns += NS_PER_SEC - 1;
	set(d, 0x0b, 0x82); /* held: no updates */
	assert_int_equal(get(d, 0x0a), 0x26);
	device_destroy(d);
}

static void test_rtc__status_registers(void **s)
{
	struct device *d = make(NOW_S);

	(void)s;
	assert_int_equal(get(d, 0x0b), 0x02);
	assert_int_equal(get(d, 0x0d), 0x80);
	assert_int_equal(get(d, 0x0c), 0);
	now_ns += NS_PER_SEC;
	assert_int_equal(get(d, 0x0c), 0x10);
	assert_int_equal(get(d, 0x0c), 0); /* cleared by reading */
	set(d, 0x0b, 0x12);
	now_ns += NS_PER_SEC;
	assert_int_equal(get(d, 0x0c), 0x90);
	set(d, 0x0b, 0x92);
	assert_int_equal(get(d, 0x0b), 0x82); /* SET clears the update interrupt */
	set(d, 0x0c, 0xff);
	set(d, 0x0d, 0x00);
	assert_int_equal(get(d, 0x0d), 0x80);
	device_destroy(d);
}

static void test_rtc__storage_keeps_bytes_through_reset(void **s)
{
	struct device *d = make(NOW_S);

	(void)s;
	for (unsigned reg = 0x0e; reg < 128; reg++)
		if (reg != 0x32)
			set(d, (uint8_t)(reg | 0x80), (uint8_t)(reg * 3)); /* NMI bit is not index */
	d->ops->reset(d->self);
	for (unsigned reg = 0x0e; reg < 128; reg++)
		if (reg != 0x32)
			assert_int_equal(get(d, (uint8_t)reg), (uint8_t)(reg * 3));
	assert_int_equal(in8(d, 0), 0xff);
	device_destroy(d);
}

static void test_rtc__reset_keeps_the_time_and_lets_it_go(void **s)
{
	struct device *d = make(NOW_S);

	(void)s;
	set(d, 0x0b, 0x82);
	set(d, 0x0a, 0x76);
	set(d, 2, 0x45);
	d->ops->reset(d->self);
	assert_int_equal(get(d, 2), 0x45);
	assert_int_equal(get(d, 0x0a), 0x26);
	assert_int_equal(get(d, 0x0b), 0x02);
	now_ns += 60 * NS_PER_SEC;
	assert_int_equal(get(d, 2), 0x46);
	device_destroy(d);
}

static void test_rtc__a_restored_clock_is_right_at_once(void **s)
{
	struct device *a = make(NOW_S), *b;

	(void)s;
	set(a, 2, 0x40); /* half an hour ahead of the host */
	set(a, 0x40, 0x99);
	out8(a, 0, 0x40);
	quiesce(a);
	now_ns += 3600 * NS_PER_SEC; /* an hour in the archive */
	assert_ok(rtc_create(&b));
	rtc_set_clock(b, fake_real_ns);
	copy_state(a, b, &rtc_state_kind);
	resume(b);
	assert_int_equal(in8(b, 1), 0x99); /* the index is state */
	ASSERT_TIME(b, 0x20, 0x26, 0x11, 0x23, 2, 0x18, 0x40, 0x05);
	device_destroy(a);
	device_destroy(b);
}

static void test_rtc__a_held_clock_is_restored_held(void **s)
{
	struct device *a = make(NOW_S), *b;

	(void)s;
	set(a, 0x0b, 0x82);
	set(a, 7, 0x31);
	quiesce(a);
	now_ns += 1000 * NS_PER_SEC;
	assert_ok(rtc_create(&b));
	rtc_set_clock(b, fake_real_ns);
	copy_state(a, b, &rtc_state_kind);
	assert_same_state(a, b, &rtc_state_kind);
	resume(b);
	ASSERT_TIME(b, 0x20, 0x26, 0x11, 0x31, 2, 0x17, 0x10, 0x05);
	set(b, 8, 0x12);
	set(b, 0x0b, 0x02);
	ASSERT_TIME(b, 0x20, 0x26, 0x12, 0x31, 5, 0x17, 0x10, 0x05);
	device_destroy(a);
	device_destroy(b);
}

static void test_rtc__load_refuses_nonsense_and_changes_nothing(void **s)
{
	struct device *a = make(NOW_S), *b = make(NOW_S);
	struct state_out *out;
	const uint8_t *p;
	uint8_t blob[512];
	size_t len, at;

	(void)s;
	set(a, 0x40, 1);
	for (unsigned which = 0; which < 5; which++) {
		save_device(a, &rtc_state_kind, &out, &p, &len);
		assert_true(len <= sizeof(blob));
		memcpy(blob, p, len);
		for (at = 48; le16_get(blob + at) != (which < 2 ? 2 : which + 1);)
			at += 8 + le32_get(blob + at + 4);
		at += 8;
		if (which < 2)
			blob[at + (which ? 0x0c : 0x0a)] = 0xff;
		else if (which == 2)
			le64_put(blob + at, 1ull << 62);
		else if (which == 3)
			le32_put(blob + at, 1000000000);
		else
			blob[at] = 2;
		assert_err(load_device(b, &rtc_state_kind, blob, len), ERR_CORRUPT);
		assert_int_equal(get(b, 0x40), 0);
		state_out_destroy(out);
	}
	device_destroy(a);
	device_destroy(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rtc__shows_the_wall_clock_in_every_form),
		cmocka_unit_test(test_rtc__midnight_and_noon_on_the_12_hour_clock),
		cmocka_unit_test(test_rtc__calendar_at_its_corners),
		cmocka_unit_test(test_rtc__a_set_clock_runs_on_from_there),
		cmocka_unit_test(test_rtc__set_alone_keeps_the_phase_of_the_second),
		cmocka_unit_test(test_rtc__nonsense_from_a_guest_becomes_some_time),
		cmocka_unit_test(test_rtc__update_in_progress_comes_before_the_second_changes),
		cmocka_unit_test(test_rtc__status_registers),
		cmocka_unit_test(test_rtc__storage_keeps_bytes_through_reset),
		cmocka_unit_test(test_rtc__reset_keeps_the_time_and_lets_it_go),
		cmocka_unit_test(test_rtc__a_restored_clock_is_right_at_once),
		cmocka_unit_test(test_rtc__a_held_clock_is_restored_held),
		cmocka_unit_test(test_rtc__load_refuses_nonsense_and_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
