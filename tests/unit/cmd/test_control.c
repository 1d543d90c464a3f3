/* SPDX-License-Identifier: Apache-2.0 */
/* control: what well-behaved and hostile clients get from a worker. */
#include "cmd/worker/control.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "hv/line.h"
#include "tests/unit/cm.h"
#include "tests/unit/cmd/fake_worker.h"

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

static struct remote *connect_to(const struct fake_worker *w)
{
	struct remote *r;

	assert_ok(remote_connect(w->path, NULL, &r));
	return r;
}

static void run(struct remote *r)
{
	assert_ok(remote_boot(r));
	assert_ok(remote_resume(r));
}

static void assert_state(struct remote *r, const char *state, const char *reason)
{
	struct remote_status s;

	assert_ok(remote_status(r, &s));
	assert_string_equal(s.state, state);
	assert_string_equal(s.stop_reason, reason);
}

/* The guest's counter moves on within 2 s. */
static void assert_counts(const struct remote *r)
{
	uint64_t before = fake_worker_count(r), until = clock_mono_ns() + 2 * NS_PER_SEC;

	while (fake_worker_count(r) == before) {
		assert_true(clock_mono_ns() < until);
		usleep(1000);
	}
}

static void assert_stands(const struct remote *r)
{
	uint64_t before = fake_worker_count(r);

	usleep(30000);
	assert_int_equal(fake_worker_count(r), before);
}

static unsigned descriptors_of(pid_t pid)
{
	char path[64];
	unsigned n = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *d = opendir(path);
	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Everything that the other end says within 2 s, until `end` occurs in it or it
 * closes; false if it closed. */
static bool hear(int fd, const char *end, char *text, size_t size)
{
	struct timeval patience = {.tv_sec = 2};
	size_t len = 0;

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	for (;;) {
		ssize_t n = read(fd, text + len, size - 1 - len);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return false;
		assert_true(n > 0); /* else: no answer in time */
		len += (size_t)n;
		text[len] = '\0';
		if (strstr(text, end))
			return true;
	}
}

static void test_control__machine_is_started_paused_and_resumed(void **state)
{
	struct fake_worker *w = *state;
	bool was_running;

	assert_state(w->remote, "created", "");
	assert_err(remote_resume(w->remote), ERR_BUSY);
	assert_err(remote_pause(w->remote, &was_running), ERR_BUSY);
	run(w->remote);
	assert_state(w->remote, "running", "");
	assert_counts(w->remote);
	assert_err(remote_boot(w->remote), ERR_BUSY);
	assert_ok(remote_pause(w->remote, &was_running));
	assert_true(was_running);
	assert_state(w->remote, "paused", "request");
	assert_stands(w->remote);
	assert_ok(remote_pause(w->remote, &was_running));
	assert_false(was_running);
	assert_ok(remote_resume(w->remote));
	assert_counts(w->remote);
}

static void test_control__events_reach_subscribers(void **state)
{
	struct fake_worker *w = *state;
	struct remote *other = connect_to(w);
	struct remote_event e;
	bool was_running;

	assert_ok(remote_next_event(other, 0, &e)); /* subscribes */
	assert_string_equal(e.kind, "");
	free(e.text);
	run(w->remote);
	assert_ok(remote_pause(w->remote, &was_running));
	assert_ok(remote_next_event(other, NS_PER_SEC, &e));
	assert_string_equal(e.kind, "running");
	free(e.text);
	assert_ok(remote_next_event(other, NS_PER_SEC, &e));
	assert_string_equal(e.kind, "paused");
	assert_string_equal(e.text, "request");
	free(e.text);
	remote_close(other);
}

/* gone: it is over before its keeper asks for events. */
static void power_off(struct fake_worker *w, bool gone)
{
	struct remote_event e;

	run(w->remote);
	assert_ok(remote_power_button(w->remote));
	if (gone)
		assert_int_equal(fake_worker_wait(w), 0);
	do {
		assert_ok(remote_next_event(w->remote, NS_PER_SEC, &e));
		free(e.text);
	} while (strcmp(e.kind, "running") == 0);
	assert_string_equal(e.kind, "power-off");
	if (!gone)
		assert_int_equal(fake_worker_wait(w), 0);
}

static void test_control__power_button_ends_the_worker_with_0(void **state)
{
	power_off(*state, false);
}

static void test_control__last_words_of_a_worker_are_heard(void **state)
{
	power_off(*state, true);
}

static void test_control__kill_ends_the_worker(void **state)
{
	struct fake_worker *w = *state;

	run(w->remote);
	assert_ok(remote_kill(w->remote));
	assert_int_equal(fake_worker_wait(w), 0);
}

static void test_control__unstarted_worker_ends_with_its_keeper(void **state)
{
	struct fake_worker *w = *state;

	remote_close(w->remote);
	w->remote = NULL;
	assert_int_equal(fake_worker_wait(w), 0);
}

static void test_control__started_worker_outlives_its_keeper(void **state)
{
	struct fake_worker *w = *state;

	run(w->remote);
	remote_close(w->remote);
	w->remote = connect_to(w);
	assert_state(w->remote, "running", "");
	assert_counts(w->remote);
}

/* ---- holds ---- */

static void test_control__hold_stands_and_release_runs(void **state)
{
	struct fake_worker *w = *state;
	uint64_t park_ns, paused_ns;
	bool was_running;

	run(w->remote);
	assert_ok(remote_hold(w->remote, &was_running, &park_ns));
	assert_true(was_running);
	assert_state(w->remote, "paused", "hold");
	assert_stands(w->remote);
	assert_ok(remote_release(w->remote, &paused_ns));
	assert_true(paused_ns >= 30 * NS_PER_MS && paused_ns < 10 * NS_PER_SEC);
	assert_counts(w->remote);
	assert_err(remote_release(w->remote, &paused_ns), ERR_USAGE);
}

static void test_control__hold_of_a_paused_machine_leaves_it_paused(void **state)
{
	struct fake_worker *w = *state;
	uint64_t ns;
	bool was_running;

	assert_err(remote_hold(w->remote, &was_running, &ns), ERR_BUSY); /* not started */
	assert_ok(remote_boot(w->remote));
	assert_ok(remote_hold(w->remote, &was_running, &ns));
	assert_false(was_running);
	assert_ok(remote_release(w->remote, &ns));
	assert_int_equal(ns, 0);
	assert_state(w->remote, "paused", "boot");
}

static void test_control__lost_connection_ends_its_hold(void **state)
{
	struct fake_worker *w = *state;
	struct remote *keeper = connect_to(w);
	uint64_t ns;
	bool was_running;

	run(w->remote);
	assert_ok(remote_hold(keeper, &was_running, &ns));
	assert_stands(w->remote);
	remote_close(keeper); /* what the kernel does for a killed one, too */
	assert_counts(w->remote);
	assert_state(w->remote, "running", "");
}

static void test_control__holds_exclude_each_other(void **state)
{
	struct fake_worker *w = *state;
	struct remote *keeper = connect_to(w), *other = connect_to(w);
	uint64_t ns;
	bool was_running;

	run(w->remote);
	assert_ok(remote_hold(keeper, &was_running, &ns));
	assert_err(remote_hold(other, &was_running, &ns), ERR_BUSY);
	assert_err(remote_hold(keeper, &was_running, &ns), ERR_BUSY);
	assert_err(remote_release(other, &ns), ERR_USAGE);
	assert_err(remote_reset(other), ERR_BUSY);
	remote_close(other); /* does not end somebody else's hold */
	assert_stands(w->remote);
	assert_ok(remote_release(keeper, &ns));
	assert_counts(w->remote);
	remote_close(keeper);
}

static void test_control__pause_during_a_hold_decides_what_follows(void **state)
{
	struct fake_worker *w = *state;
	struct remote *keeper = connect_to(w);
	uint64_t ns;
	bool was_running;

	run(w->remote);
	assert_ok(remote_hold(keeper, &was_running, &ns));
	assert_ok(remote_pause(w->remote, &was_running));
	assert_true(was_running);
	assert_ok(remote_release(keeper, &ns));
	assert_state(w->remote, "paused", "request");
	assert_ok(remote_hold(keeper, &was_running, &ns));
	assert_ok(remote_resume(w->remote));
	assert_stands(w->remote); /* not before the hold ends */
	assert_ok(remote_release(keeper, &ns));
	assert_counts(w->remote);
	remote_close(keeper);
}

static void test_control__power_button_waits_for_the_hold(void **state)
{
	struct fake_worker *w = *state;
	struct remote *keeper = connect_to(w);
	uint64_t ns;
	bool was_running;

	run(w->remote);
	assert_ok(remote_hold(keeper, &was_running, &ns));
	assert_ok(remote_power_button(w->remote));
	usleep(20000);
	assert_state(keeper, "paused", "hold");
	assert_ok(remote_release(keeper, &ns));
	assert_int_equal(fake_worker_wait(w), 0);
	remote_close(keeper);
}

static void test_control__guest_that_resets_in_the_pause_spoils_the_hold(void **state)
{
	struct fake_worker w;
	struct remote_status s = {0};
	uint64_t ns;
	bool was_running;

	(void)state;
	fake_worker_start(&w, "resets");
	run(w.remote);
	assert_counts(w.remote);
	assert_ok(remote_hold(w.remote, &was_running, &ns));
	usleep(20000);
	assert_ok(remote_status(w.remote, &s));
	assert_int_equal(s.resets, 0); /* not under the hold */
	assert_err(remote_release(w.remote, &ns), ERR_GUEST);
	usleep(20000);
	assert_ok(remote_status(w.remote, &s));
	assert_int_equal(s.resets, 1);
	assert_string_equal(s.state, "running");
	fake_worker_stop(&w);
}

/* ---- the image ---- */

static void test_control__state_and_memory_go_over(void **state)
{
	struct fake_worker *w = *state, to;
	AUTO_BUF struct buf saved = {0};
	uint8_t page[4096];
	bool was_running;

	run(w->remote);
	assert_counts(w->remote);
	assert_err(remote_save(w->remote, &saved), ERR_BUSY); /* runs */
	assert_ok(remote_pause(w->remote, &was_running));
	uint64_t count = fake_worker_count(w->remote);
	assert_ok(remote_save(w->remote, &saved));
	assert_ok(remote_read(w->remote, 0, page, sizeof(page)));
	assert_err(remote_load(w->remote, saved.data, saved.len), ERR_BUSY); /* not fresh */

	fake_worker_start(&to, "fake");
	assert_err(remote_check(to.remote, "nonsense", 8), ERR_VERSION);
	assert_err(remote_load(to.remote, "nonsense", 8), ERR_VERSION);
	assert_state(to.remote, "created", "");
	assert_ok(remote_check(to.remote, saved.data, saved.len));
	assert_state(to.remote, "created", "");
	assert_ok(remote_write(to.remote, 0, page, sizeof(page)));
	assert_ok(remote_load(to.remote, saved.data, saved.len));
	assert_state(to.remote, "paused", "restore");
	assert_ok(remote_resume(to.remote));
	assert_counts(to.remote);
	assert_true(fake_worker_count(to.remote) > count);
	fake_worker_stop(&to);
}

static void test_control__config_and_boot_files_are_told(void **state)
{
	struct fake_worker *w = *state;
	AUTO_BUF struct buf json = {0};
	struct vm_config config;
	int kernel, initrd;

	assert_ok(remote_config(w->remote, &json));
	assert_ok(config_from_json(json.data, json.len, &config));
	assert_string_equal(config.name, "fake");
	assert_int_equal(config.memory_bytes, FAKE_MEMORY_BYTES);
	config_fini(&config);
	assert_ok(remote_boot_files(w->remote, &kernel, &initrd));
	assert_true(kernel >= 0);
	assert_int_equal(initrd, -1);
	close(kernel);
}

static void test_control__touched_ranges_hold_everything_nonzero(void **state)
{
	struct fake_worker *w = *state;
	const uint64_t at[] = {0, 5 << 20, (5 << 20) + 12288, FAKE_MEMORY_BYTES - 4096};
	uint64_t offset = 0, len, covered = 0;
	unsigned found = 0;

	for (unsigned i = 0; i < 4; i++)
		assert_ok(remote_write(w->remote, at[i], "x", 1));
	for (;; offset += len) {
		uint64_t from = offset;
		assert_ok(remote_next_touched(w->remote, &offset, &len));
		if (len == 0)
			break;
		assert_true(offset >= from && offset + len <= FAKE_MEMORY_BYTES);
		covered += len;
		for (unsigned i = 0; i < 4; i++)
			found += at[i] >= offset && at[i] < offset + len;
	}
	assert_int_equal(found, 4);
	assert_true(covered <= FAKE_MEMORY_BYTES);
	assert_err(remote_write(w->remote, FAKE_MEMORY_BYTES - 1, "xy", 2), ERR_FAILED);
}

/* ---- hostile clients ---- */

static void test_control__garbage_is_answered_and_survived(void **state)
{
	static const char *const garbage[] = {
		"\n", "nonsense\n", "{\n", "[]\n", "{}\n", "{\"op\": 7}\n", "\xff\xfe\n",
		"{\"op\": \"no-such\"}\n", "{\"op\": \"pause\", \"hold\": 3}\n",
		"{\"op\": \"console\", \"port\": -1}\n", "{\"op\": \"save\"}\n",
		"{\"op\": \"load\", \"bytes\": 1e99}\n", "{\"a\": 1, \"a\": 2}\n",
		"{\"op\": \"hello\", \"protocol\": 99}\n",
	};
	struct fake_worker *w = *state;
	char text[4096];
	int fd = fake_worker_connect(w);

	for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		assert_true(write(fd, garbage[i], strlen(garbage[i])) > 0);
		assert_true(hear(fd, "\n", text, sizeof(text)));
		assert_non_null(strstr(text, "\"ok\":false"));
	}
	assert_true(write(fd, "{\"id\":5,\"op\":\"hello\"}\n", 22) == 22);
	assert_true(hear(fd, "\n", text, sizeof(text)));
	assert_non_null(strstr(text, "\"id\":5"));
	close(fd);
	assert_state(w->remote, "created", "");
}

static void test_control__too_long_a_line_closes_only_its_connection(void **state)
{
	struct fake_worker *w = *state;
	char *text = malloc(2 * LINE_MAX_BYTES);
	int fd = fake_worker_connect(w);

	run(w->remote);
	memset(text, 'x', 2 * LINE_MAX_BYTES);
	(void)!send(fd, text, 2 * LINE_MAX_BYTES, MSG_NOSIGNAL);
	assert_false(hear(fd, "never said", text, 2 * LINE_MAX_BYTES));
	close(fd);
	free(text);
	assert_counts(w->remote);
	assert_state(w->remote, "running", "");
}

static void send_descriptors(int fd, const char *text, unsigned count)
{
	int fds[64];
	union {
		char space[CMSG_SPACE(sizeof(fds))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space,
			     .msg_controllen = CMSG_SPACE(count * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	for (unsigned i = 0; i < count; i++)
		fds[i] = 0;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(c), fds, count * sizeof(int));
	(void)!sendmsg(fd, &msg, MSG_NOSIGNAL);
}

static void test_control__floods_of_descriptors_do_not_stay(void **state)
{
	struct fake_worker *w = *state;
	unsigned before = descriptors_of(w->pid);
	char text[65536];

	/* Many at once, with one message. */
	int fd = fake_worker_connect(w);
	send_descriptors(fd, "{\"op\":\"status\"}\n", 64);
	assert_false(hear(fd, "never said", text, sizeof(text)));
	close(fd);
	/* A few each time, with requests that want none. */
	fd = fake_worker_connect(w);
	for (unsigned i = 0; i < 500; i++) {
		send_descriptors(fd, "{\"op\":\"events\"}\n", 3);
		assert_true(hear(fd, "\n", text, sizeof(text)));
	}
	/* The connection, and the last three, which go after their answer. */
	assert_in_range(descriptors_of(w->pid), before, before + 4);
	close(fd);
	/* Piled up behind a line that never ends. */
	fd = fake_worker_connect(w);
	for (unsigned i = 0; i < 20; i++)
		send_descriptors(fd, " ", 1);
	assert_false(hear(fd, "never said", text, sizeof(text)));
	close(fd);
	assert_state(w->remote, "created", "");
	usleep(20000);
	assert_int_equal(descriptors_of(w->pid), before);
}

static void test_control__descriptor_that_could_block_is_refused(void **state)
{
	struct fake_worker *w = *state;
	char text[4096];
	int fd = fake_worker_connect(w);

	assert_ok(remote_boot(w->remote));
	send_descriptors(fd, "{\"op\":\"save\"}\n", 1); /* our standard input */
	assert_true(hear(fd, "not a memfd", text, sizeof(text)));
	send_descriptors(fd, "{\"op\":\"console\"}\n", 1);
	assert_true(hear(fd, "not a socket", text, sizeof(text)));
	close(fd);
}

static void test_control__client_that_never_reads_is_closed(void **state)
{
	struct fake_worker *w = *state;
	static const char ask[] = "{\"op\":\"config\"}\n";
	struct timeval patience = {.tv_sec = 5};
	int fd = fake_worker_connect(w);
	bool closed = false;

	run(w->remote);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
	for (unsigned i = 0; i < 100000 && !closed; i++)
		closed = send(fd, ask, sizeof(ask) - 1, MSG_NOSIGNAL) < 0 && errno == EPIPE;
	assert_true(closed);
	close(fd);
	assert_counts(w->remote);
	assert_state(w->remote, "running", "");
}

static void test_control__too_many_clients_push_out_the_silent_ones(void **state)
{
	struct fake_worker *w = *state;
	struct remote *holder = connect_to(w);
	int fds[3 * CONTROL_MAX];
	char text[4096];
	uint64_t ns;
	bool was_running;

	run(w->remote);
	assert_ok(remote_hold(holder, &was_running, &ns)); /* the oldest, but it has a right */
	for (unsigned i = 0; i < 3 * CONTROL_MAX; i++)
		fds[i] = fake_worker_connect(w);
	/* Also with every place taken there is one for who comes now. */
	struct remote *late = connect_to(w);
	assert_state(late, "paused", "hold");
	remote_close(late);
	assert_false(hear(fds[0], "never said", text, sizeof(text)));
	assert_ok(remote_release(holder, &ns));
	assert_state(w->remote, "running", "");
	for (unsigned i = 0; i < 3 * CONTROL_MAX; i++)
		close(fds[i]);
	remote_close(holder);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_control__##name, start, stop)
	const struct CMUnitTest tests[] = {
		T(machine_is_started_paused_and_resumed),
		T(events_reach_subscribers),
		T(power_button_ends_the_worker_with_0),
		T(last_words_of_a_worker_are_heard),
		T(kill_ends_the_worker),
		T(unstarted_worker_ends_with_its_keeper),
		T(started_worker_outlives_its_keeper),
		T(hold_stands_and_release_runs),
		T(hold_of_a_paused_machine_leaves_it_paused),
		T(lost_connection_ends_its_hold),
		T(holds_exclude_each_other),
		T(pause_during_a_hold_decides_what_follows),
		T(power_button_waits_for_the_hold),
		cmocka_unit_test(test_control__guest_that_resets_in_the_pause_spoils_the_hold),
		T(state_and_memory_go_over),
		T(config_and_boot_files_are_told),
		T(touched_ranges_hold_everything_nonzero),
		T(garbage_is_answered_and_survived),
		T(too_long_a_line_closes_only_its_connection),
		T(floods_of_descriptors_do_not_stay),
		T(descriptor_that_could_block_is_refused),
		T(client_that_never_reads_is_closed),
		T(too_many_clients_push_out_the_silent_ones),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
