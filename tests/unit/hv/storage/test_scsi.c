/* SPDX-License-Identifier: Apache-2.0 */
/* scsi: what guests' commands become, and what malformed ones are told. */
#include "hv/vsp/scsi.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/unit/cm.h"

#define SECTORS (1ull << 20)

static struct scsi_unit unit(void)
{
	return (struct scsi_unit){
		.present = true,
		.luns = 1,
		.disk = {.bytes = SECTORS * 512,
			 .discard = true,
			 .id = {0xab, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}},
	};
}

static struct scsi_answer answer;

/* cdb as text: bytes in hexadecimal; len: its length too. */
static void ask(const struct scsi_unit *u, const char *hex, uint64_t buffer, const void *parameter,
		size_t parameter_bytes)
{
	struct scsi_command c = {.cdb_bytes = strlen(hex) / 2,
				 .data_bytes = buffer,
				 .parameter = parameter,
				 .parameter_bytes = parameter_bytes};

	assert_true(bytes_unhex(hex, c.cdb, c.cdb_bytes));
	scsi_execute(u, &c, &answer);
}

static void ask_disk(const char *hex, uint64_t buffer)
{
	const struct scsi_unit u = unit();

	ask(&u, hex, buffer, NULL, 0);
}

static void assert_sense(unsigned key, unsigned asc, unsigned ascq)
{
	assert_int_equal(answer.status, SCSI_CHECK_CONDITION);
	assert_int_equal(answer.ranges, 0);
	assert_int_equal(answer.data_bytes, 0);
	assert_int_equal(answer.sense[0], 0x70);
	assert_int_equal(answer.sense[2], key);
	assert_int_equal(answer.sense[12], asc);
	assert_int_equal(answer.sense[13], ascq);
}

static void assert_range(enum block_op op, uint64_t sector, uint64_t sectors, bool fua)
{
	assert_int_equal(answer.status, SCSI_GOOD);
	assert_int_equal(answer.ranges, 1);
	assert_int_equal(answer.op, op);
	assert_int_equal(answer.fua, fua);
	assert_int_equal(answer.range[0].offset, sector * 512);
	assert_int_equal(answer.range[0].bytes, sectors * 512);
}

static void test_scsi__reads_and_writes_of_all_lengths(void **state)
{
	static const struct {
		const char *cdb;
		enum block_op op;
		uint64_t sector, sectors;
		bool fua;
	} cases[] = {
		{"080102030400", BLOCK_READ, 0x10203 & 0x1fffff, 4, false},
		{"080000000000", BLOCK_READ, 0, 256, false},
		{"0a0000100100", BLOCK_WRITE, 0x10, 1, false},
		{"28000000010000000800", BLOCK_READ, 0x100, 8, false},
		{"2a080000010000000800", BLOCK_WRITE, 0x100, 8, true},
		{"28080000010000000800", BLOCK_READ, 0x100, 8, false},
		{"a80000000100000000080000", BLOCK_READ, 0x100, 8, false},
		{"aa0800000100000000080000", BLOCK_WRITE, 0x100, 8, true},
		{"88000000000000000fff0000000100"
		 "00",
		 BLOCK_READ, 0xfff, 1, false},
		{"8a080000000000000fff0000000100"
		 "00",
		 BLOCK_WRITE, 0xfff, 1, true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ask_disk(cases[i].cdb, 1 << 20);
		assert_range(cases[i].op, cases[i].sector, cases[i].sectors, cases[i].fua);
	}
	ask_disk("28000000010000000000", 0); /* no sectors: nothing to do, and well */
	assert_int_equal(answer.status, SCSI_GOOD);
	assert_int_equal(answer.ranges, 0);
}

static void test_scsi__the_end_of_the_disk_is_the_end(void **state)
{
	(void)state;
	ask_disk("280000"
		 "0fffff"
		 "00000100",
		 512);
	assert_range(BLOCK_READ, SECTORS - 1, 1, false);
	ask_disk("280000"
		 "0fffff"
		 "00000200",
		 1024);
	assert_sense(5, 0x21, 0);
	ask_disk("2800"
		 "00100001"
		 "00000000",
		 0);
	assert_sense(5, 0x21, 0);
	ask_disk("8800"
		 "ffffffffffffffff"
		 "00000001"
		 "0000",
		 512);
	assert_sense(5, 0x21, 0);
	ask_disk("8800"
		 "fffffffffffffff8"
		 "00000010"
		 "0000",
		 1 << 20);
	assert_sense(5, 0x21, 0);
	ask_disk("3500"
		 "00100000"
		 "00000100",
		 0);
	assert_sense(5, 0x21, 0);
}

static void test_scsi__a_buffer_too_small_is_refused(void **state)
{
	(void)state;
	ask_disk("28000000010000000800", 8 * 512 - 1);
	assert_sense(5, 0x24, 0);
	ask_disk("8800"
		 "0000000000000000"
		 "ffffffff"
		 "0000",
		 1 << 20);
	assert_sense(5, 0x24, 0);
	ask_disk("28200000010000000800", 1 << 20); /* protection information */
	assert_sense(5, 0x24, 0);
}

static void test_scsi__a_short_command_and_an_unknown_one_are_refused(void **state)
{
	const struct scsi_unit u = unit();
	struct scsi_command c = {.cdb = {0x28}, .cdb_bytes = 9, .data_bytes = 512};

	(void)state;
	scsi_execute(&u, &c, &answer);
	assert_sense(5, 0x24, 0);
	c.cdb_bytes = 0;
	scsi_execute(&u, &c, &answer);
	assert_sense(5, 0x24, 0);
	ask_disk("ff0000000000", 0);
	assert_sense(5, 0x20, 0);
	ask_disk("9e110000000000000000000000200000", 32);
	assert_sense(5, 0x24, 0);
}

static void test_scsi__a_read_only_disk_takes_no_change(void **state)
{
	static const char *const cdbs[] = {
		"0a0000000100", "2a000000000000000100", "8a000000000000000000000000010000",
		"93080000000000000000000000010000", "42000000000000001800"};
	struct scsi_unit u = unit();
	uint8_t zeros[512] = {0};

	(void)state;
	u.disk.read_only = true;
	for (size_t i = 0; i < sizeof(cdbs) / sizeof(cdbs[0]); i++) {
		ask(&u, cdbs[i], 1 << 20, zeros, sizeof(zeros));
		assert_sense(7, 0x27, 0);
	}
	ask(&u, "28000000000000000100", 512, NULL, 0);
	assert_range(BLOCK_READ, 0, 1, false);
	ask(&u, "1a003f00ff00", 255, NULL, 0);
	assert_int_equal(answer.data[2], 0x90); /* write-protected; FUA */
}

static void test_scsi__flush(void **state)
{
	(void)state;
	ask_disk("35000000000000000000", 0);
	assert_int_equal(answer.ranges, 1);
	assert_int_equal(answer.op, BLOCK_FLUSH);
	ask_disk("91000000000000000000000000000000", 0);
	assert_int_equal(answer.op, BLOCK_FLUSH);
}

static void put_descriptor(uint8_t *p, uint64_t sector, uint32_t sectors)
{
	memset(p, 0, 16);
	for (unsigned i = 0; i < 8; i++)
		p[i] = (uint8_t)(sector >> (56 - 8 * i));
	for (unsigned i = 0; i < 4; i++)
		p[8 + i] = (uint8_t)(sectors >> (24 - 8 * i));
}

static void test_scsi__unmap(void **state)
{
	struct scsi_unit u = unit();
	uint8_t list[8 + 16 * 3] = {0, 54, 0, 48};

	(void)state;
	put_descriptor(list + 8, 8, 16);
	put_descriptor(list + 24, 100, 0); /* nothing of it */
	put_descriptor(list + 40, SECTORS - 1, 1);
	ask(&u, "42000000000000003800", sizeof(list), list, sizeof(list));
	assert_int_equal(answer.status, SCSI_GOOD);
	assert_int_equal(answer.ranges, 2);
	assert_int_equal(answer.op, BLOCK_DISCARD);
	assert_int_equal(answer.range[0].offset, 8 * 512);
	assert_int_equal(answer.range[1].offset, (SECTORS - 1) * 512);
	/* Beyond the end; more descriptors than came; a list that is cut; none at all. */
	put_descriptor(list + 40, SECTORS, 1);
	ask(&u, "42000000000000003800", sizeof(list), list, sizeof(list));
	assert_sense(5, 0x21, 0);
	list[3] = 64;
	ask(&u, "42000000000000003800", sizeof(list), list, sizeof(list));
	assert_sense(5, 0x26, 0);
	list[2] = 0xff;
	ask(&u, "42000000000000003800", sizeof(list), list, sizeof(list));
	assert_sense(5, 0x26, 0);
	ask(&u, "42000000000000003800", 8, list, 8);
	assert_sense(5, 0x1a, 0);
	ask(&u, "42000000000000000400", 4, list, 4);
	assert_sense(5, 0x1a, 0);
	ask(&u, "42000000000000000000", 0, NULL, 0);
	assert_int_equal(answer.status, SCSI_GOOD);
	assert_int_equal(answer.ranges, 0);
	u.disk.discard = false;
	ask(&u, "42000000000000003800", sizeof(list), list, sizeof(list));
	assert_sense(5, 0x20, 0);
}

static void test_scsi__write_same_zeroes_and_discards(void **state)
{
	struct scsi_unit u = unit();
	uint8_t block[512] = {0};

	(void)state;
	ask(&u, "93080000000000000010000000200000", 512, block, 512);
	assert_range(BLOCK_DISCARD, 16, 32, false);
	ask(&u, "93000000000000000010000000200000", 512, block, 512);
	assert_range(BLOCK_ZERO, 16, 32, false);
	ask(&u, "41080000001000002000", 512, block, 512);
	assert_range(BLOCK_DISCARD, 16, 32, false);
	ask(&u, "93010000000000000010000000200000", 0, NULL, 0); /* no block needed */
	assert_range(BLOCK_ZERO, 16, 32, false);
	ask(&u, "93000000000000000010000000000000", 512, block, 512); /* "to the end" */
	assert_sense(5, 0x24, 0);
	ask(&u, "93000000000000000010000000200000", 100, block, 100);
	assert_sense(5, 0x24, 0);
	block[511] = 1;
	ask(&u, "93000000000000000010000000200000", 512, block, 512);
	assert_sense(5, 0x24, 0);
	block[511] = 0;
	u.disk.discard = false;
	ask(&u, "93080000000000000010000000200000", 512, block, 512);
	assert_sense(5, 0x24, 0);
}

static void test_scsi__inquiry_pages(void **state)
{
	(void)state;
	ask_disk("120000002400", 36);
	assert_int_equal(answer.data_bytes, 36);
	assert_int_equal(answer.data[0], 0);
	assert_memory_equal(answer.data + 8, "Msft    Virtual Disk    ", 24);
	ask_disk("12010000ff00", 255);
	assert_memory_equal(answer.data, "\0\0\0\6\x00\x80\x83\xb0\xb1\xb2", 10);
	assert_int_equal(answer.data_bytes, 10);
	ask_disk("12018000ff00", 255);
	assert_int_equal(answer.data_bytes, 36);
	assert_memory_equal(answer.data + 4, "ab0102030405060708090a0b0c0d0e0f", 32);
	ask_disk("12018300ff00", 255);
	assert_int_equal(answer.data[4 + 1], 3); /* NAA, locally assigned, of the identity */
	assert_memory_equal(answer.data + 8, "\x3b\1\2\3\4\5\6\7", 8);
	assert_int_equal(answer.data_bytes, 4 + answer.data[3]);
	ask_disk("1201b000ff00", 255);
	assert_int_equal(answer.data_bytes, 64);
	assert_int_equal(answer.data[4 + 23], SCSI_RANGES);
	ask_disk("1201b100ff00", 255);
	assert_int_equal(answer.data[5], 1);
	ask_disk("1201b200ff00", 255);
	assert_int_equal(answer.data[5], 0xe4);
	ask_disk("1201c000ff00", 255);
	assert_sense(5, 0x24, 0);
	ask_disk("120080002400", 36); /* a page without the bit */
	assert_sense(5, 0x24, 0);
	ask_disk("12000000ff00", 5); /* the buffer is what counts */
	assert_int_equal(answer.data_bytes, 5);
}

static void test_scsi__a_disk_without_discard_does_not_offer_it(void **state)
{
	struct scsi_unit u = unit();

	(void)state;
	u.disk.discard = false;
	ask(&u, "1201b200ff00", 255, NULL, 0);
	assert_int_equal(answer.data[5], 0);
	ask(&u, "1201b000ff00", 255, NULL, 0);
	assert_true(bytes_zero(answer.data + 20, 12));
	ask(&u, "9e100000000000000000000000200000", 32, NULL, 0);
	assert_int_equal(answer.data[14], 0);
}

static void test_scsi__capacity(void **state)
{
	struct scsi_unit u = unit();

	(void)state;
	ask(&u, "25000000000000000000", 8, NULL, 0);
	assert_memory_equal(answer.data, "\0\x0f\xff\xff\0\0\2\0", 8);
	ask(&u, "9e100000000000000000000000200000", 32, NULL, 0);
	assert_int_equal(answer.data_bytes, 32);
	assert_memory_equal(answer.data, "\0\0\0\0\0\x0f\xff\xff\0\0\2\0", 12);
	assert_int_equal(answer.data[13], 3);
	assert_int_equal(answer.data[14], 0xc0);
	u.disk.bytes = 3ull << 40;
	ask(&u, "25000000000000000000", 8, NULL, 0);
	assert_memory_equal(answer.data, "\xff\xff\xff\xff", 4);
}

static void test_scsi__mode_pages(void **state)
{
	(void)state;
	ask_disk("1a0008001800", 24);
	assert_int_equal(answer.data_bytes, 24);
	assert_memory_equal(answer.data, "\x17\0\x10\0\x08\x12\x04", 7);
	ask_disk("1a003f000400", 4);
	assert_memory_equal(answer.data, "\x23\0\x10\0", 4);
	ask_disk("5a000800000000001c00", 28);
	assert_int_equal(answer.data_bytes, 28);
	assert_int_equal(answer.data[1], 26);
	ask_disk("1a0048001800", 24); /* what can be changed */
	assert_int_equal(answer.data[6], 0);
	ask_disk("1a00c8001800", 24);
	assert_sense(5, 0x39, 0);
	ask_disk("1a001c001800", 24);
	assert_sense(5, 0x24, 0);
}

static void test_scsi__luns_and_a_disk_that_is_not_there(void **state)
{
	struct scsi_unit u = {.luns = 1 | 1ull << 5 | 1ull << 63};

	(void)state;
	ask(&u, "a00000000000000002000000", 512, NULL, 0);
	assert_int_equal(answer.data_bytes, 8 + 3 * 8);
	assert_int_equal(answer.data[3], 24);
	assert_int_equal(answer.data[9], 0);
	assert_int_equal(answer.data[17], 5);
	assert_int_equal(answer.data[25], 63);
	ask(&u, "120000002400", 36, NULL, 0);
	assert_int_equal(answer.status, SCSI_GOOD);
	assert_int_equal(answer.data[0], 0x7f);
	ask(&u, "000000000000", 0, NULL, 0);
	assert_sense(5, 0x25, 0);
	u.luns = UINT64_MAX;
	ask(&u, "a00000000000000010000000", 1 << 20, NULL, 0);
	assert_int_equal(answer.data_bytes, 8 + 64 * 8);
}

static void test_scsi__an_attention_comes_before_commands_but_not_before_inquiry(void **state)
{
	struct scsi_unit u = unit();

	(void)state;
	u.attention = SCSI_CAPACITY_CHANGED;
	ask(&u, "120000002400", 36, NULL, 0);
	assert_false(answer.attention);
	assert_int_equal(answer.status, SCSI_GOOD);
	ask(&u, "28000000000000000100", 512, NULL, 0);
	assert_true(answer.attention);
	assert_sense(6, 0x2a, 9);
	ask(&u, "030000001200", 18, NULL, 0); /* or is told to who asks for it */
	assert_true(answer.attention);
	assert_int_equal(answer.data[2], 6);
	assert_int_equal(answer.data[12], 0x2a);
}

static void test_scsi__errors_of_the_host_become_sense(void **state)
{
	(void)state;
	ask_disk("28000000000000000100", 512);
	scsi_finish(&answer, BLOCK_READ, 0);
	assert_int_equal(answer.status, SCSI_GOOD);
	scsi_finish(&answer, BLOCK_READ, EIO);
	assert_sense(3, 0x11, 0);
	scsi_finish(&answer, BLOCK_WRITE, EIO);
	assert_sense(3, 0x0c, 0);
	scsi_finish(&answer, BLOCK_FLUSH, EIO);
	assert_sense(3, 0x0c, 0);
	scsi_finish(&answer, BLOCK_WRITE, ENOSPC);
	assert_sense(7, 0x27, 7);
	scsi_finish(&answer, BLOCK_WRITE, EDQUOT);
	assert_sense(7, 0x27, 7);
}

static void test_scsi__how_much_of_the_buffer_is_looked_at(void **state)
{
	struct scsi_command c = {.cdb = {0x42, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0}};

	(void)state;
	assert_int_equal(scsi_parameter_bytes(&c), SCSI_PARAMETER_BYTES);
	c.cdb[0] = 0x93;
	assert_int_equal(scsi_parameter_bytes(&c), 512);
	c.cdb[1] = 1;
	assert_int_equal(scsi_parameter_bytes(&c), 0);
	c.cdb[0] = 0x2a;
	assert_int_equal(scsi_parameter_bytes(&c), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scsi__reads_and_writes_of_all_lengths),
		cmocka_unit_test(test_scsi__the_end_of_the_disk_is_the_end),
		cmocka_unit_test(test_scsi__a_buffer_too_small_is_refused),
		cmocka_unit_test(test_scsi__a_short_command_and_an_unknown_one_are_refused),
		cmocka_unit_test(test_scsi__a_read_only_disk_takes_no_change),
		cmocka_unit_test(test_scsi__flush),
		cmocka_unit_test(test_scsi__unmap),
		cmocka_unit_test(test_scsi__write_same_zeroes_and_discards),
		cmocka_unit_test(test_scsi__inquiry_pages),
		cmocka_unit_test(test_scsi__a_disk_without_discard_does_not_offer_it),
		cmocka_unit_test(test_scsi__capacity),
		cmocka_unit_test(test_scsi__mode_pages),
		cmocka_unit_test(test_scsi__luns_and_a_disk_that_is_not_there),
		cmocka_unit_test(
			test_scsi__an_attention_comes_before_commands_but_not_before_inquiry),
		cmocka_unit_test(test_scsi__errors_of_the_host_become_sense),
		cmocka_unit_test(test_scsi__how_much_of_the_buffer_is_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
