/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_TIMESYNC_H
#define HV_VSP_TIMESYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "hv/vmbus/vmbus.h"

/* timesync: tells the guest what time it is.
 *
 * A *sync* sets the guest's clock at once: when the service comes up (boot), after a
 * restore, and on demand.  A *sample* every TIMESYNC_MS lets it keep its clock right
 * (in Linux by /dev/ptp).
 * Threads: the machine's loop thread. */

#define TIMESYNC_MS 5000u

struct timesync;

struct timesync_host { /* borrowed */
	struct loop *loop; /* NULL: no timer */
	/* Host's wall clock in ns since 1970, and the guest's reference time in 100 ns, at
	 * one instant. */
	void (*now)(void *arg, uint64_t *real_ns, uint64_t *reference);
	void *arg;
};

struct timesync_info {
	bool ready; /* the guest has the service */
	uint32_t version;
	uint64_t answers; /* syncs and samples that it took, since the worker began */
	uint64_t syncs;	  /* of these, syncs */
};

MUST_USE enum err timesync_create(struct vmbus *bus, const struct timesync_host *host,
				  struct timesync **out);
void timesync_destroy(struct timesync *t); /* NULL allowed; after the bus */
/* A sync, as soon as can be.  ERR_GUEST: the guest has no such service. */
MUST_USE enum err timesync_set(struct timesync *t);
void timesync_info(const struct timesync *t, struct timesync_info *out);

#endif
