/* SPDX-License-Identifier: Apache-2.0 */
/* bus: sorted claims, found by bisection; see bus.h.
 *
 * Invariant: claims of one space are sorted by base and do not overlap.  They
 * are written before vCPUs run and only read afterwards, so look-up takes no
 * lock; the device's own lock is held around its op. */
#include "hv/bus.h"

#include "base/bytes.h"
#include "base/log.h"
#include "base/thread.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SPACES 2u
#define CLAIMS_MAX 64u

struct claim {
	uint64_t base, bytes;
	struct device *dev;
};

struct bus {
	struct claim claims[SPACES][CLAIMS_MAX];
	size_t count[SPACES];
	_Atomic uint64_t reads[SPACES], writes[SPACES]; /* claimed by nobody */
	struct log_limit log;
};

enum err bus_create(struct bus **out)
{
	struct bus *b = calloc(1, sizeof *b);

	if (!b)
		return err_sys(ENOMEM, "bus");
	b->log = (struct log_limit)LOG_LIMIT(8, 10000);
	*out = b;
	return ERR_OK;
}

void bus_destroy(struct bus *b)
{
	free(b);
}

/* Index of the first claim whose base is above addr. */
static size_t bus_after(const struct bus *b, enum bus_space space, uint64_t addr)
{
	size_t lo = 0, hi = b->count[space];

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (b->claims[space][mid].base > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

enum err bus_claim(struct bus *b, enum bus_space space, uint64_t base, uint64_t bytes,
		   struct device *dev)
{
	size_t at = bus_after(b, space, base);
	struct claim *c = &b->claims[space][at];
	bool clash = false;

	assert(bytes > 0 && base + bytes - 1 >= base);
	if (at > 0)
		clash = base - c[-1].base < c[-1].bytes;
	if (at < b->count[space])
		clash = clash || c->base - base < bytes;
	if (clash)
		return err_note(ERR_BUSY, 0, "%s 0x%llx is claimed twice",
				space == BUS_PORT ? "port" : "address", (unsigned long long)base);
	if (b->count[space] == CLAIMS_MAX)
		return err_note(ERR_FAILED, 0, "the bus has no room for another device");
	memmove(c + 1, c, (b->count[space] - at) * sizeof *c);
	*c = (struct claim){.base = base, .bytes = bytes, .dev = dev};
	b->count[space]++;
	return ERR_OK;
}

static struct device *bus_find(const struct bus *b, enum bus_space space, uint64_t addr,
			       unsigned size, uint64_t *offset)
{
	size_t at = bus_after(b, space, addr);
	const struct claim *c;

	if (at == 0)
		return NULL;
	c = &b->claims[space][at - 1];
	if (addr - c->base >= c->bytes || size > c->bytes - (addr - c->base))
		return NULL;
	*offset = addr - c->base;
	return c->dev;
}

static void bus_unclaimed(struct bus *b, enum bus_space space, bool write, uint64_t addr,
			  unsigned size)
{
	atomic_fetch_add_explicit(write ? &b->writes[space] : &b->reads[space], 1,
				  memory_order_relaxed);
	log_limited(&b->log, LOG_DEBUG, "unclaimed space=%s access=%s address=0x%llx bytes=%u",
		    space == BUS_PORT ? "port" : "mmio", write ? "write" : "read",
		    (unsigned long long)addr, size);
}

enum err bus_read(struct bus *b, enum bus_space space, uint64_t addr, unsigned size, void *data)
{
	struct io io = {.size = size, .data = ~0ull};
	struct device *dev = bus_find(b, space, addr, size, &io.offset);
	uint8_t le[8];
	enum err e = ERR_OK;

	assert(size == 1 || size == 2 || size == 4 || size == 8);
	if (dev) {
		AUTO_LOCK(&dev->lock);
		e = dev->ops->read(dev->self, &io);
	} else {
		bus_unclaimed(b, space, false, addr, size);
	}
	le64_put(le, io.data);
	memcpy(data, le, size);
	return e;
}

enum err bus_write(struct bus *b, enum bus_space space, uint64_t addr, unsigned size,
		   const void *data)
{
	struct io io = {.size = size};
	struct device *dev = bus_find(b, space, addr, size, &io.offset);
	uint8_t le[8] = {0};

	assert(size == 1 || size == 2 || size == 4 || size == 8);
	if (!dev) {
		bus_unclaimed(b, space, true, addr, size);
		return ERR_OK;
	}
	memcpy(le, data, size);
	io.data = le64_get(le);
	AUTO_LOCK(&dev->lock);
	return dev->ops->write(dev->self, &io);
}

void bus_stats(const struct bus *b, struct bus_stats *out)
{
	out->port_reads = atomic_load_explicit(&b->reads[BUS_PORT], memory_order_relaxed);
	out->port_writes = atomic_load_explicit(&b->writes[BUS_PORT], memory_order_relaxed);
	out->mmio_reads = atomic_load_explicit(&b->reads[BUS_MMIO], memory_order_relaxed);
	out->mmio_writes = atomic_load_explicit(&b->writes[BUS_MMIO], memory_order_relaxed);
}
