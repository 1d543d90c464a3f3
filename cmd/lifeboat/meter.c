/* SPDX-License-Identifier: Apache-2.0 */
/* meter: shows a progress while a job runs in the main thread.
 *
 * Threads: one of its own, which samples the counters; `stop` and `wake` are
 * under the lock.  The rate is that of the last seconds, smoothed, so that a
 * stall is seen and one quick stretch does not promise too much. */
#include "cmd/lifeboat/meter.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "base/units.h"
#include "cmd/lifeboat/cli.h"

#define TERMINAL_NS (200 * NS_PER_MS)
#define PLAIN_NS (2 * NS_PER_SEC)

struct meter {
	const char *title;
	struct progress *progress;
	struct thread thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop, terminal, shown;
	uint64_t last_ns, last_bytes;
	double rate; /* bytes per second */
};

static void sample(struct meter *m, uint64_t now, uint64_t done)
{
	double seconds = (double)(now - m->last_ns) / (double)NS_PER_SEC;
	double fresh = seconds > 0 ? (double)(done - m->last_bytes) / seconds : 0;

	m->rate = m->rate > 0 ? 0.7 * m->rate + 0.3 * fresh : fresh;
	m->last_ns = now;
	m->last_bytes = done;
}

static void show(struct meter *m)
{
	char a[UNITS_TEXT_BYTES], b[UNITS_TEXT_BYTES];
	uint64_t done = atomic_load(&m->progress->done_bytes);
	uint64_t total = atomic_load(&m->progress->total_bytes);
	bool cancel = atomic_load(&m->progress->cancel);

	sample(m, clock_mono_ns(), done);
	fprintf(stderr, "%slifeboat: %s: %s", m->terminal ? "\r" : "", m->title,
		units_format_size(done, a));
	if (total)
		fprintf(stderr, " of %s (%u %%)", units_format_size(total, b),
			(unsigned)(done >= total ? 100 : done * 100 / total));
	if (cancel)
		fputs(", stopping", stderr);
	else if (total && done >= total)
		fputs(", finishing", stderr);
	else if (m->rate >= 1) {
		fprintf(stderr, ", %s/s", units_format_size((uint64_t)m->rate, a));
		if (total)
			fprintf(stderr, ", %s left",
				units_format_duration((uint64_t)((double)(total - done) / m->rate *
								 (double)NS_PER_SEC), b));
	}
	fputs(m->terminal ? "\033[K" : "\n", stderr);
	fflush(stderr);
	m->shown = true;
}

static void run(void *arg)
{
	struct meter *m = arg;
	uint64_t interval = m->terminal ? TERMINAL_NS : PLAIN_NS;
	uint64_t next = clock_mono_ns() + interval;

	AUTO_LOCK(&m->lock);
	while (!m->stop) {
		struct timespec t = {.tv_sec = (time_t)(next / NS_PER_SEC),
				     .tv_nsec = (long)(next % NS_PER_SEC)};

		pthread_cond_timedwait(&m->wake, &m->lock, &t);
		if (m->stop || clock_mono_ns() < next)
			continue;
		show(m);
		next += interval;
	}
}

static enum err init_wake(struct meter *m)
{
	pthread_condattr_t attr;

	if (pthread_condattr_init(&attr) != 0)
		return err_note(ERR_NOMEM, 0, "progress display");
	int r = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (r == 0)
		r = pthread_cond_init(&m->wake, &attr);
	pthread_condattr_destroy(&attr);
	return r ? err_note(ERR_NOMEM, r, "progress display") : ERR_OK;
}

enum err meter_start(const char *title, struct progress *progress, bool quiet, struct meter **out)
{
	struct meter *m = calloc(1, sizeof(*m));
	enum err e;

	*out = NULL;
	if (!m)
		return err_note(ERR_NOMEM, 0, "progress display");
	m->title = title;
	m->progress = progress;
	m->terminal = isatty(STDERR_FILENO);
	m->last_ns = clock_mono_ns();
	if ((e = init_wake(m)) != ERR_OK) {
		free(m);
		return e;
	}
	pthread_mutex_init(&m->lock, NULL);
	cli_cancel_on_signal(progress);
	if (!quiet && (e = thread_start(&m->thread, "meter", run, m)) != ERR_OK) {
		meter_stop(m);
		return e;
	}
	*out = m;
	return ERR_OK;
}

void meter_stop(struct meter *m)
{
	if (!m)
		return;
	cli_cancel_on_signal(NULL);
	pthread_mutex_lock(&m->lock);
	m->stop = true;
	pthread_cond_signal(&m->wake);
	pthread_mutex_unlock(&m->lock);
	thread_join(&m->thread);
	if (m->shown && m->terminal)
		fputs("\r\033[K", stderr);
	pthread_cond_destroy(&m->wake);
	pthread_mutex_destroy(&m->lock);
	free(m);
}
