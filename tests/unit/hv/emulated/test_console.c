/* SPDX-License-Identifier: Apache-2.0 */
/* console: what the far end of a serial line promises to people and to guests. */
#include "hv/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "tests/unit/cm.h"

static struct loop *loop;
static struct console *con;
static unsigned told;

static void on_input(void *arg)
{
	(void)arg;
	told++;
}

static int setup(void **s)
{
	(void)s;
	told = 0;
	assert_ok(loop_create(&loop));
	assert_ok(console_create(loop, &con));
	console_set_input(con, on_input, NULL);
	return 0;
}

static int teardown(void **s)
{
	(void)s;
	console_destroy(con);
	loop_destroy(loop);
	con = NULL;
	loop = NULL;
	return 0;
}

static void stop(void *arg)
{
	loop_stop(arg);
}

/* Let the loop run for a while. */
static void run(unsigned ms)
{
	struct loop_timer *t;

	assert_ok(loop_timer_create(loop, stop, loop, &t));
	loop_timer_set(t, ms * NS_PER_MS);
	assert_ok(loop_run(loop));
	loop_timer_destroy(t);
}

static void say(const char *text)
{
	console_output(con, text, strlen(text));
}

static void pair(int fd[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	assert_int_equal(fcntl(fd[1], F_SETFL, O_NONBLOCK), 0);
}

static ssize_t get(int fd, char *buf, size_t size)
{
	ssize_t n = read(fd, buf, size - 1);

	buf[n > 0 ? n : 0] = 0;
	return n;
}

static void assert_got(int fd, const char *expect)
{
	char buf[4096];

	get(fd, buf, sizeof(buf));
	assert_string_equal(buf, expect);
}

static void assert_taken(const char *expect)
{
	char buf[4096];
	size_t n = console_input_take(con, buf, sizeof(buf) - 1);

	buf[n] = 0;
	assert_string_equal(buf, expect);
}

/* Byte i of an endless text whose every position is recognisable. */
static uint8_t pattern(uint64_t i)
{
	return (uint8_t)('a' + (i ^ i >> 8 ^ i >> 16) % 26);
}

static void say_pattern(uint64_t from, size_t len)
{
	uint8_t chunk[8192];

	for (size_t done = 0, n; done < len; done += n) {
		n = len - done < sizeof(chunk) ? len - done : sizeof(chunk);
		for (size_t i = 0; i < n; i++)
			chunk[i] = pattern(from + done + i);
		console_output(con, chunk, n);
	}
}

static void test_console__copies_to_all(void **s)
{
	int a[2], b[2];

	(void)s;
	pair(a);
	pair(b);
	say("before ");
	assert_ok(console_attach(con, a[0], false, true));
	assert_ok(console_attach(con, b[0], true, true));
	say("after");
	run(5);
	assert_got(a[1], "after");
	assert_got(b[1], "before after");
	assert_int_equal(console_written(con), 12);
	close(a[1]);
	close(b[1]);
}

static void test_console__scrollback_is_the_last_megabyte(void **s)
{
	AUTO_BUF struct buf out = {0};
	const uint64_t total = 2 * CONSOLE_SCROLLBACK + 12345;

	(void)s;
	say_pattern(0, total);
	console_scrollback(con, &out);
	assert_ok(buf_check(&out));
	assert_int_equal(out.len, CONSOLE_SCROLLBACK);
	for (size_t i = 0; i < out.len; i++)
		if (out.data[i] != pattern(total - CONSOLE_SCROLLBACK + i))
			fail_msg("byte %zu differs", i);
}

static void test_console__a_reader_that_sleeps_loses_and_is_told(void **s)
{
	const uint64_t total = 3 * CONSOLE_SCROLLBACK;
	AUTO_BUF struct buf got = {0};
	unsigned long long lost;
	char buf[65536], *notice;
	int fd[2];

	(void)s;
	pair(fd);
	assert_ok(console_attach(con, fd[0], false, true));
	run(2);
	say_pattern(0, 1000);
	run(2);
	say_pattern(1000, total - 1000);
	for (int idle = 0; idle < 5;) {
		ssize_t n = read(fd[1], buf, sizeof(buf));
		if (n > 0)
			buf_put(&got, buf, (size_t)n);
		idle = n > 0 ? 0 : idle + 1;
		run(2);
	}
	notice = strstr(buf_str(&got), "\r\n[lifeboat: ");
	assert_non_null(notice);
	assert_int_equal(sscanf(notice, "\r\n[lifeboat: %llu bytes lost]\r\n", &lost), 1);
	snprintf(buf, sizeof(buf), "\r\n[lifeboat: %llu bytes lost]\r\n", lost);
	assert_int_equal(got.len, total - lost + strlen(buf));
	/* Every byte around the notice is the right one. */
	size_t head = (size_t)(notice - (const char *)got.data), tail = head + strlen(buf);
	for (size_t i = 0; i < got.len; i++)
		if (i < head || i >= tail)
			assert_int_equal(got.data[i],
					 pattern(i < head ? i : i - strlen(buf) + lost));
	close(fd[1]);
}

static void test_console__a_file_gets_everything_without_the_loop(void **s)
{
	char name[] = "/tmp/test_console.XXXXXX", *back;
	const size_t total = 3 * CONSOLE_SCROLLBACK + 77;
	int fd = mkstemp(name), check;

	(void)s;
	assert_true(fd >= 0);
	check = open(name, O_RDONLY);
	unlink(name);
	assert_ok(console_attach(con, fd, false, true));
	say_pattern(0, total); /* three rings, and the loop never ran */
	console_destroy(con);
	con = NULL;
	back = malloc(total + 1);
	assert_non_null(back);
	assert_int_equal(read(check, back, total + 1), total);
	for (size_t i = 0; i < total; i++)
		if ((uint8_t)back[i] != pattern(i))
			fail_msg("byte %zu differs", i);
	free(back);
	close(check);
}

static void test_console__a_full_disk_costs_the_file_not_the_guest(void **s)
{
	int fd = open("/dev/full", O_WRONLY), p[2];

	(void)s;
	pair(p);
	assert_true(fd >= 0);
	assert_ok(console_attach(con, fd, false, false));
	assert_ok(console_attach(con, p[0], false, true));
	say("still here");
	run(5);
	assert_got(p[1], "still here");
	say(", and later");
	run(5);
	assert_got(p[1], ", and later");
	for (int i = 0; i < 2000 && fcntl(fd, F_GETFL) >= 0; i++)
		run(5);
	assert_int_equal(fcntl(fd, F_GETFL), -1); /* detached and closed */
	close(p[1]);
}

static void test_console__input_is_handed_out_in_order(void **s)
{
	int fd[2];

	(void)s;
	pair(fd);
	assert_ok(console_attach(con, fd[0], false, true));
	assert_int_equal(write(fd[1], "typed", 5), 5);
	run(5);
	assert_int_equal(told, 1);
	assert_taken("typed");
	assert_taken("");
	close(fd[1]);
}

static void test_console__output_only_takes_no_input(void **s)
{
	int fd[2];

	(void)s;
	pair(fd);
	assert_ok(console_attach(con, fd[0], false, false));
	assert_int_equal(write(fd[1], "typed", 5), 5);
	run(5);
	assert_int_equal(told, 0);
	assert_taken("");
	close(fd[1]);
}

static void test_console__a_full_queue_holds_the_typist_back(void **s)
{
	static char big[64 * 1024], back[sizeof(big)];
	size_t got = 0;
	int fd[2];

	(void)s;
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)pattern(i);
	pair(fd);
	assert_ok(console_attach(con, fd[0], false, true));
	assert_int_equal(write(fd[1], big, sizeof(big)), sizeof(big));
	run(5);
	close(fd[1]); /* a hang-up that cannot be served yet must not spin the loop */
	struct timespec before, after;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	run(100);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	assert_true((after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec <
		    50000000);
	while (got < sizeof(big)) {
		size_t n = console_input_take(con, back + got, 1000);
		got += n;
		if (!n) {
			assert_true(got >= 4096);
			run(2);
		}
	}
	assert_memory_equal(big, back, sizeof(big));
}

static void test_console__who_hangs_up_is_detached(void **s)
{
	int fd[2], other[2];

	(void)s;
	pair(fd);
	pair(other);
	assert_ok(console_attach(con, fd[0], false, true));
	assert_ok(console_attach(con, other[0], false, false));
	assert_int_equal(write(fd[1], "bye", 3), 3);
	close(fd[1]);
	close(other[1]);
	run(5);
	assert_taken("bye");
	assert_int_equal(fcntl(fd[0], F_GETFL), -1);
	assert_int_equal(fcntl(other[0], F_GETFL), -1);
	say("to nobody");
	run(2);
}

static void test_console__bad_descriptor_is_refused(void **s)
{
	(void)s;
	assert_err(console_attach(con, 999, false, true), ERR_IO);
}

/* The open file is shared with whoever sent it, and so is O_NONBLOCK. */
static void test_console__a_socket_made_blocking_does_not_stop_the_loop(void **s)
{
	int fd[2], shared;

	(void)s;
	pair(fd);
	shared = dup(fd[0]);
	assert_ok(console_attach(con, fd[0], false, true));
	run(5);
	assert_int_equal(fcntl(shared, F_SETFL, 0), 0);
	assert_int_equal(write(fd[1], "x", 1), 1);
	alarm(20); /* or this test would never end */
	run(5);
	alarm(0);
	assert_taken("x");
	close(shared);
	close(fd[1]);
}

static void test_console__so_many_and_no_more(void **s)
{
	int fd[2], ends[CONSOLE_ATTACHED_MAX];
	uint64_t start;

	(void)s;
	for (unsigned i = 0; i < CONSOLE_ATTACHED_MAX; i++) {
		pair(fd);
		ends[i] = fd[1];
		assert_ok(console_attach(con, fd[0], false, true));
	}
	pair(fd);
	assert_err(console_attach(con, fd[0], false, true), ERR_BUSY);
	assert_int_equal(fcntl(fd[0], F_GETFL), -1);
	close(fd[1]);
	close(ends[0]);
	run(5);
	pair(fd);
	assert_ok(console_attach(con, fd[0], false, true)); /* one has gone */
	ends[0] = fd[1];
	/* None of them reads: the end of the machine waits for all of them together. */
	for (unsigned i = 0; i < 4; i++) {
		say_pattern(0, CONSOLE_SCROLLBACK);
		run(5);
	}
	start = clock_mono_ns();
	console_destroy(con);
	con = NULL;
	assert_true(clock_mono_ns() - start < 5 * NS_PER_SEC);
	for (unsigned i = 0; i < CONSOLE_ATTACHED_MAX; i++)
		close(ends[i]);
}

static void test_console__reads_a_script_from_a_file(void **s)
{
	char name[] = "/tmp/test_console.XXXXXX";
	int fd = mkstemp(name);

	(void)s;
	assert_int_equal(write(fd, "script\n", 7), 7);
	close(fd);
	fd = open(name, O_RDONLY);
	unlink(name);
	assert_ok(console_attach(con, fd, true, true));
	say("output does not go there");
	run(5);
	assert_taken("script\n");
	assert_int_equal(fcntl(fd, F_GETFL), -1);
}

static void test_console__does_not_read_the_file_it_writes(void **s)
{
	char name[] = "/tmp/test_console.XXXXXX", back[64] = {0};
	int fd = mkstemp(name), check = open(name, O_RDONLY);

	(void)s;
	unlink(name);
	assert_ok(console_attach(con, fd, true, true));
	run(5); /* its end is not the end of the session */
	say("later");
	run(5);
	assert_taken("");
	assert_int_equal(read(check, back, sizeof(back)), 5);
	assert_string_equal(back, "later");
	close(check);
}

static void test_console__a_pty_comes_and_goes(void **s)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave;
	struct termios raw;
	char name[64];

	(void)s;
	assert_true(master >= 0);
	assert_int_equal(grantpt(master), 0);
	assert_int_equal(unlockpt(master), 0);
	assert_int_equal(ptsname_r(master, name, sizeof(name)), 0);
	assert_int_equal(tcgetattr(master, &raw), 0);
	cfmakeraw(&raw); /* whoever makes it does that: no echo into the guest */
	assert_int_equal(tcsetattr(master, TCSANOW, &raw), 0);
	assert_ok(console_attach(con, master, true, true));
	say("nobody looks\n");
	run(20);
	for (int round = 0; round < 2; round++) {
		slave = open(name, O_RDWR | O_NOCTTY | O_NONBLOCK);
		assert_true(slave >= 0);
		run(250);
		assert_got(slave, round ? "missed\n" : "nobody looks\n");
		assert_int_equal(write(slave, "hi", 2), 2);
		close(slave); /* before it was read */
		run(20);
		assert_taken("hi");
		say("missed\n");
		run(20);
		assert_true(fcntl(master, F_GETFL) >= 0);
	}
}

/* ---- many threads ---- */

enum { WRITERS = 4, LINES = 3000 };

static void writer(void *arg)
{
	char line[32];

	for (int i = 0; i < LINES; i++) {
		int n = snprintf(line, sizeof(line), "%c%05d\n", *(const char *)arg, i);
		console_output(con, line, (size_t)n);
		console_input_take(con, line, 3);
	}
}

static void test_console__vcpus_write_while_people_come_and_go(void **s)
{
	static const char names[WRITERS + 1] = "ABCD";
	char name[] = "/tmp/test_console.XXXXXX", line[32];
	struct thread threads[WRITERS] = {0};
	int next[WRITERS] = {0}, file = mkstemp(name), fd[2];
	FILE *f = fopen(name, "r");

	(void)s;
	unlink(name);
	assert_non_null(f);
	assert_ok(console_attach(con, file, false, false));
	for (int i = 0; i < WRITERS; i++)
		assert_ok(thread_start(&threads[i], "writer", writer, (void *)(uintptr_t)&names[i]));
	for (int i = 0; i < 20; i++) {
		pair(fd);
		assert_ok(console_attach(con, fd[0], true, true));
		assert_int_equal(write(fd[1], "some input", 10), 10);
		run(2);
		close(fd[1]);
	}
	for (int i = 0; i < WRITERS; i++)
		thread_join(&threads[i]);
	assert_int_equal(console_written(con), WRITERS * LINES * 7);
	console_destroy(con);
	con = NULL;
	/* The file has every line whole, each writer's in order. */
	while (fgets(line, sizeof(line), f)) {
		const char *who = strchr(names, line[0]);
		assert_non_null(who);
		assert_int_equal(atoi(line + 1), next[who - names]++);
	}
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(next[i], LINES);
	fclose(f);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_console__##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(copies_to_all),
		TEST(scrollback_is_the_last_megabyte),
		TEST(a_reader_that_sleeps_loses_and_is_told),
		TEST(a_file_gets_everything_without_the_loop),
		TEST(a_full_disk_costs_the_file_not_the_guest),
		TEST(input_is_handed_out_in_order),
		TEST(output_only_takes_no_input),
		TEST(a_full_queue_holds_the_typist_back),
		TEST(who_hangs_up_is_detached),
		TEST(bad_descriptor_is_refused),
		TEST(a_socket_made_blocking_does_not_stop_the_loop),
		TEST(so_many_and_no_more),
		TEST(reads_a_script_from_a_file),
		TEST(does_not_read_the_file_it_writes),
		TEST(a_pty_comes_and_goes),
		TEST(vcpus_write_while_people_come_and_go),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
