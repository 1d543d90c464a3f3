/* SPDX-License-Identifier: Apache-2.0 */
/* fake_worker: a worker process whose machine is not one.
 *
 * Control, machine and memory are real; behind vm.h stands fake_vm.c, whose guest
 * counts in its first page, one step each millisecond while it runs.  Its state is
 * that counter.  Names choose what else it does:
 *   "resets"   its guest resets itself in the moment of every pause
 *   other      the power button switches it off */
#ifndef TESTS_FAKE_WORKER_H
#define TESTS_FAKE_WORKER_H

#include <sys/types.h>

#include "hv/remote.h"

#define FAKE_MEMORY_BYTES (32u << 20)

struct fake_worker {
	pid_t pid;
	char path[64];	       /* where it listens */
	struct remote *remote; /* its first connection */
};

/* Fork one; ends the test on failure. */
void fake_worker_start(struct fake_worker *w, const char *name);
/* Wait for its end and give its wait status. */
int fake_worker_wait(struct fake_worker *w);
/* Kill what is left; safe after fake_worker_wait. */
void fake_worker_stop(struct fake_worker *w);
/* The guest's counter, read from outside. */
uint64_t fake_worker_count(const struct remote *r);
/* Connect a plain descriptor, as a hostile client would. */
int fake_worker_connect(const struct fake_worker *w);

#endif
