/* SPDX-License-Identifier: Apache-2.0 */
/* test_boot: kernels of both kinds, whole, cut off and wrong, and what is told. */
#include "hv/boot.h"

#include "base/bytes.h"
#include "tests/unit/cm.h"
#include "tests/unit/hv/image.h"

#include <stdlib.h>

#define MIB (1ull << 20)

static const uint8_t code[] = {0xf4, 0xeb, 0xfd};

static enum err plan(const struct buf *b, const struct boot_room *room, struct boot_plan *out)
{
	const struct boot_image image = {.fd = -1, .data = b->data, .bytes = b->len};

	return boot_plan_make(&image, room, out);
}

static const struct boot_room room64 = {.low_bytes = 64 * MIB};

/* The plan fails with this word in its sentence. */
static void refused(const struct buf *b, const struct boot_room *room, const char *word)
{
	struct boot_plan p;

	assert_err(plan(b, room, &p), ERR_USAGE);
	if (!strstr(err_text(), word))
		fail_msg("\"%s\" does not say \"%s\"", err_text(), word);
}

static void test_boot__takes_a_bzimage(void **state)
{
	AUTO_BUF struct buf b = {0};
	struct boot_room room = room64;
	struct boot_plan p;

	(void)state;
	image_bzimage(&b, 4096, 2 * MIB);
	room.initrd_bytes = 5000;
	assert_ok(plan(&b, &room, &p));
	assert_true(p.linux64);
	assert_int_equal(p.entry, 0x100200);
	assert_int_equal(p.segment_count, 1);
	assert_int_equal(p.segments[0].at, 0x100000);
	assert_int_equal(p.segments[0].file_offset, IMAGE_PAYLOAD_AT);
	assert_int_equal(p.segments[0].bytes, 4096);
	assert_int_equal(p.initrd_at, 64 * MIB - 8192);
	assert_int_equal(p.setup_bytes, 0x202 + 0x66 - 0x1f1);
}

static void test_boot__says_what_is_wrong_with_a_bzimage(void **state)
{
	AUTO_BUF struct buf b = {0};
	struct boot_room room = room64;

	(void)state;
	image_bzimage(&b, 4096, 2 * MIB);
	b.len -= 16;
	refused(&b, &room64, "cut off");
	b.len = 0x230;
	refused(&b, &room64, "cut off");
	image_bzimage(&b, 4096, 2 * MIB);
	le16_put(b.data + 0x236, 0);
	refused(&b, &room64, "32-bit");
	image_bzimage(&b, 4096, 2 * MIB);
	le16_put(b.data + 0x206, 0x204);
	refused(&b, &room64, "2.04");
	image_bzimage(&b, 4096, 2 * MIB);
	b.data[0x211] = 0;
	refused(&b, &room64, "zImage");
	image_bzimage(&b, 4096, 64 * MIB);
	refused(&b, &room64, "needs 65");
	image_bzimage(&b, 4096, 2 * MIB);
	le64_put(b.data + 0x258, UINT64_MAX - 4095);
	refused(&b, &room64, "not possible");
	image_bzimage(&b, 4096, 2 * MIB);
	room.cmdline_bytes = 2048;
	refused(&b, &room, "2047");
	room.cmdline_bytes = 0;
	room.initrd_bytes = 61 * MIB + 1;
	refused(&b, &room, "initrd");
	room.initrd_bytes = UINT64_MAX;
	refused(&b, &room, "initrd");
}

static void test_boot__initrd_fills_what_is_free_to_the_page(void **state)
{
	AUTO_BUF struct buf b = {0};
	struct boot_room room = room64;
	struct boot_plan p;

	(void)state;
	image_bzimage(&b, 4096, 2 * MIB);
	room.initrd_bytes = 61 * MIB;
	assert_ok(plan(&b, &room, &p));
	assert_int_equal(p.initrd_at, 3 * MIB);
	le32_put(b.data + 0x22c, 32 * MIB - 1); /* a kernel that wants it low */
	room.initrd_bytes = 4096;
	assert_ok(plan(&b, &room, &p));
	assert_int_equal(p.initrd_at, 32 * MIB - 4096);
}

static void test_boot__takes_a_pvh_kernel(void **state)
{
	AUTO_BUF struct buf b = {0};
	struct boot_room room = room64;
	struct boot_plan p;

	(void)state;
	image_pvh(&b, code, sizeof code, 3 * MIB);
	room.initrd_bytes = 60 * MIB;
	assert_ok(plan(&b, &room, &p));
	assert_false(p.linux64);
	assert_int_equal(p.entry, IMAGE_PVH_LOAD);
	assert_int_equal(p.segment_count, 1);
	assert_int_equal(p.segments[0].bytes, sizeof code);
	assert_int_equal(p.initrd_at, 4 * MIB);
	le32_put(b.data + 0xc4, 8); /* an entry of 8 bytes */
	le64_put(b.data + 120 + 32, 24);
	assert_ok(plan(&b, &room, &p));
}

static void test_boot__says_what_is_wrong_with_an_elf(void **state)
{
	AUTO_BUF struct buf b = {0};

	(void)state;
#define WRONG(change, word)                                                                        \
	image_pvh(&b, code, sizeof code, 4096);                                                    \
	change;                                                                                    \
	refused(&b, &room64, word)
	WRONG(b.data[4] = 1, "32-bit");
	WRONG(le16_put(b.data + 18, 3), "x86-64");
	WRONG(le16_put(b.data + 16, 3), "x86-64");
	WRONG(le16_put(b.data + 54, 32), "damaged");
	WRONG(le16_put(b.data + 56, 0), "damaged");
	WRONG(le16_put(b.data + 56, 65535), "damaged");
	WRONG(le64_put(b.data + 32, UINT64_MAX - 8), "cut off");
	WRONG(b.len -= 1, "cut off");
	WRONG(b.len = 20, "cut off");
	WRONG(le64_put(b.data + 64 + 8, UINT64_MAX), "cut off");
	WRONG(le64_put(b.data + 64 + 40, 1), "not possible");
	WRONG(le64_put(b.data + 64 + 40, UINT64_MAX), "not possible");
	WRONG(le64_put(b.data + 64 + 24, 0x7000), "not possible");
	WRONG(le64_put(b.data + 64 + 24, 64 * MIB - 4095), "does not fit");
	WRONG(le32_put(b.data + 0xc8, 17), "without a PVH note");
	WRONG(le32_put(b.data + 0xc0, 0xffffffff), "without a PVH note");
	WRONG(le32_put(b.data + 0xc4, 0xfffffffd), "without a PVH note");
	WRONG(le64_put(b.data + 120 + 8, 1 << 20), "cut off");
	WRONG(le32_put(b.data + 0xd0, 0x100003), "outside");
	WRONG(le32_put(b.data + 64, 0), "outside");
#undef WRONG
}

static void test_boot__says_what_is_no_kernel(void **state)
{
	AUTO_BUF struct buf b = {0};

	(void)state;
	refused(&b, &room64, "empty");
	buf_put_zero(&b, 100);
	refused(&b, &room64, "not a kernel");
	buf_put_zero(&b, 100000);
	refused(&b, &room64, "not a kernel");
	buf_clear(&b);
	buf_put_str(&b, "#!/bin/sh\n");
	refused(&b, &room64, "not a kernel");
}

/* Cut anywhere, with one byte changed anywhere: an answer, and a plan only within
 * bounds. */
static void check_any(const struct buf *b, const struct boot_room *room)
{
	struct boot_plan p;
	enum err e = plan(b, room, &p);

	if (e != ERR_OK) {
		assert_int_equal(e, ERR_USAGE);
		return;
	}
	for (unsigned i = 0; i < p.segment_count; i++) {
		const struct boot_segment *s = &p.segments[i];

		assert_true(s->at >= BOOT_KERNEL_MIN && s->at + s->bytes <= room->low_bytes);
		assert_true(s->file_offset + s->bytes <= b->len);
	}
}

static void test_boot__survives_any_cut_and_change(void **state)
{
	AUTO_BUF struct buf b = {0};

	(void)state;
	srand(2018);
	for (int kind = 0; kind < 2; kind++) {
		for (uint32_t len = 0;; len++) {
			if (kind)
				image_pvh(&b, code, sizeof code, 4096);
			else
				image_bzimage(&b, 1024, MIB);
			if (len > b.len)
				break;
			b.len = len;
			check_any(&b, &room64);
		}
		for (int i = 0; i < 20000; i++) {
			if (kind)
				image_pvh(&b, code, sizeof code, 4096);
			else
				image_bzimage(&b, 1024, MIB);
			for (int n = rand() % 3; n >= 0; n--)
				b.data[rand() % (kind ? 0x110 : 0x270)] = (uint8_t)rand();
			check_any(&b, &room64);
		}
	}
}

/* ---- loading ---- */

static struct memory *loaded(const struct buf *b, const struct buf *initrd, const char *cmdline,
			     uint64_t bytes, struct boot_entry *entry)
{
	struct boot_request r = {
		.kernel_fd = image_file(b->data, b->len),
		.initrd_fd = initrd ? image_file(initrd->data, initrd->len) : -1,
		.cmdline = cmdline,
		.rsdp = 0xe0000,
	};
	struct memory *m = NULL;

	assert_true(r.kernel_fd >= 0);
	assert_ok(memory_create(bytes, &m));
	assert_ok(boot_load(m, &r, entry));
	close(r.kernel_fd);
	if (initrd)
		close(r.initrd_fd);
	return m;
}

static void check_string(struct memory *m, uint64_t at, const char *want)
{
	char got[64] = {0};

	assert_ok(memory_read(m, gpa(at), got, strlen(want) + 1));
	assert_string_equal(got, want);
}

static void test_boot__fills_boot_params(void **state)
{
	AUTO_BUF struct buf b = {0}, initrd = {0};
	struct boot_entry entry;
	struct memory *m;
	uint8_t p[4096], at[8];

	(void)state;
	image_bzimage(&b, 4096, 2 * MIB);
	buf_put_str(&initrd, "an initrd");
	m = loaded(&b, &initrd, "console=ttyS0 quiet", 5ull << 30, &entry);
	assert_true(entry.linux64);
	assert_int_equal(entry.info, BOOT_PARAMS);
	assert_ok(memory_read(m, gpa(BOOT_PARAMS), p, sizeof p));
	assert_memory_equal(p + 0x202, "HdrS", 4);
	assert_int_equal(p[0x210], 0xff);
	assert_int_equal(le64_get(p + 0x70), 0xe0000);
	assert_int_equal(p[0x1e8], 5);
	assert_int_equal(le64_get(p + 0x2d0 + 4 * 20), 4ull << 30);
	assert_int_equal(le64_get(p + 0x2d0 + 4 * 20 + 8), 2ull << 30);
	check_string(m, le32_get(p + 0x228), "console=ttyS0 quiet");
	assert_int_equal(le32_get(p + 0x21c), initrd.len);
	check_string(m, le32_get(p + 0x218), "an initrd");
	assert_ok(memory_read(m, gpa(0x100000), p, 4096));
	assert_memory_equal(p, b.data + IMAGE_PAYLOAD_AT, 4096);
	/* The last page of the identity map maps the last 2 MiB below 4 GiB. */
	assert_ok(memory_read(m, gpa(BOOT_PAGE_TABLES + 6 * 4096 - 8), at, 8));
	assert_int_equal(le64_get(at) & ~0xfffull, 0xffe00000);
	memory_destroy(m);
}

static void test_boot__fills_the_start_info(void **state)
{
	AUTO_BUF struct buf b = {0}, initrd = {0};
	struct boot_entry entry;
	struct memory *m;
	uint8_t p[256], module[32], map[24], stub[9];

	(void)state;
	image_pvh(&b, code, sizeof code, 4096);
	buf_put_str(&initrd, "module");
	m = loaded(&b, &initrd, "mode=off", 16 * MIB, &entry);
	assert_false(entry.linux64);
	assert_int_equal(entry.rip, IMAGE_PVH_LOAD);
	assert_ok(memory_read(m, gpa(entry.info), p, sizeof p));
	assert_int_equal(le32_get(p), 0x336ec578);
	assert_int_equal(le32_get(p + 4), 1);
	assert_int_equal(le32_get(p + 12), 1);
	assert_ok(memory_read(m, gpa(le64_get(p + 16)), module, sizeof module));
	assert_int_equal(le64_get(module + 8), 6);
	check_string(m, le64_get(module), "module");
	check_string(m, le64_get(p + 24), "mode=off");
	assert_int_equal(le64_get(p + 32), 0xe0000);
	assert_int_equal(le32_get(p + 48), 4);
	assert_ok(memory_read(m, gpa(le64_get(p + 40) + 3 * 24), map, sizeof map));
	assert_int_equal(le64_get(map), 0x100000);
	assert_int_equal(le64_get(map + 8), 15 * MIB);
	assert_int_equal(le32_get(map + 16), BOOT_RAM);
	assert_ok(memory_read(m, gpa(0xffff0), stub, sizeof stub));
	assert_memory_equal(stub, "\xba\x02\x06\xb0\x01\xee\xf4\xeb\xfd", 9);
	memory_destroy(m);
}

static void test_boot__without_files_is_a_sentence(void **state)
{
	struct boot_request r = {.kernel_fd = -1, .initrd_fd = -1};
	struct boot_entry entry;
	struct memory *m = NULL;

	(void)state;
	assert_ok(memory_create(16 * MIB, &m));
	assert_err(boot_load(m, &r, &entry), ERR_USAGE);
	assert_non_null(strstr(err_text(), "no kernel"));
	r.kernel_fd = image_file("#!", 2);
	r.initrd_fd = image_file("", 0);
	assert_err(boot_load(m, &r, &entry), ERR_USAGE);
	assert_non_null(strstr(err_text(), "initrd file is empty"));
	close(r.kernel_fd);
	close(r.initrd_fd);
	memory_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_boot__takes_a_bzimage),
		cmocka_unit_test(test_boot__says_what_is_wrong_with_a_bzimage),
		cmocka_unit_test(test_boot__initrd_fills_what_is_free_to_the_page),
		cmocka_unit_test(test_boot__takes_a_pvh_kernel),
		cmocka_unit_test(test_boot__says_what_is_wrong_with_an_elf),
		cmocka_unit_test(test_boot__says_what_is_no_kernel),
		cmocka_unit_test(test_boot__survives_any_cut_and_change),
		cmocka_unit_test(test_boot__fills_boot_params),
		cmocka_unit_test(test_boot__fills_the_start_info),
		cmocka_unit_test(test_boot__without_files_is_a_sentence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
