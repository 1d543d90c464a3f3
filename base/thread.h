/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* thread: the only place that starts threads; all signals are blocked in a new
 * thread, so that signals reach the main thread (vCPU kicks are unblocked by
 * the vCPU itself). */

struct thread {
	pthread_t id;
	bool started;
};

typedef void thread_fn(void *arg);

/* name: at most 15 bytes, seen in ps -L.  Returns when the thread runs: what the C
 * library does to start it (rseq, robust list, name) is then behind it, so that a
 * system-call filter that closes next need not allow it.  ERR_NOMEM if no thread can
 * be had. */
MUST_USE enum err thread_start(struct thread *t, const char *name, thread_fn *fn, void *arg);
void thread_join(struct thread *t); /* accepts one that never started */
/* Instead of a join, of one that hangs in the kernel: it may end whenever it does. */
void thread_abandon(struct thread *t);

/* Scope-owned lock:  AUTO_LOCK(&m->lock); */
static inline void thread_auto_unlock(pthread_mutex_t **m)
{
	if (*m)
		pthread_mutex_unlock(*m);
}
static inline pthread_mutex_t *thread_lock(pthread_mutex_t *m)
{
	pthread_mutex_lock(m);
	return m;
}
#define THREAD_CAT2(a, b) a##b
#define THREAD_CAT(a, b) THREAD_CAT2(a, b)
#define AUTO_LOCK(m)                                                                               \
	__attribute__((cleanup(thread_auto_unlock), unused)) pthread_mutex_t *THREAD_CAT(          \
		auto_lock_, __LINE__) = thread_lock(m)

/* A bounded queue of borrowed pointers between threads.  push blocks while
 * full; pop blocks while empty and returns false once closed and empty; push
 * returns false once closed (the item stays the caller's). */
struct queue;
MUST_USE enum err queue_create(size_t capacity, struct queue **q);
void queue_destroy(struct queue *q); /* NULL allowed; items are not touched */
bool queue_push(struct queue *q, void *item);
bool queue_pop(struct queue *q, void **item);
void queue_close(struct queue *q);

/* CPUs this process may use, at least 1. */
unsigned thread_cpus(void);

#endif
