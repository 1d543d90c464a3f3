/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_emulated: the emulated chips against a hostile guest and a hostile archive.
 *
 * Input: byte 0 odd: the rest is a state blob, loaded into every chip.
 *        byte 0 even: the rest is a guest's accesses, 6 bytes each:
 *        chip and direction, offset and size, 4 bytes of data; interleaved with resets,
 *        checkpoints and passing time.
 * Whatever came in: nothing crashes, no chip reads or writes beyond its answer's
 * size, and a chip's state is the same after a save, a load and a save. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hv/device.h"
#include "hv/emulated/acpi_pm.h"
#include "hv/emulated/i8042.h"
#include "hv/emulated/pci.h"
#include "hv/emulated/rtc.h"
#include "hv/emulated/uart.h"
#include "hv/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum chip { UART, RTC, I8042, ACPI_PM, PCI, CHIPS };
enum { ACCESS_BYTES = 6 };

static const struct state_kind *const kinds[CHIPS] = {&uart_state_kind, &rtc_state_kind,
						      &i8042_state_kind, &acpi_pm_state_kind,
						      &pci_state_kind};
static const uint64_t ports[CHIPS] = {UART_PORTS, RTC_PORTS, I8042_PORTS, ACPI_PM_PORTS,
					 PCI_PORTS};

struct irq {
	int unused;
};

static struct irq lines;
static uint64_t now_ns;

void irq_set(struct irq *irq, unsigned gsi, bool level)
{
	assert(irq == &lines && gsi < 24);
	(void)level;
}

void irq_pulse(struct irq *irq, unsigned gsi)
{
	irq_set(irq, gsi, true);
	irq_set(irq, gsi, false);
}

static uint64_t fake_clock(void)
{
	return now_ns;
}

static void nothing(void *arg)
{
	(void)arg;
}

static void must(enum err e)
{
	assert(e == ERR_OK);
	(void)e;
}

static struct device *make(enum chip chip)
{
	static const struct acpi_pm_callbacks callbacks = {.power_off = nothing, .reset = nothing};
	struct device *d = NULL;

	switch (chip) {
	case UART:
		must(uart_create(&lines, 4, NULL, 0, &d));
		break;
	case RTC:
		must(rtc_create(&d));
		rtc_set_clock(d, fake_clock);
		break;
	case I8042:
		must(i8042_create(nothing, NULL, &d));
		break;
	case ACPI_PM:
		must(acpi_pm_create(&lines, &callbacks, NULL, &d));
		break;
	case PCI:
		must(pci_create(nothing, NULL, &d));
		break;
	case CHIPS:
		abort();
	}
	d->ops->reset(d->self);
	d->ops->resume(d->self);
	return d;
}

static struct state_out *save(struct device *d, enum chip chip, const uint8_t **p, size_t *len)
{
	struct state_out *out;

	must(state_out_create(&out));
	state_begin(out, kinds[chip], 0);
	must(d->ops->save(d->self, out));
	state_end(out);
	must(state_out_finish(out, p, len));
	return out;
}

static enum err load(struct device *d, enum chip chip, const uint8_t *p, size_t len)
{
	struct state_file *f;
	struct state_in *in;
	enum err e = state_open(p, len, &f);

	if (e != ERR_OK)
		return e;
	e = state_find(f, kinds[chip], 0, &in);
	if (e == ERR_OK)
		e = d->ops->load(d->self, in);
	state_close(f);
	return e;
}

/* Through a checkpoint: the new device in place of the old one. */
static struct device *checkpoint(struct device *old, enum chip chip)
{
	struct device *new = make(chip);
	struct state_out *before, *after;
	const uint8_t *p, *q;
	size_t lp, lq;

	must(old->ops->quiesce(old->self));
	must(new->ops->quiesce(new->self));
	before = save(old, chip, &p, &lp);
	must(load(new, chip, p, lp));
	after = save(new, chip, &q, &lq);
	assert(lp == lq && memcmp(p, q, lp) == 0);
	state_out_destroy(before);
	state_out_destroy(after);
	device_destroy(old);
	new->ops->resume(new->self);
	return new;
}

static void access_one(struct device *d, enum chip chip, const uint8_t *op)
{
	struct io io = {.size = 1u << (op[1] >> 6)};

	if (io.size > ports[chip])
		io.size = 1;
	io.offset = (op[1] & 63) % (ports[chip] - io.size + 1);
	io.data = (uint64_t)op[2] | (uint64_t)op[3] << 8 | (uint64_t)op[4] << 16 |
		  (uint64_t)op[5] << 24;
	if (op[0] & 0x80) {
		must(d->ops->write(d->self, &io));
		return;
	}
	must(d->ops->read(d->self, &io));
	assert(io.size == 8 || io.data >> 8 * io.size == 0);
}

static void guest(const uint8_t *data, size_t len)
{
	struct device *d[CHIPS];

	now_ns = 1795453805ull * 1000000000;
	for (enum chip c = 0; c < CHIPS; c++)
		d[c] = make(c);
	for (; len >= ACCESS_BYTES; data += ACCESS_BYTES, len -= ACCESS_BYTES) {
		enum chip c = data[0] & 3;

		switch (data[0] & 0x7c) {
		case 0x40:
			d[c]->ops->reset(d[c]->self);
			break;
		case 0x44:
			d[c] = checkpoint(d[c], c);
			break;
		case 0x48:
			now_ns += (uint64_t)data[2] << data[3] % 40;
			break;
		case 0x4c:
			acpi_pm_raise(d[ACPI_PM], ACPI_PM_POWER_BUTTON);
			break;
		default:
			access_one(d[c], c, data);
		}
	}
	for (enum chip c = 0; c < CHIPS; c++)
		device_destroy(checkpoint(d[c], c));
}

static void archive(const uint8_t *data, size_t len)
{
	now_ns = 1795453805ull * 1000000000;
	for (enum chip c = 0; c < CHIPS; c++) {
		struct device *d = make(c);

		must(d->ops->quiesce(d->self));
		/* One that takes the state has to be able to live with it. */
		if (load(d, c, data, len) == ERR_OK) {
			d->ops->resume(d->self);
			for (uint64_t offset = 0; offset < ports[c]; offset++)
				access_one(d, c, (const uint8_t[]){0, (uint8_t)offset, 0, 0, 0, 0});
			d = checkpoint(d, c);
		}
		device_destroy(d);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len < 1)
		return 0;
	if (data[0] & 1)
		archive(data + 1, len - 1);
	else
		guest(data + 1, len - 1);
	return 0;
}
