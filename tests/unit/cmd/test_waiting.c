/* SPDX-License-Identifier: Apache-2.0 */
/* waiting: how long a client waits for a worker that hangs, what ends the wait, and
 * what becomes of its holds. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "hv/remote.h"
#include "tests/unit/cm.h"
#include "tests/unit/cmd/fake_worker.h"

#define SHORT_NS (50 * NS_PER_MS)

static int start(void **state)
{
	struct fake_worker *w = calloc(1, sizeof(*w));

	fake_worker_start(w, "fake");
	*state = w;
	return 0;
}

static int stop(void **state)
{
	fake_worker_stop(*state);
	free(*state);
	return 0;
}

static struct remote *connect_with(const struct fake_worker *w, uint64_t timeout_ns, int cancel_fd)
{
	const struct remote_wait wait = {.timeout_ns = timeout_ns, .cancel_fd = cancel_fd};
	struct remote *r;

	assert_ok(remote_connect(w->path, &wait, &r));
	return r;
}

static void run(struct remote *r)
{
	assert_ok(remote_boot(r));
	assert_ok(remote_resume(r));
}

/* The machine runs, within 5 s. */
static void assert_runs(struct remote *r)
{
	struct remote_status s = {0};

	for (int i = 0; i < 500 && strcmp(s.state, "running") != 0; i++) {
		assert_ok(remote_status(r, &s));
		usleep(10000);
	}
	assert_string_equal(s.state, "running");
	assert_false(s.held);
}

static void test_waiting__silence_ends_with_the_time(void **state)
{
	struct fake_worker *w = *state;
	struct remote *r = connect_with(w, SHORT_NS, -1), *late;
	const struct remote_wait wait = {.timeout_ns = SHORT_NS, .cancel_fd = -1};
	struct remote_status s;

	assert_int_equal(kill(w->pid, SIGSTOP), 0);
	assert_err(remote_status(r, &s), ERR_PEER);
	assert_non_null(strstr(err_text(), "no answer within 0.05 s"));
	assert_false(remote_gone(r));
	assert_err(remote_connect(w->path, &wait, &late), ERR_PEER);
	assert_int_equal(kill(w->pid, SIGCONT), 0);
	/* What comes late would be taken for the answer to something else. */
	assert_err(remote_status(r, &s), ERR_PEER);
	remote_close(r);
	r = connect_with(w, 0, -1);
	assert_ok(remote_status(r, &s));
	remote_close(r);
}

static void test_waiting__an_end_is_no_silence(void **state)
{
	struct fake_worker *w = *state;
	struct remote *r = connect_with(w, 0, -1);
	struct remote_status s;

	assert_int_equal(kill(w->pid, SIGKILL), 0);
	assert_err(remote_status(r, &s), ERR_PEER);
	assert_true(remote_gone(r));
	remote_close(r);
}

static void test_waiting__a_person_ends_it(void **state)
{
	struct fake_worker *w = *state;
	int cancel = eventfd(0, EFD_CLOEXEC);
	struct remote *r = connect_with(w, 0, cancel), *late;
	const struct remote_wait wait = {.cancel_fd = cancel};
	struct remote_status s;

	assert_int_equal(kill(w->pid, SIGSTOP), 0);
	assert_int_equal(eventfd_write(cancel, 1), 0);
	assert_err(remote_status(r, &s), ERR_CANCELLED);
	assert_err(remote_connect(w->path, &wait, &late), ERR_CANCELLED);
	remote_close(r);
	close(cancel);
}

static void test_waiting__a_hold_can_be_released_after_an_interruption(void **state)
{
	struct fake_worker *w = *state;
	int cancel = eventfd(0, EFD_CLOEXEC);
	struct remote *r = connect_with(w, 0, cancel);
	struct remote_status s;
	uint64_t ns;
	bool was_running;

	run(w->remote);
	assert_ok(remote_hold(r, &was_running, &ns));
	assert_int_equal(eventfd_write(cancel, 1), 0);
	assert_err(remote_status(r, &s), ERR_CANCELLED); /* not sent: the connection is whole */
	assert_ok(remote_release(r, &ns));
	assert_runs(w->remote);
	remote_close(r);
	close(cancel);
}

static void test_waiting__who_gives_up_holds_nothing(void **state)
{
	struct fake_worker *w = *state;
	struct remote *r = connect_with(w, SHORT_NS, -1);
	struct remote_status s;
	uint64_t ns;
	bool was_running;

	run(w->remote);
	assert_ok(remote_hold(r, &was_running, &ns));
	assert_int_equal(kill(w->pid, SIGSTOP), 0);
	assert_err(remote_status(r, &s), ERR_PEER);
	assert_int_equal(kill(w->pid, SIGCONT), 0);
	assert_runs(w->remote); /* though the connection is not closed yet */
	remote_close(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_waiting__silence_ends_with_the_time, start, stop),
		cmocka_unit_test_setup_teardown(test_waiting__an_end_is_no_silence, start, stop),
		cmocka_unit_test_setup_teardown(test_waiting__a_person_ends_it, start, stop),
		cmocka_unit_test_setup_teardown(
			test_waiting__a_hold_can_be_released_after_an_interruption, start, stop),
		cmocka_unit_test_setup_teardown(test_waiting__who_gives_up_holds_nothing, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
