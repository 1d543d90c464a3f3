/* SPDX-License-Identifier: Apache-2.0 */
/* kit: a disk controller on a bus with a driver made of functions (bed.h), one disk in a
 * file without a name, and what a driver does with them. */
#ifndef TESTS_UNIT_HV_STORAGE_KIT_H
#define TESTS_UNIT_HV_STORAGE_KIT_H

#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "hv/vsp/storage_parts.h"
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

static inline void on_poll(void *arg)
{
	struct kit *k = arg;

	if (k->storage->in_flight == 0)
		loop_stop(k->loop);
	else
		loop_timer_set(k->poll, NS_PER_MS);
}

/* Until nothing is in flight at the disks. */
static inline void settle(struct kit *k)
{
	loop_timer_set(k->poll, 1);
	assert_ok(loop_run(k->loop));
	vmbus_work(k->bus.bus);
}

static inline void on_held(void *arg, unsigned lun, const char *reason)
{
	struct kit *k = arg;

	assert_int_equal(lun, 0);
	assert_non_null(reason);
	k->told++;
}

static inline void kit_storage(struct kit *k, bool hold, uint8_t id)
{
	struct block_raw raw = {.fd = k->fd, .direct_fd = -1, .id = {id}, .name = "disk0"};
	struct storage_host host = {
		.memory = k->bus.memory, .vcpus = 2, .loop = k->loop, .held = on_held, .arg = k};

	assert_ok(block_raw_create(&raw, &k->block));
	assert_ok(storage_create(&host, 0, &k->storage));
	storage_attach(k->storage, 0, k->block, hold);
	assert_ok(storage_start(k->storage, k->bus.bus));
}

static inline void kit_open(struct kit *k, bool hold)
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

static inline void kit_close(struct kit *k)
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
static inline size_t completion(struct kit *k, struct bed_ring *r, uint64_t transaction)
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

static inline uint32_t control(struct kit *k, uint32_t operation, uint16_t value)
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

static inline void connect_primary(struct kit *k)
{
	uint32_t relids[8];

	assert_int_equal(bed_connect(&k->bus, relids), 1);
	k->relid = relids[0];
	bed_open_channel(&k->bus, k->relid, 16, 0, &k->ring);
}

static inline void set_up(struct kit *k)
{
	connect_primary(k);
	assert_int_equal(control(k, 7, 0), 0);
	assert_int_equal(control(k, 9, 0x0602), 0);
	assert_int_equal(control(k, 10, 0), 0);
	assert_int_equal(control(k, 8, 0), 0);
}

/* A SCSI command with a buffer of `pages` scattered pages from DATA on. */
static inline size_t command(uint8_t *out, const char *cdb, uint8_t direction, uint32_t bytes,
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

static inline void send_raw(struct kit *k, const uint8_t *packet, size_t len)
{
	bed_write(&k->bus, &k->ring, packet, len);
	assert_ok(vmbus_signal(k->bus.bus, 0x2000 + k->relid));
	vmbus_work(k->bus.bus);
}

static inline void send_command(struct kit *k, const char *cdb, uint8_t direction, uint32_t bytes,
				uint64_t transaction)
{
	uint8_t packet[8192];

	send_raw(k, packet, command(packet, cdb, direction, bytes, transaction));
}

/* The SRB's status and SCSI status in one. */
static inline unsigned run(struct kit *k, const char *cdb, uint8_t direction, uint32_t bytes)
{
	send_command(k, cdb, direction, bytes, 42);
	settle(k);
	assert_int_equal(completion(k, &k->ring, 42), 64);
	return (unsigned)k->answer[14] << 8 | k->answer[15];
}

#define GOOD 0x0100u
#define CHECK 0x8402u

static inline void fill(struct kit *k, uint32_t pages, uint8_t seed)
{
	uint8_t b[4096];

	for (uint32_t i = 0; i < pages; i++) {
		memset(b, seed + (int)i, sizeof(b));
		assert_ok(memory_write(k->bus.memory, gpa(DATA + 0x2000ull * i), b, sizeof(b)));
	}
}

static inline uint8_t byte_at(struct kit *k, uint32_t page, uint32_t at)
{
	uint8_t b;

	assert_ok(memory_read(k->bus.memory, gpa(DATA + 0x2000ull * page + at), &b, 1));
	return b;
}

static inline int fail_writes(void *arg, const struct block_io *io, size_t *len)
{
	(void)len;
	return io->op == BLOCK_WRITE ? *(const int *)arg : 0;
}

static inline struct state_out *save(struct kit *k, const uint8_t **p, size_t *len)
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
static inline void move(struct kit *k, uint8_t id, enum err expected)
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

#endif
