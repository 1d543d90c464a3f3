/* SPDX-License-Identifier: Apache-2.0 */
/* The index is a cache: whatever happens to it, pages are found again after a rebuild,
 * and what it says is never believed without the pack's own directory. */
#include "tests/unit/store/bed.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "store/catalog.h"
#include "store/indexdb.h"
#include "store/listing.h"

#define MIB (1u << 20)

static struct content c;

static int setup(void **state)
{
	if (bed_setup(state) != 0)
		return -1;
	content_make(&c, 42, 3 * MIB);
	return bed_put_once(*state, "web", &c, NULL) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
	content_free(&c);
	return bed_teardown(state);
}

/* The same content again adds no page: all of them were found. */
static void assert_all_found(const struct bed *b)
{
	struct archive_stats before, after;
	struct archive *a;

	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_stats(a, &before));
	assert_ok(bed_put(a, "again", &c, NULL));
	assert_ok(archive_stats(a, &after));
	archive_close(a);
	assert_int_equal(before.pack_bytes, after.pack_bytes);
	assert_ok(bed_check_once(b, "again", &c));
	assert_ok(bed_verify(b, true, NULL));
}

static bool there(const struct bed *b, const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/index/%s", b->archive, name);
	return access(path, F_OK) == 0;
}

static void test_index__a_clean_end_leaves_a_mark(void **state)
{
	const struct bed *b = *state;
	struct archive_writer *w;
	struct archive *a;

	assert_true(there(b, "clean") && !there(b, "live"));
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_begin(a, "web", NULL, &w));
	assert_true(!there(b, "clean") && there(b, "live"));
	archive_abort(w);
	archive_close(a);
	assert_true(there(b, "clean") && !there(b, "live"));
	assert_all_found(b);
}

static void test_index__a_killed_user_costs_a_rebuild(void **state)
{
	const struct bed *b = *state;
	pid_t pid = fork();

	if (pid == 0) {
		struct archive_writer *w;
		struct archive *a;

		if (bed_open(b, true, &a) != ERR_OK || archive_begin(a, "x", NULL, &w) != ERR_OK)
			_exit(1);
		_exit(9);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_true(!there(b, "clean") && there(b, "live"));
	assert_ok(bed_verify(b, true, NULL)); /* unclean is not damage */
	assert_all_found(b);
}

static void test_index__a_lost_or_garbled_index_is_made_again(void **state)
{
	const struct bed *b = *state;
	char path[512];
	uint64_t seed = bed_seed();

	snprintf(path, sizeof(path), "%s/index", b->archive);
	bed_remove(path);
	assert_all_found(b);
	for (unsigned i = 0; i < bed_count(40); i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/index/clean", b->archive);
		if (i % 2)
			unlink(path);
		snprintf(path, sizeof(path), "%s/index/data.mdb", b->archive);
		assert_true((fd = open(path, O_WRONLY | O_CLOEXEC)) >= 0);
		for (int k = 0; k < 20; k++) {
			uint64_t v = bed_random(&seed), at = bed_random(&seed);
			assert_int_equal(pwrite(fd, &v, 8, (off_t)(at % bed_file_size(path))), 8);
		}
		close(fd);
		assert_all_found(b);
	}
}

static void test_index__rebuild_on_request_finds_all(void **state)
{
	const struct bed *b = *state;
	struct archive *a, *other;
	struct archive_writer *w;

	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_rebuild_index(a, NULL));
	assert_ok(bed_open(b, true, &other));
	assert_ok(archive_begin(other, "web", NULL, &w));
	assert_err(archive_rebuild_index(a, NULL), ERR_BUSY);
	archive_abort(w);
	archive_close(other);
	archive_close(a);
	assert_all_found(b);
}

/* Entries that point to other pages, written behind the user's back. */
static void test_index__a_false_hit_is_not_believed(void **state)
{
	const struct bed *b = *state;
	struct content fresh;
	struct archive_writer *w;
	struct archive *a;
	struct indexdb *db;
	struct pack_ref *refs = NULL, lie;
	struct digest *d;
	uint32_t n = 0;
	char path[512];

	content_make(&fresh, 4711, MIB);
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_begin(a, "web", NULL, &w)); /* the index is in use now */
	archive_abort(w);
	snprintf(path, sizeof(path), "%s/index", b->archive);
	assert_ok(indexdb_open(path, true, &db));
	assert_ok(indexdb_packs(db, &refs, &n));
	assert_int_equal(n, 1);
	lie = refs[0];
	d = calloc(lie.slots, sizeof(*d));
	for (uint32_t i = 0; i < lie.slots && i < MIB / ARCHIVE_PAGE_BYTES; i++)
		digest_of(fresh.data + i * ARCHIVE_PAGE_BYTES, ARCHIVE_PAGE_BYTES, &d[i]);
	assert_ok(indexdb_add(db, &lie, d, 1));
	indexdb_close(db);
	assert_ok(bed_put(a, "fresh", &fresh, NULL));
	assert_ok(bed_check(a, "fresh", &fresh));
	archive_close(a);
	assert_ok(bed_check_once(b, "web@1", &c));
	content_free(&fresh);
	free(refs);
	free(d);
}

static void sleep_ms(unsigned ms)
{
	nanosleep(&(struct timespec){.tv_nsec = (long)ms * 1000000}, NULL);
}

/* Who waits to see whether the index is in use keeps nobody from taking it over: else
 * several that begin together could wait for each other for good. */
static void test_index__who_waits_leaves_the_lock_to_others(void **state)
{
	const struct bed *b = *state;
	char path[512];
	unsigned got = 0;
	int users, status;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/index/users", b->archive);
	assert_ok(fs_open(AT_FDCWD, path, O_RDWR, 0, &users));
	assert_ok(fs_lock(users, path, false, false)); /* neither a user nor nobody */
	fflush(NULL);
	if ((pid = fork()) == 0) {
		close(users); /* the lock is the description's: not to be held here too */
		_exit(bed_put_once(b, "late", &c, NULL) == ERR_OK ? 0 : 1);
	}
	sleep_ms(100);
	for (unsigned i = 0; i < 40; i++) {
		enum err e = fs_lock(users, path, true, false);

		got += e == ERR_OK;
		if (e == ERR_OK)
			assert_ok(fs_lock(users, path, false, false));
		sleep_ms(5);
	}
	close(users);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(got >= 20);
}

static void note_users(void *arg, enum fs_op op, const char *what, size_t len,
		       struct fs_fault *fault)
{
	unsigned *locked = arg;

	(void)len;
	(void)fault;
	if (op == FS_LOCK && strcmp(what, "index/users") == 0)
		++*locked;
}

/* Verification at the wrong moment must not make a dead user's `live' look alive. */
static void test_index__verification_is_no_user(void **state)
{
	const struct bed *b = *state;
	unsigned locked = 0;

	fs_fault_set(note_users, &locked);
	assert_ok(bed_verify(b, true, NULL));
	fs_fault_set(NULL, NULL);
	assert_int_equal(locked, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_index__a_clean_end_leaves_a_mark),
		T(test_index__a_killed_user_costs_a_rebuild),
		T(test_index__a_lost_or_garbled_index_is_made_again),
		T(test_index__rebuild_on_request_finds_all),
		T(test_index__a_false_hit_is_not_believed),
		T(test_index__who_waits_leaves_the_lock_to_others),
		T(test_index__verification_is_no_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
