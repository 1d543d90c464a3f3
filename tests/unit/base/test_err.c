/* SPDX-License-Identifier: Apache-2.0 */
/* err: one sentence per thread, codes by errno. */
#include "base/err.h"

#include <errno.h>
#include <string.h>

#include "base/thread.h"
#include "tests/unit/cm.h"

static void test_err__note_has_reason(void **state)
{
	(void)state;
	assert_err(err_note(ERR_IO, EIO, "append %s", "pack"), ERR_IO);
	assert_string_equal(err_text(), "append pack: Input/output error");
	assert_err(err_context(ERR_IO, "commit %d", 7), ERR_IO);
	assert_string_equal(err_text(), "commit 7: append pack: Input/output error");
	err_clear();
	assert_string_equal(err_text(), "");
}

static void test_err__note_may_quote_itself_and_truncates(void **state)
{
	char large[2 * ERR_NOTE_BYTES];

	(void)state;
	memset(large, 'x', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	assert_err(err_note(ERR_FAILED, 0, "first"), ERR_FAILED);
	assert_err(err_note(ERR_FAILED, 0, "then %s", err_text()), ERR_FAILED);
	assert_string_equal(err_text(), "then first");
	assert_err(err_note(ERR_FAILED, EIO, "%s", large), ERR_FAILED);
	assert_int_equal(strlen(err_text()), ERR_NOTE_BYTES - 1);
	assert_err(err_context(ERR_FAILED, "%s", large), ERR_FAILED);
	assert_int_equal(strlen(err_text()), ERR_NOTE_BYTES - 1);
}

static void test_err__sys_maps_to_who_must_act(void **state)
{
	static const struct { int sys; enum err code; } map[] = {
		{ENOSPC, ERR_NOSPACE}, {EDQUOT, ERR_NOSPACE}, {ENOMEM, ERR_NOMEM},
		{EACCES, ERR_AUTH},    {EPERM, ERR_AUTH},     {EROFS, ERR_AUTH},
		{ENOENT, ERR_NOTFOUND}, {ECANCELED, ERR_CANCELLED}, {EIO, ERR_IO},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		assert_err(err_sys(map[i].sys, "call"), map[i].code);
}

static void test_err__names_round_trip(void **state)
{
	(void)state;
	for (int i = ERR_OK; i <= ERR_UNSUPPORTED; i++)
		assert_int_equal(err_from_name(err_name((enum err)i)), i);
	assert_int_equal(err_from_name("no such word"), ERR_FAILED);
}

static void other(void *arg)
{
	*(bool *)arg = err_text()[0] == '\0';
	if (err_note(ERR_IO, 0, "theirs") != ERR_IO)
		*(bool *)arg = false;
}

static void test_err__note_belongs_to_its_thread(void **state)
{
	struct thread t;
	bool clean = false;

	(void)state;
	assert_err(err_note(ERR_IO, 0, "mine"), ERR_IO);
	assert_ok(thread_start(&t, "other", other, &clean));
	thread_join(&t);
	assert_true(clean);
	assert_string_equal(err_text(), "mine");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_err__note_has_reason),
		cmocka_unit_test(test_err__note_may_quote_itself_and_truncates),
		cmocka_unit_test(test_err__sys_maps_to_who_must_act),
		cmocka_unit_test(test_err__names_round_trip),
		cmocka_unit_test(test_err__note_belongs_to_its_thread),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
