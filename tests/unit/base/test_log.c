/* SPDX-License-Identifier: Apache-2.0 */
/* log: a guest that makes us log cannot flood the log, nor forge lines. */
#include "base/log.h"

#include <string.h>

#include "tests/unit/cm.h"

static unsigned lines;
static char last[2048];

static void sink(void *arg, enum log_level level, const char *line)
{
	(void)arg;
	(void)level;
	lines++;
	strncpy(last, line, sizeof(last) - 1);
}

static void test_log__levels_below_the_minimum_are_dropped(void **state)
{
	(void)state;
	lines = 0;
	log_set(sink, NULL, LOG_WARN);
	log_event(LOG_INFO, "quiet");
	log_event(LOG_WARN, "loud n=%d", 3);
	assert_int_equal(lines, 1);
	assert_string_equal(last, "loud n=3");
}

static void test_log__limit_lets_a_burst_pass_and_counts_the_rest(void **state)
{
	struct log_limit limit = LOG_LIMIT(3, 50);

	(void)state;
	lines = 0;
	log_set(sink, NULL, LOG_DEBUG);
	for (int i = 0; i < 1000; i++)
		log_limited(&limit, LOG_WARN, "guest did it");
	assert_true(lines >= 3 && lines < 100);
	unsigned before = lines;
	while (lines == before) /* the next token comes after 50 ms */
		log_limited(&limit, LOG_WARN, "guest did it");
	assert_non_null(strstr(last, "guest did it suppressed="));
}

static void test_log__control_characters_make_no_second_line(void **state)
{
	(void)state;
	log_set(sink, NULL, LOG_DEBUG);
	log_event(LOG_INFO, "text=%s", "a\nforged event=\x1b[2J");
	assert_null(strchr(last, '\n'));
	assert_null(strchr(last, 0x1b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_log__levels_below_the_minimum_are_dropped),
		cmocka_unit_test(test_log__limit_lets_a_burst_pass_and_counts_the_rest),
		cmocka_unit_test(test_log__control_characters_make_no_second_line),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
