/* SPDX-License-Identifier: Apache-2.0 */
/* pci: what a guest's probe for a PCI bus finds. */
#include "hv/emulated/pci.h"

#include "tests/unit/hv/emulated/fake.h"

enum { ADDRESS = 0, RESET = 1, DATA = 4 };

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
	assert_ok(pci_create(on_reset, &resets, &d));
	d->ops->reset(d->self);
	resume(d);
	return d;
}

/* How guests recognise mechanism #1. */
static void test_pci__address_register_is_32_bits_wide_only(void **s)
{
	struct device *d = make();

	(void)s;
	access_write(d, ADDRESS, 4, 0x80000000u);
	assert_int_equal(access_read(d, ADDRESS, 4), 0x80000000u);
	access_write(d, ADDRESS, 1, 0x12);
	access_write(d, ADDRESS, 2, 0x1234);
	assert_int_equal(access_read(d, ADDRESS, 4), 0x80000000u);
	assert_int_equal(access_read(d, ADDRESS, 1), 0xff);
	device_destroy(d);
}

static void test_pci__one_host_bridge_and_nothing_else(void **s)
{
	struct device *d = make();
	unsigned found = 0;

	(void)s;
	for (uint32_t bdf = 0; bdf < 0x10000; bdf++) {
		access_write(d, ADDRESS, 4, 0x80000000u | bdf << 8);
		found += access_read(d, DATA, 4) != 0xffffffffu;
	}
	assert_int_equal(found, 1);
	access_write(d, ADDRESS, 4, 0x80000008u);
	assert_int_equal(access_read(d, DATA + 2, 2), 0x0600); /* class: host bridge */
	access_write(d, ADDRESS, 4, 0x8000000cu);
	assert_int_equal(access_read(d, DATA + 2, 1), 0); /* one function */
	access_write(d, ADDRESS, 4, 0x80000010u);
	access_write(d, DATA, 4, 0xffffffffu); /* sizing of a BAR that is none */
	assert_int_equal(access_read(d, DATA, 4), 0);
	access_write(d, ADDRESS, 4, 0x00000000u); /* not enabled */
	assert_int_equal(access_read(d, DATA, 4), 0xffffffffu);
	device_destroy(d);
}

static void test_pci__reset_control_resets_on_the_rising_bit(void **s)
{
	struct device *d = make();

	(void)s;
	out8(d, RESET, 0x02);
	assert_int_equal(resets, 0);
	out8(d, RESET, 0x06);
	assert_int_equal(resets, 1);
	out8(d, RESET, 0x06);
	assert_int_equal(resets, 1);
	assert_int_equal(in8(d, RESET), 0x06);
	d->ops->reset(d->self);
	assert_int_equal(in8(d, RESET), 0);
	device_destroy(d);
}

static void test_pci__state_survives_in_mid_probe(void **s)
{
	struct device *a = make(), *b = make();

	(void)s;
	access_write(a, ADDRESS, 4, 0x80000008u);
	out8(a, RESET, 0x02);
	quiesce(a);
	quiesce(b);
	copy_state(a, b, &pci_state_kind);
	resume(b);
	assert_int_equal(access_read(b, ADDRESS, 4), 0x80000008u);
	assert_int_equal(in8(b, RESET), 0x02);
	device_destroy(a);
	device_destroy(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pci__address_register_is_32_bits_wide_only),
		cmocka_unit_test(test_pci__one_host_bridge_and_nothing_else),
		cmocka_unit_test(test_pci__reset_control_resets_on_the_rising_bit),
		cmocka_unit_test(test_pci__state_survives_in_mid_probe),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
