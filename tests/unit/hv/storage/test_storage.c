/* SPDX-License-Identifier: Apache-2.0 */
/* storage: the controller as a real driver found it (recorded packets), its data, its
 * errors, its drain and its state; and what a hostile driver gets. */
#include <stdio.h>

#include "tests/unit/hv/storage/kit.h"

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
