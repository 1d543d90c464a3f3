/* SPDX-License-Identifier: Apache-2.0 */
/* block: a raw file as a disk: what is written is read, errors and short transfers are
 * the submitter's to know, and every change is in the map. */
#include "hv/block/block.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "tests/unit/cm.h"

#define DISK_BYTES (8u << 20)
#define KIB 1024u

struct bed {
	struct loop *loop;
	struct block_queue *queue;
	struct block *block;
	int fd;
	unsigned left; /* requests that are not done */
};

static struct bed bed;

static void on_done(struct block_io *io)
{
	(void)io;
	if (--bed.left == 0)
		loop_stop(bed.loop);
}

static void bed_open(unsigned depth, bool read_only)
{
	char path[] = "/tmp/lifeboat-block-XXXXXX";
	struct block_raw raw = {
		.direct_fd = -1, .read_only = read_only, .id = {1, 2, 3}, .name = "disk0"};

	bed = (struct bed){.fd = mkstemp(path)};
	assert_true(bed.fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(ftruncate(bed.fd, DISK_BYTES), 0);
	raw.fd = bed.fd;
	assert_ok(loop_create(&bed.loop));
	assert_ok(block_queue_create(bed.loop, depth, &bed.queue));
	assert_ok(block_raw_create(&raw, &bed.block));
}

static void bed_close(void)
{
	block_fault_set(NULL, NULL);
	block_destroy(bed.block);
	block_queue_destroy(bed.queue);
	loop_destroy(bed.loop);
	close(bed.fd);
}

static void submit(struct block_io *io)
{
	io->done = on_done;
	bed.left++;
	block_submit(bed.block, bed.queue, io);
}

static void finish(void)
{
	block_queue_kick(bed.queue);
	if (bed.left)
		assert_ok(loop_run(bed.loop));
	assert_int_equal(block_queue_busy(bed.queue), 0);
}

static int transfer(enum block_op op, uint64_t offset, void *p, size_t len)
{
	struct iovec v = {p, len};
	struct block_io io = {.op = op, .offset = offset, .bytes = len, .iov = &v, .iov_count = 1};

	submit(&io);
	finish();
	return io.error;
}

static int simple(enum block_op op, uint64_t offset, uint64_t bytes)
{
	struct block_io io = {.op = op, .offset = offset, .bytes = bytes};

	submit(&io);
	finish();
	return io.error;
}

/* The map, as one word (the disk has 128 blocks: two words), emptied. */
static void take(uint64_t map[2])
{
	assert_int_equal(block_track_words(bed.block), 2);
	map[0] = map[1] = 0;
	block_track_take(bed.block, map);
}

static void test_block__what_is_written_is_read_and_on_the_file(void **state)
{
	uint8_t out[12 * KIB], in[12 * KIB], file[12 * KIB];
	struct iovec v[3];
	struct block_io io = {.op = BLOCK_WRITE,
			      .offset = 512,
			      .bytes = sizeof(out),
			      .iov = v,
			      .iov_count = 3,
			      .fua = true};

	(void)state;
	bed_open(4, false);
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 7);
	v[0] = (struct iovec){out, 512};
	v[1] = (struct iovec){out + 512, 8 * KIB};
	v[2] = (struct iovec){out + 512 + 8 * KIB, sizeof(out) - 512 - 8 * KIB};
	submit(&io);
	finish();
	assert_int_equal(io.error, 0);
	assert_int_equal(transfer(BLOCK_READ, 512, in, sizeof(in)), 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_ok(fs_read_at(bed.fd, "disk", file, sizeof(file), 512));
	assert_memory_equal(file, out, sizeof(file));
	assert_int_equal(simple(BLOCK_FLUSH, 0, 0), 0);
	bed_close();
}

static void test_block__more_requests_than_places_are_all_done(void **state)
{
	static uint8_t data[200][512];
	static struct iovec v[200];
	static struct block_io io[200];
	uint8_t in[200 * 512];

	(void)state;
	bed_open(4, false);
	for (unsigned i = 0; i < 200; i++) {
		memset(data[i], (int)i, 512);
		v[i] = (struct iovec){data[i], 512};
		io[i] = (struct block_io){.op = BLOCK_WRITE,
					  .offset = i * 512u,
					  .bytes = 512,
					  .iov = &v[i],
					  .iov_count = 1};
		submit(&io[i]);
	}
	assert_int_equal(block_queue_busy(bed.queue), 200);
	finish();
	assert_int_equal(transfer(BLOCK_READ, 0, in, sizeof(in)), 0);
	assert_memory_equal(in, data, sizeof(in));
	bed_close();
}

struct fault {
	int error;
	size_t most;
	unsigned calls;
};

static int on_fault(void *arg, const struct block_io *io, size_t *len)
{
	struct fault *f = arg;

	(void)io;
	f->calls++;
	if (f->most && *len > f->most)
		*len = f->most;
	return f->error;
}

static void test_block__short_transfers_go_on_to_the_end(void **state)
{
	static uint8_t out[64 * KIB], in[64 * KIB];
	struct fault f = {.most = 5 * KIB};
	struct iovec v[16];
	struct block_io io = {.op = BLOCK_WRITE, .bytes = sizeof(out), .iov = v, .iov_count = 16};

	(void)state;
	bed_open(4, false);
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i / 3);
	for (unsigned i = 0; i < 16; i++)
		v[i] = (struct iovec){out + i * 4 * KIB, 4 * KIB};
	block_fault_set(on_fault, &f);
	submit(&io);
	finish();
	assert_int_equal(io.error, 0);
	assert_int_equal(f.calls, 16);
	block_fault_set(NULL, NULL);
	assert_int_equal(transfer(BLOCK_READ, 0, in, sizeof(in)), 0);
	assert_memory_equal(in, out, sizeof(in));
	bed_close();
}

static void test_block__an_error_is_told_and_the_next_request_works(void **state)
{
	static const int errors[] = {EIO, ENOSPC};
	uint8_t b[512] = {1};

	(void)state;
	bed_open(1, false);
	for (unsigned i = 0; i < 2; i++) {
		struct fault f = {.error = errors[i]};

		block_fault_set(on_fault, &f);
		assert_int_equal(transfer(BLOCK_WRITE, 0, b, 512), errors[i]);
		assert_int_equal(transfer(BLOCK_READ, 0, b, 512), errors[i]);
		assert_int_equal(simple(BLOCK_FLUSH, 0, 0), errors[i]);
		assert_int_equal(simple(BLOCK_DISCARD, 0, 4096), errors[i]);
		block_fault_set(NULL, NULL);
		assert_int_equal(transfer(BLOCK_WRITE, 0, b, 512), 0);
	}
	bed_close();
}

static void test_block__a_file_that_somebody_cut_gives_eio(void **state)
{
	uint8_t b[4096] = {0};

	(void)state;
	bed_open(4, false);
	assert_int_equal(ftruncate(bed.fd, 1 << 20), 0);
	assert_int_equal(transfer(BLOCK_READ, 2 << 20, b, sizeof(b)), EIO);
	bed_close();
}

static void test_block__discard_gives_room_back_and_reads_as_zeros(void **state)
{
	static uint8_t b[1 << 20];
	struct block_info info;
	struct stat before, after;

	(void)state;
	bed_open(4, false);
	block_info(bed.block, &info);
	assert_true(info.discard);
	memset(b, 0x5a, sizeof(b));
	assert_int_equal(transfer(BLOCK_WRITE, 0, b, sizeof(b)), 0);
	assert_int_equal(fstat(bed.fd, &before), 0);
	assert_int_equal(simple(BLOCK_DISCARD, 0, sizeof(b) / 2), 0);
	assert_int_equal(fstat(bed.fd, &after), 0);
	assert_true(after.st_blocks < before.st_blocks);
	assert_int_equal(after.st_size, before.st_size);
	assert_int_equal(transfer(BLOCK_READ, 0, b, sizeof(b)), 0);
	assert_true(bytes_zero(b, sizeof(b) / 2));
	assert_int_equal(b[sizeof(b) / 2], 0x5a);
	bed_close();
}

static void no_holes(void *arg, enum fs_op op, const char *what, size_t len, struct fs_fault *f)
{
	(void)arg, (void)what, (void)len;
	if (op == FS_ALLOCATE)
		f->error = EOPNOTSUPP;
}

static void test_block__without_holes_zeros_are_written(void **state)
{
	static uint8_t b[3 << 20];
	struct block_info info;

	(void)state;
	fs_fault_set(no_holes, NULL);
	bed_open(4, false);
	fs_fault_set(NULL, NULL);
	block_info(bed.block, &info);
	assert_false(info.discard);
	memset(b, 0x5a, sizeof(b));
	assert_int_equal(transfer(BLOCK_WRITE, 0, b, sizeof(b)), 0);
	assert_int_equal(simple(BLOCK_ZERO, 512, sizeof(b) - 1024), 0);
	assert_int_equal(transfer(BLOCK_READ, 0, b, sizeof(b)), 0);
	assert_int_equal(b[511], 0x5a);
	assert_true(bytes_zero(b + 512, sizeof(b) - 1024));
	assert_int_equal(b[sizeof(b) - 512], 0x5a);
	bed_close();
}

static void test_block__every_change_is_in_the_map_once(void **state)
{
	struct fault f = {.error = EIO};
	uint64_t map[2];
	uint8_t b[1024] = {0};

	(void)state;
	bed_open(4, false);
	take(map);
	assert_int_equal(map[0] | map[1], 0);
	assert_int_equal(transfer(BLOCK_READ, 0, b, 512), 0);
	assert_int_equal(simple(BLOCK_FLUSH, 0, 0), 0);
	take(map);
	assert_int_equal(map[0] | map[1], 0);
	/* Across the border of two blocks. */
	assert_int_equal(transfer(BLOCK_WRITE, BLOCK_TRACK_BYTES - 512, b, 1024), 0);
	assert_int_equal(simple(BLOCK_DISCARD, 5 * BLOCK_TRACK_BYTES, 512), 0);
	assert_int_equal(simple(BLOCK_ZERO, 64ull * BLOCK_TRACK_BYTES, BLOCK_TRACK_BYTES), 0);
	take(map);
	assert_int_equal(map[0], 0x23);
	assert_int_equal(map[1], 1);
	take(map);
	assert_int_equal(map[0] | map[1], 0);
	/* It may have been done in part. */
	block_fault_set(on_fault, &f);
	assert_int_equal(transfer(BLOCK_WRITE, 0, b, 512), EIO);
	take(map);
	assert_int_equal(map[0], 1);
	bed_close();
}

static void test_block__a_resize_changes_file_and_map(void **state)
{
	struct block_info info;
	struct stat st;
	uint64_t map[3] = {0};

	(void)state;
	bed_open(4, false);
	assert_ok(block_resize(bed.block, DISK_BYTES + 2 * BLOCK_TRACK_BYTES));
	block_info(bed.block, &info);
	assert_int_equal(info.bytes, DISK_BYTES + 2 * BLOCK_TRACK_BYTES);
	assert_int_equal(fstat(bed.fd, &st), 0);
	assert_int_equal(st.st_size, DISK_BYTES + 2 * BLOCK_TRACK_BYTES);
	assert_int_equal(block_track_words(bed.block), 3);
	block_track_take(bed.block, map);
	assert_true(map[0] == 0 && map[1] == 0 && map[2] == 3);
	/* Smaller: the block in which the end lies now. */
	assert_ok(block_resize(bed.block, BLOCK_TRACK_BYTES + 512));
	map[0] = 0;
	block_track_take(bed.block, map);
	assert_int_equal(map[0], 2);
	assert_err(block_resize(bed.block, 100), ERR_USAGE);
	assert_err(block_resize(bed.block, 0), ERR_USAGE);
	bed_close();
}

static void test_block__a_read_only_disk_is_not_resized_and_odd_sizes_are_refused(void **state)
{
	struct block_raw raw = {.direct_fd = -1, .name = "odd"};
	struct block *b;

	(void)state;
	bed_open(4, true);
	assert_err(block_resize(bed.block, 512), ERR_AUTH);
	raw.fd = bed.fd;
	assert_int_equal(ftruncate(bed.fd, 1000), 0);
	assert_err(block_raw_create(&raw, &b), ERR_USAGE);
	assert_int_equal(ftruncate(bed.fd, 0), 0);
	assert_err(block_raw_create(&raw, &b), ERR_USAGE);
	bed_close();
}

static void test_block__direct_and_cached_transfers_agree(void **state)
{
	static uint8_t page[4096] __attribute__((aligned(4096)));
	static uint8_t odd[4096 + 8] __attribute__((aligned(4096)));
	struct block_raw raw = {.direct_align = 4096, .name = "direct"};
	char path[64];

	(void)state;
	bed_open(4, false);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", bed.fd);
	raw.fd = bed.fd;
	raw.direct_fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (raw.direct_fd < 0) { /* tmpfs of old kernels has no such thing */
		bed_close();
		return;
	}
	block_destroy(bed.block);
	assert_ok(block_raw_create(&raw, &bed.block));
	memset(page, 0x11, sizeof(page));
	assert_int_equal(transfer(BLOCK_WRITE, 0, page, 4096), 0);   /* direct */
	assert_int_equal(transfer(BLOCK_READ, 0, odd + 8, 4096), 0); /* memory is not aligned */
	assert_memory_equal(odd + 8, page, 4096);
	memset(odd, 0x22, sizeof(odd));
	assert_int_equal(transfer(BLOCK_WRITE, 512, odd, 512), 0); /* the place is not */
	assert_int_equal(transfer(BLOCK_READ, 0, page, 4096), 0);
	assert_int_equal(page[511], 0x11);
	assert_int_equal(page[512], 0x22);
	assert_int_equal(page[1024], 0x11);
	close(raw.direct_fd);
	bed_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_block__what_is_written_is_read_and_on_the_file),
		cmocka_unit_test(test_block__more_requests_than_places_are_all_done),
		cmocka_unit_test(test_block__short_transfers_go_on_to_the_end),
		cmocka_unit_test(test_block__an_error_is_told_and_the_next_request_works),
		cmocka_unit_test(test_block__a_file_that_somebody_cut_gives_eio),
		cmocka_unit_test(test_block__discard_gives_room_back_and_reads_as_zeros),
		cmocka_unit_test(test_block__without_holes_zeros_are_written),
		cmocka_unit_test(test_block__every_change_is_in_the_map_once),
		cmocka_unit_test(test_block__a_resize_changes_file_and_map),
		cmocka_unit_test(
			test_block__a_read_only_disk_is_not_resized_and_odd_sizes_are_refused),
		cmocka_unit_test(test_block__direct_and_cached_transfers_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
