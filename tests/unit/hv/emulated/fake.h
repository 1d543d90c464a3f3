/* SPDX-License-Identifier: Apache-2.0 */
/* fake: what the chip tests share: interrupt lines that remember, byte accesses as
 * the bus makes them, and a save of one device loaded into another. */
#ifndef TESTS_UNIT_HV_EMULATED_FAKE_H
#define TESTS_UNIT_HV_EMULATED_FAKE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "hv/device.h"
#include "hv/state.h"
#include "tests/unit/cm.h"

#define FAKE_LINES 24

/* The tests' own interrupt lines. */
struct irq {
	bool level[FAKE_LINES];
	unsigned rises[FAKE_LINES]; /* edges up: what an ISA controller latches */
	unsigned calls;
};

static struct irq lines __attribute__((unused));

void irq_set(struct irq *irq, unsigned gsi, bool level)
{
	assert_true(gsi < FAKE_LINES);
	if (level && !irq->level[gsi])
		irq->rises[gsi]++;
	irq->level[gsi] = level;
	irq->calls++;
}

void irq_pulse(struct irq *irq, unsigned gsi)
{
	irq_set(irq, gsi, true);
	irq_set(irq, gsi, false);
}

static inline uint64_t access_read(struct device *d, uint64_t offset, unsigned size)
{
	struct io io = {.offset = offset, .size = size};

	pthread_mutex_lock(&d->lock);
	assert_ok(d->ops->read(d->self, &io));
	pthread_mutex_unlock(&d->lock);
	return io.data;
}

static inline void access_write(struct device *d, uint64_t offset, unsigned size, uint64_t data)
{
	struct io io = {.offset = offset, .size = size, .data = data};

	pthread_mutex_lock(&d->lock);
	assert_ok(d->ops->write(d->self, &io));
	pthread_mutex_unlock(&d->lock);
}

static inline uint8_t in8(struct device *d, uint64_t offset)
{
	return (uint8_t)access_read(d, offset, 1);
}

static inline void out8(struct device *d, uint64_t offset, uint8_t value)
{
	access_write(d, offset, 1, value);
}

static inline void quiesce(struct device *d)
{
	assert_ok(d->ops->quiesce(d->self));
}

static inline void resume(struct device *d)
{
	d->ops->resume(d->self);
}

/* The blob of one device; out owns it. */
static inline void save_device(struct device *d, const struct state_kind *kind,
			       struct state_out **out, const uint8_t **p, size_t *len)
{
	assert_string_equal(d->ops->kind, kind->kind);
	assert_ok(state_out_create(out));
	state_begin(*out, kind, d->instance);
	assert_ok(d->ops->save(d->self, *out));
	state_end(*out);
	assert_ok(state_out_finish(*out, p, len));
}

static inline enum err load_device(struct device *d, const struct state_kind *kind,
				   const uint8_t *p, size_t len)
{
	struct state_file *f;
	struct state_in *in;
	enum err e;

	assert_ok(state_open(p, len, &f));
	assert_ok(state_find(f, kind, d->instance, &in));
	e = d->ops->load(d->self, in);
	state_close(f);
	return e;
}

/* As a checkpoint and a restore do it; both devices are quiet afterwards. */
static inline void copy_state(struct device *from, struct device *to,
			      const struct state_kind *kind)
{
	struct state_out *out;
	const uint8_t *p;
	size_t len;

	save_device(from, kind, &out, &p, &len);
	assert_ok(load_device(to, kind, p, len));
	state_out_destroy(out);
}

/* Both devices hold the same state. */
static inline void assert_same_state(struct device *a, struct device *b,
				     const struct state_kind *kind)
{
	struct state_out *oa, *ob;
	const uint8_t *pa, *pb;
	size_t la, lb;

	save_device(a, kind, &oa, &pa, &la);
	save_device(b, kind, &ob, &pb, &lb);
	assert_int_equal(la, lb);
	assert_memory_equal(pa, pb, la);
	state_out_destroy(oa);
	state_out_destroy(ob);
}

#endif
