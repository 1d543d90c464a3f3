/* SPDX-License-Identifier: Apache-2.0 */
/* irq: the two 8259, the IOAPIC and the LAPIC.
 *
 * The PIC reaches the boot CPU through LINT0 in ExtINT mode, as on a real PC in virtual wire mode;
 * the PIT uses it (IRQ 0), so both interrupt controllers hold state worth saving.
 *
 * Source: 8259A and 82093AA data sheets; Intel SDM volume 3, chapter 11 (APIC). */
#include "rt/rt.h"

enum {
	PIC1 = 0x20, PIC2 = 0xa0, DATA = 1,
	LAPIC_ID = 0x20, LAPIC_TPR = 0x80, LAPIC_EOI = 0xb0, LAPIC_SVR = 0xf0,
	LVT_TIMER = 0x320, LVT_LINT0 = 0x350, LVT_LINT1 = 0x360, LVT_ERROR = 0x370,
	TIMER_INIT = 0x380, TIMER_DIVIDE = 0x3e0,
	MASKED = 1 << 16, EXTINT = 0x700, NMI = 0x400, PERIODIC = 1 << 17,
	IOAPIC_PINS = 24, REDIRECTION = 0x10,
};

static const uint64_t lapic_base = 0xfee00000, ioapic_base = 0xfec00000;
static struct lock ioapic_lock;

uint32_t lapic_read(uint32_t reg)
{
	return *(volatile uint32_t *)(lapic_base + reg);
}

void lapic_write(uint32_t reg, uint32_t v)
{
	*(volatile uint32_t *)(lapic_base + reg) = v;
}

void lapic_eoi(void)
{
	lapic_write(LAPIC_EOI, 0);
}

static void ioapic_write(uint32_t reg, uint32_t v)
{
	*(volatile uint32_t *)ioapic_base = reg;
	*(volatile uint32_t *)(ioapic_base + 0x10) = v;
}

void ioapic_route(unsigned gsi, unsigned vector, uint32_t apic_id)
{
	uint64_t f = lock_take(&ioapic_lock);

	ioapic_write(REDIRECTION + 2 * gsi, MASKED);
	ioapic_write(REDIRECTION + 2 * gsi + 1, apic_id << 24);
	ioapic_write(REDIRECTION + 2 * gsi, vector);	/* fixed, edge, active high */
	lock_release(&ioapic_lock, f);
}

bool pic_present(void)
{
	outb(0x5a, PIC1 + DATA);
	if (inb(PIC1 + DATA) != 0x5a)
		return false;
	outb(0xff, PIC1 + DATA);
	return inb(PIC1 + DATA) == 0xff;
}

static void pic_init(void)
{
	outb(0x11, PIC1);		/* edge, cascade, ICW4 follows */
	outb(0x11, PIC2);
	outb(VEC_PIC, PIC1 + DATA);
	outb(VEC_PIC + 8, PIC2 + DATA);
	outb(4, PIC1 + DATA);
	outb(2, PIC2 + DATA);
	outb(1, PIC1 + DATA);
	outb(1, PIC2 + DATA);
	outb(0xff, PIC1 + DATA);
	outb(0xff, PIC2 + DATA);
}

void pic_unmask(unsigned irq)
{
	uint16_t port = irq < 8 ? PIC1 + DATA : PIC2 + DATA;

	outb((uint8_t)(inb(port) & ~(1u << (irq & 7))), port);
	if (irq >= 8)
		outb((uint8_t)(inb(PIC1 + DATA) & ~4u), PIC1 + DATA);
}

void pic_eoi(unsigned irq)
{
	if (irq >= 8)
		outb(0x20, PIC2);
	outb(0x20, PIC1);
}

void lapic_init(bool boot_cpu)
{
	/* On first: a LAPIC that software has not enabled keeps every LVT entry masked. */
	lapic_write(LAPIC_SVR, 0x100 | VEC_SPURIOUS);
	lapic_write(LVT_TIMER, MASKED);
	lapic_write(LVT_LINT0, boot_cpu ? EXTINT : MASKED);
	lapic_write(LVT_LINT1, NMI);
	lapic_write(LVT_ERROR, MASKED);
	lapic_write(TIMER_DIVIDE, 0xb);		/* by 1 */
	lapic_write(LAPIC_TPR, 0);
}

void irq_init(void)
{
	pic_init();
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		ioapic_write(REDIRECTION + 2 * i, MASKED);
	lapic_init(true);
}

void lapic_oneshot(uint32_t ticks)
{
	lapic_write(LVT_TIMER, VEC_LAPIC_TIMER);
	lapic_write(TIMER_INIT, ticks);
}

void lapic_periodic(uint32_t ticks)
{
	lapic_write(LVT_TIMER, PERIODIC | VEC_LAPIC_TIMER);
	lapic_write(TIMER_INIT, ticks);
}

void lapic_timer_stop(void)
{
	lapic_write(LVT_TIMER, MASKED);
	lapic_write(TIMER_INIT, 0);
}
