/* SPDX-License-Identifier: Apache-2.0 */
/* Repairs: damage of every kind, healed from a copy, from another archive, from files, or from the
 * archive itself; then verify is clean and every byte is what it was. */
#include "tests/unit/store/mended.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

static void test_repair__of_a_sound_archive_changes_nothing(void **state)
{
	struct fixture *f = *state;

	assert_ok(mended_heal(f, f->mirror, REFS));
	assert_int_equal(f->said, 0);
	assert_int_equal(f->result.healed, 0);
	mended_check_whole(f);
}

static void test_repair__a_copy_heals_any_damage(void **state)
{
	struct fixture *f = *state;
	uint64_t seed = bed_seed();

	for (unsigned i = 0; i < bed_count(100); i++) {
		for (unsigned k = 0; k <= i % 4; k++) {
			char path[512];
			size_t bytes;

			mended_pick(f, &seed, path, sizeof(path), &bytes);
			if (bed_random(&seed) % 8 == 0 && !strstr(path, "/manifests/"))
				unlink(path);
			else if (bed_random(&seed) % 8 == 0)
				assert_int_equal(truncate(path, (off_t)(bed_random(&seed) % bytes)),
						 0);
			else
				bed_flip(path, bed_random(&seed) % (bytes * 8));
		}
		if (bed_verify(&f->b, false, NULL) == ERR_OK)
			continue; /* a lost file that nobody needs */
		assert_ok(mended_heal(f, f->mirror, 0));
		mended_check_whole(f);
		mended_begin_again(f);
	}
}

/* One flipped bit in a group, healed from where the pages still are. */
static void heal_groups(struct fixture *f, const char *from, unsigned files)
{
	uint64_t seed = bed_seed();

	for (unsigned i = 0; i < bed_count(40); i++) {
		char path[512];
		uint64_t directory[2];

		mended_a_pack(f, path, sizeof(path));
		mended_directories(path, directory);
		for (unsigned k = 0; k <= i % 5; k++)
			bed_flip(path, (512 + bed_random(&seed) % (directory[0] - 1024)) * 8);
		assert_int_equal(bed_verify(&f->b, false, NULL), ERR_CORRUPT);
		assert_ok(mended_heal(f, from, files));
		assert_int_equal(f->result.pages_lost, 0);
		assert_int_equal(f->result.unfit, 0);
		mended_check_whole(f);
		mended_begin_again(f);
	}
}

static void test_repair__another_archive_with_the_pages_heals_groups(void **state)
{
	struct fixture *f = *state;

	mended_copy_all(f, f->other);
	heal_groups(f, f->other, 0);
}

static void test_repair__live_data_heals_groups(void **state)
{
	heal_groups(*state, NULL, REFS);
}

static void test_repair__frames_and_records_heal_by_themselves(void **state)
{
	struct fixture *f = *state;
	const char *const small[] = {"archive", "numbers/web"};
	char path[512];

	for (unsigned copy = 0; copy < 2; copy++) {
		for (unsigned i = 0; i < 2; i++) {
			snprintf(path, sizeof(path), "%s/%s", f->b.archive, small[i]);
			bed_flip(path, (100 + copy * 512) * 8);
		}
		mended_a_pack(f, path, sizeof(path));
		uint64_t size = bed_file_size(path), directory[2];

		mended_directories(path, directory);
		bed_flip(path, 20 * 8);				  /* header */
		bed_flip(path, (size - (copy ? 1000 : 500)) * 8); /* a trailer */
		bed_flip(path, (directory[copy] + 100) * 8);
		assert_int_equal(bed_verify(&f->b, false, NULL), ERR_CORRUPT);
		assert_ok(mended_heal(f, NULL, 0));
		assert_int_equal(f->result.healed, 3);
		mended_check_whole(f);
		mended_begin_again(f);
	}
}

static void test_repair__a_lost_counter_does_not_give_numbers_again(void **state)
{
	struct fixture *f = *state;
	uint64_t number;
	char path[512];

	snprintf(path, sizeof(path), "%s/numbers/web", f->b.archive);
	bed_flip(path, 100 * 8);
	bed_flip(path, 612 * 8);
	assert_ok(mended_heal(f, NULL, 0));
	assert_ok(bed_verify(&f->b, true, NULL));
	assert_ok(bed_put_once(&f->b, "web", &f->c[1], &number));
	assert_true(number > 100);
}

static void make_file(const struct fixture *f, const char *name)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", f->b.archive, name);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "something", 9), 9);
	close(fd);
}

static void test_repair__a_forged_name_uses_no_numbers_up(void **state)
{
	struct fixture *f = *state;
	uint64_t number;
	char path[512];

	make_file(f, "manifests/web@18446744073709551615");
	assert_ok(mended_heal(f, NULL, 0));
	assert_ok(bed_put_once(&f->b, "web", &f->c[1], &number));
	assert_true(number < 10);
	snprintf(path, sizeof(path), "%s/numbers/web", f->b.archive);
	bed_flip(path, 100 * 8);
	bed_flip(path, 612 * 8);
	make_file(f, "manifests/web@7000"); /* may be one that was lost */
	assert_ok(mended_heal(f, NULL, 0));
	assert_ok(bed_put_once(&f->b, "web", &f->c[1], &number));
	assert_true(number > 7000 && number < 9000);
}

static void test_repair__a_copy_that_went_its_own_way_gives_no_checkpoint(void **state)
{
	struct fixture *f = *state;
	struct bed other = f->b;
	uint64_t mine, theirs;
	char path[512];

	snprintf(other.archive, sizeof(other.archive), "%s", f->mirror);
	assert_ok(bed_put_once(&f->b, "web", &f->c[0], &mine));
	assert_ok(bed_put_once(&other, "web", &f->c[1], &theirs));
	assert_int_equal(mine, theirs);
	snprintf(path, sizeof(path), "%s/manifests/web@%llu", f->b.archive, (unsigned long long)mine);
	for (unsigned byte = 113; byte < 240; byte += 35) { /* also in its id */
		bed_flip(path, byte * 8);
		assert_ok(mended_heal(f, f->mirror, 0));
		assert_err(bed_check_once(&f->b, strrchr(path, '/') + 1, &f->c[1]), ERR_CORRUPT);
		bed_flip(path, byte * 8);
		assert_ok(bed_check_once(&f->b, strrchr(path, '/') + 1, &f->c[0]));
	}
}

static const char *const temporaries[] = {
	"packs/0123.pack.tmp", "manifests/web@1.7-0.tmp", "forwards/00.7-0.tmp", "keys/domain.7-0.tmp",
	"pins/00.7-0.tmp",     "leases/epoch.7-0.tmp",	  "archive.7-0.tmp",
};
#define TEMPORARIES (sizeof(temporaries) / sizeof(temporaries[0]))

static void test_repair__what_an_interrupted_one_left_goes(void **state)
{
	struct fixture *f = *state;
	struct archive_gc_result collected;
	char path[512];

	for (unsigned round = 0; round < 2; round++) {
		for (size_t i = 0; i < TEMPORARIES; i++)
			make_file(f, temporaries[i]);
		if (round)
			assert_ok(mended_heal(f, NULL, 0));
		else
			assert_ok(bed_gc_once(&f->b, 0, &collected));
		for (size_t i = 0; i < TEMPORARIES; i++) {
			snprintf(path, sizeof(path), "%s/%s", f->b.archive, temporaries[i]);
			assert_int_equal(bed_file_size(path), 0);
		}
	}
	mended_check_whole(f);
}

static void test_repair__what_is_nowhere_is_counted_and_the_rest_is_healed(void **state)
{
	struct fixture *f = *state;
	struct archive_damage first;
	char path[512];

	mended_a_pack(f, path, sizeof(path));
	bed_flip(path, 20 * 8);
	bed_flip(path, (512 + 5000) * 8);
	assert_ok(mended_heal(f, NULL, 0));
	assert_int_equal(f->result.healed, 1);
	assert_true(f->result.pages_lost > 0);
	assert_int_equal(bed_verify(&f->b, false, &first), ERR_CORRUPT);
	assert_true(first.checkpoint[0] !=
		    '\0'); /* not the frame any more: pages, with their owner */
	assert_string_equal(first.stream, "ram");
	assert_ok(mended_heal(f, NULL, REFS)); /* later the data turns up */
	mended_check_whole(f);
}

static void test_repair__does_not_run_beside_another(void **state)
{
	struct fixture *f = *state;
	struct archive_repair_options opt = {.from = NULL};
	struct archive *a;
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "%s/gc.lock", f->b.archive);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_ok(fs_lock(fd, path, true, false));
	assert_ok(bed_open(&f->b, true, &a));
	assert_err(archive_repair(a, &opt, NULL, NULL, NULL, &f->result), ERR_BUSY);
	archive_close(a);
	close(fd);
}

/* ---- another version of the compressor ---- */

static bool other_version;

/* Takes the library's place in this program: other versions make other frames of the same pages. */
size_t ZSTD_compress2(ZSTD_CCtx *c, void *to, size_t room, const void *from, size_t len)
{
	/* Not static: several threads compress. */
	size_t (*real)(ZSTD_CCtx *, void *, size_t, const void *, size_t);
	void *found = dlsym(RTLD_NEXT, "ZSTD_compress2");
	size_t n;

	memcpy(&real, &found, sizeof(found));
	(void)!ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, other_version);
	n = real(c, to, room, from, len);
	(void)!ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 0);
	return n;
}

#define ELSEWHERE "foreign@1"
static struct content elsewhere; /* what ELSEWHERE is */

/* A checkpoint that another version made, with a damaged group, and the first of the files with all
 * of its pages.  The pack's path goes to pack. */
static void damage_foreign(struct fixture *f, char *pack, size_t size)
{
	char dir[400], **before, **now;
	size_t n_before, n, i;
	int fd = open(f->file[0], O_WRONLY | O_TRUNC | O_CLOEXEC);

	content_make(&elsewhere, 4711, 400000);
	assert_int_equal(write(fd, elsewhere.data, elsewhere.len), elsewhere.len);
	close(fd);
	snprintf(dir, sizeof(dir), "%s/packs", f->b.archive);
	n_before = bed_files(dir, &before);
	other_version = true;
	assert_ok(bed_put_once(&f->b, "foreign", &elsewhere, NULL));
	other_version = false;
	n = bed_files(dir, &now);
	assert_int_equal(n, n_before + 1);
	for (i = 0; i < n_before && strcmp(before[i], now[i]) == 0; i++)
		;
	snprintf(pack, size, "%s/%s", dir, now[i]);
	bed_flip(pack, (512 + 5000) * 8);
	for (i = 0; i < n; i++) {
		if (i < n_before)
			free(before[i]);
		free(now[i]);
	}
	free(before);
	free(now);
}

static void test_repair__pages_that_another_compressor_stored_get_new_packs(void **state)
{
	struct fixture *f = *state;
	struct archive_gc_result collected;
	char pack[512];

	damage_foreign(f, pack, sizeof(pack));
	assert_ok(mended_heal(f, NULL, 0)); /* the pages are nowhere: it stays as it is */
	assert_true(f->result.pages_lost > 0 && bed_file_size(pack) > 0);
	assert_ok(mended_heal(f, NULL, 1));
	assert_int_equal(f->result.unfit + f->result.pages_lost, 0);
	assert_int_equal(bed_file_size(pack), 0);
	for (unsigned round = 0; round < 2; round++) {
		assert_ok(bed_verify(&f->b, true, NULL));
		assert_ok(bed_check_once(&f->b, ELSEWHERE, &elsewhere));
		assert_ok(bed_gc_once(&f->b, 99, &collected));
		assert_int_equal(collected.packs_unmoved, 0);
	}
	assert_ok(bed_put_once(&f->b, "foreign", &elsewhere, NULL)); /* whose pages are found again */
	assert_ok(bed_check_once(&f->b, "foreign@2", &elsewhere));
	mended_check_whole(f);
	content_free(&elsewhere);
}

/* ---- faults and power cuts ---- */

static enum err heal_all(struct fixture *f)
{
	return mended_heal(f, f->mirror, 1);
}

static void after_repair(struct fixture *f)
{
	assert_ok(heal_all(f));
	assert_int_equal(f->result.unfit, 0);
	assert_ok(bed_verify(&f->b, true, NULL));
	for (int i = 0; i < REFS; i++)
		assert_ok(bed_check_once(&f->b, refs[i], &f->c[i]));
	assert_ok(bed_check_once(&f->b, ELSEWHERE, &elsewhere));
}

/* Every kind of what a repair does is to do; the archive is copied to dir/damaged. */
static void damage_much(struct fixture *f, char *damaged, size_t size)
{
	char path[512];

	mended_a_pack(f, path, sizeof(path));
	bed_flip(path, 20 * 8);
	bed_flip(path, (512 + 5000) * 8);
	damage_foreign(f, path, sizeof(path));
	snprintf(path, sizeof(path), "%s/manifests/web@1", f->b.archive);
	bed_flip(path, 700 * 8);
	snprintf(path, sizeof(path), "%s/numbers/web", f->b.archive);
	bed_flip(path, 40 * 8);
	snprintf(damaged, size, "%s/damaged", f->b.dir);
	bed_copy(f->b.archive, damaged);
}

/* Whatever fails, nothing becomes worse, and the next repair heals. */
static void test_repair__fails_cleanly_at_every_call(void **state)
{
	struct fixture *f = *state;
	char damaged[300];
	struct countdown c;

	damage_much(f, damaged, sizeof(damaged));
	for (long n = 1, step = bed_count(100) < 100 ? 19 : 1;; n += step) {
		enum err e;

		bed_remove(f->b.archive);
		bed_copy(damaged, f->b.archive);
		c = (struct countdown){.left = n, .error = n % 2 ? 5 : 28}; /* EIO, ENOSPC */
		fs_fault_set(mended_strike, &c);
		e = heal_all(f);
		fs_fault_set(NULL, NULL);
		if (c.left > 0) {
			assert_ok(e);
			break;
		}
		after_repair(f);
	}
	mended_check_whole(f);
	content_free(&elsewhere);
}

static void test_repair__killed_at_any_call_makes_nothing_worse(void **state)
{
	struct fixture *f = *state;
	char damaged[300];

	damage_much(f, damaged, sizeof(damaged));
	mended_kill(f, damaged, f->b.archive, heal_all, after_repair);
	content_free(&elsewhere);
}

static void test_repair__power_cut_at_any_call_makes_nothing_worse(void **state)
{
	struct fixture *f = *state;
	char damaged[300];

	damage_much(f, damaged, sizeof(damaged));
	mended_cut(f, damaged, f->b.archive, heal_all, after_repair);
	content_free(&elsewhere);
}

#define T(f) cmocka_unit_test_setup_teardown(f, mended_setup, mended_teardown)

/* usage: test_repair [PATTERN] */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(test_repair__of_a_sound_archive_changes_nothing),
		T(test_repair__a_copy_heals_any_damage),
		T(test_repair__another_archive_with_the_pages_heals_groups),
		T(test_repair__live_data_heals_groups),
		T(test_repair__frames_and_records_heal_by_themselves),
		T(test_repair__a_lost_counter_does_not_give_numbers_again),
		T(test_repair__a_forged_name_uses_no_numbers_up),
		T(test_repair__a_copy_that_went_its_own_way_gives_no_checkpoint),
		T(test_repair__what_an_interrupted_one_left_goes),
		T(test_repair__what_is_nowhere_is_counted_and_the_rest_is_healed),
		T(test_repair__does_not_run_beside_another),
		T(test_repair__pages_that_another_compressor_stored_get_new_packs),
		T(test_repair__fails_cleanly_at_every_call),
		T(test_repair__killed_at_any_call_makes_nothing_worse),
		T(test_repair__power_cut_at_any_call_makes_nothing_worse),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
