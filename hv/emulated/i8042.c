/* SPDX-License-Identifier: Apache-2.0 */
/* i8042: the keyboard controller of a machine without a keyboard.
 *
 * Both its buffers are always empty, so that a guest that waits for "input buffer
 * empty" before the reset pulse goes on at once, and one that probes for a
 * keyboard gets no answer and gives up.
 *
 * Source: IBM PC/AT Technical Reference, keyboard controller: status bits, and the
 * commands 0xF0..0xFF, which pulse the output lines whose bit is 0; line 0 is the
 * processor's reset. */
#include "hv/emulated/i8042.h"

#include <stdlib.h>

enum {
	REG_DATA = 0,
	REG_COMMAND = 4, /* read: status */

	STATUS_SELF_TEST_PASSED = 1 << 2,
	STATUS_NOT_LOCKED = 1 << 4,

	PULSE_OUTPUT = 0xF0, /* .. 0xFF */
	LINE_RESET = 1 << 0,
};

struct i8042 {
	struct device dev;
	void (*reset)(void *arg);
	void *arg;
};

const struct state_kind i8042_state_kind = {
	.kind = "i8042", .version = 1, .fields = NULL, .count = 0,
};

static uint8_t i8042_read8(void *self, uint64_t offset)
{
	(void)self;
	switch (offset) {
	case REG_DATA:
		return 0;
	case REG_COMMAND:
		return STATUS_SELF_TEST_PASSED | STATUS_NOT_LOCKED;
	default:
		return 0xff;
	}
}

static void i8042_write8(void *self, uint64_t offset, uint8_t value)
{
	struct i8042 *k = self;

	if (offset == REG_COMMAND && value >= PULSE_OUTPUT && !(value & LINE_RESET))
		k->reset(k->arg);
}

static enum err i8042_read(void *self, struct io *io)
{
	return device_read_bytes(io, i8042_read8, self);
}

static enum err i8042_write(void *self, const struct io *io)
{
	return device_write_bytes(io, i8042_write8, self);
}

static void i8042_nothing(void *self)
{
	(void)self;
}

static enum err i8042_quiesce(void *self)
{
	(void)self;
	return ERR_OK;
}

static enum err i8042_save(const void *self, struct state_out *out)
{
	(void)self;
	(void)out;
	return ERR_OK;
}

static enum err i8042_load(void *self, struct state_in *in)
{
	(void)self;
	(void)in;
	return ERR_OK;
}

static const struct device_ops i8042_ops = {
	.kind = "i8042",
	.read = i8042_read,
	.write = i8042_write,
	.reset = i8042_nothing,
	.quiesce = i8042_quiesce,
	.resume = i8042_nothing,
	.save = i8042_save,
	.load = i8042_load,
	.destroy = free,
};

enum err i8042_create(void (*reset)(void *arg), void *arg, struct device **dev)
{
	struct i8042 *k = calloc(1, sizeof(*k));

	if (!k)
		return err_note(ERR_NOMEM, 0, "keyboard controller: no memory");
	k->reset = reset;
	k->arg = arg;
	device_init(&k->dev, &i8042_ops, k, 0);
	*dev = &k->dev;
	return ERR_OK;
}
