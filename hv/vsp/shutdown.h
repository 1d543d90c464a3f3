/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_SHUTDOWN_H
#define HV_VSP_SHUTDOWN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/vmbus/vmbus.h"

/* shutdown: asks the guest to switch itself off, or to restart.
 *
 * What it does then it tells by the machine's own events (power-off, reset).
 * Threads: the machine's loop thread. */

struct shutdown;

struct shutdown_info {
	bool ready; /* the guest has the service */
	uint32_t version;
};

/* bus is borrowed; refused is told on the loop when the guest says no. */
MUST_USE enum err shutdown_create(struct vmbus *bus, void (*refused)(void *arg, uint32_t status),
				  void *arg, struct shutdown **out);
void shutdown_destroy(struct shutdown *s); /* NULL allowed; after the bus */
/* ERR_GUEST: the guest has no such service.  ERR_BUSY: it has not answered the last. */
MUST_USE enum err shutdown_request(struct shutdown *s, bool restart);
void shutdown_info(const struct shutdown *s, struct shutdown_info *out);

#endif
