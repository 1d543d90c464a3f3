/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_DEVICE_H
#define HV_DEVICE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/state.h"

/* device: what every emulated or synthetic device is to the machine.
 *
 * Life: create -> reset -> resume -> { read/write ... quiesce -> save -> resume } -> destroy.
 * States: created QUIET; RUNNING -[quiesce]-> QUIET -[resume]-> RUNNING; save and load only
 * while QUIET.  A quiet device has no timer armed, no I/O in flight, and touches
 * neither RAM nor interrupt lines.
 *
 * Threads: device.lock is held around every call of an op, by the bus (vCPU
 * threads) and by the VM (loop thread); a device's own host callbacks (loop)
 * take it themselves.  Order: device.lock before anything of hv/memory, hv/irq.
 *
 * Devices reach RAM, interrupts and time only through what they are created
 * with: struct memory, struct irq and guest time. */

/* One port or MMIO access.  offset counts from the start of the claimed range;
 * size is 1, 2, 4 or 8; data is little-endian. */
struct io {
	uint64_t offset;
	unsigned size;
	uint64_t data;
};

struct device_ops {
	const char *kind; /* name of its state section; never changes */
	/* Answer in io->data; unimplemented registers read as all ones. */
	enum err (*read)(void *self, struct io *io);
	enum err (*write)(void *self, const struct io *io);
	void (*reset)(void *self);
	enum err (*quiesce)(void *self);
	void (*resume)(void *self);
	/* Fields of one section, begun and ended by the caller. */
	enum err (*save)(const void *self, struct state_out *out);
	/* Checks all before it changes any. */
	enum err (*load)(void *self, struct state_in *in);
	void (*destroy)(void *self);
};

struct device {
	const struct device_ops *ops;
	void *self;
	unsigned instance; /* 0.. among devices of its kind */
	pthread_mutex_t lock;
};

/* Fill *dev (borrowed by everybody until device_destroy).  For constructors of
 * devices only; self is what ops get, and ops->destroy frees it. */
void device_init(struct device *dev, const struct device_ops *ops, void *self, unsigned instance);
/* Loop thread, claims gone, vCPUs stopped.  NULL allowed. */
void device_destroy(struct device *dev);

/* For chips with 8-bit registers: carry out an access of any size as byte
 * accesses at ascending offsets, as an 8-bit bus does. */
enum err device_read_bytes(struct io *io, uint8_t (*read8)(void *self, uint64_t offset), void *self);
enum err device_write_bytes(const struct io *io,
			    void (*write8)(void *self, uint64_t offset, uint8_t value), void *self);

/* Lines of the in-kernel interrupt controllers (GSI numbers).  Any thread. */
struct irq;
void irq_set(struct irq *irq, unsigned gsi, bool level);
void irq_pulse(struct irq *irq, unsigned gsi); /* up, then down: edge */

#endif
