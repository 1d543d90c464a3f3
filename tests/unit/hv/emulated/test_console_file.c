/* SPDX-License-Identifier: Apache-2.0 */
/* console_file: complete where it can be, honest where it cannot, and never in the way.
 * A pipe that nobody reads plays the file system that hangs. */
#include "hv/console_file.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/thread.h"
#include "tests/unit/cm.h"

static _Atomic int failures;

static void on_failed(void *arg)
{
	(void)arg;
	atomic_fetch_add(&failures, 1);
}

static struct console_file *open_on(int fd)
{
	struct console_file *f;

	atomic_store(&failures, 0);
	assert_ok(console_file_create(fd, on_failed, NULL, &f));
	return f;
}

/* Lines of 8 bytes, numbered. */
static void put_lines(struct console_file *f, unsigned first, unsigned count)
{
	char line[16];

	for (unsigned i = first; i < first + count; i++) {
		(void)snprintf(line, sizeof(line), "%07u\n", i);
		console_file_put(f, line, 8);
	}
}

static void test_console_file__a_working_disk_gets_everything(void **state)
{
	char name[] = "/tmp/test_console_file.XXXXXX", line[16];
	const unsigned lines = 4 * CONSOLE_FILE_BYTES / 8 + 5;
	int fd = mkstemp(name);
	FILE *back = fopen(name, "r");

	(void)state;
	unlink(name);
	assert_non_null(back);
	struct console_file *f = open_on(fd);
	put_lines(f, 0, lines);
	console_file_destroy(f);
	for (unsigned i = 0; i < lines; i++) {
		assert_non_null(fgets(line, sizeof(line), back));
		assert_int_equal(atoi(line), i);
	}
	assert_null(fgets(line, sizeof(line), back));
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	fclose(back);
}

struct drain {
	int fd;
	struct buf got;
};

static void drain(void *arg)
{
	struct drain *d = arg;
	char bytes[65536];
	ssize_t n;

	while ((n = read(d->fd, bytes, sizeof(bytes))) > 0)
		buf_put(&d->got, bytes, (size_t)n);
}

/* What was kept, the notice, what came after it: nothing is missing that is not told. */
static void assert_accounted(struct buf *got, uint64_t put)
{
	const char *text = buf_str(got), *notice = strstr(text, "\r\n[lifeboat: ");
	unsigned long long lost = 0;
	int len = 0;

	assert_non_null(notice);
	assert_int_equal(sscanf(notice, "\r\n[lifeboat: %llu bytes lost]\r\n%n", &lost, &len), 1);
	assert_true(len > 0 && lost > 0);
	assert_null(strstr(notice + len, "lifeboat"));
	assert_true(got->len - (size_t)len + lost == put);
	assert_memory_equal(text, "0000000\n", 8);
	assert_string_equal(text + got->len - 8, "0999999\n");
}

static void test_console_file__a_hang_costs_bytes_and_no_time(void **state)
{
	const unsigned lines = CONSOLE_FILE_BYTES / 8 * 3;
	struct drain d = {0};
	struct thread reader;
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	struct console_file *f = open_on(p[1]);
	/* A wait for every line that does not fit would take hours. */
	put_lines(f, 0, lines);
	d.fd = p[0];
	assert_ok(thread_start(&reader, "reader", drain, &d));
	/* It flows again some time; the line that finds it so comes after the notice. */
	unsigned more = 0;
	for (; more < 2000; more++) {
		put_lines(f, 900000, 1);
		usleep(1000);
	}
	put_lines(f, 999999, 1);
	console_file_destroy(f);
	thread_join(&reader);
	assert_int_equal(atomic_load(&failures), 0);
	assert_accounted(&d.got, 8ull * (lines + more + 1));
	buf_fini(&d.got);
	close(p[0]);
}

static void test_console_file__a_failed_write_is_told_once(void **state)
{
	(void)state;
	struct console_file *f = open_on(open("/dev/full", O_WRONLY));
	for (unsigned i = 0; i < 10000 && atomic_load(&failures) == 0; i++) {
		put_lines(f, 0, 1);
		usleep(100);
	}
	put_lines(f, 0, 2 * CONSOLE_FILE_BYTES / 8); /* dropped, and waits for nothing */
	console_file_destroy(f);
	assert_int_equal(atomic_load(&failures), 1);
}

/* The file system never comes back in time: the end does not wait for it. */
static void test_console_file__an_end_does_not_wait_for_ever(void **state)
{
	char bytes[4096];
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	struct console_file *f = open_on(p[1]);
	put_lines(f, 0, CONSOLE_FILE_BYTES / 8 / 2);
	console_file_destroy(f);
	/* Now it does: the thread ends by itself and closes the file. */
	while (read(p[0], bytes, sizeof(bytes)) > 0)
		;
	close(p[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_console_file__a_working_disk_gets_everything),
		cmocka_unit_test(test_console_file__a_hang_costs_bytes_and_no_time),
		cmocka_unit_test(test_console_file__a_failed_write_is_told_once),
		cmocka_unit_test(test_console_file__an_end_does_not_wait_for_ever),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
