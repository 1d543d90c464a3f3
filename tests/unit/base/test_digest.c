/* SPDX-License-Identifier: Apache-2.0 */
/* digest: known answers (FIPS 180-4 examples), streaming equals one shot. */
#include "base/digest.h"

#include <string.h>

#include "base/bytes.h"
#include "tests/unit/cm.h"

static void test_digest__known_answers(void **state)
{
	struct digest d;
	char hex[65];

	(void)state;
	digest_of("abc", 3, &d);
	bytes_hex(d.b, DIGEST_BYTES, hex);
	assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	digest_of("", 0, &d);
	bytes_hex(d.b, DIGEST_BYTES, hex);
	assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void test_digest__streaming_equals_one_shot_and_is_reusable(void **state)
{
	struct digest_ctx *c;
	struct digest once, parts;
	uint8_t data[5000];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	digest_of(data, sizeof(data), &once);
	assert_ok(digest_create(&c));
	for (int round = 0; round < 2; round++) {
		digest_update(c, data, 1);
		digest_update(c, data + 1, 4096);
		digest_update(c, data + 4097, sizeof(data) - 4097);
		digest_final(c, &parts);
		assert_memory_equal(&once, &parts, sizeof(once));
	}
	digest_destroy(c);
	digest_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_digest__known_answers),
		cmocka_unit_test(test_digest__streaming_equals_one_shot_and_is_reusable),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
