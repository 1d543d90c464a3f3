/* SPDX-License-Identifier: Apache-2.0 */
/* storage: the controller as a real driver found it (recorded packets), its data, its
 * errors, its drain and its state; and what a hostile driver gets. */
#include "hv/vsp/storage_parts.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/unit/hv/vmbus/bed.h"

#define RAM_BYTES (1ull << 30) /* the recorded guest's pages are below it */
#define DISK_BYTES (4u << 20)
#define DATA 0x4000000ull /* guest memory for data */

struct kit {
	struct bed bus;
	struct loop *loop;
	struct loop_timer *poll;
	struct storage *storage;
	struct block *block;
	struct bed_ring ring, sub;
	uint32_t relid, sub_relid;
	int fd;
	unsigned told; /* held errors */
	uint8_t answer[4096];
};

static void on_poll(void *arg)
{
	struct kit *k = arg;

	if (k->storage->in_flight == 0)
		loop_stop(k->loop);
	else
		loop_timer_set(k->poll, NS_PER_MS);
}

/* Until nothing is in flight at the disks. */
static void settle(struct kit *k)
{
	loop_timer_set(k->poll, 1);
	assert_ok(loop_run(k->loop));
	vmbus_work(k->bus.bus);
}

static void on_held(void *arg, unsigned lun, const char *reason)
{
	struct kit *k = arg;

	assert_int_equal(lun, 0);
	assert_non_null(reason);
	k->told++;
}

static void kit_storage(struct kit *k, bool hold, uint8_t id)
{
	struct block_raw raw = {.fd = k->fd, .direct_fd = -1, .id = {id}, .name = "disk0"};
	struct storage_host host = {
		.memory = k->bus.memory, .vcpus = 2, .loop = k->loop, .held = on_held, .arg = k};

	assert_ok(block_raw_create(&raw, &k->block));
	assert_ok(storage_create(&host, 0, &k->storage));
	storage_attach(k->storage, 0, k->block, hold);
	assert_ok(storage_start(k->storage, k->bus.bus));
}

static void kit_open(struct kit *k, bool hold)
{
	char path[] = "/tmp/lifeboat-storage-XXXXXX";
	struct memory *m;

	*k = (struct kit){.fd = mkstemp(path)};
	assert_true(k->fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ftruncate(k->fd, DISK_BYTES), 0);
	assert_ok(memory_create(RAM_BYTES, &m));
	assert_ok(loop_create(&k->loop));
	assert_ok(loop_timer_create(k->loop, on_poll, k, &k->poll));
	bed_attach(&k->bus, m);
	kit_storage(k, hold, 7);
	bed_synic_on(&k->bus);
	vmbus_resume(k->bus.bus);
}

static void kit_close(struct kit *k)
{
	block_fault_set(NULL, NULL);
	storage_stop(k->storage);
	bed_detach(&k->bus);
	storage_destroy(k->storage);
	loop_destroy(k->loop);
	memory_destroy(k->bus.memory);
	close(k->fd);
}

/* The payload of the next packet on that ring, which has to be a completion. */
static size_t completion(struct kit *k, struct bed_ring *r, uint64_t transaction)
{
	uint8_t packet[4096];
	size_t len = bed_receive(&k->bus, r, packet);

	if (len == 0)
		fail_msg("no completion of %#llx", (unsigned long long)transaction);
	assert_int_equal(le16_get(packet), 11);
	assert_int_equal(le64_get(packet + 8), transaction);
	memcpy(k->answer, packet + 16, len - 16);
	return len - 16;
}

static uint32_t control(struct kit *k, uint32_t operation, uint16_t value)
{
	uint8_t p[64] = {0};

	le32_put(p, operation);
	le32_put(p + 4, 1);
	le16_put(p + 12, value);
	bed_send(&k->bus, &k->ring, k->relid, 6, 0xfffffffffffffffd, p, sizeof(p));
	assert_int_equal(completion(k, &k->ring, 0xfffffffffffffffd), 64);
	assert_int_equal(le32_get(k->answer), 1);
	return le32_get(k->answer + 8);
}

static void connect_primary(struct kit *k)
{
	uint32_t relids[8];

	assert_int_equal(bed_connect(&k->bus, relids), 1);
	k->relid = relids[0];
	bed_open_channel(&k->bus, k->relid, 16, 0, &k->ring);
}

static void set_up(struct kit *k)
{
	connect_primary(k);
	assert_int_equal(control(k, 7, 0), 0);
	assert_int_equal(control(k, 9, 0x0602), 0);
	assert_int_equal(control(k, 10, 0), 0);
	assert_int_equal(control(k, 8, 0), 0);
}

/* A SCSI command with a buffer of `pages` scattered pages from DATA on. */
static size_t command(uint8_t *out, const char *cdb, uint8_t direction, uint32_t bytes,
		      uint64_t transaction)
{
	size_t pages = (bytes + 4095) / 4096, header = pages ? 16 + 8 * pages : 0;
	size_t all = 16 + header + 64;
	uint8_t *p = out + 16 + header;

	memset(out, 0, all);
	le16_put(out, pages ? 9 : 6);
	le16_put(out + 2, (uint16_t)((16 + header) / 8));
	le16_put(out + 4, (uint16_t)(all / 8));
	le16_put(out + 6, 1);
	le64_put(out + 8, transaction);
	if (pages) {
		le32_put(out + 20, 1);
		le32_put(out + 24, bytes);
		for (size_t i = 0; i < pages; i++)
			le64_put(out + 32 + 8 * i, DATA / 4096 + 2 * i);
	}
	le32_put(p, 3);
	le32_put(p + 4, 1);
	le16_put(p + 12, 52);
	p[20] = (uint8_t)(strlen(cdb) / 2);
	p[21] = 20;
	p[22] = direction;
	le32_put(p + 24, bytes);
	assert_true(bytes_unhex(cdb, p + 28, p[20]));
	return all;
}

static void send_raw(struct kit *k, const uint8_t *packet, size_t len)
{
	bed_write(&k->bus, &k->ring, packet, len);
	assert_ok(vmbus_signal(k->bus.bus, 0x2000 + k->relid));
	vmbus_work(k->bus.bus);
}

static void send_command(struct kit *k, const char *cdb, uint8_t direction, uint32_t bytes,
			 uint64_t transaction)
{
	uint8_t packet[8192];

	send_raw(k, packet, command(packet, cdb, direction, bytes, transaction));
}

/* The SRB's status and SCSI status in one. */
static unsigned run(struct kit *k, const char *cdb, uint8_t direction, uint32_t bytes)
{
	send_command(k, cdb, direction, bytes, 42);
	settle(k);
	assert_int_equal(completion(k, &k->ring, 42), 64);
	return (unsigned)k->answer[14] << 8 | k->answer[15];
}

#define GOOD 0x0100u
#define CHECK 0x8402u

static void fill(struct kit *k, uint32_t pages, uint8_t seed)
{
	uint8_t b[4096];

	for (uint32_t i = 0; i < pages; i++) {
		memset(b, seed + (int)i, sizeof(b));
		assert_ok(memory_write(k->bus.memory, gpa(DATA + 0x2000ull * i), b, sizeof(b)));
	}
}

static uint8_t byte_at(struct kit *k, uint32_t page, uint32_t at)
{
	uint8_t b;

	assert_ok(memory_read(k->bus.memory, gpa(DATA + 0x2000ull * page + at), &b, 1));
	return b;
}

/* ---- recorded packets ---- */

static size_t next_packet(FILE *f, char *line, size_t room, bool *to_host, unsigned *channel,
			  uint8_t *bytes)
{
	size_t len = 0;
	char way[32];

	do {
		if (!fgets(line, (int)room, f))
			return 0;
	} while (sscanf(line, "%31s packet scsi sub%u", way, channel) != 2);
	*to_host = strcmp(way, "guest->host") == 0;
	for (;;) {
		long at = ftell(f);

		if (!fgets(line, (int)room, f) || line[0] != ' ') {
			fseek(f, at, SEEK_SET);
			return len;
		}
		for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n"), len += 4)
			assert_true(bytes_unhex(word, bytes + len, 4));
	}
}

static void test_storage__a_recorded_driver_gets_the_recorded_answers(void **state)
{
	FILE *f = fopen(VECTORS, "r");
	uint8_t packet[512], got[512];
	unsigned channel, answers = 0;
	char line[512];
	bool to_host;
	struct kit k;
	size_t len;

	(void)state;
	assert_non_null(f);
	kit_open(&k, false);
	connect_primary(&k);
	while ((len = next_packet(f, line, sizeof(line), &to_host, &channel, packet)) > 0) {
		struct bed_ring *r = channel ? &k.sub : &k.ring;

		if (channel && !k.sub_relid) { /* it was offered meanwhile */
			uint8_t m[240];

			assert_int_equal(bed_expect(&k.bus, 1, m), 196);
			assert_int_equal(le16_get(m + 180), 1);
			k.sub_relid = le32_get(m + 184);
			bed_open_channel(&k.bus, k.sub_relid, 16, 1, &k.sub);
		}
		if (to_host) {
			bed_write(&k.bus, r, packet, len);
			assert_ok(vmbus_signal(k.bus.bus,
					       0x2000 + (channel ? k.sub_relid : k.relid)));
			vmbus_work(k.bus.bus);
			settle(&k);
			continue;
		}
		assert_int_equal(bed_receive(&k.bus, r, got), len);
		assert_memory_equal(got, packet, len);
		answers++;
	}
	assert_int_equal(answers, 28);
	(void)fclose(f);
	kit_close(&k);
}

/* ---- data ---- */

static void test_storage__what_a_guest_writes_it_reads(void **state)
{
	struct kit k;
	uint8_t b[512];

	(void)state;
	kit_open(&k, false);
	set_up(&k);
	fill(&k, 3, 0x10);
	assert_int_equal(run(&k, "2a000000000500001800", 0, 3 * 4096), GOOD);
	assert_int_equal(le32_get(k.answer + 24), 3 * 4096);
	assert_int_equal(pread(k.fd, b, 512, 5 * 512 + 2 * 4096), 512);
	assert_int_equal(b[0], 0x12);
	fill(&k, 3, 0x70);
	memory_track(k.bus.memory, true);
	assert_int_equal(run(&k, "28000000000500001800", 1, 3 * 4096), GOOD);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(byte_at(&k, i, 0), 0x10 + i);
		assert_int_equal(byte_at(&k, i, 4095), 0x10 + i);
	}
	/* The pages are known to have been written, by us. */
	uint64_t *bits = calloc(RAM_BYTES / 4096 / 64, 8);
	memory_take_written(k.bus.memory, bits);
	for (uint64_t i = 0; i < 3; i++) {
		uint64_t page = DATA / 4096 + 2 * i;
		assert_true(bits[page / 64] >> page % 64 & 1);
		assert_false(bits[page / 64] >> (page % 64 + 1) & 1);
	}
	free(bits);
	assert_int_equal(run(&k, "35000000000000000000", 2, 0), GOOD);
	kit_close(&k);
}

static void test_storage__unmap_and_write_same_reach_the_disk(void **state)
{
	uint8_t list[24] = {0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8};
	struct kit k;

	(void)state;
	kit_open(&k, false);
	set_up(&k);
	fill(&k, 4, 0x20);
	assert_int_equal(run(&k, "2a000000000000002000", 0, 4 * 4096), GOOD);
	assert_ok(memory_write(k.bus.memory, gpa(DATA), list, sizeof(list)));
	assert_int_equal(run(&k, "42000000000000001800", 0, sizeof(list)), GOOD);
	assert_ok(memory_zero(k.bus.memory, gpa(DATA), 512));
	assert_int_equal(run(&k, "93000000000000000018000000080000", 0, 512), GOOD);
	assert_int_equal(run(&k, "28000000000000002000", 1, 4 * 4096), GOOD);
	assert_int_equal(byte_at(&k, 0, 0), 0x20);
	assert_int_equal(byte_at(&k, 1, 17), 0);
	assert_int_equal(byte_at(&k, 2, 17), 0x22);
	assert_int_equal(byte_at(&k, 3, 17), 0);
	kit_close(&k);
}

static int fail_writes(void *arg, const struct block_io *io, size_t *len)
{
	(void)len;
	return io->op == BLOCK_WRITE ? *(const int *)arg : 0;
}

static void test_storage__an_error_of_the_host_reaches_the_guest(void **state)
{
	int error = EIO;
	struct kit k;

	(void)state;
	kit_open(&k, false);
	set_up(&k);
	block_fault_set(fail_writes, &error);
	assert_int_equal(run(&k, "2a000000000000000800", 0, 4096), CHECK);
	assert_int_equal(le32_get(k.answer + 8), 0xC0000185);
	assert_int_equal(le32_get(k.answer + 24), 0);
	assert_int_equal(k.answer[28 + 2], 3);
	assert_int_equal(k.answer[28 + 12], 0x0c);
	error = ENOSPC;
	assert_int_equal(run(&k, "2a000000000000000800", 0, 4096), CHECK);
	assert_int_equal(k.answer[28 + 2], 7);
	assert_int_equal(k.told, 0);
	block_fault_set(NULL, NULL);
	assert_int_equal(run(&k, "2a000000000000000800", 0, 4096), GOOD);
	kit_close(&k);
}

static void test_storage__a_held_command_is_done_after_a_resume_and_keeps_a_save_out(void **state)
{
	int error = ENOSPC;
	struct state_out *out;
	struct storage_info info;
	struct kit k;

	(void)state;
	kit_open(&k, true);
	set_up(&k);
	fill(&k, 1, 0x33);
	block_fault_set(fail_writes, &error);
	send_command(&k, "2a000000000000000800", 0, 4096, 9);
	settle(&k);
	assert_int_equal(k.told, 1);
	assert_int_equal(bed_receive(&k.bus, &k.ring, k.answer), 0);
	storage_info(k.storage, &info);
	assert_int_equal(info.held, 1);
	assert_ok(vmbus_quiesce(k.bus.bus));
	assert_ok(state_out_create(&out));
	assert_err(vmbus_save(k.bus.bus, out), ERR_BUSY);
	state_out_destroy(out);
	vmbus_resume(k.bus.bus);
	while (k.told < 2) /* it is still so; the lane is woken, at its own time */
		settle(&k);
	assert_int_equal(k.told, 2);
	block_fault_set(NULL, NULL);
	assert_ok(vmbus_quiesce(k.bus.bus));
	vmbus_resume(k.bus.bus);
	do {
		settle(&k);
		storage_info(k.storage, &info);
	} while (info.held > 0);
	settle(&k);
	assert_int_equal(completion(&k, &k.ring, 9), 64);
	assert_int_equal(k.answer[14], 1);
	kit_close(&k);
}

/* ---- LUNs, order of the set-up ---- */

static void test_storage__luns_that_are_not_there(void **state)
{
	uint8_t packet[256];
	struct kit k;

	(void)state;
	kit_open(&k, false);
	set_up(&k);
	for (unsigned at = 17; at <= 19; at++) { /* another path, target, LUN */
		size_t len = command(packet, "000000000000", 2, 0, 1);

		packet[16 + at] = 1;
		send_raw(&k, packet, len);
		assert_int_equal(completion(&k, &k.ring, 1), 64);
		assert_int_equal(k.answer[14], 0x20);
		len = command(packet, "120000002400", 1, 36, 2);
		packet[len - 64 + at] = 1;
		send_raw(&k, packet, len);
		assert_int_equal(completion(&k, &k.ring, 2), 64);
		assert_int_equal(k.answer[14], 1);
		assert_int_equal(byte_at(&k, 0, 0), 0x7f);
	}
	kit_close(&k);
}

static void test_storage__the_set_up_has_its_order(void **state)
{
	struct kit k;

	(void)state;
	kit_open(&k, false);
	connect_primary(&k);
	assert_int_not_equal(control(&k, 9, 0x0602), 0); /* not begun */
	assert_int_equal(run(&k, "000000000000", 2, 0) >> 8, 0x06);
	assert_int_equal(control(&k, 7, 0), 0);
	assert_int_not_equal(control(&k, 8, 0), 0); /* no version */
	assert_int_equal(control(&k, 9, 0x0501), 0xC0000059);
	assert_int_equal(control(&k, 9, 0x0600), 0);
	assert_int_equal(control(&k, 8, 0), 0);
	assert_int_not_equal(control(&k, 13, 9), 0); /* more than offered */
	assert_int_not_equal(control(&k, 99, 0), 0);
	assert_int_equal(control(&k, 5, 0), 0); /* reset: nothing in flight */
	assert_int_equal(run(&k, "000000000000", 2, 0), GOOD);
	kit_close(&k);
}

static void test_storage__a_reset_waits_for_what_is_in_flight(void **state)
{
	uint8_t packet[8192], p[64] = {0};
	struct kit k;

	(void)state;
	kit_open(&k, false);
	set_up(&k);
	bed_write(&k.bus, &k.ring, packet, command(packet, "28000000000000000800", 1, 4096, 5));
	le32_put(p, 4);
	bed_send(&k.bus, &k.ring, k.relid, 6, 0xfffffffffffffffc, p, sizeof(p));
	settle(&k);
	assert_int_equal(completion(&k, &k.ring, 5), 64);
	assert_int_equal(completion(&k, &k.ring, 0xfffffffffffffffc), 64);
	assert_int_equal(le32_get(k.answer + 8), 0);
	kit_close(&k);
}

static void test_storage__closing_waits_for_io_and_the_driver_can_come_back(void **state)
{
	struct kit k;

	(void)state;
	kit_open(&k, false);
	set_up(&k);
	send_command(&k, "28000000000000000800", 1, 4096, 5);
	bed_words(&k.bus, 7, 1, k.relid, 0); /* close */
	settle(&k);
	bed_words(&k.bus, 11, 2, k.relid, k.ring.gpadl);
	uint8_t m[240];
	assert_int_equal(bed_expect(&k.bus, 12, m), 12);
	bed_open_channel(&k.bus, k.relid, 16, 0, &k.ring);
	assert_int_equal(control(&k, 7, 0), 0);
	assert_int_equal(control(&k, 9, 0x0602), 0);
	assert_int_equal(control(&k, 8, 0), 0);
	assert_int_equal(run(&k, "000000000000", 2, 0), GOOD);
	kit_close(&k);
}

/* ---- hostile drivers ---- */

/* The channel is dead, the controller is not: it works when opened again. */
static void assert_broken(struct kit *k)
{
	uint8_t m[240], packet[512];

	settle(k);
	send_raw(k, packet, command(packet, "000000000000", 2, 0, 77));
	assert_int_equal(bed_receive(&k->bus, &k->ring, packet), 0);
	bed_words(&k->bus, 7, 1, k->relid, 0);
	bed_words(&k->bus, 11, 2, k->relid, k->ring.gpadl);
	assert_int_equal(bed_expect(&k->bus, 12, m), 12);
	bed_open_channel(&k->bus, k->relid, 16, 0, &k->ring);
	assert_int_equal(control(k, 7, 0), 0);
	assert_int_equal(control(k, 9, 0x0602), 0);
	assert_int_equal(control(k, 8, 0), 0);
}

static void test_storage__packets_that_are_no_requests_break_the_channel(void **state)
{
	static const uint8_t few[56];
	uint8_t packet[8192];
	struct kit k;
	size_t len;

	(void)state;
	kit_open(&k, false);
	set_up(&k);
	send_raw(&k, packet, bed_packet(packet, 6, 1, few, sizeof(few)));
	assert_broken(&k);
	len = command(packet, "000000000000", 2, 0, 1);
	le16_put(packet, 7); /* transfer pages */
	send_raw(&k, packet, len);
	assert_broken(&k);
	len = command(packet, "28000000000000000800", 1, 4096, 1);
	le64_put(packet + 32, RAM_BYTES / 4096); /* beyond memory */
	send_raw(&k, packet, len);
	assert_broken(&k);
	len = command(packet, "28000000000000000800", 1, 4096, 1);
	le32_put(packet + 24, 0xffffffff); /* more than its pages */
	send_raw(&k, packet, len);
	assert_broken(&k);
	len = command(packet, "28000000000000000800", 1, 4096, 1);
	le32_put(packet + 20, 0xffff); /* many ranges */
	send_raw(&k, packet, len);
	assert_broken(&k);
	kit_close(&k);
}

static void test_storage__lengths_that_lie_are_refused(void **state)
{
	uint8_t packet[8192];
	struct kit k;
	size_t len;

	(void)state;
	kit_open(&k, false);
	set_up(&k);
	assert_int_equal(run(&k, "28000000000000001000", 1, 4096), CHECK); /* 8 KiB into 4 */
	assert_int_equal(run(&k, "28000000000000000800", 0, 4096), CHECK); /* the wrong way */
	assert_int_equal(run(&k, "28000000000000000800", 2, 0), CHECK);
	len = command(packet, "28000000000000000800", 1, 4096, 42);
	le32_put(packet + len - 64 + 24, 512); /* the SRB says less than the pages */
	send_raw(&k, packet, len);
	assert_int_equal(completion(&k, &k.ring, 42), 64);
	assert_int_equal(k.answer[14], 0x84);
	len = command(packet, "000000000000", 2, 0, 42);
	packet[16 + 20] = 17; /* a command of 17 bytes */
	send_raw(&k, packet, len);
	assert_int_equal(completion(&k, &k.ring, 42), 64);
	assert_int_equal(k.answer[14], 0x06);
	kit_close(&k);
}

/* ---- state ---- */

static struct state_out *save(struct kit *k, const uint8_t **p, size_t *len)
{
	struct state_out *out;

	assert_ok(vmbus_quiesce(k->bus.bus));
	assert_ok(state_out_create(&out));
	synic_save(k->bus.synic, out);
	assert_ok(vmbus_save(k->bus.bus, out));
	assert_ok(state_out_finish(out, p, len));
	return out;
}

/* The same memory and disk under a new bus and a new controller. */
static void move(struct kit *k, uint8_t id, enum err expected)
{
	struct memory *m = k->bus.memory;
	const uint8_t *p;
	size_t len;
	struct state_out *out = save(k, &p, &len);
	struct state_file *file;

	storage_stop(k->storage);
	bed_detach(&k->bus);
	storage_destroy(k->storage);
	bed_attach(&k->bus, m);
	kit_storage(k, false, id);
	assert_ok(state_open(p, len, &file));
	assert_ok(synic_load(k->bus.synic, file));
	assert_err(vmbus_load(k->bus.bus, file), expected);
	state_close(file);
	state_out_destroy(out);
}

static void test_storage__the_driver_goes_on_after_a_load(void **state)
{
	struct kit k;

	(void)state;
	kit_open(&k, false);
	set_up(&k);
	fill(&k, 1, 0x44);
	send_command(&k, "2a000000000000000800", 0, 4096, 5); /* in flight, then drained */
	settle(&k);
	move(&k, 7, ERR_OK);
	vmbus_resume(k.bus.bus);
	vmbus_work(k.bus.bus);
	assert_int_equal(completion(&k, &k.ring, 5), 64);
	fill(&k, 1, 0);
	assert_int_equal(run(&k, "28000000000000000800", 1, 4096), GOOD);
	assert_int_equal(byte_at(&k, 0, 0), 0x44);
	kit_close(&k);
}

static void test_storage__another_disk_or_size_is_refused(void **state)
{
	struct kit k;

	(void)state;
	kit_open(&k, false);
	set_up(&k);
	move(&k, 8, ERR_VERSION);
	assert_non_null(strstr(err_text(), "disk0"));
	kit_close(&k);
	kit_open(&k, false);
	set_up(&k);
	assert_int_equal(ftruncate(k.fd, 2 * DISK_BYTES), 0);
	move(&k, 7, ERR_VERSION);
	kit_close(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_storage__a_recorded_driver_gets_the_recorded_answers),
		cmocka_unit_test(test_storage__what_a_guest_writes_it_reads),
		cmocka_unit_test(test_storage__unmap_and_write_same_reach_the_disk),
		cmocka_unit_test(test_storage__an_error_of_the_host_reaches_the_guest),
		cmocka_unit_test(
			test_storage__a_held_command_is_done_after_a_resume_and_keeps_a_save_out),
		cmocka_unit_test(test_storage__luns_that_are_not_there),
		cmocka_unit_test(test_storage__the_set_up_has_its_order),
		cmocka_unit_test(test_storage__a_reset_waits_for_what_is_in_flight),
		cmocka_unit_test(test_storage__closing_waits_for_io_and_the_driver_can_come_back),
		cmocka_unit_test(test_storage__packets_that_are_no_requests_break_the_channel),
		cmocka_unit_test(test_storage__lengths_that_lie_are_refused),
		cmocka_unit_test(test_storage__the_driver_goes_on_after_a_load),
		cmocka_unit_test(test_storage__another_disk_or_size_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
