/* SPDX-License-Identifier: Apache-2.0 */
/* storage_change: disks come, go and change their sizes under a driver: what it is told,
 * and what becomes of its commands. */
#include "tests/unit/hv/storage/kit.h"

#define NO_DEVICE 0x2000u
#define READY "000000000000"
#define REPORT_LUNS "a00000000000000010000000"
#define CAPACITY "25000000000000000000"

/* One more file of that length, as a block. */
static struct block *new_block(uint64_t bytes, uint8_t id, int *fd)
{
	char path[] = "/tmp/lifeboat-storage-XXXXXX";
	struct block_raw raw = {.direct_fd = -1, .id = {id}, .name = "new"};
	struct block *b;

	*fd = raw.fd = mkstemp(path);
	assert_true(*fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ftruncate(*fd, (off_t)bytes), 0);
	assert_ok(block_raw_create(&raw, &b));
	return b;
}

/* What the host says without having been asked: the operation, 0 for nothing. */
static uint32_t told(struct kit *k)
{
	uint8_t packet[4096];
	size_t len = bed_receive(&k->bus, &k->ring, packet);

	if (len == 0)
		return 0;
	assert_int_equal(len, 16 + 64);
	assert_int_equal(le16_get(packet), 6);
	assert_int_equal(le16_get(packet + 6), 0);
	assert_int_equal(le64_get(packet + 8), 0);
	return le32_get(packet + 16);
}

static void resume(struct kit *k)
{
	vmbus_resume(k->bus.bus);
	settle(k);
	settle(k);
}

static unsigned run_at(struct kit *k, unsigned lun, const char *cdb, uint8_t way, uint32_t bytes)
{
	uint8_t packet[8192];
	size_t len = command(packet, cdb, way, bytes, 42);

	packet[16 * (bytes ? 1u : 0u) + 16 + 8 * ((bytes + 4095) / 4096) + 19] = (uint8_t)lun;
	send_raw(k, packet, len);
	settle(k);
	assert_int_equal(completion(k, &k->ring, 42), 64);
	return (unsigned)k->answer[14] << 8 | k->answer[15];
}

static uint32_t sense(const struct kit *k)
{
	return SCSI_SENSE(k->answer[28 + 2], k->answer[28 + 12], k->answer[28 + 13]);
}

static void test_hotplug__a_new_disk_is_told_and_works(void **state)
{
	struct kit k;
	int fd;

	(void)state;
	kit_open(&k, false);
	set_up(&k);
	assert_int_equal(run_at(&k, 5, READY, 2, 0), NO_DEVICE);
	assert_ok(vmbus_quiesce(k.bus.bus));
	storage_add(k.storage, 5, new_block(1 << 20, 9, &fd), false);
	assert_int_equal(told(&k), 0); /* it stands */
	resume(&k);
	assert_int_equal(told(&k), 11);
	assert_int_equal(told(&k), 0);
	assert_int_equal(run_at(&k, 5, READY, 2, 0), GOOD);
	/* The others have an attention, once; or none after REPORT LUNS. */
	assert_int_equal(run_at(&k, 0, READY, 2, 0), CHECK);
	assert_int_equal(sense(&k), SCSI_LUNS_CHANGED);
	assert_int_equal(run_at(&k, 0, READY, 2, 0), GOOD);
	assert_int_equal(run_at(&k, 0, REPORT_LUNS, 1, 4096), GOOD);
	assert_int_equal(byte_at(&k, 0, 3), 16);
	assert_int_equal(byte_at(&k, 0, 17), 5);
	fill(&k, 1, 0x21);
	assert_int_equal(run_at(&k, 5, "2a000000000000000800", 0, 4096), GOOD);
	fill(&k, 1, 0);
	assert_int_equal(run_at(&k, 5, "28000000000000000800", 1, 4096), GOOD);
	assert_int_equal(byte_at(&k, 0, 100), 0x21);
	kit_close(&k);
	close(fd);
}

static void test_hotplug__a_removed_disk_is_told_and_gone(void **state)
{
	struct block_info info;
	struct kit k;
	int fd;

	(void)state;
	kit_open(&k, false);
	set_up(&k);
	assert_ok(vmbus_quiesce(k.bus.bus));
	storage_add(k.storage, 63, new_block(1 << 20, 9, &fd), false);
	storage_remove(k.storage, 0);
	assert_false(storage_has(k.storage, 0, &info));
	assert_false(storage_has(k.storage, 64, &info));
	assert_true(storage_has(k.storage, 63, &info));
	resume(&k);
	assert_int_equal(told(&k), 2);
	assert_int_equal(told(&k), 11);
	assert_int_equal(run_at(&k, 0, READY, 2, 0), NO_DEVICE);
	assert_int_equal(le32_get(k.answer + 8), 0xC00000C0);
	assert_int_equal(run_at(&k, 0, "28000000000000000800", 1, 4096), NO_DEVICE);
	assert_int_equal(run_at(&k, 0, "120000002400", 1, 36), GOOD);
	assert_int_equal(byte_at(&k, 0, 0), 0x7f);
	assert_int_equal(run_at(&k, 63, REPORT_LUNS, 1, 4096), GOOD);
	assert_int_equal(byte_at(&k, 0, 3), 8);
	assert_int_equal(byte_at(&k, 0, 9), 63);
	assert_int_equal(run_at(&k, 63, READY, 2, 0), GOOD); /* REPORT LUNS told it */
	kit_close(&k);
	close(fd);
}

static void test_hotplug__another_size_is_told_and_holds(void **state)
{
	struct kit k;

	(void)state;
	kit_open(&k, false);
	set_up(&k);
	assert_ok(vmbus_quiesce(k.bus.bus));
	assert_err(storage_resize(k.storage, 0, 1000), ERR_USAGE);
	assert_ok(storage_resize(k.storage, 0, DISK_BYTES)); /* as it is: nothing to tell */
	resume(&k);
	assert_int_equal(told(&k), 0);
	assert_ok(vmbus_quiesce(k.bus.bus));
	assert_ok(storage_resize(k.storage, 0, 2 * DISK_BYTES));
	resume(&k);
	assert_int_equal(told(&k), 11);
	assert_int_equal(run(&k, "2a000000200000000800", 0, 4096), CHECK);
	assert_int_equal(sense(&k), SCSI_CAPACITY_CHANGED);
	assert_int_equal(run(&k, "2a000000200000000800", 0, 4096), GOOD);
	assert_int_equal(run(&k, CAPACITY, 1, 8), GOOD);
	assert_int_equal(byte_at(&k, 0, 2), 0x3f);
	assert_int_equal(byte_at(&k, 0, 3), 0xff);
	assert_ok(vmbus_quiesce(k.bus.bus));
	assert_ok(storage_resize(k.storage, 0, 4096));
	assert_int_equal(lseek(k.fd, 0, SEEK_END), 4096);
	resume(&k);
	assert_int_equal(told(&k), 11);
	assert_int_equal(run(&k, READY, 2, 0), CHECK);
	assert_int_equal(run(&k, "2a000000000800000800", 0, 4096), CHECK);
	assert_int_equal(sense(&k), SCSI_SENSE(5, 0x21, 0));
	kit_close(&k);
}

/* A command that waits for better times meets a disk that is gone, another one in its
 * place, or one that is too short for it. */
static void test_hotplug__what_is_held_back_reaches_no_other_disk(void **state)
{
	int error = EIO, fd;
	uint8_t first = 1;
	struct kit k;

	(void)state;
	kit_open(&k, true);
	set_up(&k);
	fill(&k, 1, 0x77);
	block_fault_set(fail_writes, &error);
	send_command(&k, "2a000000000000000800", 0, 4096, 9);
	settle(&k);
	assert_int_equal(k.told, 1);
	assert_ok(vmbus_quiesce(k.bus.bus));
	block_fault_set(NULL, NULL);
	storage_remove(k.storage, 0);
	storage_add(k.storage, 0, new_block(1 << 20, 9, &fd), true);
	while (k.storage->held)
		resume(&k);
	settle(&k);
	assert_int_equal(completion(&k, &k.ring, 9), 64);
	assert_int_equal(k.answer[14], 0x20);
	assert_int_equal(pread(fd, &first, 1, 0), 1);
	assert_int_equal(first, 0);
	assert_int_equal(told(&k), 2);
	assert_int_equal(told(&k), 11);
	/* Too short. */
	block_fault_set(fail_writes, &error);
	send_command(&k, "2a000000040000000800", 0, 4096, 10);
	settle(&k);
	assert_ok(vmbus_quiesce(k.bus.bus));
	block_fault_set(NULL, NULL);
	assert_ok(storage_resize(k.storage, 0, 65536));
	while (k.storage->held)
		resume(&k);
	settle(&k);
	assert_int_equal(completion(&k, &k.ring, 10), 64);
	assert_int_equal(sense(&k), SCSI_SENSE(5, 0x21, 0));
	assert_int_equal(lseek(fd, 0, SEEK_END), 65536);
	kit_close(&k);
	close(fd);
}

/* Nobody is told who has not looked yet; what is due is part of the state. */
static void test_hotplug__what_is_due_survives_a_load_and_ends_with_the_driver(void **state)
{
	struct kit k;

	(void)state;
	kit_open(&k, false);
	assert_ok(vmbus_quiesce(k.bus.bus));
	assert_ok(storage_resize(k.storage, 0, 2 * DISK_BYTES));
	vmbus_resume(k.bus.bus);
	set_up(&k);
	settle(&k);
	assert_int_equal(told(&k), 0);
	assert_int_equal(run(&k, READY, 2, 0), GOOD);
	assert_ok(vmbus_quiesce(k.bus.bus));
	assert_ok(storage_resize(k.storage, 0, 3 * DISK_BYTES));
	move(&k, 7, ERR_OK);
	resume(&k);
	assert_int_equal(told(&k), 11);
	assert_int_equal(run(&k, READY, 2, 0), CHECK);
	assert_int_equal(sense(&k), SCSI_CAPACITY_CHANGED);
	/* A driver that begins anew has nothing to be told. */
	assert_ok(vmbus_quiesce(k.bus.bus));
	assert_ok(storage_resize(k.storage, 0, DISK_BYTES));
	vmbus_resume(k.bus.bus);
	assert_int_equal(control(&k, 7, 0), 0);
	assert_int_equal(control(&k, 9, 0x0602), 0);
	assert_int_equal(control(&k, 8, 0), 0);
	settle(&k);
	assert_int_equal(told(&k), 0);
	kit_close(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hotplug__a_new_disk_is_told_and_works),
		cmocka_unit_test(test_hotplug__a_removed_disk_is_told_and_gone),
		cmocka_unit_test(test_hotplug__another_size_is_told_and_holds),
		cmocka_unit_test(test_hotplug__what_is_held_back_reaches_no_other_disk),
		cmocka_unit_test(
			test_hotplug__what_is_due_survives_a_load_and_ends_with_the_driver),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
