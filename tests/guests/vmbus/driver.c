/* SPDX-License-Identifier: Apache-2.0 */
/* driver: see driver.h.
 *
 * Source: the project's docs/vmbus.md, 5 to 12. */
#include "vmbus/driver.h"

enum {
	MSR_SCONTROL = 0x40000080, MSR_SIEFP = 0x40000082, MSR_SIMP, MSR_EOM,
	MSR_SINT0 = 0x40000090,
	WAIT_S = 20,
};

struct slot {
	volatile uint32_t type;
	volatile uint8_t len, flags;
	uint16_t reserved;
	uint64_t sender;
	uint8_t payload[240];
};

volatile uint32_t events[64];
volatile uint32_t interrupts[CPUS_MAX];

bool tolerant;

static struct slot *messages[CPUS_MAX];
static uint32_t *flags[CPUS_MAX];
static uint32_t next_gpadl = 0x100;

/* Event flags of this CPU's page move to `events`. */
static void on_interrupt(struct frame *f)
{
	uint32_t cpu = cpu_this()->id;
	uint32_t *page = flags[cpu] + BUS_SINT * 64;

	(void)f;
	for (int i = 0; i < 64; i++) {
		uint32_t bits = __atomic_exchange_n(&page[i], 0, __ATOMIC_SEQ_CST);

		if (bits)
			__atomic_fetch_or(&events[i], bits, __ATOMIC_SEQ_CST);
	}
	interrupts[cpu]++;
	lapic_eoi();
}

void synic_start(void)
{
	uint32_t cpu = cpu_this()->id;

	if (!messages[cpu]) {
		messages[cpu] = mem_take(4096);
		flags[cpu] = mem_take(4096);
	}
	irq_handler(BUS_VECTOR, on_interrupt);
	wrmsr(MSR_SIMP, (uint64_t)messages[cpu] | 1);
	wrmsr(MSR_SIEFP, (uint64_t)flags[cpu] | 1);
	wrmsr(MSR_SINT0 + BUS_SINT, BUS_VECTOR);
	wrmsr(MSR_SCONTROL, 1);
}

/* ---- messages ---- */

uint64_t post_once(const uint8_t *m, uint32_t len)
{
	static struct {
		uint32_t connection, reserved, type, size;
		uint8_t payload[240];
	} block __attribute__((aligned(256)));

	block.connection = 4;
	block.type = 1;
	block.size = len;
	memcpy(block.payload, m, len < 240 ? len : 240);
	return hv_hypercall(0x5c, (uint64_t)&block, 0);
}

uint64_t post(const uint8_t *m, uint32_t len)
{
	uint64_t status, end = rdtsc() + WAIT_S * tsc_hz;

	do {
		status = post_once(m, len);
	} while (status == 19 && rdtsc() < end);
	return status;
}

uint64_t signal_event(uint32_t connection)
{
	return hv_hypercall(0x1005d, connection, 0);
}

bool take(struct message *m)
{
	struct slot *s = &messages[0][BUS_SINT];

	if (s->type == 0)
		return false;
	m->len = s->len;
	memcpy(m->p, s->payload, sizeof m->p);
	__atomic_store_n(&s->type, 0, __ATOMIC_SEQ_CST);
	if (s->flags & 1)
		wrmsr(MSR_EOM, 0);
	return true;
}

void expect(uint32_t type, struct message *m)
{
	uint64_t end = rdtsc() + WAIT_S * tsc_hz;

	while (!take(m)) {
		if (rdtsc() > end)
			fail("no message of type %u came", type);
		cpu_relax();
	}
	if (get32(m->p) != type)
		fail("message of type %u instead of %u", get32(m->p), type);
}

static void words(uint32_t type, uint32_t n, uint32_t a, uint32_t b)
{
	uint8_t m[16] = {0};
	uint64_t status;

	put32(m, type);
	put32(m + 8, a);
	put32(m + 12, b);
	status = post(m, 8 + 4 * n);
	if (status != 0)
		fail("message of type %u was refused with %lu", type, status);
}

bool contact(uint32_t version)
{
	uint8_t m[40] = {0};
	struct message answer;

	put32(m, 14);
	put32(m + 8, version);
	m[16] = BUS_SINT;
	if (post(m, sizeof m) != 0)
		fail("contact was refused");
	expect(15, &answer);
	return answer.p[8] != 0;
}

unsigned offers(struct channel *c, unsigned max)
{
	struct message m;
	unsigned n = 0;

	words(3, 0, 0, 0);
	for (;;) {
		uint64_t end = rdtsc() + WAIT_S * tsc_hz;

		while (!take(&m))
			if (rdtsc() > end)
				fail("offers have no end");
		if (get32(m.p) == 4)
			return n;
		if (get32(m.p) != 1 || n == max)
			fail("message of type %u among %u offers", get32(m.p), n);
		memset(&c[n], 0, sizeof c[n]);
		memcpy(c[n].class_id, m.p + 8, 16);
		c[n].relid = get32(m.p + 184);
		c[n].connection = get32(m.p + 192);
		n++;
	}
}

void unload(void)
{
	struct message m;

	words(16, 0, 0, 0);
	expect(17, &m);
}

/* ---- channels ---- */

static void lend(struct channel *c)
{
	uint8_t m[28 + 8 * 2 * RING_PAGES] = {0};
	struct message answer;

	c->gpadl = next_gpadl++;
	put32(m, 8);
	put32(m + 8, c->relid);
	put32(m + 12, c->gpadl);
	put16(m + 16, 8 + 8 * 2 * RING_PAGES);
	put16(m + 18, 1);
	put32(m + 20, 2 * RING_PAGES * 4096);
	for (uint32_t i = 0; i < 2 * RING_PAGES; i++)
		put32(m + 28 + 8 * i, (uint32_t)((uint64_t)c->out >> 12) + i);
	if (post(m, sizeof m) != 0)
		fail("a page list was refused");
	expect(10, &answer);
	if (get32(answer.p + 12) != c->gpadl || get32(answer.p + 16) != 0)
		fail("a page list was not taken");
}

void channel_open(struct channel *c, uint32_t cpu)
{
	uint8_t m[148] = {0};
	struct message answer;

	if (!c->out)
		c->out = mem_take(2 * RING_PAGES * 4096);
	memset(c->out, 0, 2 * RING_PAGES * 4096);
	c->in = c->out + RING_PAGES;
	c->out->features = c->in->features = 1;
	c->cpu = cpu;
	lend(c);
	put32(m, 5);
	put32(m + 8, c->relid);
	put32(m + 12, c->relid);
	put32(m + 16, c->gpadl);
	put32(m + 20, cpu);
	put32(m + 24, RING_PAGES);
	if (post(m, sizeof m) != 0)
		fail("an open was refused");
	expect(6, &answer);
	if (get32(answer.p + 8) != c->relid || get32(answer.p + 16) != 0)
		fail("channel %u did not open", c->relid);
	c->open = true;
}

void channel_close(struct channel *c)
{
	struct message m;

	words(7, 1, c->relid, 0);
	words(11, 2, c->relid, c->gpadl);
	expect(12, &m);
	c->open = false;
}

static uint32_t ring_copy(struct ring_page *r, uint32_t at, uint8_t *p, uint32_t len, bool put)
{
	const uint32_t size = (RING_PAGES - 1) * 4096;
	uint8_t *data = (uint8_t *)(r + 1);

	for (uint32_t i = 0; i < len; i++) {
		if (put)
			data[at] = p[i];
		else
			p[i] = data[at];
		at = at + 1 == size ? 0 : at + 1;
	}
	return at;
}

uint32_t channel_read(struct channel *c, uint8_t *p)
{
	uint8_t trailer[8];
	uint32_t len, at;

	if (__atomic_load_n(&c->in->write, __ATOMIC_ACQUIRE) == c->in->read)
		return 0;
	at = ring_copy(c->in, c->in->read, p, 16, false);
	len = get16(p + 4) * 8u;
	if (len < 16 || len > PACKET_MAX)
		fail("a packet of %u bytes", len);
	at = ring_copy(c->in, at, p + 16, len - 16, false);
	at = ring_copy(c->in, at, trailer, 8, false);
	if (get32(trailer + 4) != c->in->read)
		fail("a packet that began elsewhere");
	__atomic_store_n(&c->in->read, at, __ATOMIC_SEQ_CST);
	if (c->in->pending)
		signal_event(c->connection);
	return len;
}

void channel_write(struct channel *c, const uint8_t *p, uint32_t len)
{
	uint32_t before = c->out->write, at;
	uint8_t trailer[8] = {0};

	put32(trailer + 4, before);
	at = ring_copy(c->out, before, (uint8_t *)(uintptr_t)p, len, true);
	at = ring_copy(c->out, at, trailer, 8, true);
	__atomic_store_n(&c->out->write, at, __ATOMIC_SEQ_CST);
	if (c->out->mask == 0 && c->out->read == before && signal_event(c->connection) != 0 &&
	    !tolerant)
		fail("a signal was refused");
}
