/* SPDX-License-Identifier: Apache-2.0 */
/* loop: descriptors, timers, wake-ups, removal inside callbacks. */
#include "base/loop.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "tests/unit/cm.h"

struct seen {
	struct loop *loop;
	struct loop_watch *watch, *other;
	struct loop_timer *timer;
	unsigned reads, timers, wakes;
	uint64_t at_ns;
};

static void on_read(void *arg, int fd, uint32_t events)
{
	struct seen *s = arg;
	char c;

	assert_true(events & EPOLLIN);
	assert_int_equal(read(fd, &c, 1), 1);
	s->reads++;
	loop_remove(s->watch);
	loop_remove(s->other);
	loop_stop(s->loop);
}

static void test_loop__removed_watch_is_not_called(void **state)
{
	struct seen s = {0};
	int a[2], b[2];

	(void)state;
	assert_ok(loop_create(&s.loop));
	assert_int_equal(pipe(a), 0);
	assert_int_equal(pipe(b), 0);
	assert_ok(loop_add(s.loop, a[0], EPOLLIN, on_read, &s, &s.watch));
	assert_ok(loop_add(s.loop, b[0], EPOLLIN, on_read, &s, &s.other));
	assert_int_equal(write(a[1], "x", 1), 1);
	assert_int_equal(write(b[1], "x", 1), 1); /* both are in one batch */
	assert_ok(loop_run(s.loop));
	assert_int_equal(s.reads, 1);
	loop_destroy(s.loop);
	for (int i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
	}
}

static void on_timer(void *arg)
{
	struct seen *s = arg;

	s->at_ns = clock_mono_ns();
	if (++s->timers == 2) {
		loop_timer_destroy(s->timer); /* inside its own callback */
		loop_stop(s->loop);
		return;
	}
	loop_timer_set(s->timer, NS_PER_MS);
}

static void test_loop__timer_fires_not_before_its_time(void **state)
{
	struct seen s = {0};

	(void)state;
	assert_ok(loop_create(&s.loop));
	assert_ok(loop_timer_create(s.loop, on_timer, &s, &s.timer));
	uint64_t start = clock_mono_ns();
	loop_timer_set(s.timer, 2 * NS_PER_MS);
	assert_ok(loop_run(s.loop));
	assert_int_equal(s.timers, 2);
	assert_true(s.at_ns - start >= 3 * NS_PER_MS);
	loop_destroy(s.loop);
}

static void on_wake(void *arg)
{
	struct seen *s = arg;

	s->wakes++;
	loop_stop(s->loop);
}

static void waker(void *arg)
{
	loop_wake(((struct seen *)arg)->loop);
}

static void test_loop__other_threads_wake_it(void **state)
{
	struct seen s = {0};
	struct thread t;

	(void)state;
	assert_ok(loop_create(&s.loop));
	loop_set_wake(s.loop, on_wake, &s);
	assert_ok(thread_start(&t, "waker", waker, &s));
	assert_ok(loop_run(s.loop));
	thread_join(&t);
	assert_true(s.wakes >= 1);
	loop_destroy(s.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loop__removed_watch_is_not_called),
		cmocka_unit_test(test_loop__timer_fires_not_before_its_time),
		cmocka_unit_test(test_loop__other_threads_wake_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
