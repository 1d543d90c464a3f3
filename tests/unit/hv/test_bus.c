/* SPDX-License-Identifier: Apache-2.0 */
/* test_bus: who gets which access, and what nobody answers. */
#include "hv/bus.h"

#include "base/bytes.h"
#include "tests/unit/cm.h"

#include <errno.h>
#include <string.h>

struct probe { /* a device that remembers its last access */
	struct device dev;
	struct io last;
	unsigned reads, writes;
	bool locked;
	enum err answer;
};

static enum err probe_read(void *self, struct io *io)
{
	struct probe *p = self;

	p->last = *io;
	p->reads++;
	p->locked = pthread_mutex_trylock(&p->dev.lock) == EBUSY;
	io->data = 0x8877665544332211;
	return p->answer;
}

static enum err probe_write(void *self, const struct io *io)
{
	struct probe *p = self;

	p->last = *io;
	p->writes++;
	return p->answer;
}

static const struct device_ops probe_ops = {
	.kind = "probe", .read = probe_read, .write = probe_write};

static void probe_init(struct probe *p)
{
	memset(p, 0, sizeof *p);
	p->dev.ops = &probe_ops;
	p->dev.self = p;
	pthread_mutex_init(&p->dev.lock, NULL);
}

static void test_bus__delivers_by_address(void **state)
{
	struct probe a, b;
	struct bus *bus = NULL;
	uint8_t data[8];

	(void)state;
	probe_init(&a);
	probe_init(&b);
	assert_ok(bus_create(&bus));
	assert_ok(bus_claim(bus, BUS_PORT, 0x600, 8, &a.dev));
	assert_ok(bus_claim(bus, BUS_PORT, 0x3f8, 8, &b.dev));
	assert_ok(bus_claim(bus, BUS_MMIO, 0x600, 8, &b.dev));
	assert_ok(bus_read(bus, BUS_PORT, 0x602, 4, data));
	assert_int_equal(a.last.offset, 2);
	assert_int_equal(a.last.size, 4);
	assert_true(a.locked);
	assert_int_equal(le32_get(data), 0x44332211);
	assert_ok(bus_write(bus, BUS_MMIO, 0x607, 1, "\x99"));
	assert_int_equal(b.last.offset, 7);
	assert_int_equal(b.last.data, 0x99);
	assert_ok(bus_write(bus, BUS_PORT, 0x3f8, 2, "\x34\x12"));
	assert_int_equal(b.last.offset, 0);
	assert_int_equal(b.last.data, 0x1234);
	assert_int_equal(a.reads + a.writes, 1);
	assert_int_equal(b.reads + b.writes, 2);
	bus_destroy(bus);
}

static void test_bus__unclaimed_reads_as_ones_and_is_counted(void **state)
{
	struct probe a;
	struct bus *bus = NULL;
	struct bus_stats s;
	uint8_t data[8] = {0};

	(void)state;
	probe_init(&a);
	assert_ok(bus_create(&bus));
	assert_ok(bus_claim(bus, BUS_PORT, 0x600, 8, &a.dev));
	assert_ok(bus_read(bus, BUS_PORT, 0x5ff, 2, data)); /* straddles the start */
	assert_int_equal(le16_get(data), 0xffff);
	assert_ok(bus_read(bus, BUS_PORT, 0x606, 4, data)); /* straddles the end */
	assert_int_equal(le32_get(data), 0xffffffff);
	assert_ok(bus_read(bus, BUS_PORT, 0x608, 1, data));
	assert_ok(bus_write(bus, BUS_PORT, 0, 1, data));
	assert_ok(bus_read(bus, BUS_MMIO, UINT64_MAX, 8, data));
	assert_int_equal(le64_get(data), UINT64_MAX);
	assert_ok(bus_write(bus, BUS_MMIO, 0xc0000000, 8, data));
	assert_ok(bus_write(bus, BUS_MMIO, 0x600, 8, data));
	bus_stats(bus, &s);
	assert_int_equal(s.port_reads, 3);
	assert_int_equal(s.port_writes, 1);
	assert_int_equal(s.mmio_reads, 1);
	assert_int_equal(s.mmio_writes, 2);
	assert_int_equal(a.reads + a.writes, 0);
	bus_destroy(bus);
}

static void test_bus__claims_do_not_overlap(void **state)
{
	struct probe a;
	struct bus *bus = NULL;

	(void)state;
	probe_init(&a);
	assert_ok(bus_create(&bus));
	assert_ok(bus_claim(bus, BUS_MMIO, 0x1000, 0x1000, &a.dev));
	assert_ok(bus_claim(bus, BUS_MMIO, 0x3000, 0x1000, &a.dev));
	assert_err(bus_claim(bus, BUS_MMIO, 0x1000, 0x1000, &a.dev), ERR_BUSY);
	assert_err(bus_claim(bus, BUS_MMIO, 0x0, 0x1001, &a.dev), ERR_BUSY);
	assert_err(bus_claim(bus, BUS_MMIO, 0x1fff, 1, &a.dev), ERR_BUSY);
	assert_err(bus_claim(bus, BUS_MMIO, 0x2000, 0x1001, &a.dev), ERR_BUSY);
	assert_err(bus_claim(bus, BUS_MMIO, 0x0, 0x10000, &a.dev), ERR_BUSY);
	assert_ok(bus_claim(bus, BUS_MMIO, 0x2000, 0x1000, &a.dev));
	assert_ok(bus_claim(bus, BUS_MMIO, UINT64_MAX, 1, &a.dev));
	bus_destroy(bus);
}

static void test_bus__passes_a_device_error_on(void **state)
{
	struct probe a;
	struct bus *bus = NULL;
	uint8_t data[4];

	(void)state;
	probe_init(&a);
	a.answer = ERR_GUEST;
	assert_ok(bus_create(&bus));
	assert_ok(bus_claim(bus, BUS_PORT, 1, 4, &a.dev));
	assert_err(bus_read(bus, BUS_PORT, 1, 4, data), ERR_GUEST);
	assert_err(bus_write(bus, BUS_PORT, 1, 4, data), ERR_GUEST);
	assert_int_equal(pthread_mutex_trylock(&a.dev.lock), 0);
	bus_destroy(bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bus__delivers_by_address),
		cmocka_unit_test(test_bus__unclaimed_reads_as_ones_and_is_counted),
		cmocka_unit_test(test_bus__claims_do_not_overlap),
		cmocka_unit_test(test_bus__passes_a_device_error_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
