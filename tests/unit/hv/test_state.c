/* SPDX-License-Identifier: Apache-2.0 */
/* test_state: sections come back as they were written, and nothing malformed does. */
#include "hv/state.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/cm.h"

enum { A = 1, B, C, D, E, F, G };

static const struct state_field fields[] = {
	{A, STATE_U8, false, "a"},    {B, STATE_U16, false, "b"},  {C, STATE_U32, false, "c"},
	{D, STATE_U64, false, "d"},   {E, STATE_BYTES, false, "e"}, {F, STATE_TEXT, true, "f"},
	{G, STATE_U32, true, "g"},
};
static const struct state_kind kind = {"thing", 3, fields, 7};
static const struct state_field old_fields[] = {{A, STATE_U8, false, "a"},
						{G, STATE_U32, true, "g"}};
static const struct state_kind old_kind = {"thing", 3, old_fields, 2};
static const struct state_kind newer_kind = {"thing", 4, fields, 7};
static const struct state_kind small_kind = {"thing", 3, old_fields, 2};

/* Two sections of `kind` (instances 0 and 7), as a malloc'd blob. */
static uint8_t *blob(size_t *len)
{
	struct state_out *o;
	const uint8_t *p;
	uint8_t *copy;

	assert_ok(state_out_create(&o));
	for (unsigned i = 0; i < 2; i++) {
		state_begin(o, &kind, 7 * i);
		state_put_u8(o, A, (uint8_t)(0x11 + i));
		state_put_u16(o, B, 0x2233);
		state_put_u32(o, C, 0x44556677);
		state_put_u64(o, D, 0x8899aabbccddeeff);
		state_put_bytes(o, E, "\0\1\2", 3);
		if (i)
			state_put_bytes(o, F, "text", 4);
		state_end(o);
	}
	assert_ok(state_out_finish(o, &p, len));
	copy = malloc(*len);
	memcpy(copy, p, *len);
	state_out_destroy(o);
	return copy;
}

static void test_state__what_is_put_is_got(void **state)
{
	struct state_file *f;
	struct state_in *in;
	const uint8_t *p = NULL;
	size_t len, n = 0;
	uint8_t *b = blob(&len), a = 0, e[3];
	uint16_t v16 = 0;
	uint32_t v32 = 0, g = 99;
	uint64_t v64 = 0;

	(void)state;
	assert_ok(state_open(b, len, &f));
	assert_int_equal(state_sections(f), 2);
	assert_ok(state_find(f, &kind, 7, &in));
	assert_ok(state_get_u64(in, D, &v64)); /* any order */
	assert_ok(state_get_u8(in, A, &a));
	assert_ok(state_get_u16(in, B, &v16));
	assert_ok(state_get_u32(in, C, &v32));
	assert_ok(state_get_exact(in, E, e, 3));
	assert_ok(state_get_bytes(in, F, &p, &n));
	assert_ok(state_get_u32(in, G, &g));
	assert_int_equal(a, 0x12);
	assert_int_equal(v16, 0x2233);
	assert_int_equal(v32, 0x44556677);
	assert_true(v64 == 0x8899aabbccddeeff);
	assert_memory_equal(e, "\0\1\2", 3);
	assert_int_equal(n, 4);
	assert_memory_equal(p, "text", 4);
	assert_int_equal(g, 99); /* optional and missing: left alone */
	state_close(f);
	free(b);
}

static void test_state__the_layout_is_the_documented_one(void **state)
{
	size_t len;
	uint8_t *b = blob(&len);

	(void)state;
	assert_memory_equal(b, "LBSTATE\0\1\0\0\xe0\2\0\0\0", 16);
	assert_memory_equal(b + 16, "thing\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\3\0\0\0", 24);
	assert_int_equal(le64_get(b + 40), 9 + 10 + 12 + 16 + 11);
	assert_memory_equal(b + 48, "\1\0\0\0\1\0\0\0\x11\2\0\0\0\2\0\0\0\x33\x22", 19);
	free(b);
}

static void test_state__unknown_and_missing_things_are_told_apart(void **state)
{
	struct state_file *f;
	struct state_in *in;
	size_t len;
	uint8_t *b = blob(&len), buf[4];
	uint64_t v64 = 0;

	(void)state;
	assert_ok(state_open(b, len, &f));
	assert_err(state_find(f, &kind, 1, &in), ERR_NOTFOUND);
	assert_string_equal(err_text(), "state has no section thing.1");
	assert_err(state_find(f, &newer_kind, 0, &in), ERR_VERSION);
	assert_err(state_find(f, &old_kind, 0, &in), ERR_VERSION); /* b is not optional */
	assert_ok(state_find(f, &kind, 0, &in));
	assert_err(state_get_exact(in, E, buf, 4), ERR_CORRUPT);
	assert_non_null(strstr(err_text(), "thing.0: e has 3 bytes instead of 4"));
	state_close(f);
	/* Field b becomes optional: an older program skips it, but not c. */
	b[48 + 9 + 2] = 1;
	assert_ok(state_open(b, len, &f));
	assert_err(state_find(f, &small_kind, 0, &in), ERR_VERSION);
	assert_non_null(strstr(err_text(), "field 3"));
	assert_ok(state_find(f, &kind, 0, &in));
	state_close(f);
	/* Field d renamed to an optional one that nobody knows: d is missing. */
	b[48 + 9 + 10 + 12] = 77;
	b[48 + 9 + 10 + 12 + 2] = 1;
	assert_ok(state_open(b, len, &f));
	assert_ok(state_find(f, &kind, 0, &in));
	assert_err(state_get_u64(in, D, &v64), ERR_CORRUPT);
	assert_non_null(strstr(err_text(), "thing.0 lacks d"));
	state_close(f);
	free(b);
}

static void test_state__other_formats_are_refused(void **state)
{
	struct state_file *f;
	size_t len;
	uint8_t *b = blob(&len);

	(void)state;
	b[8] ^= 2;
	assert_err(state_open(b, len, &f), ERR_VERSION);
	b[8] ^= 2;
	b[0] = 'X';
	assert_err(state_open(b, len, &f), ERR_CORRUPT);
	free(b);
}

static void test_state__every_cut_is_noticed(void **state)
{
	struct state_file *f;
	size_t len;
	uint8_t *b = blob(&len);

	(void)state;
	for (size_t n = 0; n < len; n++) {
		uint8_t *cut = malloc(n ? n : 1); /* exactly, so that reading on is caught */

		memcpy(cut, b, n);
		assert_err(state_open(cut, n, &f), ERR_CORRUPT);
		free(cut);
	}
	b = realloc(b, len + 1);
	b[len] = 0;
	assert_err(state_open(b, len + 1, &f), ERR_CORRUPT);
	free(b);
}

static void test_state__duplicates_and_bad_names_are_refused(void **state)
{
	struct state_file *f;
	size_t len;
	uint8_t *b = blob(&len);
	size_t second = 16 + 32 + 58;

	(void)state;
	le32_put(b + second + 16, 0); /* instance 7 -> 0: twice thing.0 */
	assert_err(state_open(b, len, &f), ERR_CORRUPT);
	le32_put(b + second + 16, 7);
	b[48 + 9] = 1; /* tag b -> a: twice in a section */
	assert_err(state_open(b, len, &f), ERR_CORRUPT);
	b[48 + 9] = 2;
	b[48 + 3] = 1; /* flags beyond "optional" */
	assert_err(state_open(b, len, &f), ERR_CORRUPT);
	b[48 + 3] = 0;
	b[16] = '\n';
	assert_err(state_open(b, len, &f), ERR_CORRUPT);
	b[16] = 't';
	b[16 + 15] = 'x'; /* not padded with NULs */
	assert_err(state_open(b, len, &f), ERR_CORRUPT);
	b[16 + 15] = 0;
	assert_ok(state_open(b, len, &f));
	state_close(f);
	free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_state__what_is_put_is_got),
		cmocka_unit_test(test_state__the_layout_is_the_documented_one),
		cmocka_unit_test(test_state__unknown_and_missing_things_are_told_apart),
		cmocka_unit_test(test_state__other_formats_are_refused),
		cmocka_unit_test(test_state__every_cut_is_noticed),
		cmocka_unit_test(test_state__duplicates_and_bad_names_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
