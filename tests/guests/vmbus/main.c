/* SPDX-License-Identifier: Apache-2.0 */
/* vmbus/main: brings the bus up, answers the integration services, and says what it sees.
 *
 * Words: cpus=N (channels go round over them), again=N (unload and connect so often first),
 * mode=serve (default), once (off when all is up), hostile (seed=, count=; see hostile.c).
 * Lines: "vmbus: ready channels=3 version=5.3", "vmbus: beat N", "vmbus: time N FLAGS",
 * "vmbus: shutdown FLAGS" (then it powers off or resets), "vmbus: generation HEX" at the start and
 * whenever it changes. */
#include "vmbus/driver.h"

enum { CHANNELS = 16, TICK_HZ = 100 };

enum kind { HEARTBEAT, SHUTDOWN, TIMESYNC, OTHER };

static const uint8_t first_bytes[][4] = { /* of the class ids */
	[HEARTBEAT] = {0x39, 0x4f, 0x16, 0x57},
	[SHUTDOWN] = {0x31, 0x60, 0x0b, 0x0e},
	[TIMESYNC] = {0x30, 0xe6, 0x27, 0x95},
};

static struct channel channels[CHANNELS];
static struct ring_page *rings[CHANNELS]; /* kept from connection to connection */
static unsigned channel_count;
static uint64_t beats, times;
static uint8_t generation[16];

static enum kind kind_of(const struct channel *c)
{
	for (enum kind k = HEARTBEAT; k < OTHER; k++)
		if (memcmp(c->class_id, first_bytes[k], 4) == 0)
			return k;
	return OTHER;
}

/* ---- the services ---- */

/* Versions chosen: the first that is offered, of each. */
static void negotiated(uint8_t *data)
{
	uint16_t frameworks = get16(data);

	memcpy(data + 12, data + 8 + 4 * frameworks, 4);
	put16(data, 1);
	put16(data + 2, 1);
	put16(data - 10, 16); /* size of the data */
}

static void shut_down(const uint8_t *data)
{
	uint32_t what = get32(data + 8);

	print("vmbus: shutdown %u\n", what);
	serial_drain();
	if (what & 2)
		machine_reset();
	power_off();
}

static void asked(struct channel *c, uint8_t *p, uint32_t len)
{
	uint8_t *data = p + 16 + 28;
	uint16_t type = get16(p + 16 + 12);
	enum kind k = kind_of(c);
	uint8_t first = 0;

	if (len < 16 + 28 + 16 || get32(p + 16) != 1)
		fail("a service's packet of %u bytes", len);
	if (type == 0)
		negotiated(data);
	else if (k == HEARTBEAT)
		put32(data, get32(data) + 1);
	first = data[k == TIMESYNC ? 16 : 0];
	p[16 + 25] = 5; /* an answer */
	channel_write(c, p, len);
	if (type == 0)
		return;
	if (k == HEARTBEAT)
		print("vmbus: beat %lu\n", ++beats);
	else if (k == TIMESYNC)
		print("vmbus: time %lu %u\n", ++times, first);
	else if (k == SHUTDOWN)
		shut_down(data);
}

static void serve(void)
{
	static uint8_t packet[PACKET_MAX];
	struct message m;
	uint32_t len;

	for (unsigned i = 0; i < channel_count; i++)
		while (channels[i].open && (len = channel_read(&channels[i], packet)) != 0)
			asked(&channels[i], packet, len);
	if (take(&m)) /* above all no rescind */
		fail("an unexpected message of type %u", get32(m.p));
}

static void look_at_generation(void)
{
	const uint8_t *now = (const uint8_t *)0xff000;

	if (memcmp(generation, now, 16) == 0)
		return;
	memcpy(generation, now, 16);
	print("vmbus: generation %08x%08x%08x%08x\n", get32(now), get32(now + 4), get32(now + 8),
	      get32(now + 12));
}

/* ---- start ---- */

static void on_tick(struct frame *f)
{
	(void)f;
	lapic_eoi();
}

static void other_cpu(void)
{
	synic_start();
	for (;;)
		wait_irq();
}

static void connect(unsigned ncpus)
{
	if (contact(6 << 16) || contact(3 << 16))
		fail("a version that nobody speaks was taken");
	if (!contact(4 << 16) || !contact(5 << 16 | 3))
		fail("a version was refused");
	channel_count = offers(channels, CHANNELS);
	for (unsigned i = 0; i < channel_count; i++) {
		channels[i].out = rings[i];
		if (kind_of(&channels[i]) != OTHER)
			channel_open(&channels[i], i % ncpus);
		rings[i] = channels[i].out;
	}
}

/* Up and down again, once with everything closed properly, once without. */
static void again(unsigned ncpus, uint64_t rounds)
{
	for (uint64_t i = 0; i < rounds; i++) {
		connect(ncpus);
		for (unsigned k = 0; i % 2 && k < channel_count; k++)
			if (channels[k].open)
				channel_close(&channels[k]);
		if (i % 3)
			unload();
		while (!(i % 3) && take(&(struct message){0}))
			;
	}
}

void guest_main(void)
{
	unsigned ncpus = (unsigned)arg_u64("cpus", 1);
	const char *mode = arg_str("mode", "serve");

	guest_name = "vmbus";
	irq_init();
	timer_calibrate();
	serial_irq_start(NULL);
	irq_handler(VEC_LAPIC_TIMER, on_tick);
	irq_enable();
	if (!hv_present() || !hv_enable())
		fail("there is no Hyper-V");
	if (signal_event(0x2001) != 18)
		fail("a signal to nobody is no error");
	synic_start();
	if (ncpus > 1 && !smp_start(ncpus, other_cpu))
		fail("a CPU did not start");
	look_at_generation();
	if (str_eq(mode, "hostile"))
		hostile(arg_u64("seed", 1), arg_u64("count", 1000));
	again(ncpus, arg_u64("again", 0));
	connect(ncpus);
	print("vmbus: ready channels=%u version=5.3\n", channel_count);
	if (str_eq(mode, "once")) {
		serial_drain();
		power_off();
	}
	lapic_periodic((uint32_t)(lapic_hz / TICK_HZ));
	for (;;) {
		serve();
		look_at_generation();
		wait_irq();
	}
}
