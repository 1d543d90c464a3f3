/* SPDX-License-Identifier: Apache-2.0 */
/* hostile: everything that a driver must not do, at random, by seed.
 *
 * What the host answers does not matter; that it is there afterwards does, which the
 * ordinary start that follows shows. */
#include "vmbus/driver.h"

enum { OFFERS = 16 };

static uint64_t state;

static uint64_t dice(uint64_t n)
{
	state = state * 6364136223846793005 + 1442695040888963407;
	return (state >> 33) % n;
}

static uint32_t wild(void)
{
	static const uint32_t likely[] = {0, 1, 2, 3, 4, 0xffffffff, 0x80000000, 0x7fffffff, 4096,
					  0xfff8, 65535, 0x100, 0x101};

	return dice(3) ? likely[dice(sizeof likely / sizeof likely[0])] : (uint32_t)dice(1u << 31);
}

static void drain(void)
{
	struct message m;

	while (take(&m))
		;
}

/* A message of words that are likely to mean something. */
static void bad_message(void)
{
	uint8_t m[MESSAGE_MAX];

	for (unsigned i = 0; i < sizeof m; i += 4)
		put32(m + i, wild());
	put32(m, (uint32_t)dice(26));
	if (get32(m) == 8) {
		put32(m + 16, (uint32_t)(dice(300) | dice(3) << 16));
		put32(m + 20, (uint32_t)dice(1 << 20));
		put32(m + 24, (uint32_t)dice(8192));
	}
	(void)post_once(m, (uint32_t)dice(MESSAGE_MAX + 20));
}

static void bad_call(void)
{
	static const uint16_t codes[] = {0x5c, 0x5d, 0x5b, 2, 3, 0x8001};

	(void)hv_hypercall(codes[dice(6)] | dice(4) << 16 | dice(3) << 32,
			   dice(2) ? wild() : (uint64_t)wild() << dice(40), wild());
}

/* Rings and packets of an open channel. */
static void bad_ring(struct channel *c)
{
	uint8_t p[256];
	uint32_t len = (uint32_t)(16 + dice(20) * 8);

	for (unsigned i = 0; i < sizeof p; i++)
		p[i] = (uint8_t)dice(256);
	put16(p, (uint16_t)dice(16));
	put16(p + 2, (uint16_t)(dice(4) ? 2 + dice(4) : dice(65536)));
	put16(p + 4, (uint16_t)(dice(4) ? len / 8 : dice(65536)));
	put32(p + 16, 1);
	put16(p + 16 + 12, (uint16_t)dice(8));
	put16(p + 16 + 18, (uint16_t)(dice(2) ? dice(64) : dice(65536)));
	p[16 + 25] = 5;
	switch (dice(6)) {
	case 0:
		c->out->write = wild();
		break;
	case 1:
		c->in->read = wild();
		break;
	case 2:
		c->out->read = c->in->write = wild(); /* the host's own */
		break;
	case 3:
		c->in->pending = c->out->pending = wild();
		break;
	default:
		if (c->out->write < (RING_PAGES - 1) * 4096)
			channel_write(c, p, len);
		break;
	}
	(void)signal_event(c->connection);
}

/* Until answers to what was posted have stopped to come. */
static void settle(void)
{
	struct message m;
	uint64_t end = rdtsc() + tsc_hz / 20;

	while (rdtsc() < end)
		if (take(&m))
			end = rdtsc() + tsc_hz / 20;
}

/* Anew now and then, so that there is something to break. */
static unsigned begin(struct channel *c)
{
	static struct ring_page *rings[OFFERS];
	unsigned n;

	settle();
	if (!contact(5 << 16 | 3))
		fail("a contact was refused");
	n = offers(c, OFFERS);
	for (unsigned k = 0; k < n; k++) {
		c[k].out = rings[k];
		channel_open(&c[k], 0);
		rings[k] = c[k].out;
	}
	return n;
}

void hostile(uint64_t seed, uint64_t count)
{
	static struct channel c[OFFERS];
	unsigned n = 0;

	state = seed * 2 + 1;
	tolerant = true;
	for (uint64_t i = 0; i < count; i++) {
		if (i % 50 == 0)
			n = begin(c);
		switch (dice(4)) {
		case 0:
			bad_message();
			break;
		case 1:
			bad_call();
			break;
		default:
			bad_ring(&c[dice(n)]);
			break;
		}
		if (dice(4) == 0)
			drain();
	}
	settle();
	tolerant = false;
	print("vmbus: hostile %lu\n", count);
}
