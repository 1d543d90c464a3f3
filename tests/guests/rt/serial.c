/* SPDX-License-Identifier: Apache-2.0 */
/* serial: the 16550 at 0x3f8, polled, or emptied by its own interrupt (IRQ 4, IOAPIC pin 4).
 *
 * States: POLLED -> DRIVEN [serial_irq_start] -> POLLED [serial_panic_mode].
 * DRIVEN: bytes go into a ring; while `busy`, exactly one transmitter interrupt is on its way, and
 * whoever clears `busy` found the ring empty.  A lost interrupt therefore leaves busy set and the
 * ring standing still, which serial_pending() lets a watchdog see.
 *
 * Source: PC16550D data sheet. */
#include "rt/rt.h"

enum {
	PORT = 0x3f8,
	THR = 0, IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6,
	LSR_DATA = 1, LSR_THRE = 0x20,
	GSI = 4,
	RING = 8192, BURST = 16,
};

static struct lock lock;
static bool driven, busy;
static uint8_t ring[RING];
static unsigned head, tail;	/* bytes ever put in, ever taken out */
static uint64_t sent;
static void (*receiver)(uint8_t byte);

uint64_t lock_take(struct lock *l)
{
	uint64_t f = irq_save();

	while (__atomic_exchange_n(&l->held, 1, __ATOMIC_ACQUIRE) != 0)
		cpu_relax();
	return f;
}

void lock_release(struct lock *l, uint64_t flags)
{
	__atomic_store_n(&l->held, 0, __ATOMIC_RELEASE);
	irq_restore(flags);
}

void serial_polled(const char *s, size_t n)
{
	for (; n > 0; n--) {
		while ((inb(PORT + LSR) & LSR_THRE) == 0)
			cpu_relax();
		outb((uint8_t)*s++, PORT + THR);
	}
}

/* Give the idle transmitter the next bytes; lock held. */
static void feed(void)
{
	unsigned n = 0;

	for (; n < BURST && tail != head; n++)
		outb(ring[tail++ % RING], PORT + THR);
	sent += n;
	busy = n > 0;
}

static void receive(void)
{
	uint8_t b;

	while ((inb(PORT + LSR) & LSR_DATA) != 0) {
		b = inb(PORT);
		if (receiver != NULL)
			receiver(b);
	}
}

static void on_interrupt(struct frame *f)
{
	uint64_t flags;
	uint8_t cause;

	(void)f;
	while (((cause = inb(PORT + IIR)) & 1) == 0) {
		switch (cause & 0x0f) {
		case 0x02:
			flags = lock_take(&lock);
			feed();
			lock_release(&lock, flags);
			break;
		case 0x04:
		case 0x0c:
			receive();
			break;
		case 0x06:
			(void)inb(PORT + LSR);
			break;
		default:
			(void)inb(PORT + MSR);
		}
	}
	lapic_eoi();
}

void serial_irq_start(void (*rx)(uint8_t byte))
{
	receiver = rx;
	irq_handler(VEC_IOAPIC + GSI, on_interrupt);
	outb(0, PORT + IER);
	outb(0x03, PORT + LCR);
	outb(0x07, PORT + FCR);		/* FIFOs on and empty, receive trigger 1 byte */
	outb(0x0b, PORT + MCR);		/* DTR, RTS, OUT2 = interrupt gate */
	receive();
	(void)inb(PORT + IIR);
	driven = true;
	ioapic_route(GSI, VEC_IOAPIC + GSI, 0);
	outb(0x03, PORT + IER);		/* received data, transmitter empty */
}

void serial_write(const char *s, size_t n)
{
	uint64_t flags;

	if (!driven) {
		flags = lock_take(&lock);
		serial_polled(s, n);
		lock_release(&lock, flags);
		return;
	}
	flags = lock_take(&lock);
	while (RING - (head - tail) < n) {	/* full: let the transmitter get on */
		lock_release(&lock, flags);
		cpu_relax();
		flags = lock_take(&lock);
	}
	for (; n > 0; n--)
		ring[head++ % RING] = (uint8_t)*s++;
	if (!busy)
		feed();
	lock_release(&lock, flags);
}

bool serial_pending(uint64_t *progress)
{
	uint64_t flags = lock_take(&lock);
	bool pending = busy;

	*progress = sent;
	lock_release(&lock, flags);
	return pending;
}

void serial_drain(void)
{
	uint64_t progress;

	while (driven && serial_pending(&progress))
		cpu_relax();
	while ((inb(PORT + LSR) & LSR_THRE) == 0)
		cpu_relax();
}

void serial_panic_mode(void)
{
	if (driven) {
		driven = false;
		outb(0, PORT + IER);
		for (; tail != head; tail++)
			serial_polled((const char *)&ring[tail % RING], 1);
	}
}
