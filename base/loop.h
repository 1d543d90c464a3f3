/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <stdint.h>

#include "base/err.h"

/* loop: descriptors and timers of one thread, by epoll and timerfd.
 * All calls on the loop's own thread except loop_stop and loop_wake. */
struct loop;
struct loop_watch;
struct loop_timer;

/* events: EPOLLIN/EPOLLOUT/EPOLLHUP bits that are ready. */
typedef void loop_fd_fn(void *arg, int fd, uint32_t events);
typedef void loop_timer_fn(void *arg);

MUST_USE enum err loop_create(struct loop **out);
void loop_destroy(struct loop *l); /* NULL allowed; frees watches and timers */
/* fd stays the caller's and must be removed before it is closed. */
MUST_USE enum err loop_add(struct loop *l, int fd, uint32_t events, loop_fd_fn *fn, void *arg,
			   struct loop_watch **out);
MUST_USE enum err loop_modify(struct loop_watch *w, uint32_t events);
void loop_remove(struct loop_watch *w); /* NULL allowed; safe inside callbacks, its own included */
/* A one-shot timer, unarmed at first. */
MUST_USE enum err loop_timer_create(struct loop *l, loop_timer_fn *fn, void *arg,
				    struct loop_timer **out);
void loop_timer_set(struct loop_timer *t, uint64_t delay_ns); /* 0 disarms */
void loop_timer_destroy(struct loop_timer *t);
/* Run until loop_stop.  The wake function runs on the loop after loop_wake. */
MUST_USE enum err loop_run(struct loop *l);
void loop_stop(struct loop *l);				 /* any thread, signal-safe */
void loop_set_wake(struct loop *l, loop_timer_fn *fn, void *arg);
void loop_wake(struct loop *l);				 /* any thread, signal-safe */

#endif
