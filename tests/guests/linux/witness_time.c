/* SPDX-License-Identifier: Apache-2.0 */
/* witness_time: signals that carry numbers, timers that are counted, clocks.
 *
 * Counted: a timerfd and a POSIX timer tick every 5 ms; the ticks they report
 * must be those that the clock says (one is allowed for the edge).  A queued
 * real-time signal carries the next number: none is lost or doubled.
 *
 * Threads: one takes the signals (all others block them), two watch the clock on
 * whatever CPUs they run, and share the latest time seen by any of them. */
#include "witness.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { WATCHERS = 2, QUEUED = 32 };
static const uint64_t PERIOD_NS = 5000000;

static atomic_ullong latest_ns; /* the latest time any watcher has seen */
static atomic_uint received;	/* queued signals that came, in their order */
static atomic_ullong ticks;	/* of the POSIX timer, overruns included */
static timer_t ticker;
static int ticker_fd;
/* A timer was set between these two: in between we may have lost the CPU for long. */
struct begun {
	uint64_t after_ns, before_ns;
};
static struct begun ticker_begun, fd_begun;
static uint64_t fd_ticks;
static uint64_t max_jump_ns;

static void *
watch_clock(void *arg)
{
	uint64_t mine_ns = witness_now_ns();

	(void)arg;
	for (unsigned n = 0;; n++) {
		unsigned long long seen = atomic_load(&latest_ns);
		uint64_t now_ns = witness_now_ns();

		if (now_ns < seen)
			witness_fail("clock: went back by %llu ns", seen - now_ns);
		if (now_ns - mine_ns > max_jump_ns)
			witness_fail("clock: leapt from %llu to %llu ns", (unsigned long long)mine_ns,
				     (unsigned long long)now_ns);
		mine_ns = now_ns;
		while (now_ns > seen && !atomic_compare_exchange_weak(&latest_ns, &seen, now_ns))
			continue;
		if (n % 512 == 0)
			nanosleep(&(struct timespec){ .tv_nsec = 3000000 }, NULL);
	}
	return NULL;
}

static void *
take_signals(void *arg)
{
	sigset_t *set = arg;
	siginfo_t info;

	for (;;) {
		int number = sigwaitinfo(set, &info);

		if (number < 0 && errno == EINTR)
			continue;
		if (number == SIGRTMIN) {
			atomic_fetch_add(&ticks, 1 + (unsigned long long)info.si_overrun);
		} else if (number == SIGRTMIN + 1) {
			unsigned expected = atomic_load(&received);

			if (info.si_value.sival_int != (int)expected)
				witness_fail("signals: number %d came where %u was due",
					     info.si_value.sival_int, expected);
			atomic_store(&received, expected + 1);
		} else {
			witness_fail("signals: sigwaitinfo gives %d: %s", number, strerror(errno));
		}
	}
	return NULL;
}

static void
start(void *(*run)(void *), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, arg) != 0)
		witness_fail("time: cannot start a thread");
}

static sigset_t ours;

void
witness_time_block(void)
{
	sigemptyset(&ours);
	sigaddset(&ours, SIGRTMIN);
	sigaddset(&ours, SIGRTMIN + 1);
	pthread_sigmask(SIG_BLOCK, &ours, NULL);
}

void
witness_time_init(unsigned max_jump_s)
{
	const struct timespec period = { .tv_nsec = (long)PERIOD_NS };
	const struct itimerspec ticking = { .it_interval = period, .it_value = period };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };

	max_jump_ns = (uint64_t)max_jump_s * 1000000000u;
	start(take_signals, &ours);
	for (unsigned i = 0; i < WATCHERS; i++)
		start(watch_clock, NULL);
	ticker_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (ticker_fd < 0 || timer_create(CLOCK_MONOTONIC, &event, &ticker) != 0)
		witness_fail("timers: cannot make one: %s", strerror(errno));
	fd_begun.after_ns = witness_now_ns();
	if (timerfd_settime(ticker_fd, 0, &ticking, NULL) != 0)
		witness_fail("timers: timerfd_settime: %s", strerror(errno));
	fd_begun.before_ns = ticker_begun.after_ns = witness_now_ns();
	if (timer_settime(ticker, 0, &ticking, NULL) != 0)
		witness_fail("timers: timer_settime: %s", strerror(errno));
	ticker_begun.before_ns = witness_now_ns();
}

static void
queue_signals(unsigned step)
{
	unsigned from = (step - 1) * QUEUED;
	uint64_t limit_ns = witness_now_ns() + 120000000000u;

	for (unsigned i = 0; i < QUEUED; i++)
		if (sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = (int)(from + i) }) != 0)
			witness_fail("signals: sigqueue: %s", strerror(errno));
	while (atomic_load(&received) != from + QUEUED) {
		if (witness_now_ns() > limit_ns)
			witness_fail("signals: %u of %u came within 120 s", atomic_load(&received) - from,
				     QUEUED);
		nanosleep(&(struct timespec){ .tv_nsec = 500000 }, NULL);
	}
}

static void
sleep_exactly(unsigned step)
{
	uint64_t due_ns = witness_now_ns() + 1000000u + step % 7 * 1000000u;
	struct timespec due = { .tv_sec = (time_t)(due_ns / 1000000000u),
				.tv_nsec = (long)(due_ns % 1000000000u) };
	int e = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);

	if (e != 0)
		witness_fail("timers: clock_nanosleep: %s", strerror(e));
	if (witness_now_ns() < due_ns)
		witness_fail("timers: a sleep ended %llu ns too early",
			     (unsigned long long)(due_ns - witness_now_ns()));
}

static uint64_t
count_timerfd(void)
{
	uint64_t more = 0;

	if (read(ticker_fd, &more, sizeof more) != sizeof more && errno != EAGAIN)
		witness_fail("timers: timerfd: %s", strerror(errno));
	return fd_ticks += more;
}

static uint64_t
count_signals(void)
{
	return atomic_load(&ticks);
}

/* The ticks that are due must come.  On a busy host they may be late by far, so
 * we wait until they have caught up with the clock, but one for the edge; of lost
 * ones more than that never do.  And none comes before its time. */
static void
check_ticks(const char *what, const struct begun *begun, uint64_t (*count)(void))
{
	uint64_t limit_ns = witness_now_ns() + 120000000000u;

	for (;;) {
		uint64_t came = count(), now_ns = witness_now_ns();
		uint64_t due = (now_ns - begun->before_ns) / PERIOD_NS;
		uint64_t most = (now_ns - begun->after_ns) / PERIOD_NS;

		if (came > most + 1)
			witness_fail("timers: %s ticked %llu times; only %llu were due", what,
				     (unsigned long long)came, (unsigned long long)most);
		if (came + 1 >= due)
			return;
		if (now_ns > limit_ns)
			witness_fail("timers: %s lost %llu of %llu ticks", what,
				     (unsigned long long)(due - came), (unsigned long long)due);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}

uint64_t
witness_time_step(unsigned step)
{
	queue_signals(step);
	sleep_exactly(step);
	check_ticks("the timerfd", &fd_begun, count_timerfd);
	check_ticks("the signal timer", &ticker_begun, count_signals);
	return witness_mix(step * (uint64_t)QUEUED);
}
