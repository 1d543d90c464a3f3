/* SPDX-License-Identifier: Apache-2.0 */
/* test_acpi: the tables, followed from the RSDP as a guest follows them. */
#include "hv/acpi.h"

#include "base/bytes.h"
#include "tests/unit/cm.h"

#include <stdlib.h>
#include <string.h>

static uint8_t area[ACPI_END - ACPI_BASE];

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;

	for (size_t i = 0; i < len; i++)
		s = (uint8_t)(s + p[i]);
	return s;
}

static const uint8_t *table(uint64_t address, const char *signature)
{
	const uint8_t *p = area + (address - ACPI_BASE);

	assert_in_range(address, ACPI_BASE, ACPI_END - 36);
	assert_memory_equal(p, signature, 4);
	assert_in_range(le32_get(p + 4), 36, ACPI_END - address);
	assert_int_equal(sum(p, le32_get(p + 4)), 0);
	return p;
}

static void check_madt(const uint8_t *madt, uint32_t vcpus)
{
	uint32_t cpus = 0, ioapics = 0;

	assert_int_equal(le32_get(madt + 36), ACPI_LAPIC);
	for (const uint8_t *e = madt + 44; e < madt + le32_get(madt + 4); e += e[1]) {
		assert_true(e[1] >= 8);
		if (e[0] == 0) {
			assert_int_equal(e[3], cpus); /* APIC id */
			assert_int_equal(le32_get(e + 4), 1);
			cpus++;
		} else if (e[0] == 1) {
			assert_int_equal(le32_get(e + 4), ACPI_IOAPIC);
			assert_int_equal(le32_get(e + 8), 0);
			ioapics++;
		}
	}
	assert_int_equal(cpus, vcpus);
	assert_int_equal(ioapics, 1);
}

static void check_fadt(const uint8_t *fadt)
{
	uint32_t flags = le32_get(fadt + 112);

	assert_int_equal(le32_get(fadt + 4), 276);
	assert_int_equal(fadt[8], 6);
	assert_true(flags & 1u << 20); /* hardware-reduced */
	assert_true(flags & 1u << 10); /* reset register */
	assert_int_equal(fadt[116], 1);
	assert_int_equal(le64_get(fadt + 120), 0x602);
	assert_int_equal(fadt[128], 1);
	assert_int_equal(le64_get(fadt + 248), 0x600);
	assert_int_equal(le64_get(fadt + 260), 0x601);
	assert_int_equal(le64_get(fadt + 140), le32_get(fadt + 40));
	table(le64_get(fadt + 140), "DSDT");
}

static void test_acpi__tables_are_whole_and_connected(void **state)
{
	static const uint32_t counts[] = {1, 2, 4, 32};

	(void)state;
	for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
		struct memory *m = NULL;
		const uint8_t *xsdt;

		assert_ok(memory_create(MEMORY_MIN_BYTES, &m));
		assert_ok(acpi_write(m, counts[i]));
		assert_ok(memory_read(m, gpa(ACPI_BASE), area, sizeof area));
		assert_memory_equal(area, "RSD PTR ", 8);
		assert_int_equal(sum(area, 20), 0);
		assert_int_equal(sum(area, 36), 0);
		xsdt = table(le64_get(area + 24), "XSDT");
		assert_int_equal(le32_get(xsdt + 4), 36 + 2 * 8);
		check_fadt(table(le64_get(xsdt + 36), "FACP"));
		check_madt(table(le64_get(xsdt + 44), "APIC"), counts[i]);
		memory_destroy(m);
	}
}

static bool dsdt_has(const void *p, size_t len)
{
	return memmem(acpi_dsdt, acpi_dsdt_bytes, p, len) != NULL;
}

static void test_acpi__dsdt_names_the_devices(void **state)
{
	(void)state;
	assert_memory_equal(acpi_dsdt, "DSDT", 4);
	assert_int_equal(le32_get(acpi_dsdt + 4), acpi_dsdt_bytes);
	assert_int_equal(sum(acpi_dsdt, acpi_dsdt_bytes), 0);
	assert_true(dsdt_has("COM1", 4));
	assert_true(dsdt_has("COM2", 4));
	assert_true(dsdt_has("PWRB", 4));
	assert_true(dsdt_has("ACPI0013", 8));
	assert_true(dsdt_has("_S5_", 4));
	assert_true(dsdt_has("\x47\x01\xf8\x03\xf8\x03", 6)); /* I/O 0x3f8 */
	assert_true(dsdt_has("\x47\x01\xf8\x02\xf8\x02", 6)); /* I/O 0x2f8 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_acpi__tables_are_whole_and_connected),
		cmocka_unit_test(test_acpi__dsdt_names_the_devices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
