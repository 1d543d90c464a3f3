/* SPDX-License-Identifier: Apache-2.0 */
/* acpi_pm: sleep, reset and event registers of hardware-reduced ACPI.
 *
 * Events: a bit is set and GSI 9 pulsed (an edge); the guest's _EVT method reads
 * the register, which clears it, and notifies the devices named by the bits.  The
 * pulse is repeated for a bit that is still pending: before its driver is loaded
 * a guest loses the edge, and must not be deaf for ever.
 * While quiet no line is touched: the pulse is `owed` until resume, and is state.
 *
 * Source: ACPI 6.4 sections 4.8.3.7 (sleep registers), 4.8.3.6 (reset register),
 * 5.6.9 (GED). */
#include "hv/emulated/acpi_pm.h"

#include <stdlib.h>

enum {
	REG_SLEEP_CONTROL = 0,
	REG_SLEEP_STATUS = 1,
	REG_RESET = 2,
	REG_EVENTS = 4, /* .. 7 */

	SLEEP_ENABLE = 1 << 5,
	SLEEP_TYPE_SHIFT = 2,
	SLEEP_TYPE_MASK = 7 << SLEEP_TYPE_SHIFT,
	SLEEP_TYPE_S5 = 5 << SLEEP_TYPE_SHIFT,
	RESET_VALUE = 1,
	EVENTS_KNOWN = ACPI_PM_POWER_BUTTON | ACPI_PM_GENERATION,
};

enum {
	TAG_SLEEP_CONTROL = 1,
	TAG_EVENTS,
	TAG_OWED,
};

static const struct state_field fields[] = {
	{TAG_SLEEP_CONTROL, STATE_U8, false, "sleep_control"},
	{TAG_EVENTS, STATE_U32, false, "pending_events"},
	{TAG_OWED, STATE_U8, false, "interrupt_owed"},
};

const struct state_kind acpi_pm_state_kind = {
	.kind = "acpi_pm", .version = 1, .fields = fields, .count = sizeof(fields) / sizeof(*fields),
};

struct acpi_pm {
	struct device dev;
	struct irq *irq;
	struct acpi_pm_callbacks callbacks;
	void *arg;
	uint32_t events;
	uint8_t sleep_control; /* as read back: SLP_EN reads as 0 */
	bool quiet, owed;
};

static void acpi_pm_signal(struct acpi_pm *p)
{
	p->owed = p->quiet;
	if (!p->quiet)
		irq_pulse(p->irq, ACPI_PM_GSI);
}

static uint8_t acpi_pm_read8(void *self, uint64_t offset)
{
	struct acpi_pm *p = self;

	if (offset >= REG_EVENTS && offset < REG_EVENTS + 4) {
		unsigned shift = 8 * (unsigned)(offset - REG_EVENTS);
		uint8_t v = (uint8_t)(p->events >> shift);
		p->events &= ~(0xffu << shift);
		return v;
	}
	switch (offset) {
	case REG_SLEEP_CONTROL:
		return p->sleep_control;
	case REG_SLEEP_STATUS:
		return 0;
	default:
		return 0xff;
	}
}

static void acpi_pm_write8(void *self, uint64_t offset, uint8_t value)
{
	struct acpi_pm *p = self;

	if (offset == REG_SLEEP_CONTROL) {
		p->sleep_control = value & SLEEP_TYPE_MASK;
		if ((value & SLEEP_ENABLE) && p->sleep_control == SLEEP_TYPE_S5)
			p->callbacks.power_off(p->arg);
	} else if (offset == REG_RESET && value == RESET_VALUE) {
		p->callbacks.reset(p->arg);
	}
}

static enum err acpi_pm_read(void *self, struct io *io)
{
	return device_read_bytes(io, acpi_pm_read8, self);
}

static enum err acpi_pm_write(void *self, const struct io *io)
{
	return device_write_bytes(io, acpi_pm_write8, self);
}

static void acpi_pm_reset(void *self)
{
	struct acpi_pm *p = self;

	p->events = 0;
	p->sleep_control = 0;
	p->owed = false;
}

static enum err acpi_pm_quiesce(void *self)
{
	((struct acpi_pm *)self)->quiet = true;
	return ERR_OK;
}

static void acpi_pm_resume(void *self)
{
	struct acpi_pm *p = self;

	p->quiet = false;
	if (p->owed)
		acpi_pm_signal(p);
}

static enum err acpi_pm_save(const void *self, struct state_out *out)
{
	const struct acpi_pm *p = self;

	state_put_u8(out, TAG_SLEEP_CONTROL, p->sleep_control);
	state_put_u32(out, TAG_EVENTS, p->events);
	state_put_u8(out, TAG_OWED, p->owed);
	return ERR_OK;
}

static enum err acpi_pm_load(void *self, struct state_in *in)
{
	struct acpi_pm *p = self;
	uint8_t sleep_control = 0, owed = 0;
	uint32_t events = 0;
	enum err e;

	if ((e = state_get_u8(in, TAG_SLEEP_CONTROL, &sleep_control)) != ERR_OK)
		return e;
	if ((e = state_get_u32(in, TAG_EVENTS, &events)) != ERR_OK)
		return e;
	if ((e = state_get_u8(in, TAG_OWED, &owed)) != ERR_OK)
		return e;
	if (sleep_control & ~SLEEP_TYPE_MASK || owed > 1)
		return err_note(ERR_CORRUPT, 0, "state of acpi_pm: sleep control 0x%02x, owed %u: "
				"not what this chip can hold", sleep_control, owed);
	if (events & ~(uint32_t)EVENTS_KNOWN)
		return err_note(ERR_VERSION, 0, "state of acpi_pm: events 0x%x: this version knows "
				"only 0x%x", events, (unsigned)EVENTS_KNOWN);
	p->sleep_control = sleep_control;
	p->events = events;
	p->owed = owed;
	return ERR_OK;
}

static const struct device_ops acpi_pm_ops = {
	.kind = "acpi_pm",
	.read = acpi_pm_read,
	.write = acpi_pm_write,
	.reset = acpi_pm_reset,
	.quiesce = acpi_pm_quiesce,
	.resume = acpi_pm_resume,
	.save = acpi_pm_save,
	.load = acpi_pm_load,
	.destroy = free,
};

enum err acpi_pm_create(struct irq *irq, const struct acpi_pm_callbacks *callbacks, void *arg,
			struct device **dev)
{
	struct acpi_pm *p = calloc(1, sizeof(*p));

	if (!p)
		return err_note(ERR_NOMEM, 0, "power management registers: no memory");
	p->irq = irq;
	p->callbacks = *callbacks;
	p->arg = arg;
	p->quiet = true;
	device_init(&p->dev, &acpi_pm_ops, p, 0);
	*dev = &p->dev;
	return ERR_OK;
}

void acpi_pm_raise(struct device *dev, enum acpi_pm_event event)
{
	struct acpi_pm *p = dev->self;

	pthread_mutex_lock(&dev->lock);
	p->events |= event;
	acpi_pm_signal(p);
	pthread_mutex_unlock(&dev->lock);
}
