/* SPDX-License-Identifier: Apache-2.0 */
/* uart: a 16550A whose line is infinitely fast.
 *
 * Transmit: a byte is with the console when the guest's write returns, so THRE and
 * TEMT always read as set; "became empty" is an event that a write (or enabling
 * its interrupt) raises and reading IIR clears.
 * Receive: the FIFO is refilled from the console whenever the guest makes room, so
 * bytes wait at the host instead of being overrun.  Nobody types fast enough for the
 * trigger level to matter, and there is no timer here: bytes below the trigger
 * count as timed out at once.
 *
 * The interrupt line is IIR's "pending" bit behind the OUT2 gate of the PC.  ISA
 * lines are edge-triggered, so what matters is that the line falls whenever the last
 * cause goes and rises with the next one.  A write to THR therefore takes "became
 * empty" back before it raises it again, which gives the guest a new edge for every
 * burst it sends, as the real chip does; with another cause pending the line stays
 * up, and the guest's handler finds this one too, for it reads IIR until it is empty.
 *
 * State: all registers, the receive FIFO with its error marks, and the pending
 * events.  The line's level follows from these and is driven again on resume.
 *
 * Threads: everything under device.lock; on_input is the console's callback.
 * Source: National Semiconductor PC16550D data sheet (registers, section 8). */
#include "hv/emulated/uart.h"

#include <stdlib.h>
#include <string.h>

enum { FIFO_BYTES = 16 };

enum {
	REG_DATA = 0, /* RBR, THR; DLL behind DLAB */
	REG_IER = 1,  /* DLM behind DLAB */
	REG_IIR = 2,  /* write: FCR */
	REG_LCR = 3,
	REG_MCR = 4,
	REG_LSR = 5,
	REG_MSR = 6,
	REG_SCR = 7,

	IER_DATA = 1 << 0,
	IER_EMPTY = 1 << 1,
	IER_LINE = 1 << 2,
	IER_MODEM = 1 << 3,
	IER_ALL = 15,

	IIR_MODEM = 0x0,
	IIR_NONE = 0x1,
	IIR_EMPTY = 0x2,
	IIR_DATA = 0x4,
	IIR_LINE = 0x6,
	IIR_TIMEOUT = 0xc,
	IIR_FIFO = 0xc0,

	FCR_ENABLE = 1 << 0,
	FCR_CLEAR_RX = 1 << 1,
	FCR_TRIGGER = 0xc0,
	FCR_KEPT = FCR_ENABLE | 1 << 3 | FCR_TRIGGER,

	LCR_BREAK = 1 << 6,
	LCR_DLAB = 1 << 7,

	MCR_DTR = 1 << 0,
	MCR_RTS = 1 << 1,
	MCR_OUT1 = 1 << 2,
	MCR_OUT2 = 1 << 3,
	MCR_LOOP = 1 << 4,
	MCR_ALL = 31,

	LSR_DATA = 1 << 0,
	LSR_OVERRUN = 1 << 1,
	LSR_PARITY = 1 << 2,
	LSR_FRAMING = 1 << 3,
	LSR_BREAK = 1 << 4,
	LSR_EMPTY = 1 << 5 | 1 << 6, /* THR, and shift register too */
	LSR_FIFO_ERROR = 1 << 7,
	LSR_BYTE_ERRORS = LSR_PARITY | LSR_FRAMING | LSR_BREAK,

	MSR_DELTA_CTS = 1 << 0,
	MSR_DELTA_DSR = 1 << 1,
	MSR_TRAILING_RI = 1 << 2,
	MSR_DELTA_DCD = 1 << 3,
	MSR_DELTAS = 15,
	MSR_CTS = 1 << 4,
	MSR_DSR = 1 << 5,
	MSR_RI = 1 << 6,
	MSR_DCD = 1 << 7,
};

enum {
	TAG_IER = 1, TAG_FCR, TAG_LCR, TAG_MCR, TAG_SCR, TAG_DIVISOR, TAG_OVERRUN, TAG_MSR_DELTAS,
	TAG_EMPTY_EVENT, TAG_LAST_BYTE, TAG_RX, TAG_RX_ERRORS,
};

static const struct state_field fields[] = {
	{TAG_IER, STATE_U8, false, "interrupt_enable"},
	{TAG_FCR, STATE_U8, false, "fifo_control"},
	{TAG_LCR, STATE_U8, false, "line_control"},
	{TAG_MCR, STATE_U8, false, "modem_control"},
	{TAG_SCR, STATE_U8, false, "scratch"},
	{TAG_DIVISOR, STATE_U16, false, "divisor"},
	{TAG_OVERRUN, STATE_U8, false, "overrun"},
	{TAG_MSR_DELTAS, STATE_U8, false, "modem_status_deltas"},
	{TAG_EMPTY_EVENT, STATE_U8, false, "transmitter_empty_event"},
	{TAG_LAST_BYTE, STATE_U8, false, "last_byte_received"},
	{TAG_RX, STATE_BYTES, false, "receive_fifo"},
	{TAG_RX_ERRORS, STATE_BYTES, false, "receive_fifo_errors"},
};

const struct state_kind uart_state_kind = {
	.kind = "uart", .version = 1, .fields = fields, .count = sizeof(fields) / sizeof(*fields),
};

/* What the chip holds. */
struct regs {
	uint8_t ier, fcr, lcr, mcr, scr;
	uint16_t divisor;
	uint8_t overrun;     /* LSR_OVERRUN or 0 */
	uint8_t msr_deltas;
	uint8_t empty_event; /* 1: "transmitter became empty" not yet told */
	uint8_t last;	     /* byte read last: what an empty receiver shows */
	uint8_t rx_count;
	uint8_t rx[FIFO_BYTES];	       /* oldest first */
	uint8_t rx_errors[FIFO_BYTES]; /* LSR_BYTE_ERRORS of each */
};

struct uart {
	struct device dev;
	struct irq *irq;
	unsigned gsi;
	struct console *console;
	struct regs r;
	bool quiet;
	bool line; /* as driven last */
};

static unsigned rx_capacity(const struct regs *r)
{
	return r->fcr & FCR_ENABLE ? FIFO_BYTES : 1;
}

static unsigned rx_trigger(const struct regs *r)
{
	static const uint8_t levels[] = {1, 4, 8, 14};

	return r->fcr & FCR_ENABLE ? levels[r->fcr >> 6] : 1;
}

static uint8_t lsr_value(const struct regs *r)
{
	uint8_t v = LSR_EMPTY | r->overrun;

	if (!r->rx_count)
		return v;
	v |= LSR_DATA | r->rx_errors[0];
	for (unsigned i = 0; i < r->rx_count && r->fcr & FCR_ENABLE; i++)
		if (r->rx_errors[i])
			v |= LSR_FIFO_ERROR;
	return v;
}

/* Modem lines: looped back from MCR, or those of a modem that is always ready. */
static uint8_t msr_lines(const struct regs *r)
{
	uint8_t v = 0;

	if (!(r->mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	if (r->mcr & MCR_RTS)
		v |= MSR_CTS;
	if (r->mcr & MCR_DTR)
		v |= MSR_DSR;
	if (r->mcr & MCR_OUT1)
		v |= MSR_RI;
	if (r->mcr & MCR_OUT2)
		v |= MSR_DCD;
	return v;
}

/* The pending cause of highest priority, as IIR's low bits. */
static uint8_t iir_cause(const struct regs *r)
{
	if (r->ier & IER_LINE && lsr_value(r) & (LSR_OVERRUN | LSR_BYTE_ERRORS))
		return IIR_LINE;
	if (r->ier & IER_DATA && r->rx_count)
		return r->rx_count >= rx_trigger(r) ? IIR_DATA : IIR_TIMEOUT;
	if (r->ier & IER_EMPTY && r->empty_event)
		return IIR_EMPTY;
	if (r->ier & IER_MODEM && r->msr_deltas)
		return IIR_MODEM;
	return IIR_NONE;
}

/* In loop-back the OUT2 pin is inactive whatever MCR says: data sheet, 8.6.6. */
static bool line_wanted(const struct regs *r)
{
	return (r->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2 && iir_cause(r) != IIR_NONE;
}

static void line_update(struct uart *u)
{
	bool wanted = line_wanted(&u->r);

	if (u->quiet || wanted == u->line)
		return;
	u->line = wanted;
	irq_set(u->irq, u->gsi, wanted);
}

/* A byte arrives on the line. */
static void rx_push(struct regs *r, uint8_t byte, uint8_t errors)
{
	if (r->rx_count == rx_capacity(r)) {
		r->overrun = LSR_OVERRUN;
		if (r->fcr & FCR_ENABLE)
			return; /* the FIFO keeps what it has; the byte is lost */
		r->rx_count = 0;
	}
	r->rx[r->rx_count] = byte;
	r->rx_errors[r->rx_count] = errors;
	r->rx_count++;
}

static void rx_clear(struct regs *r)
{
	r->rx_count = 0;
}

/* Take what the console has, as far as there is room. */
static void rx_fill(struct uart *u)
{
	uint8_t bytes[FIFO_BYTES];
	size_t n = 0;

	if (u->quiet || !u->console || u->r.mcr & MCR_LOOP)
		return;
	if (u->r.rx_count < rx_capacity(&u->r))
		n = console_input_take(u->console, bytes, rx_capacity(&u->r) - u->r.rx_count);
	for (size_t i = 0; i < n; i++)
		rx_push(&u->r, bytes[i], 0);
}

static uint8_t rx_pop(struct uart *u)
{
	struct regs *r = &u->r;

	if (r->rx_count) {
		r->last = r->rx[0];
		r->rx_count--;
		memmove(r->rx, r->rx + 1, r->rx_count);
		memmove(r->rx_errors, r->rx_errors + 1, r->rx_count);
		rx_fill(u);
	}
	return r->last;
}

static void tx_push(struct uart *u, uint8_t byte)
{
	u->r.empty_event = 0;
	line_update(u); /* falls, unless there is another cause */
	if (u->r.mcr & MCR_LOOP)
		rx_push(&u->r, byte, 0);
	else if (u->console)
		console_output(u->console, &byte, 1);
	u->r.empty_event = 1;
}

static uint8_t iir_read(struct regs *r)
{
	uint8_t cause = iir_cause(r);

	if (cause == IIR_EMPTY)
		r->empty_event = 0;
	return cause | (r->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static uint8_t lsr_read(struct regs *r)
{
	uint8_t v = lsr_value(r);

	r->overrun = 0;
	if (r->rx_count)
		r->rx_errors[0] = 0;
	return v;
}

static uint8_t msr_read(struct regs *r)
{
	uint8_t v = msr_lines(r) | r->msr_deltas;

	r->msr_deltas = 0;
	return v;
}

static uint8_t uart_read8(void *self, uint64_t offset)
{
	struct uart *u = self;
	struct regs *r = &u->r;
	bool dlab = r->lcr & LCR_DLAB;

	switch (offset) {
	case REG_DATA:
		return dlab ? (uint8_t)r->divisor : rx_pop(u);
	case REG_IER:
		return dlab ? (uint8_t)(r->divisor >> 8) : r->ier;
	case REG_IIR:
		return iir_read(r);
	case REG_LCR:
		return r->lcr;
	case REG_MCR:
		return r->mcr;
	case REG_LSR:
		return lsr_read(r);
	case REG_MSR:
		return msr_read(r);
	case REG_SCR:
		return r->scr;
	default:
		return 0xff;
	}
}

static void ier_write(struct regs *r, uint8_t v)
{
	/* Enabling the interrupt of an empty transmitter raises it at once: 8.5. */
	if (v & IER_EMPTY && !(r->ier & IER_EMPTY))
		r->empty_event = 1;
	r->ier = v & IER_ALL;
}

static void fcr_write(struct uart *u, uint8_t v)
{
	struct regs *r = &u->r;

	if ((v ^ r->fcr) & FCR_ENABLE || v & FCR_CLEAR_RX)
		rx_clear(r);
	/* Without FIFOs the other bits are not programmed: 8.4. */
	r->fcr = v & FCR_ENABLE ? v & FCR_KEPT : 0;
	rx_fill(u);
}

static void lcr_write(struct regs *r, uint8_t v)
{
	/* A looped-back break arrives as one zero byte, marked. */
	if (v & LCR_BREAK && !(r->lcr & LCR_BREAK) && r->mcr & MCR_LOOP)
		rx_push(r, 0, LSR_BREAK | LSR_FRAMING);
	r->lcr = v;
}

static void mcr_write(struct uart *u, uint8_t v)
{
	struct regs *r = &u->r;
	uint8_t before = msr_lines(r), changed;

	r->mcr = v & MCR_ALL;
	changed = before ^ msr_lines(r);
	if (changed & MSR_CTS)
		r->msr_deltas |= MSR_DELTA_CTS;
	if (changed & MSR_DSR)
		r->msr_deltas |= MSR_DELTA_DSR;
	if (changed & before & MSR_RI)
		r->msr_deltas |= MSR_TRAILING_RI;
	if (changed & MSR_DCD)
		r->msr_deltas |= MSR_DELTA_DCD;
	rx_fill(u);
}

static void uart_write8(void *self, uint64_t offset, uint8_t v)
{
	struct uart *u = self;
	struct regs *r = &u->r;
	bool dlab = r->lcr & LCR_DLAB;

	switch (offset) {
	case REG_DATA:
		if (dlab)
			r->divisor = (uint16_t)((r->divisor & 0xff00) | v);
		else
			tx_push(u, v);
		break;
	case REG_IER:
		if (dlab)
			r->divisor = (uint16_t)((r->divisor & 0xff) | v << 8);
		else
			ier_write(r, v);
		break;
	case REG_IIR:
		fcr_write(u, v);
		break;
	case REG_LCR:
		lcr_write(r, v);
		break;
	case REG_MCR:
		mcr_write(u, v);
		break;
	case REG_SCR:
		r->scr = v;
		break;
	default: /* LSR and MSR are for factory tests only */
		break;
	}
}

static enum err uart_read(void *self, struct io *io)
{
	enum err e = device_read_bytes(io, uart_read8, self);

	line_update(self);
	return e;
}

static enum err uart_write(void *self, const struct io *io)
{
	enum err e = device_write_bytes(io, uart_write8, self);

	line_update(self);
	return e;
}

static void uart_reset(void *self)
{
	struct uart *u = self;

	/* Scratch and divisor are undefined after a reset; 12 is 9600 baud. */
	u->r = (struct regs){.divisor = 12};
	line_update(u);
}

static enum err uart_quiesce(void *self)
{
	((struct uart *)self)->quiet = true;
	return ERR_OK;
}

static void uart_resume(void *self)
{
	struct uart *u = self;

	u->quiet = false;
	rx_fill(u);
	/* Whatever happened meanwhile (load, reset of the controllers): say it again. */
	u->line = line_wanted(&u->r);
	irq_set(u->irq, u->gsi, u->line);
}

static enum err uart_save(const void *self, struct state_out *out)
{
	const struct regs *r = &((const struct uart *)self)->r;

	state_put_u8(out, TAG_IER, r->ier);
	state_put_u8(out, TAG_FCR, r->fcr);
	state_put_u8(out, TAG_LCR, r->lcr);
	state_put_u8(out, TAG_MCR, r->mcr);
	state_put_u8(out, TAG_SCR, r->scr);
	state_put_u16(out, TAG_DIVISOR, r->divisor);
	state_put_u8(out, TAG_OVERRUN, r->overrun);
	state_put_u8(out, TAG_MSR_DELTAS, r->msr_deltas);
	state_put_u8(out, TAG_EMPTY_EVENT, r->empty_event);
	state_put_u8(out, TAG_LAST_BYTE, r->last);
	state_put_bytes(out, TAG_RX, r->rx, r->rx_count);
	state_put_bytes(out, TAG_RX_ERRORS, r->rx_errors, r->rx_count);
	return ERR_OK;
}

static enum err load_fifo(struct state_in *in, struct regs *r)
{
	const uint8_t *p;
	size_t len;
	enum err e;

	if ((e = state_get_bytes(in, TAG_RX, &p, &len)) != ERR_OK)
		return e;
	if (len > rx_capacity(r))
		return err_note(ERR_CORRUPT, 0, "state of uart: %zu bytes received, there is room "
				"for %u", len, rx_capacity(r));
	r->rx_count = (uint8_t)len;
	if (len)
		memcpy(r->rx, p, len);
	if ((e = state_get_exact(in, TAG_RX_ERRORS, r->rx_errors, len)) != ERR_OK)
		return e;
	for (size_t i = 0; i < len; i++)
		if (r->rx_errors[i] & ~LSR_BYTE_ERRORS)
			return err_note(ERR_CORRUPT, 0, "state of uart: received byte %zu has marks "
					"0x%02x, not what this chip can hold", i, r->rx_errors[i]);
	return ERR_OK;
}

static enum err load_check(const struct regs *r)
{
	if (r->ier & ~IER_ALL || r->mcr & ~MCR_ALL || r->fcr & ~FCR_KEPT ||
	    (r->fcr && !(r->fcr & FCR_ENABLE)) || r->overrun & ~LSR_OVERRUN ||
	    r->msr_deltas & ~MSR_DELTAS || r->empty_event > 1)
		return err_note(ERR_CORRUPT, 0, "state of uart: ier 0x%02x mcr 0x%02x fcr 0x%02x "
				"overrun 0x%02x deltas 0x%02x empty %u: not what this chip can hold",
				r->ier, r->mcr, r->fcr, r->overrun, r->msr_deltas, r->empty_event);
	return ERR_OK;
}

static enum err uart_load(void *self, struct state_in *in)
{
	struct uart *u = self;
	struct regs r = {0};
	const struct { uint16_t tag; uint8_t *value; } bytes[] = {
		{TAG_IER, &r.ier}, {TAG_FCR, &r.fcr}, {TAG_LCR, &r.lcr}, {TAG_MCR, &r.mcr},
		{TAG_SCR, &r.scr}, {TAG_OVERRUN, &r.overrun}, {TAG_MSR_DELTAS, &r.msr_deltas},
		{TAG_EMPTY_EVENT, &r.empty_event}, {TAG_LAST_BYTE, &r.last},
	};
	enum err e;

	for (size_t i = 0; i < sizeof(bytes) / sizeof(*bytes); i++)
		if ((e = state_get_u8(in, bytes[i].tag, bytes[i].value)) != ERR_OK)
			return e;
	if ((e = state_get_u16(in, TAG_DIVISOR, &r.divisor)) != ERR_OK)
		return e;
	if ((e = load_check(&r)) != ERR_OK || (e = load_fifo(in, &r)) != ERR_OK)
		return e;
	u->r = r;
	return ERR_OK;
}

/* Loop thread: the console has input. */
static void on_input(void *arg)
{
	struct uart *u = arg;

	pthread_mutex_lock(&u->dev.lock);
	rx_fill(u);
	line_update(u);
	pthread_mutex_unlock(&u->dev.lock);
}

static void uart_destroy(void *self)
{
	struct uart *u = self;

	if (u->console)
		console_set_input(u->console, NULL, NULL);
	free(u);
}

static const struct device_ops uart_ops = {
	.kind = "uart",
	.read = uart_read,
	.write = uart_write,
	.reset = uart_reset,
	.quiesce = uart_quiesce,
	.resume = uart_resume,
	.save = uart_save,
	.load = uart_load,
	.destroy = uart_destroy,
};

enum err uart_create(struct irq *irq, unsigned gsi, struct console *console, unsigned instance,
		     struct device **dev)
{
	struct uart *u = calloc(1, sizeof(*u));

	if (!u)
		return err_note(ERR_NOMEM, 0, "serial port %u: no memory", instance);
	u->irq = irq;
	u->gsi = gsi;
	u->console = console;
	u->quiet = true;
	device_init(&u->dev, &uart_ops, u, instance);
	uart_reset(u);
	if (console)
		console_set_input(console, on_input, u);
	*dev = &u->dev;
	return ERR_OK;
}
