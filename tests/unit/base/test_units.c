/* SPDX-License-Identifier: Apache-2.0 */
/* units: what people type, and what they read. */
#include "base/units.h"

#include "tests/unit/cm.h"

static void test_units__sizes(void **state)
{
	static const struct { const char *text; uint64_t bytes; } good[] = {
		{"0", 0},	       {"4096", 4096},		 {"512M", 512ull << 20},
		{"4G", 4ull << 30},    {"1.5T", 3ull << 39},	 {"16MiB", 16ull << 20},
		{"2k", 2048},	       {"1GB", 1ull << 30},	 {"0.5K", 512},
	};
	static const char *const bad[] = {"", "M", "-1", "1 G", "1.G", "1X", "1.5", "0x10",
					  "99999999999999999999", "9000000P", "1.2345G", "4GiBs"};
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_ok(units_size(good[i].text, &v));
		assert_true(v == good[i].bytes);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_err(units_size(bad[i], &v), ERR_USAGE);
}

static void test_units__durations(void **state)
{
	uint64_t v;

	(void)state;
	assert_ok(units_duration("90s", &v));
	assert_true(v == 90000000000ull);
	assert_ok(units_duration("1.5m", &v));
	assert_true(v == 90000000000ull);
	assert_ok(units_duration("7d", &v));
	assert_true(v == 7 * 86400ull * 1000000000);
	assert_ok(units_duration("0", &v));
	assert_true(v == 0);
	assert_ok(units_duration("250ms", &v));
	assert_true(v == 250000000);
	assert_err(units_duration("90", &v), ERR_USAGE);
	assert_err(units_duration("s", &v), ERR_USAGE);
	assert_err(units_duration("1w", &v), ERR_USAGE);
	assert_err(units_duration("9999999999d", &v), ERR_USAGE);
}

static void test_units__numbers_name_their_range(void **state)
{
	uint64_t v;

	(void)state;
	assert_ok(units_number("32", "cpus", 1, 32, &v));
	assert_int_equal(v, 32);
	assert_err(units_number("33", "cpus", 1, 32, &v), ERR_USAGE);
	assert_string_equal(err_text(), "cpus 33 is out of range: it may be 1 to 32");
	assert_err(units_number("two", "cpus", 1, 32, &v), ERR_USAGE);
	assert_string_equal(err_text(), "cpus 'two' is not a whole number");
	assert_err(units_number("18446744073709551616", "n", 0, UINT64_MAX, &v), ERR_USAGE);
}

static void test_units__formats(void **state)
{
	char t[UNITS_TEXT_BYTES];

	(void)state;
	assert_string_equal(units_format_size(17, t), "17 B");
	assert_string_equal(units_format_size(3ull << 29, t), "1.5 GiB");
	assert_string_equal(units_format_size(1ull << 20, t), "1 MiB");
	assert_string_equal(units_format_size(UINT64_MAX, t), "15.9 EiB");
	assert_string_equal(units_format_duration(3100000, t), "3.1 ms");
	assert_string_equal(units_format_duration(1250000000, t), "1.25 s");
	assert_string_equal(units_format_duration(130ull * 1000000000, t), "2m10s");
	assert_string_equal(units_format_duration(11100ull * 1000000000, t), "3h05m");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_units__sizes),
		cmocka_unit_test(test_units__durations),
		cmocka_unit_test(test_units__numbers_name_their_range),
		cmocka_unit_test(test_units__formats),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
