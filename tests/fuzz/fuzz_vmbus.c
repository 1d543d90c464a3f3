/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_vmbus: a hostile guest on Hyper-V's bus.
 *
 * Input, a list of steps by their first byte:
 *   0..127   a message: length u8, then its bytes (type and length of the list as they come)
 *   128..191 the ring of channel n: 8 bytes for its indices, length u8, bytes of its data
 *   192..223 the guest takes a message, or signals a channel
 *   224..255 a checkpoint, loaded into another bus that goes on
 * Whatever came in: nothing crashes, and a bus is saved, loaded and saved with the same bytes. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vsp/heartbeat.h"
#include "hv/vsp/shutdown.h"
#include "hv/vsp/timesync.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { SERVICES = 3, RING_PAGES = 4, SIMP = 0x10000, SIEFP = 0x11000, RINGS = 0x100000 };

static struct memory *memory;

struct machine {
	struct synic *synic;
	struct vmbus *bus;
	struct heartbeat *heartbeat;
	struct shutdown *shutdown;
	struct timesync *timesync;
};

static void must(enum err e)
{
	assert(e == ERR_OK);
	(void)e;
}

static void on_inject(void *arg, uint32_t vp, uint8_t vector)
{
	(void)arg, (void)vp;
	assert(vector >= 16);
	(void)vector;
}

static enum err on_ioevent(void *arg, uint32_t connection, int fd, bool on)
{
	(void)arg, (void)connection, (void)fd, (void)on;
	return ERR_OK;
}

static void on_healthy(void *arg, bool healthy)
{
	(void)arg, (void)healthy;
}

static void on_refused(void *arg, uint32_t status)
{
	(void)arg, (void)status;
}

static void on_now(void *arg, uint64_t *real_ns, uint64_t *reference)
{
	(void)arg;
	*real_ns = *reference = 1;
}

static void open_machine(struct machine *m)
{
	must(synic_create(&(struct synic_host){memory, 1, on_inject, NULL}, &m->synic));
	must(vmbus_create(&(struct vmbus_host){memory, m->synic, NULL, 1, on_ioevent, NULL},
			  &m->bus));
	must(shutdown_create(m->bus, on_refused, NULL, &m->shutdown));
	must(timesync_create(m->bus, &(struct timesync_host){NULL, on_now, NULL}, &m->timesync));
	must(heartbeat_create(m->bus, NULL, on_healthy, NULL, &m->heartbeat));
}

static void close_machine(struct machine *m)
{
	vmbus_destroy(m->bus);
	heartbeat_destroy(m->heartbeat);
	timesync_destroy(m->timesync);
	shutdown_destroy(m->shutdown);
	synic_destroy(m->synic);
}

static void post(struct machine *m, const uint8_t *p, size_t len)
{
	(void)!vmbus_post(m->bus, 4, 1, p, len);
	vmbus_work(m->bus);
}

/* As a well-behaved guest: contact, offers, page lists, opens. */
static void connect(struct machine *m)
{
	uint8_t p[148] = {14};

	le32_put(p + 8, SPEC_VERSION_5_3);
	p[16] = 2;
	post(m, p, 40);
	memset(p, 0, sizeof(p));
	p[0] = 3;
	post(m, p, 8);
	for (uint32_t relid = 1; relid <= SERVICES; relid++) {
		memset(p, 0, sizeof(p));
		p[0] = 8;
		le32_put(p + 8, relid);
		le32_put(p + 12, relid);
		le16_put(p + 16, 8 + 8 * 2 * RING_PAGES);
		le16_put(p + 18, 1);
		le32_put(p + 20, 2 * RING_PAGES * 4096);
		for (uint32_t i = 0; i < 2 * RING_PAGES; i++)
			le64_put(p + 28 + 8 * i, (RINGS >> 12) + (relid * 2 * RING_PAGES) + i);
		post(m, p, 28 + 8 * 2 * RING_PAGES);
		memset(p, 0, sizeof(p));
		p[0] = 5;
		le32_put(p + 8, relid);
		le32_put(p + 16, relid);
		le32_put(p + 24, RING_PAGES);
		post(m, p, 148);
	}
}

static void write_ring(struct machine *m, uint8_t which, const uint8_t *p, size_t len)
{
	uint32_t relid = 1 + which % SERVICES;
	uint64_t at = RINGS + (uint64_t)relid * 2 * RING_PAGES * 4096;

	if (which & 32) /* the host's own ring */
		at += RING_PAGES * 4096;
	if (len < 8)
		return;
	must(memory_write(memory, gpa(at + (which & 16 ? 8 : 0)), p, 8));
	must(memory_write(memory, gpa(at + 4096), p + 8, len - 8));
	(void)!vmbus_signal(m->bus, 0x2000 + relid);
	vmbus_work(m->bus);
}

static void take(struct machine *m)
{
	uint8_t zero[4] = {0};

	must(memory_write(memory, gpa(SIMP + 512), zero, 4));
	(void)!synic_msr_write(m->synic, 0, 0x40000084, 0);
	vmbus_work(m->bus);
}

static struct state_out *save(struct machine *m, const uint8_t **p, size_t *len)
{
	struct state_out *out;

	must(vmbus_quiesce(m->bus));
	must(state_out_create(&out));
	synic_save(m->synic, out);
	must(vmbus_save(m->bus, out));
	must(state_out_finish(out, p, len));
	return out;
}

static void checkpoint(struct machine *m)
{
	struct state_out *before, *after;
	struct state_file *file;
	struct machine next;
	const uint8_t *p, *q;
	size_t lp, lq;

	before = save(m, &p, &lp);
	open_machine(&next);
	must(state_open(p, lp, &file));
	must(synic_load(next.synic, file));
	must(vmbus_load(next.bus, file));
	after = save(&next, &q, &lq);
	assert(lp == lq && memcmp(p, q, lp) == 0);
	state_close(file);
	state_out_destroy(before);
	state_out_destroy(after);
	close_machine(m);
	*m = next;
	vmbus_resume(m->bus);
	vmbus_work(m->bus);
}

/* The bytes of a step: a length, then so many, as far as there are any. */
static const uint8_t *bytes(const uint8_t **p, const uint8_t *end, size_t *len)
{
	const uint8_t *at;

	*len = *p < end ? *(*p)++ : 0;
	if (*len > (size_t)(end - *p))
		*len = (size_t)(end - *p);
	at = *p;
	*p += *len;
	return at;
}

static void steps(struct machine *m, const uint8_t *p, const uint8_t *end)
{
	while (p < end) {
		uint8_t step = *p++;
		const uint8_t *at;
		size_t len;

		if (step < 128) {
			at = bytes(&p, end, &len);
			post(m, at, len);
		} else if (step < 192) {
			at = bytes(&p, end, &len);
			write_ring(m, step & 63, at, len);
		} else if (step < 224) {
			take(m);
		} else {
			checkpoint(m);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct machine m;

	if (len > 4096)
		return 0;
	if (!memory)
		must(memory_create(MEMORY_MIN_BYTES, &memory));
	must(memory_zero(memory, gpa(RINGS), 8 * RING_PAGES * 4096));
	open_machine(&m);
	vmbus_resume(m.bus);
	assert(synic_msr_write(m.synic, 0, 0x40000083, SIMP | 1) &&
	       synic_msr_write(m.synic, 0, 0x40000082, SIEFP | 1) &&
	       synic_msr_write(m.synic, 0, 0x40000092, 0xf3) &&
	       synic_msr_write(m.synic, 0, 0x40000080, 1));
	connect(&m);
	steps(&m, data, data + len);
	close_machine(&m);
	return 0;
}
