/* SPDX-License-Identifier: Apache-2.0 */
/* pci: the way to PCI configuration space, and a bus with a host bridge alone.
 *
 * The address register is one 32-bit register: only a 32-bit access at 0xCF8 reaches
 * it.  A byte written to 0xCF9 is the chipset's reset control instead (bit 2 going
 * from 0 to 1 resets; bit 1 says which kind, and both kinds are the same here).
 *
 * The bridge is the one that Hyper-V's machines of the first generation show, an
 * Intel 82443BX without AGP: guests have no special treatment for it.
 *
 * Source: PCI Local Bus Specification 3.0, 3.2.2.3.2 and chapter 6.1. */
#include "hv/emulated/pci.h"

#include <stdlib.h>

#include "base/bytes.h"

enum {
	REG_ADDRESS = 0, /* 0xCF8 */
	REG_RESET = 1,	 /* 0xCF9 */
	REG_DATA = 4,	 /* 0xCFC */

	RESET_CPU = 1 << 2,
	RESET_KEPT = 0x0E,

	CONFIG_BYTES = 256,
	TAG_ADDRESS = 1,
	TAG_RESET = 2,
};
#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_KEPT 0x80FFFFFCu

struct pci {
	struct device dev;
	void (*request_reset)(void *arg);
	void *arg;
	uint32_t address;
	uint8_t control;
};

static const struct state_field pci_fields[] = {
	{TAG_ADDRESS, STATE_U32, false, "address"},
	{TAG_RESET, STATE_U8, false, "reset_control"},
};

const struct state_kind pci_state_kind = {
	.kind = "pci", .version = 1, .fields = pci_fields, .count = 2,
};

/* The bridge's header: vendor, device, command (memory, bus master), status (medium
 * DEVSEL timing), revision, class 06/00/00; no BARs, no capabilities. */
static uint8_t bridge_byte(unsigned at)
{
	static const uint8_t header[16] = {0x86, 0x80, 0x92, 0x71, 0x06, 0x00, 0x00, 0x02,
					   0x03, 0x00, 0x00, 0x06, 0x00, 0x00, 0x00, 0x00};

	return at < sizeof(header) ? header[at] : 0;
}

static uint8_t config_byte(const struct pci *p, unsigned lane)
{
	uint32_t bus_device_function = (p->address & ~ADDRESS_ENABLE) >> 8;

	if (!(p->address & ADDRESS_ENABLE) || bus_device_function != 0)
		return 0xff; /* nobody answers */
	return bridge_byte((p->address & (CONFIG_BYTES - 4)) + lane);
}

static uint8_t pci_read8(void *self, uint64_t offset)
{
	const struct pci *p = self;

	if (offset >= REG_DATA && offset < PCI_PORTS)
		return config_byte(p, (unsigned)(offset - REG_DATA));
	return offset == REG_RESET ? p->control : 0xff;
}

static enum err pci_read(void *self, struct io *io)
{
	const struct pci *p = self;

	if (io->offset != REG_ADDRESS || io->size != 4)
		return device_read_bytes(io, pci_read8, self);
	io->data = p->address;
	return ERR_OK;
}

static void pci_write8(void *self, uint64_t offset, uint8_t value)
{
	struct pci *p = self;

	if (offset != REG_RESET)
		return; /* nothing in the bridge can be changed */
	if ((value & RESET_CPU) && !(p->control & RESET_CPU))
		p->request_reset(p->arg);
	p->control = value & RESET_KEPT;
}

static enum err pci_write(void *self, const struct io *io)
{
	struct pci *p = self;

	if (io->offset == REG_ADDRESS && io->size == 4) {
		p->address = (uint32_t)io->data & ADDRESS_KEPT;
		return ERR_OK;
	}
	if (io->size != 1)
		return ERR_OK;
	return device_write_bytes(io, pci_write8, self);
}

static void pci_reset(void *self)
{
	struct pci *p = self;

	p->address = 0;
	p->control = 0;
}

static enum err pci_quiesce(void *self)
{
	(void)self;
	return ERR_OK;
}

static void pci_resume(void *self)
{
	(void)self;
}

static enum err pci_save(const void *self, struct state_out *out)
{
	const struct pci *p = self;

	state_put_u32(out, TAG_ADDRESS, p->address);
	state_put_u8(out, TAG_RESET, p->control);
	return ERR_OK;
}

static enum err pci_load(void *self, struct state_in *in)
{
	struct pci *p = self;
	uint32_t address = 0;
	uint8_t control = 0;
	enum err e = state_get_u32(in, TAG_ADDRESS, &address);

	if (e == ERR_OK)
		e = state_get_u8(in, TAG_RESET, &control);
	if (e != ERR_OK)
		return e;
	if ((address & ~ADDRESS_KEPT) || (control & ~RESET_KEPT))
		return err_note(ERR_CORRUPT, 0, "pci: register bits are set that do not exist");
	p->address = address;
	p->control = control;
	return ERR_OK;
}

static const struct device_ops pci_ops = {
	.kind = "pci",
	.read = pci_read,
	.write = pci_write,
	.reset = pci_reset,
	.quiesce = pci_quiesce,
	.resume = pci_resume,
	.save = pci_save,
	.load = pci_load,
	.destroy = free,
};

enum err pci_create(void (*reset)(void *arg), void *arg, struct device **dev)
{
	struct pci *p = calloc(1, sizeof(*p));

	if (!p)
		return err_note(ERR_NOMEM, 0, "pci: no memory");
	p->request_reset = reset;
	p->arg = arg;
	device_init(&p->dev, &pci_ops, p, 0);
	*dev = &p->dev;
	return ERR_OK;
}
