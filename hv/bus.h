/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_BUS_H
#define HV_BUS_H

#include <stdint.h>

#include "base/err.h"
#include "hv/device.h"

/* bus: finds the device of a port or an MMIO address.
 *
 * Accesses that nobody claims read as all ones, writes to them vanish; both are
 * counted, and the first few are logged (rate-limited: a guest triggers them).
 * Claims happen before vCPUs run; accesses from any vCPU thread. */
struct bus;

enum bus_space { BUS_PORT, BUS_MMIO };

struct bus_stats {
	uint64_t port_reads, port_writes, mmio_reads, mmio_writes; /* claimed by nobody */
};

MUST_USE enum err bus_create(struct bus **out);
void bus_destroy(struct bus *b); /* NULL allowed; devices stay */
/* ERR_BUSY if the range overlaps another.  dev is borrowed until bus_destroy. */
MUST_USE enum err bus_claim(struct bus *b, enum bus_space space, uint64_t base, uint64_t bytes,
			    struct device *dev);
/* data little-endian, size 1, 2, 4, 8.  Errors are the device's own (ERR_GUEST...);
 * an access that straddles the end of a claim counts as unclaimed. */
MUST_USE enum err bus_read(struct bus *b, enum bus_space space, uint64_t addr, unsigned size,
			   void *data);
MUST_USE enum err bus_write(struct bus *b, enum bus_space space, uint64_t addr, unsigned size,
			    const void *data);
void bus_stats(const struct bus *b, struct bus_stats *out);

#endif
