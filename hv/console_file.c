/* SPDX-License-Identifier: Apache-2.0 */
/* console_file: a ring, a thread that empties it, and what happens when it does not.
 * See console_file.h.
 *
 * States: FLOWING -[full, no progress]-> LOSING -[half empty]-> FLOWING (with a notice)
 *         any -[a write fails]-> failed: everything is dropped, silently
 *         any -[destroy]-> closing; and orphaned, if the thread hangs: it frees all of it
 *         should it ever come back.
 *
 * Nothing but the thread writes to the log: that may be a file of the same file system.
 *
 * Threads: `lock` guards all but fd, failed and arg; the thread does not hold it while it
 * writes.  It reads only ring bytes that put does not touch: those from `done' on. */
#include "hv/console_file.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#define WRITE_BYTES 32768u

struct console_file {
	pthread_mutex_t lock;
	pthread_cond_t work, progress; /* for the thread; for those who wait for it */
	struct thread thread;
	int fd;
	void (*failed_fn)(void *arg);
	void *arg;
	bool losing, failed, closing, orphaned, ended;
	uint64_t put, done; /* positions; byte n is at n % CONSOLE_FILE_BYTES */
	uint64_t lost;	    /* since the last notice */
	uint64_t unlogged;  /* in notices that the log does not tell of yet */
	uint8_t ring[CONSOLE_FILE_BYTES];
};

/* ---- into the ring; lock held ---- */

static size_t room(const struct console_file *f)
{
	return CONSOLE_FILE_BYTES - (size_t)(f->put - f->done);
}

static void append(struct console_file *f, const void *p, size_t len)
{
	const uint8_t *from = p;

	while (len > 0) {
		size_t at = f->put % CONSOLE_FILE_BYTES, n = CONSOLE_FILE_BYTES - at;
		n = n < len ? n : len;
		memcpy(f->ring + at, from, n);
		f->put += n;
		from += n;
		len -= n;
	}
}

/* Until the thread has made progress; false if it has not, for too long. */
static bool await_progress(struct console_file *f)
{
	uint64_t before = f->done, end = clock_mono_ns() + CONSOLE_FILE_STALL_MS * NS_PER_MS;
	struct timespec t = {.tv_sec = (time_t)(end / NS_PER_SEC),
			     .tv_nsec = (long)(end % NS_PER_SEC)};

	while (f->done == before && !f->failed)
		if (pthread_cond_timedwait(&f->progress, &f->lock, &t) == ETIMEDOUT)
			break;
	return f->done != before;
}

/* What was lost is told where it is missing. */
static void own_up(struct console_file *f)
{
	char notice[64];
	int n = snprintf(notice, sizeof(notice), "\r\n[lifeboat: %llu bytes lost]\r\n",
			 (unsigned long long)f->lost);

	append(f, notice, (size_t)n);
	f->unlogged += f->lost;
	f->lost = 0;
	f->losing = false;
}

void console_file_put(struct console_file *f, const void *p, size_t len)
{
	const uint8_t *from = p;
	AUTO_LOCK(&f->lock);

	while (len > 0 && !f->failed) {
		size_t n = room(f) < len ? room(f) : len;

		if (f->losing && room(f) >= CONSOLE_FILE_BYTES / 2) {
			own_up(f);
			continue;
		}
		if (f->losing || (n == 0 && !await_progress(f))) {
			f->losing = true;
			f->lost += len;
			return;
		}
		append(f, from, n);
		from += n;
		len -= n;
		pthread_cond_signal(&f->work);
	}
}

/* ---- out of it; the thread ---- */

/* One write, without the lock; the errno of a failure, or 0. */
static int write_some(struct console_file *f, const uint8_t *p, size_t len, size_t *written)
{
	ssize_t n = write(f->fd, p, len);
	struct pollfd w = {.fd = f->fd, .events = POLLOUT};

	*written = n > 0 ? (size_t)n : 0;
	if (n > 0 || (n < 0 && errno == EINTR))
		return 0;
	if (n == 0 || errno != EAGAIN)
		return n < 0 ? errno : EIO;
	(void)poll(&w, 1, -1);
	return 0;
}

static void tell_loss(struct console_file *f)
{
	uint64_t lost = f->unlogged;

	if (lost == 0)
		return;
	f->unlogged = 0;
	pthread_mutex_unlock(&f->lock);
	log_event(LOG_WARN, "console-file-slow lost_bytes=%llu", (unsigned long long)lost);
	pthread_mutex_lock(&f->lock);
}

static void fail(struct console_file *f, int sys)
{
	uint64_t lost = f->put - f->done + f->lost;

	f->failed = true;
	f->done = f->put;
	pthread_cond_broadcast(&f->progress);
	pthread_mutex_unlock(&f->lock);
	log_event(LOG_ERROR, "console-file-failed error=%s lost_bytes=%llu", strerrorname_np(sys),
		  (unsigned long long)lost);
	f->failed_fn(f->arg);
	pthread_mutex_lock(&f->lock);
}

/* Write what there is; lock held, but for the writes. */
static void empty(struct console_file *f)
{
	while (f->done < f->put && !f->failed && !f->orphaned) {
		size_t at = f->done % CONSOLE_FILE_BYTES, n = CONSOLE_FILE_BYTES - at, written;
		n = n < f->put - f->done ? n : (size_t)(f->put - f->done);
		n = n < WRITE_BYTES ? n : WRITE_BYTES;
		pthread_mutex_unlock(&f->lock);
		int sys = write_some(f, f->ring + at, n, &written);
		pthread_mutex_lock(&f->lock);
		f->done += written;
		pthread_cond_broadcast(&f->progress);
		if (sys != 0 && !f->orphaned)
			fail(f, sys);
		tell_loss(f);
	}
}

static void release(struct console_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	pthread_cond_destroy(&f->work);
	pthread_cond_destroy(&f->progress);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static void run(void *arg)
{
	struct console_file *f = arg;

	pthread_mutex_lock(&f->lock);
	while (!f->closing || (f->done < f->put && !f->orphaned)) {
		empty(f);
		if (!f->closing)
			pthread_cond_wait(&f->work, &f->lock);
	}
	f->ended = true;
	pthread_cond_broadcast(&f->progress);
	bool orphaned = f->orphaned;
	pthread_mutex_unlock(&f->lock);
	if (orphaned)
		release(f);
}

/* ---- life ---- */

static enum err init_conds(struct console_file *f)
{
	pthread_condattr_t attr;

	if (pthread_condattr_init(&attr) != 0)
		return err_note(ERR_NOMEM, 0, "console file: out of memory");
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&f->work, &attr);
	(void)pthread_cond_init(&f->progress, &attr);
	pthread_condattr_destroy(&attr);
	return ERR_OK;
}

enum err console_file_create(int fd, void (*failed)(void *arg), void *arg, struct console_file **out)
{
	struct console_file *f = calloc(1, sizeof(*f));
	enum err e;

	if (!f)
		return err_note(ERR_NOMEM, 0, "console file: out of memory");
	f->fd = fd;
	f->failed_fn = failed;
	f->arg = arg;
	if ((e = init_conds(f)) != ERR_OK) {
		free(f);
		return e;
	}
	pthread_mutex_init(&f->lock, NULL);
	if ((e = thread_start(&f->thread, "console-file", run, f)) != ERR_OK) {
		f->fd = -1; /* not ours */
		release(f);
		return e;
	}
	*out = f;
	return ERR_OK;
}

/* Wait for the thread's end; false if it hangs. */
static bool await_end(struct console_file *f)
{
	uint64_t end = clock_mono_ns() + CONSOLE_FILE_CLOSE_MS * NS_PER_MS;
	struct timespec t = {.tv_sec = (time_t)(end / NS_PER_SEC),
			     .tv_nsec = (long)(end % NS_PER_SEC)};

	while (!f->ended)
		if (pthread_cond_timedwait(&f->progress, &f->lock, &t) == ETIMEDOUT)
			break;
	return f->ended;
}

void console_file_destroy(struct console_file *f)
{
	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	if (f->losing && room(f) >= CONSOLE_FILE_BYTES / 2)
		own_up(f);
	f->closing = true;
	pthread_cond_signal(&f->work);
	bool ended = await_end(f);
	uint64_t lost = f->put - f->done + f->lost;
	struct thread thread = f->thread;
	f->orphaned = !ended;
	pthread_mutex_unlock(&f->lock); /* an orphan may free all of it from here on */
	if (ended) {
		thread_join(&thread);
		release(f);
	} else {
		thread_abandon(&thread);
		log_event(LOG_WARN, "console-file-hangs lost_bytes=%llu", (unsigned long long)lost);
	}
}
