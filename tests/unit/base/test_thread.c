/* SPDX-License-Identifier: Apache-2.0 */
/* thread: queues keep order, bound and close. */
#include "base/thread.h"

#include <signal.h>
#include <stdatomic.h>

#include "tests/unit/cm.h"

#define ITEMS 10000u

struct work {
	struct queue *q;
	unsigned got;
	bool in_order;
	atomic_uint pushed;
};

static void consumer(void *arg)
{
	struct work *w = arg;
	void *item;

	w->in_order = true;
	while (queue_pop(w->q, &item)) {
		if ((uintptr_t)item != w->got + 1)
			w->in_order = false;
		w->got++;
	}
}

static void test_thread__queue_hands_over_everything_in_order(void **state)
{
	struct work w = {0};
	struct thread t;

	(void)state;
	assert_ok(queue_create(4, &w.q));
	assert_ok(thread_start(&t, "consumer", consumer, &w));
	for (uintptr_t i = 1; i <= ITEMS; i++)
		assert_true(queue_push(w.q, (void *)i)); /* NOLINT: a number in a pointer */
	queue_close(w.q);
	thread_join(&t);
	assert_int_equal(w.got, ITEMS);
	assert_true(w.in_order);
	assert_false(queue_push(w.q, &w));
	queue_destroy(w.q);
}

static void blocked_pusher(void *arg)
{
	struct work *w = arg;

	while (queue_push(w->q, w))
		atomic_fetch_add(&w->pushed, 1);
}

static void test_thread__queue_is_bounded_and_close_frees_a_waiter(void **state)
{
	struct work w = {0};
	struct thread t;

	(void)state;
	assert_ok(queue_create(3, &w.q));
	assert_ok(thread_start(&t, "pusher", blocked_pusher, &w));
	while (atomic_load(&w.pushed) < 3)
		sched_yield();
	queue_close(w.q);
	thread_join(&t);
	assert_int_equal(atomic_load(&w.pushed), 3);
	queue_destroy(w.q);
}

static void mask_reader(void *arg)
{
	sigset_t set;

	pthread_sigmask(SIG_SETMASK, NULL, &set);
	*(bool *)arg = sigismember(&set, SIGTERM) == 1 && sigismember(&set, SIGINT) == 1;
}

static void test_thread__signals_stay_with_the_main_thread(void **state)
{
	struct thread t, never = {0};
	bool blocked = false;
	sigset_t set;

	(void)state;
	assert_ok(thread_start(&t, "a-name-longer-than-15", mask_reader, &blocked));
	thread_join(&t);
	thread_join(&never);
	assert_true(blocked);
	pthread_sigmask(SIG_SETMASK, NULL, &set);
	assert_false(sigismember(&set, SIGTERM) == 1);
	assert_true(thread_cpus() >= 1);
}

static void wait_for_close(void *arg)
{
	void *item;

	while (queue_pop(arg, &item))
		continue;
}

/* A filter that is closed right after thread_start must not meet the C library's own
 * start-up calls: the name, set by the last of them, is there when it returns. */
static void test_thread__start_returns_when_it_runs(void **state)
{
	(void)state;
	for (int i = 0; i < 200; i++) {
		struct queue *q;
		struct thread t;
		char name[16] = "";
		assert_ok(queue_create(1, &q));
		assert_ok(thread_start(&t, "it-runs", wait_for_close, q));
		assert_int_equal(pthread_getname_np(t.id, name, sizeof(name)), 0);
		assert_string_equal(name, "it-runs");
		queue_close(q);
		thread_join(&t);
		queue_destroy(q);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_thread__queue_hands_over_everything_in_order),
		cmocka_unit_test(test_thread__queue_is_bounded_and_close_frees_a_waiter),
		cmocka_unit_test(test_thread__signals_stay_with_the_main_thread),
		cmocka_unit_test(test_thread__start_returns_when_it_runs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
