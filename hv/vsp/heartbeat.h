/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_HEARTBEAT_H
#define HV_VSP_HEARTBEAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "hv/vmbus/vmbus.h"

/* heartbeat: does the guest's kernel still answer?
 *
 * Every HEARTBEAT_MS it is asked; HEARTBEAT_MISSES times without an answer and it is
 * lost, until it answers again.  A guest whose driver says good-bye is not lost, nor
 * is one that does not run.
 * Threads: the machine's loop thread. */

#define HEARTBEAT_MS 2000u
#define HEARTBEAT_MISSES 5u

struct heartbeat;

struct heartbeat_info {
	bool ready;   /* the guest has the service */
	bool healthy; /* it answered, and is not lost */
	uint32_t version;
	uint64_t answers, round_trip_ns; /* since the worker began; of the last one */
};

/* bus and loop are borrowed; changed is told on the loop: the first answer, a loss, an
 * answer after a loss.  loop NULL: no timer (tests call heartbeat_beat). */
MUST_USE enum err heartbeat_create(struct vmbus *bus, struct loop *loop,
				   void (*changed)(void *arg, bool healthy), void *arg,
				   struct heartbeat **out);
void heartbeat_destroy(struct heartbeat *h); /* NULL allowed; after the bus */
/* Ask now.  ERR_GUEST: the guest has no such service. */
MUST_USE enum err heartbeat_ping(struct heartbeat *h);
void heartbeat_beat(struct heartbeat *h); /* what the timer does */
void heartbeat_info(const struct heartbeat *h, struct heartbeat_info *out);

#endif
