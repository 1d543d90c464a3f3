/* SPDX-License-Identifier: Apache-2.0 */
/* journal: lines on their way to the log.  See journal.h.
 *
 * The log is a file, perhaps on a disk that is slow or a file server that is gone.  A
 * line that waits for it in a vCPU's or the control's thread would stop the guest and
 * leave every verb without an answer.  So lines go into a ring of places, which one
 * thread empties.  When the ring is full a line is dropped; the first one that finds room
 * again is preceded by the number of those that did not.
 *
 * States: DIRECT -[start]-> QUEUED -[end]-> CLOSING (-> the process ends, even if the thread
 *         hangs in a write)
 *
 * One write a line, so that lines of several processes do not mix; a log that does not
 * take it is nobody's to report to.
 *
 * Threads: `lock` guards everything; the writer does not hold it while it writes, and
 * the place it writes from is not reused before it says `done'. */
#include "cmd/worker/journal.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"

#define LINE_BYTES 1024

struct text {
	size_t len;
	char bytes[LINE_BYTES];
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t work, ended_cond;
	struct thread thread;
	bool started, closing, ended;
	uint64_t put, done; /* line n is at n % JOURNAL_LINES */
	uint64_t lost;	    /* since the last that found room */
	struct text ring[JOURNAL_LINES];
} j = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void format(struct text *t, enum log_level level, const char *line)
{
	static const char *const words[] = {"debug", "info", "warn", "error"};
	char stamp[21];

	clock_rfc3339(clock_real_ns(), stamp);
	int n = snprintf(t->bytes, sizeof(t->bytes) - 1, "%s %s worker %s", stamp, words[level],
			 line);
	t->len = n < 0 ? 0 : (size_t)n < sizeof(t->bytes) - 1 ? (size_t)n : sizeof(t->bytes) - 2;
	t->bytes[t->len++] = '\n';
}

static void put_out(const struct text *t)
{
	if (write(STDERR_FILENO, t->bytes, t->len) < 0)
		return;
}

/* Lock held, and there is room. */
static void append(enum log_level level, const char *line)
{
	format(&j.ring[j.put++ % JOURNAL_LINES], level, line);
}

void journal_line(void *arg, enum log_level level, const char *line)
{
	struct text direct;
	char notice[64];

	(void)arg;
	pthread_mutex_lock(&j.lock);
	if (!j.started) {
		pthread_mutex_unlock(&j.lock);
		format(&direct, level, line);
		put_out(&direct);
		return;
	}
	if (JOURNAL_LINES - (j.put - j.done) < (j.lost > 0 ? 2 : 1)) {
		j.lost++;
	} else {
		if (j.lost > 0) {
			(void)snprintf(notice, sizeof(notice), "log-slow lost_lines=%llu",
				       (unsigned long long)j.lost);
			append(LOG_WARN, notice);
			j.lost = 0;
		}
		append(level, line);
		pthread_cond_signal(&j.work);
	}
	pthread_mutex_unlock(&j.lock);
}

static void run(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&j.lock);
	for (;;) {
		while (j.done == j.put && !j.closing)
			pthread_cond_wait(&j.work, &j.lock);
		if (j.done == j.put)
			break;
		const struct text *t = &j.ring[j.done % JOURNAL_LINES];
		pthread_mutex_unlock(&j.lock);
		put_out(t);
		pthread_mutex_lock(&j.lock);
		j.done++;
	}
	j.ended = true;
	pthread_cond_signal(&j.ended_cond);
	pthread_mutex_unlock(&j.lock);
}

enum err journal_start(void)
{
	pthread_condattr_t attr;
	enum err e;

	if (pthread_condattr_init(&attr) != 0)
		return err_note(ERR_NOMEM, 0, "log: out of memory");
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&j.work, &attr);
	(void)pthread_cond_init(&j.ended_cond, &attr);
	pthread_condattr_destroy(&attr);
	e = thread_start(&j.thread, "log", run, NULL);
	AUTO_LOCK(&j.lock);
	j.started = e == ERR_OK;
	return e;
}

void journal_end(void)
{
	uint64_t end = clock_mono_ns() + JOURNAL_CLOSE_MS * NS_PER_MS;
	const struct timespec t = {.tv_sec = (time_t)(end / NS_PER_SEC),
				   .tv_nsec = (long)(end % NS_PER_SEC)};

	pthread_mutex_lock(&j.lock);
	if (!j.started) {
		pthread_mutex_unlock(&j.lock);
		return;
	}
	j.closing = true;
	pthread_cond_signal(&j.work);
	while (!j.ended)
		if (pthread_cond_timedwait(&j.ended_cond, &j.lock, &t) == ETIMEDOUT)
			break;
	bool ended = j.ended;
	pthread_mutex_unlock(&j.lock);
	if (ended)
		thread_join(&j.thread);
	else
		thread_abandon(&j.thread);
}
