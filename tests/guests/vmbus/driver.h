/* SPDX-License-Identifier: Apache-2.0 */
/* driver: the guest's half of Hyper-V's bus, as small as it can be: the synthetic
 * interrupt controller of every CPU, messages, page lists, rings.
 *
 * Threads: messages and rings are the boot CPU's; event flags are taken by the interrupt
 * handler of each CPU and left in `events` for it. */
#ifndef GUEST_VMBUS_DRIVER_H
#define GUEST_VMBUS_DRIVER_H

#include "rt/rt.h"

enum { BUS_VECTOR = 0x58, BUS_SINT = 2, RING_PAGES = 4, PACKET_MAX = 8192, MESSAGE_MAX = 240 };

struct message {
	uint8_t p[MESSAGE_MAX];
	uint32_t len;
};

struct ring_page { /* control page */
	volatile uint32_t write, read, mask, pending;
	uint32_t reserved[12];
	volatile uint32_t features;
	uint8_t rest[4096 - 68];
};

struct channel {
	uint8_t class_id[16];
	uint32_t relid, connection, gpadl, cpu;
	struct ring_page *out, *in; /* each followed by its data */
	bool open;
};

extern bool tolerant; /* errors that hostility brings about are none */
extern volatile uint32_t events[64];		/* bit n: relid n was signalled */
extern volatile uint32_t interrupts[CPUS_MAX];	/* that each CPU has taken */

static inline uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static inline uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

/* On each CPU, once; interrupts may be off. */
void synic_start(void);
/* HvPostMessage until it is taken; the status of the last try. */
uint64_t post(const uint8_t *m, uint32_t len);
/* One try. */
uint64_t post_once(const uint8_t *m, uint32_t len);
uint64_t signal_event(uint32_t connection);
/* The next message for the boot CPU; false if there is none now. */
bool take(struct message *m);
/* The next one of that type, within some seconds; others are kept for nobody: FAIL. */
void expect(uint32_t type, struct message *m);

/* Contact with that version; false if it is refused. */
bool contact(uint32_t version);
/* Offers; how many there were (at most max). */
unsigned offers(struct channel *c, unsigned max);
/* Rings, page list, open; its interrupts go to that CPU. */
void channel_open(struct channel *c, uint32_t cpu);
/* Close and take the page list back. */
void channel_close(struct channel *c);
/* The next packet with its descriptor; 0: none. */
uint32_t channel_read(struct channel *c, uint8_t *p);
/* Send a packet; its lengths are in its descriptor. */
void channel_write(struct channel *c, const uint8_t *p, uint32_t len);
void unload(void);

/* Malformed messages, page lists, rings and packets without end. */
void hostile(uint64_t seed, uint64_t count);

#endif
