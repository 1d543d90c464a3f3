/* SPDX-License-Identifier: Apache-2.0 */
/* test_memory: where RAM is, and that nothing else is. */
#include "hv/memory.h"

#include "tests/unit/cm.h"
#include "tests/unit/hv/image.h"

#include <stdlib.h>

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static void check_edges(struct memory *m, const struct memory_slot *s)
{
	uint8_t in[16], out[16];
	uint64_t offset;

	for (unsigned i = 0; i < sizeof in; i++)
		in[i] = (uint8_t)(i ^ s->offset >> 20 ^ 0x5a);
	assert_ok(memory_offset(m, s->base, 1, &offset));
	assert_int_equal(offset, s->offset);
	assert_ok(memory_offset(m, s->base, (size_t)s->bytes, &offset));
	assert_ok(memory_offset(m, gpa(s->base.v + s->bytes - 1), 1, &offset));
	assert_int_equal(offset, s->offset + s->bytes - 1);
	assert_ok(memory_write(m, gpa(s->base.v + s->bytes - sizeof in), in, sizeof in));
	assert_ok(memory_read(m, gpa(s->base.v + s->bytes - sizeof in), out, sizeof out));
	assert_memory_equal(in, out, sizeof in);
	assert_err(memory_write(m, gpa(s->base.v + s->bytes - 8), in, 9), ERR_GUEST);
	assert_err(memory_read(m, gpa(s->base.v + s->bytes), out, 1), ERR_GUEST);
	assert_err(memory_offset(m, gpa(s->base.v + s->bytes - 1), SIZE_MAX, &offset), ERR_GUEST);
}

static void check_geometry(uint64_t bytes)
{
	struct memory *m = NULL;
	const struct memory_slot *s;
	unsigned n;
	uint64_t sum = 0, offset;

	assert_ok(memory_create(bytes, &m));
	s = memory_slots(m, &n);
	assert_int_equal(memory_bytes(m), bytes);
	assert_int_equal(n, bytes > 3 * GIB ? 2 : 1);
	assert_int_equal(s[0].base.v, 0);
	assert_int_equal(s[0].bytes, bytes > 3 * GIB ? 3 * GIB : bytes);
	if (n == 2)
		assert_int_equal(s[1].base.v, 4 * GIB);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(s[i].offset, sum);
		sum += s[i].bytes;
		check_edges(m, &s[i]);
	}
	assert_int_equal(sum, bytes);
	assert_err(memory_offset(m, gpa(3 * GIB), 1, &offset), ERR_GUEST);
	assert_err(memory_offset(m, gpa(4 * GIB - 1), 1, &offset), ERR_GUEST);
	assert_err(memory_offset(m, gpa(UINT64_MAX), 1, &offset), ERR_GUEST);
	assert_int_equal(memory_host_base(m) % (2 * MIB), 0);
	memory_destroy(m);
}

static void test_memory__is_placed_around_the_hole(void **state)
{
	static const uint64_t sizes[] = {
		16 * MIB, 16 * MIB + 4096, 17 * MIB - 4096, 512 * MIB, 3 * GIB - 4096, 3 * GIB,
		3 * GIB + 4096, 3 * GIB + 2 * MIB, 4 * GIB - 4096, 4 * GIB, 4 * GIB + 4096,
		5 * GIB, 64 * GIB,
#ifndef __SANITIZE_THREAD__ /* whose shadow leaves no room that is sure to be so long */
		1024 * GIB,
#endif
	};

	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		check_geometry(sizes[i]);
	srand(2017);
	for (int i = 0; i < 200; i++)
		check_geometry(16 * MIB + (unsigned)rand() % (6 * GIB / 4096) * 4096);
}

static void test_memory__refuses_impossible_sizes(void **state)
{
	static const uint64_t sizes[] = {0, 4096, 16 * MIB - 4096, 16 * MIB + 1, 1024 * GIB + 4096,
					 UINT64_MAX, UINT64_MAX - 4095};
	struct memory *m = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		assert_err(memory_create(sizes[i], &m), ERR_USAGE);
		assert_null(m);
	}
}

static void test_memory__loads_files(void **state)
{
	static const char text[] = "the quick brown fox";
	struct memory *m = NULL;
	char out[sizeof text];
	int fd = image_file(text, sizeof text);

	(void)state;
	assert_true(fd >= 0);
	assert_ok(memory_create(16 * MIB, &m));
	assert_ok(memory_load_file(m, gpa(0x12345), fd, 4, sizeof text - 4));
	assert_ok(memory_read(m, gpa(0x12345), out, sizeof text - 4));
	assert_string_equal(out, text + 4);
	assert_err(memory_load_file(m, gpa(0x1000), fd, 4, sizeof text), ERR_CORRUPT);
	assert_err(memory_load_file(m, gpa(16 * MIB - 4), fd, 0, 5), ERR_GUEST);
	memory_destroy(m);
	close(fd);
}

static void test_memory__store32_is_aligned_and_inside(void **state)
{
	struct memory *m = NULL;
	uint8_t out[4];

	(void)state;
	assert_ok(memory_create(16 * MIB, &m));
	assert_ok(memory_store32_release(m, gpa(0x1004), 0x11223344));
	assert_ok(memory_read(m, gpa(0x1004), out, 4));
	assert_int_equal(le32_get(out), 0x11223344);
	assert_err(memory_store32_release(m, gpa(0x1006), 1), ERR_GUEST);
	assert_err(memory_store32_release(m, gpa(16 * MIB), 1), ERR_GUEST);
	memory_destroy(m);
}

static bool bit(const uint64_t *bits, uint64_t page)
{
	return bits[page / 64] >> page % 64 & 1;
}

static unsigned count_bits(const uint64_t *bits, size_t words)
{
	unsigned n = 0;

	for (size_t i = 0; i < words; i++)
		n += (unsigned)__builtin_popcountll(bits[i]);
	return n;
}

static void test_memory__our_writes_are_marked_once(void **state)
{
	uint64_t bits[16 * MIB / 4096 / 64] = {0};
	const size_t words = sizeof bits / sizeof bits[0];
	struct memory *m = NULL;
	uint8_t data[8192] = {1};

	(void)state;
	assert_ok(memory_create(16 * MIB, &m));
	assert_ok(memory_write(m, gpa(0x5000), data, 1)); /* before: not recorded */
	memory_track(m, true);
	memory_take_written(m, bits);
	assert_int_equal(count_bits(bits, words), 0);
	assert_ok(memory_write(m, gpa(0x10ffe), data, 4));	/* two pages */
	assert_ok(memory_zero(m, gpa(0x40000), sizeof data));	/* two pages */
	assert_ok(memory_store32_release(m, gpa(0x80000), 7));
	assert_ok(memory_write(m, gpa(0x90000), data, 0));	/* nothing */
	assert_err(memory_write(m, gpa(16 * MIB - 1), data, 2), ERR_GUEST);
	memory_take_written(m, bits);
	assert_int_equal(count_bits(bits, words), 5);
	assert_true(bit(bits, 0x10) && bit(bits, 0x11) && bit(bits, 0x40) && bit(bits, 0x41) &&
		    bit(bits, 0x80));
	memset(bits, 0, sizeof bits);
	memory_take_written(m, bits);
	assert_int_equal(count_bits(bits, words), 0);
	assert_ok(memory_clear(m));
	memory_take_written(m, bits);
	assert_int_equal(count_bits(bits, words), words * 64);
	memory_destroy(m);
}

static void test_memory__clear_gives_zeros(void **state)
{
	struct memory *m = NULL;
	uint8_t data[100], out[100];

	(void)state;
	memset(data, 0xee, sizeof data);
	assert_ok(memory_create(3 * GIB + 16 * MIB, &m));
	assert_ok(memory_write(m, gpa(0), data, sizeof data));
	assert_ok(memory_write(m, gpa(4 * GIB + 5), data, sizeof data));
	assert_ok(memory_clear(m));
	assert_ok(memory_read(m, gpa(0), out, sizeof out));
	assert_true(bytes_zero(out, sizeof out));
	assert_ok(memory_read(m, gpa(4 * GIB + 5), out, sizeof out));
	assert_true(bytes_zero(out, sizeof out));
	memory_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory__is_placed_around_the_hole),
		cmocka_unit_test(test_memory__refuses_impossible_sizes),
		cmocka_unit_test(test_memory__loads_files),
		cmocka_unit_test(test_memory__store32_is_aligned_and_inside),
		cmocka_unit_test(test_memory__our_writes_are_marked_once),
		cmocka_unit_test(test_memory__clear_gives_zeros),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
