/* SPDX-License-Identifier: Apache-2.0 */
/* acpi_pm: power off, reset, and the power button's way to the guest. */
#include "hv/emulated/acpi_pm.h"

#include "tests/unit/hv/emulated/fake.h"

struct told {
	unsigned off, reset;
};

static void on_off(void *arg)
{
	((struct told *)arg)->off++;
}

static void on_reset(void *arg)
{
	((struct told *)arg)->reset++;
}

static struct told told;

static struct device *make(void)
{
	static const struct acpi_pm_callbacks callbacks = {.power_off = on_off, .reset = on_reset};
	struct device *d;

	told = (struct told){0};
	lines = (struct irq){0};
	assert_ok(acpi_pm_create(&lines, &callbacks, &told, &d));
	d->ops->reset(d->self);
	resume(d);
	return d;
}

static void test_acpi_pm__only_s5_powers_off(void **s)
{
	struct device *d = make();

	(void)s;
	for (unsigned v = 0; v < 256; v++) {
		unsigned before = told.off;
		out8(d, 0, (uint8_t)v);
		assert_int_equal(told.off - before, (v & 0x3c) == 0x34);
	}
	assert_int_equal(told.reset, 0);
	out8(d, 0, 0x14);
	assert_int_equal(in8(d, 0), 0x14);
	assert_int_equal(in8(d, 1), 0);
	device_destroy(d);
}

static void test_acpi_pm__only_1_resets(void **s)
{
	struct device *d = make();

	(void)s;
	out8(d, 2, 0);
	out8(d, 2, 0xff);
	assert_int_equal(told.reset, 0);
	out8(d, 2, 1);
	assert_int_equal(told.reset, 1);
	assert_int_equal(in8(d, 2), 0xff);
	device_destroy(d);
}

static void test_acpi_pm__button_pulses_and_is_cleared_by_reading(void **s)
{
	struct device *d = make();

	(void)s;
	assert_int_equal(access_read(d, 4, 4), 0);
	acpi_pm_raise(d, ACPI_PM_POWER_BUTTON);
	assert_int_equal(lines.rises[9], 1);
	assert_false(lines.level[9]);
	assert_int_equal(access_read(d, 4, 4), 1);
	assert_int_equal(access_read(d, 4, 4), 0);
	/* A guest that missed the first edge hears of the second press. */
	acpi_pm_raise(d, ACPI_PM_POWER_BUTTON);
	acpi_pm_raise(d, ACPI_PM_POWER_BUTTON);
	assert_int_equal(lines.rises[9], 3);
	assert_int_equal(access_read(d, 4, 4), 1);
	device_destroy(d);
}

static void test_acpi_pm__a_press_while_quiet_waits(void **s)
{
	struct device *d = make();

	(void)s;
	quiesce(d);
	acpi_pm_raise(d, ACPI_PM_POWER_BUTTON);
	assert_int_equal(lines.calls, 0);
	resume(d);
	assert_int_equal(lines.rises[9], 1);
	quiesce(d);
	resume(d);
	assert_int_equal(lines.rises[9], 1); /* owed once */
	assert_int_equal(access_read(d, 4, 4), 1);
	device_destroy(d);
}

static void test_acpi_pm__pending_press_survives(void **s)
{
	struct device *a = make(), *b;

	(void)s;
	out8(a, 0, 0x08);
	acpi_pm_raise(a, ACPI_PM_POWER_BUTTON);
	quiesce(a);
	acpi_pm_raise(a, ACPI_PM_POWER_BUTTON);
	b = make();
	quiesce(b);
	copy_state(a, b, &acpi_pm_state_kind);
	assert_same_state(a, b, &acpi_pm_state_kind);
	resume(b);
	assert_int_equal(lines.rises[9], 1);
	assert_int_equal(access_read(b, 4, 4), 1);
	assert_int_equal(in8(b, 0), 0x08);
	b->ops->reset(b->self);
	assert_int_equal(in8(b, 0), 0);
	device_destroy(a);
	device_destroy(b);
}

static void test_acpi_pm__load_refuses_unknown_events(void **s)
{
	struct device *a = make(), *b = make();
	struct state_out *out;
	const uint8_t *p;
	uint8_t blob[256];
	size_t len;

	(void)s;
	save_device(a, &acpi_pm_state_kind, &out, &p, &len);
	assert_true(len <= sizeof(blob));
	memcpy(blob, p, len);
	/* header 16, section 32, sleep control 8 + 1, then events 8 + 4 */
	assert_int_equal(le16_get(blob + 57), 2);
	blob[65] = 4;
	assert_err(load_device(b, &acpi_pm_state_kind, blob, len), ERR_VERSION);
	assert_int_equal(access_read(b, 4, 4), 0);
	blob[65] = 0;
	blob[56] = 0xff;
	assert_err(load_device(b, &acpi_pm_state_kind, blob, len), ERR_CORRUPT);
	assert_int_equal(in8(b, 0), 0);
	state_out_destroy(out);
	device_destroy(a);
	device_destroy(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_acpi_pm__only_s5_powers_off),
		cmocka_unit_test(test_acpi_pm__only_1_resets),
		cmocka_unit_test(test_acpi_pm__button_pulses_and_is_cleared_by_reading),
		cmocka_unit_test(test_acpi_pm__a_press_while_quiet_waits),
		cmocka_unit_test(test_acpi_pm__pending_press_survives),
		cmocka_unit_test(test_acpi_pm__load_refuses_unknown_events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
