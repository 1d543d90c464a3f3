/* SPDX-License-Identifier: Apache-2.0 */
/* pool: two queues, urgent and normal, and the threads that empty them. */
#include "store/pool.h"

#include "base/thread.h"

#include <stdlib.h>

struct list {
	struct pool_job *first, **last;
};

struct member {
	struct pool *pool;
	struct thread thread;
	struct pool_worker worker;
};

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct list urgent, normal;
	bool stop;
	unsigned threads;
	struct member member[];
};

static struct pool_job *take(struct list *l)
{
	struct pool_job *job = l->first;

	if (job) {
		l->first = job->next;
		if (!l->first)
			l->last = &l->first;
	}
	return job;
}

static struct pool_job *next_job(struct pool *p)
{
	AUTO_LOCK(&p->lock);
	for (;;) {
		struct pool_job *job = take(&p->urgent);

		if (!job)
			job = take(&p->normal);
		if (job || p->stop)
			return job;
		pthread_cond_wait(&p->work, &p->lock);
	}
}

static void member_main(void *arg)
{
	struct member *m = arg;
	struct pool_job *job;

	while ((job = next_job(m->pool)) != NULL)
		job->run(job, &m->worker);
}

static enum err member_start(struct member *m)
{
	enum err e = group_codec_create(&m->worker.codec);

	if (e != ERR_OK)
		return e;
	m->worker.scratch = malloc(GROUP_BYTES);
	if (!m->worker.scratch)
		return err_note(ERR_NOMEM, 0, "start a pool: out of memory");
	return thread_start(&m->thread, "lb-store", member_main, m);
}

enum err pool_create(unsigned threads, struct pool **out)
{
	struct pool *p = calloc(1, sizeof(*p) + threads * sizeof(p->member[0]));
	enum err e = ERR_OK;

	if (!p)
		return err_note(ERR_NOMEM, 0, "start a pool: out of memory");
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	p->urgent.last = &p->urgent.first;
	p->normal.last = &p->normal.first;
	p->threads = threads;
	for (unsigned i = 0; e == ERR_OK && i < threads; i++) {
		p->member[i].pool = p;
		e = member_start(&p->member[i]);
	}
	if (e != ERR_OK) {
		pool_destroy(p);
		return e;
	}
	*out = p;
	return ERR_OK;
}

void pool_destroy(struct pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->threads; i++) {
		thread_join(&p->member[i].thread);
		group_codec_destroy(p->member[i].worker.codec);
		free(p->member[i].worker.scratch);
	}
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

unsigned pool_threads(const struct pool *p)
{
	return p->threads;
}

void pool_submit(struct pool *p, struct pool_job *job, bool urgent)
{
	struct list *l = urgent ? &p->urgent : &p->normal;

	AUTO_LOCK(&p->lock);
	job->next = NULL;
	*l->last = job;
	l->last = &job->next;
	pthread_cond_signal(&p->work);
}
