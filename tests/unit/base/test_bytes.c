/* SPDX-License-Identifier: Apache-2.0 */
/* bytes: integers, growing and bounded strings. */
#include "base/bytes.h"

#include <string.h>

#include "tests/unit/cm.h"

static void test_bytes__integers_are_little_endian(void **state)
{
	uint8_t p[8];

	(void)state;
	le64_put(p, 0x0102030405060708ull);
	assert_int_equal(p[0], 8);
	assert_int_equal(p[7], 1);
	assert_true(le64_get(p) == 0x0102030405060708ull);
	assert_int_equal(le32_get(p), 0x05060708);
	assert_int_equal(le16_get(p), 0x0708);
}

static void test_bytes__buffer_round_trips_through_reader(void **state)
{
	AUTO_BUF struct buf b = {0};

	(void)state;
	buf_put_le8(&b, 1);
	buf_put_le16(&b, 2);
	buf_put_le32(&b, 3);
	buf_put_le64(&b, UINT64_MAX);
	buf_put_str(&b, "tail");
	buf_put_zero(&b, 3);
	assert_ok(buf_check(&b));
	struct rd r = rd_make(b.data, b.len);
	assert_int_equal(rd_le8(&r), 1);
	assert_int_equal(rd_le16(&r), 2);
	assert_int_equal(rd_le32(&r), 3);
	assert_true(rd_le64(&r) == UINT64_MAX);
	assert_memory_equal(rd_bytes(&r, 7), "tail\0\0\0", 7);
	assert_int_equal(rd_left(&r), 0);
	assert_ok(rd_check(&r, "blob"));
}

static void test_bytes__reader_never_passes_its_end(void **state)
{
	uint8_t p[3] = {1, 2, 3};
	struct rd r = rd_make(p, sizeof(p));

	(void)state;
	assert_int_equal(rd_le32(&r), 0);
	assert_int_equal(rd_le8(&r), 0); /* once over the end, always */
	assert_null(rd_bytes(&r, 0));
	assert_err(rd_check(&r, "blob"), ERR_CORRUPT);
	assert_string_equal(err_text(), "blob: ends too early");
}

static void test_bytes__printf_of_any_length(void **state)
{
	AUTO_BUF struct buf b = {0};
	char large[1000];

	(void)state;
	memset(large, 'y', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	buf_printf(&b, "%d ", 5);
	buf_printf(&b, "%s", large);
	assert_int_equal(b.len, 2 + 999);
	assert_int_equal(strlen(buf_str(&b)), b.len);
	assert_string_equal(buf_str(&b) + 2, large);
}

static void test_bytes__huge_growth_fails_once_for_all(void **state)
{
	AUTO_BUF struct buf b = {0};

	(void)state;
	buf_put_zero(&b, SIZE_MAX / 2);
	buf_put_le8(&b, 1);
	assert_int_equal(b.len, 0);
	assert_err(buf_check(&b), ERR_NOMEM);
	assert_string_equal(buf_str(&b), "");
}

static void test_bytes__zero_sees_every_byte(void **state)
{
	uint8_t page[100] = {0};

	(void)state;
	for (size_t len = 0; len <= sizeof(page); len++) {
		assert_true(bytes_zero(page, len));
		for (size_t i = 0; i < len; i++) {
			page[i] = 1;
			assert_false(bytes_zero(page, len));
			page[i] = 0;
		}
	}
}

static void test_bytes__hex_round_trips_and_refuses(void **state)
{
	uint8_t in[4] = {0, 0x7f, 0xa0, 0xff}, out[4];
	char text[9];

	(void)state;
	bytes_hex(in, 4, text);
	assert_string_equal(text, "007fa0ff");
	assert_true(bytes_unhex("007FA0ff", out, 4));
	assert_memory_equal(in, out, 4);
	assert_false(bytes_unhex("007FA0f", out, 4));
	assert_false(bytes_unhex("007FA0fg", out, 4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes__integers_are_little_endian),
		cmocka_unit_test(test_bytes__buffer_round_trips_through_reader),
		cmocka_unit_test(test_bytes__reader_never_passes_its_end),
		cmocka_unit_test(test_bytes__printf_of_any_length),
		cmocka_unit_test(test_bytes__huge_growth_fails_once_for_all),
		cmocka_unit_test(test_bytes__zero_sees_every_byte),
		cmocka_unit_test(test_bytes__hex_round_trips_and_refuses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
