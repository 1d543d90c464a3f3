/* SPDX-License-Identifier: Apache-2.0 */
/* vmbus/disk: a driver for Hyper-V's SCSI disks, as small as it can be; it works on one and
 * tells what happens to all.
 *
 * Words: work=LUN (without it, on none), blocks=N (of 4 KiB, what it writes round and round).
 * Work: block n is written, then the oldest one, which lies right behind it, is read and
 * compared; every 8th is flushed and told.  What was written is a function of its number.
 *
 * Lines: "disk: ready", "disk: scan N: LUN=SECTORS ..." at the start and whenever the host
 * says that there is something to look at, "disk: lun L
 * sense K/A/Q" for whatever a scan was told, "disk: work sense K/A/Q" the same for the work
 * (an attention is tried again; another error is counted, and ends the work until a key),
 * "disk: done N", "disk: gone" when the disk is not there any more.
 * Keys: w works on after an error, v compares everything ("disk: sound N"), q does too and
 * switches off, s scans. */
#include "vmbus/driver.h"

/* Of a block only its beginning is looked at: this code may run emulated, thus slowly. */
enum { CHANNELS = 16, TICK_HZ = 100, BURST = 4, BLOCK = 4096, MARK = 64, FLUSH_EACH = 8 };
enum { NONE = 2, IN = 1, OUT = 0 };

struct result {
	uint8_t srb, key, asc, ascq;
	uint32_t moved;
};

static struct channel channels[CHANNELS], *disk;
static uint8_t *data; /* one block, one page */
static volatile bool look, quit, stuck;
static volatile uint8_t key;
static uint64_t transaction, scans, done, errors;

/* ---- packets ---- */

static void wait_packet(uint64_t id, uint8_t *p)
{
	uint64_t end = rdtsc() + tsc_hz / 500;

	for (;;) {
		uint32_t len = channel_read(disk, p);

		if (len == 0 && rdtsc() < end) {
			cpu_relax(); /* most are quick, and interrupts between look and halt are lost */
			continue;
		}
		if (len == 0) {
			wait_irq(); /* as long as it takes: the machine may be paused */
			continue;
		}
		if (get16(p) == 6 && get32(p + 8) == 0) { /* nobody asked for it */
			if (get32(p + 16) != 11 && get32(p + 16) != 2)
				fail("an unknown word of the host: %u", get32(p + 16));
			look = true;
			continue;
		}
		if (get16(p) != 11 || get32(p + 8) != (uint32_t)id || len != 16 + 64)
			fail("packet type %u id %u of %u bytes", get16(p), get32(p + 8), len);
		return;
	}
}

static void vstor(uint32_t operation, uint16_t value)
{
	static uint8_t p[PACKET_MAX];

	memset(p, 0, 80);
	put16(p, 6);
	put16(p + 2, 2);
	put16(p + 4, 10);
	put16(p + 6, 1);
	put32(p + 8, (uint32_t)++transaction);
	put32(p + 16, operation);
	put32(p + 20, 1);
	put16(p + 28, value);
	channel_write(disk, p, 80);
	wait_packet(transaction, p);
	if (get32(p + 24) != 0)
		fail("operation %u was refused with %x", operation, get32(p + 24));
}

/* A command for `bytes` of data, at most a page. */
static struct result command(uint32_t lun, const uint8_t *cdb, uint8_t cdb_len, uint8_t way,
			     uint32_t bytes)
{
	static uint8_t p[PACKET_MAX];
	/* After the descriptor, the count of ranges and one: length, offset, page. */
	uint32_t head = bytes ? 40 : 16, len = head + 64;
	uint8_t *v = p + head;
	struct result r = {0};

	memset(p, 0, len);
	put16(p, bytes ? 9 : 6);
	put16(p + 2, (uint16_t)(head / 8));
	put16(p + 4, (uint16_t)(len / 8));
	put16(p + 6, 1);
	put32(p + 8, (uint32_t)++transaction);
	if (bytes) {
		put32(p + 20, 1);
		put32(p + 24, bytes);
		put32(p + 32, (uint32_t)((uint64_t)data >> 12));
	}
	put32(v, 3);
	put32(v + 4, 1);
	put16(v + 12, 52);
	v[19] = (uint8_t)lun;
	v[20] = cdb_len;
	v[21] = 20;
	v[22] = way;
	put32(v + 24, bytes);
	memcpy(v + 28, cdb, cdb_len);
	channel_write(disk, p, len);
	wait_packet(transaction, p);
	v = p + 16;
	r.srb = v[14];
	r.moved = get32(v + 24);
	if (r.srb & 0x80) {
		r.key = v[28 + 2] & 0xf;
		r.asc = v[28 + 12];
		r.ascq = v[28 + 13];
	}
	return r;
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* ---- looking ---- */

static bool ready(uint32_t lun)
{
	static const uint8_t test_unit_ready[6];

	for (int i = 0; i < 4; i++) {
		struct result r = command(lun, test_unit_ready, 6, NONE, 0);

		if (r.srb == 1)
			return true;
		print("disk: lun %u sense %x/%x/%x\n", lun, r.key, r.asc, r.ascq);
		if (r.key != 6)
			return false;
	}
	return false;
}

static void scan(void)
{
	static const uint8_t report[12] = {0xa0, [8] = 0x10};
	static const uint8_t inquiry[6] = {0x12, [4] = 36};
	static const uint8_t capacity[10] = {0x25};
	static char line[400];
	uint8_t luns[64];
	size_t n = 0, count;

	look = false;
	if (command(0, report, 12, IN, BLOCK).srb != 1)
		fail("REPORT LUNS");
	count = be32(data) / 8;
	for (size_t i = 0; i < count; i++)
		luns[i] = data[8 + 8 * i + 1];
	n = format(line, sizeof line, "disk: scan %lu:", ++scans);
	for (size_t i = 0; i < count; i++) {
		bool there;

		if (n > sizeof line - 64) { /* a print has its limit */
			print("%s", line);
			n = 0;
		}

		if (command(luns[i], inquiry, 6, IN, 36).srb != 1)
			fail("INQUIRY");
		if (data[0] != 0)
			fail("LUN %u is no disk", luns[i]);
		there = ready(luns[i]) && command(luns[i], capacity, 10, IN, 8).srb == 1;
		n += format(line + n, sizeof line - n, " %u=%u", luns[i], there ? be32(data) + 1 : 0);
	}
	print("%s\n", line);
}

/* ---- work ---- */

static void content(uint64_t n)
{
	for (uint32_t i = 0; i < MARK; i += 8) {
		uint64_t v = mix64(n * MARK + i);

		memcpy(data + i, &v, 8);
	}
}

static void address(uint8_t *cdb, uint64_t block)
{
	uint32_t sector = (uint32_t)(block * (BLOCK / 512));

	for (int i = 0; i < 4; i++)
		cdb[2 + i] = (uint8_t)(sector >> (24 - 8 * i));
	cdb[8] = BLOCK / 512;
}

/* Until it is done or is an error; false: an error, or the disk is gone. */
static bool transfer(uint32_t lun, uint8_t opcode, uint64_t block, uint8_t way, uint32_t bytes)
{
	uint8_t cdb[10] = {opcode};

	if (bytes)
		address(cdb, block);
	for (;;) {
		struct result r = command(lun, cdb, 10, way, bytes);

		if (r.srb == 1)
			return true;
		if ((r.srb & 0x3f) == 0x20) {
			print("disk: gone\n");
			quit = true;
			return false;
		}
		print("disk: work sense %x/%x/%x\n", r.key, r.asc, r.ascq);
		if (r.key != 6) {
			errors++;
			stuck = true;
			return false;
		}
	}
}

static void compare(uint32_t lun, uint64_t n, uint64_t blocks)
{
	uint8_t got[MARK];

	memset(data, 0, MARK);
	if (!transfer(lun, 0x28, n % blocks, IN, BLOCK))
		return;
	memcpy(got, data, MARK);
	content(n);
	if (memcmp(got, data, MARK) != 0)
		fail("block %lu does not hold what was written", n);
}

static void work(uint32_t lun, uint64_t blocks)
{
	uint64_t n = done;

	content(n);
	if (!transfer(lun, 0x2a, n % blocks, OUT, BLOCK) && quit)
		return;
	if (n >= blocks && (n + 1) % blocks != 0)
		compare(lun, n + 1 - blocks, blocks);
	done++;
	if (done % FLUSH_EACH == 0 && !quit && transfer(lun, 0x35, 0, NONE, 0))
		print("disk: done %lu\n", done);
}

static void verify(uint32_t lun, uint64_t blocks)
{
	uint64_t n = done > blocks ? done - blocks : 0;

	for (; n < done && !quit; n++)
		compare(lun, n, blocks);
	print("disk: sound %lu errors=%lu\n", done, errors);
}

/* ---- keys ---- */

static void on_byte(uint8_t b)
{
	key = b;
}

static void keys(uint32_t lun, uint64_t blocks)
{
	uint8_t k = key;

	key = 0;
	if (k == 'w')
		stuck = false;
	else if (k == 's')
		scan();
	else if (k == 'v' || k == 'q')
		verify(lun, blocks);
	if (k == 'q') {
		print("disk: OK\n");
		serial_drain();
		power_off();
	}
}

/* ---- start ---- */

static void on_tick(struct frame *f)
{
	(void)f;
	lapic_eoi();
}

static void start(void)
{
	static const uint8_t storage[4] = {0xd9, 0x63, 0x61, 0xba};
	unsigned n;

	if (!contact(5 << 16 | 3))
		fail("the version was refused");
	n = offers(channels, CHANNELS);
	for (unsigned i = 0; i < n; i++)
		if (memcmp(channels[i].class_id, storage, 4) == 0)
			disk = &channels[i];
	if (!disk)
		fail("there is no disk controller");
	channel_open(disk, 0);
	vstor(7, 0);
	vstor(9, 0x0602);
	vstor(10, 0);
	vstor(8, 0);
}

void guest_main(void)
{
	uint64_t blocks = arg_u64("blocks", 16), lun = arg_u64("work", 99);
	static uint8_t packet[PACKET_MAX];

	guest_name = "disk";
	irq_init();
	timer_calibrate();
	serial_irq_start(on_byte);
	irq_handler(VEC_LAPIC_TIMER, on_tick);
	irq_enable();
	if (!hv_present() || !hv_enable())
		fail("there is no Hyper-V");
	synic_start();
	data = mem_take(BLOCK);
	lapic_periodic((uint32_t)(lapic_hz / TICK_HZ));
	start();
	scan();
	print("disk: ready\n");
	for (;;) {
		/* Between commands only what nobody asked for can come. */
		if (channel_read(disk, packet) != 0) {
			if (get16(packet) != 6 || get32(packet + 8) != 0)
				fail("packet type %u between commands", get16(packet));
			look = true;
		}
		if (look)
			scan();
		if (key)
			keys((uint32_t)lun, blocks);
		for (int i = 0; i < BURST && lun < 64 && !quit && !stuck; i++)
			work((uint32_t)lun, blocks);
		wait_irq();
	}
}
