/* SPDX-License-Identifier: Apache-2.0 */
/* thread: starting threads, and bounded queues between them.  See thread.h. */
#include "base/thread.h"

#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>

/* On the stack of thread_start until `running` is posted. */
struct start {
	thread_fn *fn;
	void *arg;
	char name[16];
	sem_t running;
};

static void *thread_main(void *p)
{
	struct start *s = p;
	thread_fn *fn = s->fn;
	void *arg = s->arg;

	pthread_setname_np(pthread_self(), s->name);
	sem_post(&s->running);
	fn(arg);
	return NULL;
}

enum err thread_start(struct thread *t, const char *name, thread_fn *fn, void *arg)
{
	struct start s = {.fn = fn, .arg = arg};

	t->started = false;
	for (size_t i = 0; i + 1 < sizeof(s.name) && name[i]; i++)
		s.name[i] = name[i];
	sem_init(&s.running, 0, 0);

	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&t->id, NULL, thread_main, &s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc == 0) {
		while (sem_wait(&s.running) != 0 && errno == EINTR)
			continue;
		t->started = true;
	}
	sem_destroy(&s.running);
	return rc ? err_note(ERR_NOMEM, rc, "start thread %s", name) : ERR_OK;
}

void thread_join(struct thread *t)
{
	if (t->started)
		pthread_join(t->id, NULL);
	t->started = false;
}

void thread_abandon(struct thread *t)
{
	if (t->started)
		pthread_detach(t->id);
	t->started = false;
}

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t not_full, not_empty;
	size_t capacity, head, count;
	bool closed;
	void *items[];
};

enum err queue_create(size_t capacity, struct queue **out)
{
	struct queue *q = calloc(1, sizeof(*q) + capacity * sizeof(void *));

	if (!q)
		return err_note(ERR_NOMEM, 0, "queue of %zu: out of memory", capacity);
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->not_full, NULL);
	pthread_cond_init(&q->not_empty, NULL);
	q->capacity = capacity;
	*out = q;
	return ERR_OK;
}

void queue_destroy(struct queue *q)
{
	if (!q)
		return;
	pthread_cond_destroy(&q->not_empty);
	pthread_cond_destroy(&q->not_full);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

bool queue_push(struct queue *q, void *item)
{
	AUTO_LOCK(&q->lock);
	while (q->count == q->capacity && !q->closed)
		pthread_cond_wait(&q->not_full, &q->lock);
	if (q->closed)
		return false;
	q->items[(q->head + q->count++) % q->capacity] = item;
	pthread_cond_signal(&q->not_empty);
	return true;
}

bool queue_pop(struct queue *q, void **item)
{
	AUTO_LOCK(&q->lock);
	while (q->count == 0 && !q->closed)
		pthread_cond_wait(&q->not_empty, &q->lock);
	if (q->count == 0)
		return false;
	*item = q->items[q->head];
	q->head = (q->head + 1) % q->capacity;
	q->count--;
	pthread_cond_signal(&q->not_full);
	return true;
}

void queue_close(struct queue *q)
{
	AUTO_LOCK(&q->lock);
	q->closed = true;
	pthread_cond_broadcast(&q->not_full);
	pthread_cond_broadcast(&q->not_empty);
}

unsigned thread_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return 1;
	int n = CPU_COUNT(&set);
	return n > 0 ? (unsigned)n : 1;
}
