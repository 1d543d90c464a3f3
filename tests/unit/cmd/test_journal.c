/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's log: lines in order, and nobody waits for a log that takes nothing. */
#include "cmd/worker/journal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/cm.h"

#define MANY (3 * JOURNAL_LINES)

static int far_end; /* what the log is read from */

/* Standard error is a pipe; what was there comes back with restore_stderr. */
static int swap_stderr(void)
{
	int ends[2], saved = dup(2);

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(dup2(ends[1], 2), 2);
	close(ends[1]);
	far_end = ends[0];
	return saved;
}

/* Nothing more fits into the pipe. */
static void stuff(void)
{
	char junk[4096];

	memset(junk, '.', sizeof(junk));
	assert_int_equal(fcntl(2, F_SETFL, O_NONBLOCK), 0);
	for (size_t size = sizeof(junk); size > 0; size /= 2)
		while (write(2, junk, size) > 0)
			;
	assert_int_equal(fcntl(2, F_SETFL, 0), 0);
}

/* Reads until the words have come; false at the end of it all. */
static bool read_until(char *text, size_t size, const char *words)
{
	size_t len = 0;

	text[0] = '\0';
	while (!strstr(text, words)) {
		char piece[4096];
		ssize_t n = read(far_end, piece, sizeof(piece));

		if (n <= 0)
			return false;
		for (ssize_t i = 0; i < n && len + 1 < size; i++)
			if (piece[i] != '.')
				text[len++] = piece[i];
		text[len] = '\0';
	}
	return true;
}

static void test_lines_come_in_order_and_nobody_waits(void **state)
{
	static char text[1 << 20];
	char word[32];
	int saved = swap_stderr();

	(void)state;
	journal_line(NULL, LOG_INFO, "direct");
	assert_true(read_until(text, sizeof(text), "info worker direct\n"));
	assert_int_equal(journal_start(), ERR_OK);
	journal_line(NULL, LOG_WARN, "queued");
	assert_true(read_until(text, sizeof(text), "warn worker queued\n"));

	stuff(); /* a log that hangs */
	for (unsigned i = 0; i < MANY; i++) {
		(void)snprintf(word, sizeof(word), "line=%u|", i);
		journal_line(NULL, LOG_INFO, word);
	}
	/* All that had room, in order; "queued" may have been written but still have its place. */
	const unsigned room = JOURNAL_LINES - 1;
	(void)snprintf(word, sizeof(word), "line=%u|", room - 1);
	assert_true(read_until(text, sizeof(text), word));
	for (unsigned i = 0, at = 0; i < room; i++) {
		(void)snprintf(word, sizeof(word), "line=%u|", i);
		const char *found = strstr(text + at, word);
		assert_non_null(found);
		at = (unsigned)(found - text);
	}
	journal_line(NULL, LOG_ERROR, "again");
	assert_true(read_until(text, sizeof(text), "error worker again\n"));
	const char *found = strstr(text, "lost_lines=");
	assert_non_null(found);
	assert_in_range(strtoul(found + strlen("lost_lines="), NULL, 10), MANY - JOURNAL_LINES,
			MANY - room);

	stuff();
	journal_line(NULL, LOG_INFO, "last");
	journal_end(); /* the thread hangs: it is left alone */
	assert_int_equal(dup2(saved, 2), 2);
	close(saved);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines_come_in_order_and_nobody_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
