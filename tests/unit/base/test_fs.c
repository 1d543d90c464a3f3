/* SPDX-License-Identifier: Apache-2.0 */
/* fs: whole transfers, durable replacement, faults at the Nth call. */
#include "base/bytelock.h"
#include "base/fs.h"
#include "base/netfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/cm.h"

static char dir_path[] = "/tmp/lifeboat-fs-XXXXXX";
static int dir_fd = -1;

static int setup(void **state)
{
	(void)state;
	strcpy(dir_path + sizeof(dir_path) - 7, "XXXXXX");
	if (!mkdtemp(dir_path))
		return -1;
	dir_fd = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir_fd < 0;
}

static int teardown(void **state)
{
	char **names;
	size_t n;

	(void)state;
	fs_fault_set(NULL, NULL);
	if (fs_list(dir_fd, ".", &names, &n) != ERR_OK)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (unlinkat(dir_fd, names[i], 0) != 0)
			unlinkat(dir_fd, names[i], AT_REMOVEDIR);
	fs_names_free(names, n);
	close(dir_fd);
	return rmdir(dir_path);
}

static void test_fs__write_file_replaces_whole(void **state)
{
	AUTO_BUF struct buf b = {0};

	(void)state;
	assert_ok(fs_write_file(dir_fd, "f", "first", 5, 0600));
	assert_ok(fs_write_file(dir_fd, "f", "second!", 7, 0600));
	assert_ok(fs_read_file(dir_fd, "f", 100, &b));
	assert_int_equal(b.len, 7);
	assert_memory_equal(b.data, "second!", 7);
	assert_err(fs_read_file(dir_fd, "f", 6, &b), ERR_CORRUPT);
	assert_err(fs_read_file(dir_fd, "absent", 6, &b), ERR_NOTFOUND);
}

static void test_fs__create_file_refuses_what_exists(void **state)
{
	AUTO_BUF struct buf b = {0};

	(void)state;
	assert_ok(fs_create_file(dir_fd, "f", "a", 1, 0600));
	assert_err(fs_create_file(dir_fd, "f", "b", 1, 0600), ERR_BUSY);
	assert_ok(fs_read_file(dir_fd, "f", 10, &b));
	assert_memory_equal(b.data, "a", 1);
	char **names;
	size_t n;
	assert_ok(fs_list(dir_fd, ".", &names, &n));
	assert_int_equal(n, 1); /* no temporary file is left */
	fs_names_free(names, n);
}

struct nth {
	unsigned call, fail_at;
	int error;
	size_t short_bytes;
};

static void fail_nth(void *arg, enum fs_op op, const char *what, size_t len, struct fs_fault *f)
{
	struct nth *n = arg;

	(void)op;
	(void)what;
	(void)len;
	if (++n->call == n->fail_at) {
		f->error = n->error;
		f->short_bytes = n->short_bytes;
	}
}

/* Whatever call fails, the old content stands, or the new one if all that failed
 * was making the directory durable; never a mixture, never a temporary file. */
static void replace_with_fault(int error, size_t short_bytes)
{
	AUTO_BUF struct buf b = {0};

	for (unsigned at = 1;; at++) {
		struct nth n = {.fail_at = at, .error = error, .short_bytes = short_bytes};
		assert_ok(fs_write_file(dir_fd, "f", "old", 3, 0600));
		fs_fault_set(fail_nth, &n);
		enum err e = fs_write_file(dir_fd, "f", "newer", 5, 0600);
		fs_fault_set(NULL, NULL);
		if (n.call < at) {
			assert_int_equal(e, ERR_OK);
			assert_true(at >= 5);
			return;
		}
		assert_ok(fs_read_file(dir_fd, "f", 10, &b));
		if (b.len == 3)
			assert_memory_equal(b.data, "old", 3);
		else
			assert_memory_equal(b.data, "newer", 5);
		char **names;
		size_t count;
		assert_ok(fs_list(dir_fd, ".", &names, &count));
		assert_int_equal(count, 1);
		fs_names_free(names, count);
	}
}

static void test_fs__failed_replacement_keeps_the_old(void **state)
{
	(void)state;
	replace_with_fault(EIO, SIZE_MAX);
	replace_with_fault(ENOSPC, SIZE_MAX);
	replace_with_fault(0, 2); /* the disk fills up in the middle of a write */
}

static void test_fs__reads_and_writes_are_whole_or_an_error(void **state)
{
	AUTO_FD int fd = -1;
	char p[8];
	size_t got;

	(void)state;
	assert_ok(fs_open(dir_fd, "f", O_RDWR | O_CREAT, 0600, &fd));
	assert_ok(fs_write_at(fd, "f", "12345678", 8, 4));
	assert_ok(fs_read_at(fd, "f", p, 8, 4));
	assert_memory_equal(p, "12345678", 8);
	assert_err(fs_read_at(fd, "f", p, 8, 5), ERR_CORRUPT);
	assert_ok(fs_read_some(fd, "f", p, 8, 10, &got));
	assert_int_equal(got, 2);
	uint64_t size;
	assert_ok(fs_size(fd, "f", &size));
	assert_int_equal(size, 12);
	assert_ok(fs_truncate(fd, "f", 2));
	assert_ok(fs_size(fd, "f", &size));
	assert_int_equal(size, 2);
}

static void test_fs__locks_exclude_other_descriptions(void **state)
{
	AUTO_FD int a = -1, b = -1;

	(void)state;
	assert_ok(fs_open(dir_fd, "f", O_RDWR | O_CREAT, 0600, &a));
	assert_ok(fs_open(dir_fd, "f", O_RDWR, 0, &b));
	assert_ok(fs_lock(a, "f", true, false));
	assert_err(fs_lock(b, "f", true, false), ERR_BUSY);
	assert_err(fs_lock(b, "f", false, false), ERR_BUSY);
	close(a);
	a = -1;
	assert_ok(fs_lock(b, "f", true, false));
}

static void test_bytelock__tells_the_lowest_and_the_highest_that_others_hold(void **state)
{
	AUTO_FD int a = -1, b = -1, looker = -1;
	uint64_t low, high;
	bool any;

	(void)state;
	assert_ok(fs_open(dir_fd, "f", O_RDWR | O_CREAT, 0600, &looker));
	assert_ok(fs_open(dir_fd, "f", O_RDONLY, 0, &a));
	assert_ok(fs_open(dir_fd, "f", O_RDONLY, 0, &b));
	assert_ok(bytelock_look(looker, "f", &any, &low, &high));
	assert_false(any);
	assert_ok(bytelock_hold(a, "f", 7));
	assert_ok(bytelock_hold(b, "f", UINT64_MAX)); /* as high as there is */
	assert_ok(bytelock_hold(a, "f", 8)); /* one lock with 7, for the kernel */
	assert_ok(bytelock_hold(b, "f", 1000));
	assert_ok(bytelock_look(looker, "f", &any, &low, &high));
	assert_true(any && low == 7 && high == (uint64_t)BYTELOCK_MAX);
	assert_ok(bytelock_look(b, "f", &any, &low, &high)); /* its own are nothing to it */
	assert_true(any && low == 7 && high == 8);
	close(b);
	b = -1;
	assert_ok(bytelock_hold(a, "f", 0));
	assert_ok(bytelock_look(looker, "f", &any, &low, &high));
	assert_true(any && low == 0 && high == 8);
	close(a);
	a = -1;
	assert_ok(bytelock_look(looker, "f", &any, &low, &high));
	assert_false(any);
}

static void test_fs__mkdirs_accepts_existing_but_not_a_file(void **state)
{
	enum fs_kind kind;
	char path[128];
	bool there;

	(void)state;
	snprintf(path, sizeof(path), "%s/d", dir_path);
	assert_ok(fs_mkdirs(path, 0700));
	assert_ok(fs_mkdirs(path, 0700));
	assert_err(fs_mkdir(dir_fd, "d", 0700), ERR_BUSY);
	assert_ok(fs_exists(dir_fd, "d", &there));
	assert_true(there);
	assert_ok(fs_exists(dir_fd, "nothing", &there));
	assert_false(there);
	assert_ok(fs_write_file(dir_fd, "file", "x", 1, 0600));
	assert_int_equal(symlinkat("d", dir_fd, "link"), 0);
	assert_ok(fs_kind(dir_fd, "d", &kind));
	assert_int_equal(kind, FS_DIRECTORY);
	assert_ok(fs_kind(dir_fd, "file", &kind));
	assert_int_equal(kind, FS_REGULAR);
	assert_ok(fs_kind(dir_fd, "link", &kind));
	assert_int_equal(kind, FS_OTHER);
	assert_ok(fs_kind(dir_fd, "nothing", &kind));
	assert_int_equal(kind, FS_NOTHING);
	snprintf(path, sizeof(path), "%s/file", dir_path);
	assert_err(fs_mkdirs(path, 0700), ERR_IO);
}

static void note_synced(void *arg, enum fs_op op, const char *what, size_t len, struct fs_fault *f)
{
	struct buf *synced = arg;

	(void)len;
	(void)f;
	if (op == FS_SYNC_DIR)
		buf_printf(synced, "%s;", what + strlen(dir_path));
}

static void test_fs__mkdirs_makes_every_level_durable(void **state)
{
	AUTO_BUF struct buf synced = {0};
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), "%s/l1//l2/l3/", dir_path);
	fs_fault_set(note_synced, &synced);
	assert_ok(fs_mkdirs(path, 0700));
	assert_ok(fs_mkdirs(path, 0700)); /* nothing is new */
	fs_fault_set(NULL, NULL);
	assert_string_equal(buf_str(&synced), "/;/l1//;/l1//l2/;");
	assert_ok(fs_rmdir(dir_fd, "l1/l2/l3"));
	assert_ok(fs_rmdir(dir_fd, "l1/l2"));
}

static void test_fs__rename_new_refuses_existing(void **state)
{
	(void)state;
	assert_ok(fs_write_file(dir_fd, "a", "a", 1, 0600));
	assert_ok(fs_write_file(dir_fd, "b", "b", 1, 0600));
	assert_err(fs_rename_new(dir_fd, "a", "b"), ERR_BUSY);
	assert_ok(fs_rename(dir_fd, "a", "b"));
	assert_err(fs_rename(dir_fd, "a", "b"), ERR_NOTFOUND);
}

/* A crafted archive must neither hang us nor lead us elsewhere. */
static void test_fs__below_a_directory_only_real_files(void **state)
{
	char path[128];
	char **names;
	size_t n;
	int fd;

	(void)state;
	assert_int_equal(mkfifoat(dir_fd, "fifo", 0600), 0);
	assert_int_equal(symlinkat("/etc", dir_fd, "out"), 0);
	assert_int_equal(symlinkat("/etc/passwd", dir_fd, "link"), 0);
	assert_err(fs_open(dir_fd, "fifo", O_RDONLY, 0, &fd), ERR_CORRUPT);
	assert_err(fs_open(dir_fd, "fifo", O_WRONLY, 0, &fd), ERR_CORRUPT);
	assert_err(fs_open(dir_fd, "link", O_RDONLY, 0, &fd), ERR_CORRUPT);
	assert_err(fs_open(dir_fd, "out/passwd", O_RDONLY, 0, &fd), ERR_CORRUPT);
	assert_int_not_equal(fs_list(dir_fd, "out", &names, &n), ERR_OK);
	/* What a person names may be a link. */
	snprintf(path, sizeof(path), "%s/link", dir_path);
	assert_ok(fs_open(AT_FDCWD, path, O_RDONLY, 0, &fd));
	close(fd);
}

static void test_fs__network_file_systems_are_told_from_local_ones(void **state)
{
	static const uint64_t local[] = {0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x2fc12fc1, 0x794c7630};
	const char *name;

	(void)state;
	assert_string_equal(netfs_name(0x6969), "NFS");
	assert_string_equal(netfs_name(0xff534d42), "SMB");
	assert_string_equal(netfs_name((uint64_t)(int32_t)0xfe534d42), "SMB"); /* 32-bit f_type */
	assert_string_equal(netfs_name(0x65735546), "FUSE");
	for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++)
		assert_null(netfs_name(local[i])); /* ext4, XFS, Btrfs, tmpfs, ZFS, overlayfs */
	assert_ok(netfs_of("/proc/does/not/exist", &name));
	assert_null(name);
	assert_ok(netfs_of("nor/does/this", &name));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fs__network_file_systems_are_told_from_local_ones),
		cmocka_unit_test_setup_teardown(test_fs__write_file_replaces_whole, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_fs__create_file_refuses_what_exists, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_fs__failed_replacement_keeps_the_old, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_fs__reads_and_writes_are_whole_or_an_error,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_bytelock__tells_the_lowest_and_the_highest_that_others_hold, setup,
			teardown),
		cmocka_unit_test_setup_teardown(test_fs__locks_exclude_other_descriptions, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_fs__mkdirs_accepts_existing_but_not_a_file,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_fs__mkdirs_makes_every_level_durable, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fs__mkdirs_makes_every_level_durable, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_fs__rename_new_refuses_existing, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_fs__below_a_directory_only_real_files, setup,
						teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
