/* SPDX-License-Identifier: Apache-2.0 */
/* vm_state: PIC, IOAPIC and PIT in named fields.
 *
 * The PIT's state has no host time: KVM's "when the count was loaded" is saved as
 * the nanoseconds that have passed since.  KVM, in turn, starts every channel anew
 * when its state is set, whatever time it was loaded at.  So:
 *   mode 0, 1 (one shot) still counting: the count that remains is loaded; it fires
 *                 and reads as if nothing had happened
 *   mode 0, 1 after its end: loaded in mode 4, which arms nothing and counts on from
 *                 the terminal count (the mode that the guest set returns with its
 *                 next control word)
 *   mode 2, 3 (periodic): the current period begins anew: one tick comes late by less
 *                 than a period, and none is lost
 *
 * Source: Linux Documentation/virt/kvm/api.rst; Intel 8254 and 8259A data sheets. */
#include "hv/vm_state.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "hv/kvm/kvm_state.h"

enum {
	PIT_HZ = 1193182,
	PIT_CHANNELS = 3,
	PIT_MODE_STROBE = 4,
	PIT_MODE_NONE = 0xFF, /* KVM's for a channel that was never programmed */
	IOAPIC_PINS = 24,
};
static_assert(IOAPIC_PINS == KVM_IOAPIC_NUM_PINS, "the table below has 24 pins");

/* ---- PIC ---- */

#define PIC_LIST(X)                                                                                \
	X(1, last_irr)                                                                             \
	X(2, irr)                                                                                  \
	X(3, imr)                                                                                  \
	X(4, isr)                                                                                  \
	X(5, priority_add)                                                                         \
	X(6, irq_base)                                                                             \
	X(7, read_reg_select)                                                                      \
	X(8, poll)                                                                                 \
	X(9, special_mask)                                                                         \
	X(10, init_state)                                                                          \
	X(11, auto_eoi)                                                                            \
	X(12, rotate_on_auto_eoi)                                                                  \
	X(13, special_fully_nested_mode)                                                           \
	X(14, init4)                                                                               \
	X(15, elcr)                                                                                \
	X(16, elcr_mask)

#define PIC_FIELD(tag, name) {tag, STATE_U8, false, #name},
static const struct state_field pic_fields[] = {PIC_LIST(PIC_FIELD)};
const struct state_kind vm_state_pic_kind = {
	.kind = "pic", .version = 1, .fields = pic_fields,
	.count = sizeof(pic_fields) / sizeof(pic_fields[0])};

static enum err pic_save(int vm_fd, uint32_t chip, struct state_out *out)
{
	struct kvm_irqchip c;
	enum err e = kvm_state_get_irqchip(vm_fd, chip, &c);

	if (e != ERR_OK)
		return e;
	state_begin(out, &vm_state_pic_kind, chip);
#define PIC_PUT(tag, name) state_put_u8(out, tag, c.chip.pic.name);
	PIC_LIST(PIC_PUT)
	state_end(out);
	return ERR_OK;
}

static enum err pic_parse(struct state_file *file, uint32_t chip, struct kvm_irqchip *c)
{
	struct state_in *in;
	enum err e;

	memset(c, 0, sizeof(*c));
	c->chip_id = chip;
	if ((e = state_find(file, &vm_state_pic_kind, chip, &in)) != ERR_OK)
		return e;
#define PIC_GET(tag, name)                                                                         \
	if ((e = state_get_u8(in, tag, &c->chip.pic.name)) != ERR_OK)                              \
		return e;
	PIC_LIST(PIC_GET)
	/* KVM computes with these two unmasked. */
	if (c->chip.pic.priority_add > 7 || c->chip.pic.init_state > 3)
		return err_note(ERR_CORRUPT, 0, "state section pic.%u: an impossible value", chip);
	return ERR_OK;
}

/* ---- IOAPIC ---- */

enum { IOAPIC_BASE = 1, IOAPIC_SELECT, IOAPIC_ID, IOAPIC_IRR, IOAPIC_TABLE };

static const struct state_field ioapic_fields[] = {
	{IOAPIC_BASE, STATE_U64, false, "base_address"},
	{IOAPIC_SELECT, STATE_U32, false, "register_select"},
	{IOAPIC_ID, STATE_U32, false, "id"},
	{IOAPIC_IRR, STATE_U32, false, "irr"},
	{IOAPIC_TABLE, STATE_U64S, false, "redirection"},
};
const struct state_kind vm_state_ioapic_kind = {
	.kind = "ioapic", .version = 1, .fields = ioapic_fields,
	.count = sizeof(ioapic_fields) / sizeof(ioapic_fields[0])};

static enum err ioapic_save(int vm_fd, struct state_out *out)
{
	struct kvm_irqchip c;
	uint8_t table[IOAPIC_PINS * 8];
	enum err e = kvm_state_get_irqchip(vm_fd, KVM_IRQCHIP_IOAPIC, &c);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; i < IOAPIC_PINS; i++)
		le64_put(table + 8 * i, c.chip.ioapic.redirtbl[i].bits);
	state_begin(out, &vm_state_ioapic_kind, 0);
	state_put_u64(out, IOAPIC_BASE, c.chip.ioapic.base_address);
	state_put_u32(out, IOAPIC_SELECT, c.chip.ioapic.ioregsel);
	state_put_u32(out, IOAPIC_ID, c.chip.ioapic.id);
	state_put_u32(out, IOAPIC_IRR, c.chip.ioapic.irr);
	state_put_bytes(out, IOAPIC_TABLE, table, sizeof(table));
	state_end(out);
	return ERR_OK;
}

static enum err ioapic_parse(struct state_file *file, struct kvm_irqchip *c)
{
	uint8_t table[IOAPIC_PINS * 8];
	uint64_t base = 0;
	struct state_in *in;
	enum err e;

	memset(c, 0, sizeof(*c));
	c->chip_id = KVM_IRQCHIP_IOAPIC;
	if ((e = state_find(file, &vm_state_ioapic_kind, 0, &in)) != ERR_OK ||
	    (e = state_get_u64(in, IOAPIC_BASE, &base)) != ERR_OK ||
	    (e = state_get_u32(in, IOAPIC_SELECT, &c->chip.ioapic.ioregsel)) != ERR_OK ||
	    (e = state_get_u32(in, IOAPIC_ID, &c->chip.ioapic.id)) != ERR_OK ||
	    (e = state_get_u32(in, IOAPIC_IRR, &c->chip.ioapic.irr)) != ERR_OK ||
	    (e = state_get_exact(in, IOAPIC_TABLE, table, sizeof(table))) != ERR_OK)
		return e;
	c->chip.ioapic.base_address = base;
	for (size_t i = 0; i < IOAPIC_PINS; i++)
		c->chip.ioapic.redirtbl[i].bits = le64_get(table + 8 * i);
	return ERR_OK;
}

/* ---- PIT ---- */

enum { PIT_FLAGS = 1, PIT_CHANNEL = 16 };

/* Tags of channel i begin at PIT_CHANNEL * (i + 1). */
#define PIT_LIST(X, i)                                                                             \
	X(i, 0, U32, "count", count, 32)                                                           \
	X(i, 1, U16, "latched_count", latched_count, 16)                                           \
	X(i, 2, U8, "count_latched", count_latched, 8)                                             \
	X(i, 3, U8, "status_latched", status_latched, 8)                                           \
	X(i, 4, U8, "status", status, 8)                                                           \
	X(i, 5, U8, "read_state", read_state, 8)                                                   \
	X(i, 6, U8, "write_state", write_state, 8)                                                 \
	X(i, 7, U8, "write_latch", write_latch, 8)                                                 \
	X(i, 8, U8, "rw_mode", rw_mode, 8)                                                         \
	X(i, 9, U8, "mode", mode, 8)                                                               \
	X(i, 10, U8, "bcd", bcd, 8)                                                                \
	X(i, 11, U8, "gate", gate, 8)
enum { PIT_ELAPSED = 12 };

#define PIT_TAG(i, n) (uint16_t)(PIT_CHANNEL * ((i) + 1) + (n))
#define PIT_FIELD(i, n, type, name, member, bits)                                                  \
	{PIT_CHANNEL * ((i) + 1) + (n), STATE_##type, false, "channel" #i "_" name},
#define PIT_FIELDS(i)                                                                              \
	PIT_LIST(PIT_FIELD, i)                                                                     \
	{PIT_CHANNEL * ((i) + 1) + PIT_ELAPSED, STATE_U64, false, "channel" #i "_elapsed_ns"},

static const struct state_field pit_fields[] = {
	{PIT_FLAGS, STATE_U32, false, "flags"},
	PIT_FIELDS(0) PIT_FIELDS(1) PIT_FIELDS(2)};
const struct state_kind vm_state_pit_kind = {
	.kind = "pit", .version = 1, .fields = pit_fields,
	.count = sizeof(pit_fields) / sizeof(pit_fields[0])};

static enum err pit_save(int vm_fd, struct state_out *out)
{
	struct kvm_pit_state2 p;
	enum err e = kvm_state_get_pit2(vm_fd, &p);
	int64_t now = (int64_t)clock_mono_ns(); /* KVM's clock for the PIT, too */

	if (e != ERR_OK)
		return e;
	state_begin(out, &vm_state_pit_kind, 0);
	state_put_u32(out, PIT_FLAGS, p.flags);
	for (unsigned i = 0; i < PIT_CHANNELS; i++) {
		const struct kvm_pit_channel_state *c = &p.channels[i];

#define PIT_PUT(k, n, type, name, member, bits)                                                    \
	state_put_u##bits(out, PIT_TAG(k, n), (uint##bits##_t)c->member);
		PIT_LIST(PIT_PUT, i)
		state_put_u64(out, PIT_TAG(i, PIT_ELAPSED),
			      now > c->count_load_time ? (uint64_t)(now - c->count_load_time) : 0);
	}
	state_end(out);
	return ERR_OK;
}

/* See the top of this file. */
static void pit_continue(struct kvm_pit_channel_state *c, uint64_t elapsed_ns)
{
	/* 2^63 ns times the frequency would not fit; 65536 ticks are 55 ms. */
	uint64_t ns = elapsed_ns < NS_PER_SEC ? elapsed_ns : NS_PER_SEC;
	uint64_t ticks = ns * PIT_HZ / NS_PER_SEC;
	uint64_t count = c->count ? c->count : 0x10000;

	if (c->mode > 1)
		return;
	if (ticks < count)
		c->count = (uint32_t)(count - ticks);
	else
		c->mode = PIT_MODE_STROBE;
}

static enum err pit_parse(struct state_file *file, struct kvm_pit_state2 *p)
{
	struct state_in *in;
	uint64_t elapsed = 0;
	enum err e;

	memset(p, 0, sizeof(*p));
	if ((e = state_find(file, &vm_state_pit_kind, 0, &in)) != ERR_OK ||
	    (e = state_get_u32(in, PIT_FLAGS, &p->flags)) != ERR_OK)
		return e;
	for (unsigned i = 0; i < PIT_CHANNELS; i++) {
		struct kvm_pit_channel_state *c = &p->channels[i];

#define PIT_GET(k, n, type, name, member, bits)                                                    \
	if ((e = state_get_u##bits(in, PIT_TAG(k, n), &c->member)) != ERR_OK)                      \
		return e;
		PIT_LIST(PIT_GET, i)
		if ((e = state_get_u64(in, PIT_TAG(i, PIT_ELAPSED), &elapsed)) != ERR_OK)
			return e;
		if (c->count > 0x10000 || (c->mode > 5 && c->mode != PIT_MODE_NONE) ||
		    c->read_state > 4 || c->write_state > 4 || c->rw_mode > 4)
			return err_note(ERR_CORRUPT, 0,
					"state section pit.0: an impossible value in channel %u",
					i);
		pit_continue(c, elapsed);
	}
	return ERR_OK;
}

/* ---- all of them ---- */

enum err vm_state_prepare(int vm_fd)
{
	return kvm_state_pit_no_reinject(vm_fd);
}

enum err vm_state_save(int vm_fd, struct state_out *out)
{
	enum err e;

	/* From where an interrupt begins to where it goes. */
	if ((e = pit_save(vm_fd, out)) != ERR_OK ||
	    (e = pic_save(vm_fd, KVM_IRQCHIP_PIC_MASTER, out)) != ERR_OK ||
	    (e = pic_save(vm_fd, KVM_IRQCHIP_PIC_SLAVE, out)) != ERR_OK)
		return err_context(e, "saving the interrupt controllers");
	return ioapic_save(vm_fd, out);
}

enum err vm_state_load(int vm_fd, struct state_file *in)
{
	struct kvm_irqchip master, slave, ioapic;
	struct kvm_pit_state2 pit;
	enum err e;

	if ((e = pic_parse(in, KVM_IRQCHIP_PIC_MASTER, &master)) != ERR_OK ||
	    (e = pic_parse(in, KVM_IRQCHIP_PIC_SLAVE, &slave)) != ERR_OK ||
	    (e = ioapic_parse(in, &ioapic)) != ERR_OK || (e = pit_parse(in, &pit)) != ERR_OK)
		return e;
	if ((e = kvm_state_set_irqchip(vm_fd, &master)) != ERR_OK ||
	    (e = kvm_state_set_irqchip(vm_fd, &slave)) != ERR_OK ||
	    (e = kvm_state_set_irqchip(vm_fd, &ioapic)) != ERR_OK)
		return err_context(e, "loading the interrupt controllers");
	return kvm_state_set_pit2(vm_fd, &pit);
}
