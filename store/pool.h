/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_POOL_H
#define STORE_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/group.h"

/* pool: threads that run jobs.
 *
 * A job is embedded in what it works on, so that submitting never allocates,
 * never fails and never blocks; whoever submits bounds how many there are.
 * Urgent jobs go first: they finish work that others wait for. */

/* What a pool thread lends to a job while it runs. */
struct pool_worker {
	struct group_codec *codec;
	uint8_t *scratch; /* GROUP_BYTES */
};

struct pool_job {
	void (*run)(struct pool_job *job, struct pool_worker *worker);
	struct pool_job *next;
};

struct pool;
MUST_USE enum err pool_create(unsigned threads, struct pool **out);
/* NULL allowed.  Runs what is queued, then ends the threads. */
void pool_destroy(struct pool *p);
unsigned pool_threads(const struct pool *p);
void pool_submit(struct pool *p, struct pool_job *job, bool urgent); /* any thread */

#endif
