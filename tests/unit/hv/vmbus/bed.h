/* SPDX-License-Identifier: Apache-2.0 */
/* bed: a guest made of functions: RAM, the synthetic interrupt controller, the bus, and
 * the guest's own half of messages and rings, written anew from docs/vmbus.md and not
 * with the code under test. */
#ifndef TESTS_UNIT_HV_VMBUS_BED_H
#define TESTS_UNIT_HV_VMBUS_BED_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "hv/vmbus/vmbus.h"
#include "tests/unit/cm.h"

#define BED_VCPUS 4u
#define BED_VECTOR 0xf3u
#define BED_SIMP(vp) (0x10000u + 0x1000u * (vp))
#define BED_SIEFP(vp) (0x20000u + 0x1000u * (vp))
#define BED_RINGS 0x100000u /* pages for rings, as they are asked for */

struct bed {
	struct memory *memory;
	struct synic *synic;
	struct vmbus *bus;
	unsigned interrupts[BED_VCPUS];
	uint32_t listening[64]; /* connections with an ioeventfd */
	unsigned listeners;
	uint64_t next_page;
	uint32_t next_gpadl;
};

struct bed_ring { /* the guest's view of a pair of rings */
	uint32_t gpadl, pages, downstream;
	uint64_t page[64];
	uint32_t write, read; /* of its out ring, of its in ring */
};

static void bed_inject(void *arg, uint32_t vp, uint8_t vector)
{
	struct bed *t = arg;

	assert_int_equal(vector, BED_VECTOR);
	t->interrupts[vp]++;
}

static enum err bed_ioevent(void *arg, uint32_t connection, int fd, bool on)
{
	struct bed *t = arg;
	unsigned at = 0;

	assert_true(fd >= 0);
	while (at < t->listeners && t->listening[at] != connection)
		at++;
	if (on) {
		assert_int_equal(at, t->listeners);
		assert_true(t->listeners < 64);
		t->listening[t->listeners++] = connection;
	} else {
		assert_true(at < t->listeners);
		t->listening[at] = t->listening[--t->listeners];
	}
	return ERR_OK;
}

static inline void bed_attach(struct bed *t, struct memory *m)
{
	*t = (struct bed){.memory = m, .next_page = BED_RINGS, .next_gpadl = 0xE1E10};
	assert_ok(synic_create(&(struct synic_host){m, BED_VCPUS, bed_inject, t}, &t->synic));
	assert_ok(vmbus_create(&(struct vmbus_host){m, t->synic, NULL, BED_VCPUS, bed_ioevent, t},
			       &t->bus));
}

static inline void bed_open(struct bed *t)
{
	struct memory *m;

	assert_ok(memory_create(MEMORY_MIN_BYTES, &m));
	bed_attach(t, m);
}

static inline void bed_detach(struct bed *t)
{
	vmbus_destroy(t->bus);
	synic_destroy(t->synic);
}

static inline void bed_close(struct bed *t)
{
	bed_detach(t);
	memory_destroy(t->memory);
}

/* ---- guest memory ---- */

static inline uint32_t bed_get(struct bed *t, uint64_t at)
{
	uint8_t b[4];

	assert_ok(memory_read(t->memory, gpa(at), b, 4));
	return le32_get(b);
}

static inline void bed_put(struct bed *t, uint64_t at, uint32_t v)
{
	uint8_t b[4];

	le32_put(b, v);
	assert_ok(memory_write(t->memory, gpa(at), b, 4));
}

/* ---- SynIC ---- */

static inline void bed_msr(struct bed *t, uint32_t vp, uint32_t msr, uint64_t v)
{
	if (!synic_msr_write(t->synic, vp, msr, v))
		fail_msg("MSR %#x does not take %#llx", msr, (unsigned long long)v);
}

static inline void bed_synic_on(struct bed *t)
{
	for (uint32_t vp = 0; vp < BED_VCPUS; vp++) {
		bed_msr(t, vp, 0x40000083, BED_SIMP(vp) | 1);
		bed_msr(t, vp, 0x40000082, BED_SIEFP(vp) | 1);
		bed_msr(t, vp, 0x40000092, BED_VECTOR);
		bed_msr(t, vp, 0x40000080, 1);
	}
}

/* Take the message in the slot of SINT 2, as a guest does; its length, -1: none. */
static inline int bed_take(struct bed *t, uint32_t vp, uint8_t payload[240])
{
	uint64_t slot = BED_SIMP(vp) + 2 * 256;
	uint32_t word;
	uint8_t len;

	if (bed_get(t, slot) == 0)
		return -1;
	assert_int_equal(bed_get(t, slot), 1);
	len = (uint8_t)bed_get(t, slot + 4);
	assert_ok(memory_read(t->memory, gpa(slot + 16), payload, 240));
	bed_put(t, slot, 0);
	word = bed_get(t, slot + 4);
	if (word & 0x100)
		bed_msr(t, vp, 0x40000084, 0);
	vmbus_work(t->bus);
	return len;
}

/* Was the flag of that channel set?  It is not any more. */
static inline bool bed_event(struct bed *t, uint32_t vp, uint32_t relid)
{
	uint64_t at = BED_SIEFP(vp) + 2 * 256 + relid / 32 * 4;
	uint32_t v = bed_get(t, at), bit = 1u << relid % 32;

	bed_put(t, at, v & ~bit);
	return v & bit;
}

/* ---- messages ---- */

static inline enum err bed_try_post(struct bed *t, const void *p, size_t len)
{
	return vmbus_post(t->bus, 4, 1, p, len);
}

static inline void bed_post(struct bed *t, const void *p, size_t len)
{
	assert_ok(bed_try_post(t, p, len));
	vmbus_work(t->bus);
}

static inline void bed_words(struct bed *t, uint32_t type, unsigned n, uint32_t a, uint32_t b)
{
	uint8_t m[16] = {0};

	le32_put(m, type);
	le32_put(m + 8, a);
	le32_put(m + 12, b);
	bed_post(t, m, 8 + 4 * n);
}

/* The next message to vCPU 0 is of that type; m has 240 bytes. */
static inline int bed_expect(struct bed *t, uint32_t type, uint8_t *m)
{
	int len = bed_take(t, 0, m);

	if (len < 8)
		fail_msg("no message of type %u", type);
	assert_int_equal(le32_get(m), type);
	return len;
}

static inline void bed_nothing(struct bed *t)
{
	uint8_t m[240];

	if (bed_take(t, 0, m) >= 0)
		fail_msg("an unexpected message of type %u", le32_get(m));
}

static inline bool bed_contact(struct bed *t, uint32_t version)
{
	uint8_t m[240] = {0};

	le32_put(m, 14);
	le32_put(m + 8, version);
	m[16] = 2;
	bed_post(t, m, 40);
	assert_int_equal(bed_expect(t, 15, m), 16);
	return m[8];
}

/* Contact and offers; relids in the order of the offers. */
static inline unsigned bed_connect(struct bed *t, uint32_t *relids)
{
	uint8_t m[240];
	unsigned n = 0;

	assert_true(bed_contact(t, 5 << 16 | 3));
	bed_words(t, 3, 0, 0, 0);
	for (;;) {
		assert_true(bed_take(t, 0, m) >= 8);
		if (le32_get(m) == 4)
			return n;
		assert_int_equal(le32_get(m), 1);
		relids[n++] = le32_get(m + 184);
	}
}

/* A page list in one header and as many bodies as it takes; status of the answer. */
static inline uint32_t bed_gpadl(struct bed *t, uint32_t relid, uint32_t id, const uint64_t *page,
				 uint32_t count)
{
	uint8_t m[240] = {0};
	uint32_t at = 0, n = count < 26 ? count : 26;

	le32_put(m, 8);
	le32_put(m + 8, relid);
	le32_put(m + 12, id);
	le16_put(m + 16, (uint16_t)(8 + 8 * count));
	le16_put(m + 18, 1);
	le32_put(m + 20, count * 4096);
	for (; at < n; at++)
		le64_put(m + 28 + 8 * at, page[at] / 4096);
	bed_post(t, m, 28 + 8 * n);
	while (at < count) {
		memset(m, 0, 16);
		le32_put(m, 9);
		le32_put(m + 12, id);
		for (n = 0; n < 28 && at < count; n++, at++)
			le64_put(m + 16 + 8 * n, page[at] / 4096);
		bed_post(t, m, 16 + 8 * n);
	}
	assert_int_equal(bed_expect(t, 10, m), 20);
	assert_int_equal(le32_get(m + 12), id);
	return le32_get(m + 16);
}

static inline uint32_t bed_try_open(struct bed *t, uint32_t relid, const struct bed_ring *r,
				    uint32_t vp)
{
	uint8_t m[240] = {0};

	le32_put(m, 5);
	le32_put(m + 8, relid);
	le32_put(m + 12, relid);
	le32_put(m + 16, r->gpadl);
	le32_put(m + 20, vp);
	le32_put(m + 24, r->downstream);
	bed_post(t, m, 148);
	assert_int_equal(bed_expect(t, 6, m), 20);
	assert_int_equal(le32_get(m + 8), relid);
	return le32_get(m + 16);
}

/* Two rings of `each` pages, lent to the channel; every second page, so that none follow
 * each other. */
static inline void bed_rings(struct bed *t, uint32_t relid, uint32_t each, struct bed_ring *r)
{
	*r = (struct bed_ring){.gpadl = t->next_gpadl++, .pages = 2 * each, .downstream = each};
	for (uint32_t i = 0; i < r->pages; i++) {
		r->page[i] = t->next_page;
		t->next_page += 0x2000;
		assert_ok(memory_zero(t->memory, gpa(r->page[i]), 4096));
	}
	assert_int_equal(bed_gpadl(t, relid, r->gpadl, r->page, r->pages), 0);
}

static inline void bed_open_channel(struct bed *t, uint32_t relid, uint32_t each, uint32_t vp,
				    struct bed_ring *r)
{
	bed_rings(t, relid, each, r);
	assert_int_equal(bed_try_open(t, relid, r, vp), 0);
}

/* ---- rings, guest's side ---- */

static inline void bed_ring_byte(struct bed *t, const uint64_t *page, uint32_t at, uint8_t *b,
				 bool put)
{
	struct gpa where = gpa(page[1 + at / 4096] + at % 4096);

	if (put)
		assert_ok(memory_write(t->memory, where, b, 1));
	else
		assert_ok(memory_read(t->memory, where, b, 1));
}

/* Bytes as they are to the out ring, trailer too; no signal. */
static inline void bed_write(struct bed *t, struct bed_ring *r, const uint8_t *p, size_t len)
{
	uint32_t size = (r->downstream - 1) * 4096, start = r->write;
	uint8_t trailer[8] = {0};

	for (size_t i = 0; i < len; i++, r->write = (r->write + 1) % size) {
		uint8_t b = p[i];
		bed_ring_byte(t, r->page, r->write, &b, true);
	}
	le32_put(trailer + 4, start);
	for (size_t i = 0; i < 8; i++, r->write = (r->write + 1) % size)
		bed_ring_byte(t, r->page, r->write, &trailer[i], true);
	bed_put(t, r->page[0], r->write);
}

static inline size_t bed_packet(uint8_t *out, uint16_t type, uint64_t transaction, const void *p,
				size_t len)
{
	size_t all = (16 + len + 7) / 8 * 8;

	memset(out, 0, all);
	le16_put(out, type);
	le16_put(out + 2, 2);
	le16_put(out + 4, (uint16_t)(all / 8));
	le16_put(out + 6, 1);
	le64_put(out + 8, transaction);
	memcpy(out + 16, p, len);
	return all;
}

static inline void bed_send(struct bed *t, struct bed_ring *r, uint32_t relid, uint16_t type,
			    uint64_t transaction, const void *p, size_t len)
{
	uint8_t packet[8192];

	bed_write(t, r, packet, bed_packet(packet, type, transaction, p, len));
	assert_ok(vmbus_signal(t->bus, 0x2000 + relid));
	vmbus_work(t->bus);
}

/* The next packet of the in ring, with its descriptor; 0: none. */
static inline size_t bed_receive(struct bed *t, struct bed_ring *r, uint8_t *out)
{
	const uint64_t *page = r->page + r->downstream;
	uint32_t size = (r->pages - r->downstream - 1) * 4096, at = r->read;
	uint8_t trailer[8];
	size_t len;

	if (bed_get(t, page[0]) == r->read)
		return 0;
	for (unsigned i = 0; i < 16; i++, at = (at + 1) % size)
		bed_ring_byte(t, page, at, &out[i], false);
	len = (size_t)le16_get(out + 4) * 8;
	for (size_t i = 16; i < len; i++, at = (at + 1) % size)
		bed_ring_byte(t, page, at, &out[i], false);
	for (unsigned i = 0; i < 8; i++, at = (at + 1) % size)
		bed_ring_byte(t, page, at, &trailer[i], false);
	assert_int_equal(le32_get(trailer + 4), r->read);
	r->read = at;
	bed_put(t, page[0] + 4, r->read);
	return len;
}

#endif
