/* SPDX-License-Identifier: Apache-2.0 */
/* loop: descriptors and timers of one thread.  See loop.h.
 *
 * A watch that is removed while events are being handed out may still be named by
 * a later entry of the same epoll_wait batch: removed watches are therefore only
 * marked, and freed after the batch. */
#include "base/loop.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"

#define BATCH 32

struct loop_watch {
	struct loop *loop;
	struct loop_watch *next;
	loop_fd_fn *fn;
	void *arg;
	int fd;
	bool dead;
};

struct loop_timer {
	struct loop_watch *watch;
	struct loop_timer *next;
	struct loop *loop;
	loop_timer_fn *fn;
	void *arg;
	int fd;
};

struct loop {
	int epoll_fd, wake_fd;
	struct loop_watch *watches;
	struct loop_timer *timers;
	struct loop_watch *wake_watch;
	bool some_dead;
	loop_timer_fn *wake_fn;
	void *wake_arg;
	atomic_bool stop;
};

static void on_wake(void *arg, int fd, uint32_t events)
{
	struct loop *l = arg;
	uint64_t n;

	(void)events;
	if (read(fd, &n, sizeof(n)) == sizeof(n) && l->wake_fn)
		l->wake_fn(l->wake_arg);
}

enum err loop_create(struct loop **out)
{
	struct loop *l = calloc(1, sizeof(*l));
	enum err e;

	if (!l)
		return err_note(ERR_NOMEM, 0, "event loop: out of memory");
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->wake_fd < 0 || l->epoll_fd < 0) {
		e = err_sys(errno, "event loop");
		goto fail;
	}
	e = loop_add(l, l->wake_fd, EPOLLIN, on_wake, l, &l->wake_watch);
	if (e != ERR_OK)
		goto fail;
	*out = l;
	return ERR_OK;
fail:
	loop_destroy(l);
	return e;
}

void loop_destroy(struct loop *l)
{
	if (!l)
		return;
	while (l->timers)
		loop_timer_destroy(l->timers);
	while (l->watches) {
		struct loop_watch *w = l->watches;
		l->watches = w->next;
		free(w);
	}
	if (l->epoll_fd >= 0)
		close(l->epoll_fd);
	if (l->wake_fd >= 0)
		close(l->wake_fd);
	free(l);
}

enum err loop_add(struct loop *l, int fd, uint32_t events, loop_fd_fn *fn, void *arg,
		  struct loop_watch **out)
{
	struct loop_watch *w = calloc(1, sizeof(*w));

	if (!w)
		return err_note(ERR_NOMEM, 0, "event loop: out of memory");
	*w = (struct loop_watch){.loop = l, .fn = fn, .arg = arg, .fd = fd};
	struct epoll_event ev = {.events = events, .data.ptr = w};
	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0) {
		int sys = errno;
		free(w);
		return err_sys(sys, "watch descriptor %d", fd);
	}
	w->next = l->watches;
	l->watches = w;
	*out = w;
	return ERR_OK;
}

enum err loop_modify(struct loop_watch *w, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = w};

	if (epoll_ctl(w->loop->epoll_fd, EPOLL_CTL_MOD, w->fd, &ev) != 0)
		return err_sys(errno, "watch descriptor %d", w->fd);
	return ERR_OK;
}

void loop_remove(struct loop_watch *w)
{
	if (!w || w->dead)
		return;
	(void)epoll_ctl(w->loop->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
	w->dead = true;
	w->loop->some_dead = true;
}

static void bury(struct loop *l)
{
	struct loop_watch **at = &l->watches;

	if (!l->some_dead)
		return;
	while (*at) {
		struct loop_watch *w = *at;
		if (w->dead) {
			*at = w->next;
			free(w);
		} else {
			at = &w->next;
		}
	}
	l->some_dead = false;
}

static void on_timer(void *arg, int fd, uint32_t events)
{
	struct loop_timer *t = arg;
	uint64_t n;

	(void)events;
	/* Re-armed or disarmed since it became readable: then there is nothing to read. */
	if (read(fd, &n, sizeof(n)) == sizeof(n))
		t->fn(t->arg);
}

enum err loop_timer_create(struct loop *l, loop_timer_fn *fn, void *arg, struct loop_timer **out)
{
	struct loop_timer *t = calloc(1, sizeof(*t));

	if (!t)
		return err_note(ERR_NOMEM, 0, "timer: out of memory");
	*t = (struct loop_timer){.loop = l, .fn = fn, .arg = arg};
	t->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (t->fd < 0) {
		int sys = errno;
		free(t);
		return err_sys(sys, "timer");
	}
	enum err e = loop_add(l, t->fd, EPOLLIN, on_timer, t, &t->watch);
	if (e != ERR_OK) {
		close(t->fd);
		free(t);
		return e;
	}
	t->next = l->timers;
	l->timers = t;
	*out = t;
	return ERR_OK;
}

void loop_timer_set(struct loop_timer *t, uint64_t delay_ns)
{
	struct itimerspec its = {
		.it_value = {.tv_sec = (time_t)(delay_ns / NS_PER_SEC),
			     .tv_nsec = (long)(delay_ns % NS_PER_SEC)},
	};

	(void)timerfd_settime(t->fd, 0, &its, NULL); /* only fails for bad arguments */
}

void loop_timer_destroy(struct loop_timer *t)
{
	if (!t)
		return;
	for (struct loop_timer **at = &t->loop->timers; *at; at = &(*at)->next) {
		if (*at == t) {
			*at = t->next;
			break;
		}
	}
	loop_remove(t->watch);
	close(t->fd);
	free(t);
}

enum err loop_run(struct loop *l)
{
	struct epoll_event events[BATCH];

	while (!atomic_load_explicit(&l->stop, memory_order_acquire)) {
		int n = epoll_wait(l->epoll_fd, events, BATCH, -1);
		if (n < 0 && errno != EINTR)
			return err_sys(errno, "event loop");
		for (int i = 0; i < n; i++) {
			struct loop_watch *w = events[i].data.ptr;
			if (!w->dead)
				w->fn(w->arg, w->fd, events[i].events);
		}
		bury(l);
	}
	atomic_store(&l->stop, false);
	return ERR_OK;
}

void loop_stop(struct loop *l)
{
	atomic_store_explicit(&l->stop, true, memory_order_release);
	loop_wake(l);
}

void loop_set_wake(struct loop *l, loop_timer_fn *fn, void *arg)
{
	l->wake_fn = fn;
	l->wake_arg = arg;
}

void loop_wake(struct loop *l)
{
	uint64_t one = 1;
	ssize_t n = write(l->wake_fd, &one, sizeof(one));

	(void)n; /* EAGAIN: a wake-up is pending already */
}
