/* SPDX-License-Identifier: Apache-2.0 */
/* Copies between archives, whole or not at all; and what checkpoints share. */
#include "tests/unit/store/mended.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_copy__of_damaged_pages_is_refused_whole(void **state)
{
	struct fixture *f = *state;
	struct archive_copy_result r;
	char path[512];
	unsigned refused = 0;

	assert_ok(bed_init_sharing(&f->b, f->other));
	mended_a_pack(f, path, sizeof(path));
	bed_flip(path, (512 + 5000) * 8);
	for (int i = 0; i < REFS; i++) {
		enum err e = mended_copy_ref(f, refs[i], &r);

		assert_true(e == ERR_OK || e == ERR_CORRUPT);
		refused += e == ERR_CORRUPT;
	}
	assert_true(refused > 0);
	mended_check_other(f, REFS - refused);
}

static void test_copy__fails_cleanly_at_every_call(void **state)
{
	struct fixture *f = *state;
	struct archive_copy_result r;
	char path[300];
	uint64_t made = 0;

	snprintf(path, sizeof(path), "%s/empty", f->b.dir);
	assert_ok(bed_init_sharing(&f->b, f->other));
	assert_ok(mended_copy_ref(f, "web@1", &r));
	bed_copy(f->other, path);
	for (long n = 1, step = bed_count(100) < 100 ? 7 : 1;; n += step) {
		struct countdown c = {.left = n, .error = n % 2 ? 5 : 28};
		enum err e;

		bed_remove(f->other);
		bed_copy(path, f->other);
		fs_fault_set(mended_strike, &c);
		e = mended_copy_ref(f, "web@2", &r);
		fs_fault_set(NULL, NULL);
		mended_check_other(f, e == ERR_OK ? 2 : 1);
		assert_ok(mended_copy_ref(f, "web@2", &r));
		assert_int_equal(r.existed, e == ERR_OK);
		assert_true(r.existed || r.pages_known > r.pages_read);
		made += e == ERR_OK;
		if (c.left > 0)
			break;
	}
	assert_true(made > 0);
	mended_check_other(f, 2);
}

/* ---- power cuts ---- */

static enum err copy_second(struct fixture *f)
{
	struct archive_copy_result r;

	return mended_copy_ref(f, "web@2", &r);
}

static void after_copy(struct fixture *f)
{
	struct archive_copy_result r;

	assert_ok(mended_copy_ref(f, "web@2", &r));
	mended_check_other(f, 2);
}

/* One copy is in f->other; that is copied to base. */
static void copy_first(struct fixture *f, char *base, size_t size)
{
	struct archive_copy_result r;

	snprintf(base, size, "%s/base", f->b.dir);
	assert_ok(bed_init_sharing(&f->b, f->other));
	assert_ok(mended_copy_ref(f, "web@1", &r));
	bed_copy(f->other, base);
}

static void test_copy__power_cut_at_any_call_leaves_all_or_nothing(void **state)
{
	char base[300];

	copy_first(*state, base, sizeof(base));
	mended_cut(*state, base, ((struct fixture *)*state)->other, copy_second, after_copy);
}

static void test_copy__killed_at_any_call_leaves_all_or_nothing(void **state)
{
	char base[300];

	copy_first(*state, base, sizeof(base));
	mended_kill(*state, base, ((struct fixture *)*state)->other, copy_second, after_copy);
}

/* ---- shares ---- */

struct tally {
	uint64_t referenced[REFS], exclusive[REFS];
};

static enum err on_share(void *arg, const struct archive_share *h)
{
	struct tally *t = arg;
	char ref[96];

	snprintf(ref, sizeof(ref), "%s@%llu", h->name, (unsigned long long)h->number);
	assert_false(h->damaged);
	assert_true(h->exclusive_bytes <= h->referenced_bytes);
	for (int i = 0; i < REFS; i++) {
		if (strcmp(ref, refs[i]) != 0)
			continue;
		t->referenced[i] = h->referenced_bytes;
		t->exclusive[i] = h->exclusive_bytes;
	}
	return ERR_OK;
}

/* Pages that were moved count where they are now: as in a copy, which has them at one place. */
static void test_shares__are_the_same_before_and_after_packs_were_rewritten(void **state)
{
	struct fixture *f = *state;
	struct tally mine = {0}, theirs = {0};
	struct archive *a;

	mended_copy_all(f, f->other);
	assert_ok(bed_open(&f->b, false, &a));
	assert_ok(archive_shares(a, NULL, on_share, &mine));
	archive_close(a);
	mended_open_at(f->other, false, &a);
	assert_ok(archive_shares(a, NULL, on_share, &theirs));
	archive_close(a);
	for (int i = 0; i < REFS; i++) {
		assert_true(mine.referenced[i] > 0);
		/* Other neighbours in a group: a little more or less. */
		assert_true(mine.referenced[i] * 10 < theirs.referenced[i] * 11);
		assert_true(theirs.referenced[i] * 10 < mine.referenced[i] * 11);
		assert_true(mine.exclusive[i] * 10 < theirs.exclusive[i] * 12 + 1000);
		assert_true(theirs.exclusive[i] * 10 < mine.exclusive[i] * 12 + 1000);
	}
}

/* Another process removes a checkpoint as soon as somebody looks at it. */
static void remove_web_1(void *arg, enum fs_op op, const char *what, size_t len, struct fs_fault *fault)
{
	(void)len, (void)fault;
	if (op == FS_OPEN && strcmp(what, "manifests/web@1") == 0)
		unlink(arg);
}

static void test_shares__what_is_removed_meanwhile_is_not_damaged(void **state)
{
	struct fixture *f = *state;
	struct tally t = {0};
	struct archive *a;
	char path[400];

	snprintf(path, sizeof(path), "%s/manifests/web@1", f->b.archive);
	assert_ok(bed_open(&f->b, false, &a));
	fs_fault_set(remove_web_1, path);
	assert_ok(archive_shares(a, NULL, on_share, &t));
	fs_fault_set(NULL, NULL);
	archive_close(a);
	assert_int_equal(t.referenced[1], 0);
	assert_true(t.referenced[0] > 0 && t.referenced[2] > 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, mended_setup, mended_teardown)

/* usage: test_copy [PATTERN] */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(test_copy__of_damaged_pages_is_refused_whole),
		T(test_copy__fails_cleanly_at_every_call),
		T(test_copy__power_cut_at_any_call_leaves_all_or_nothing),
		T(test_copy__killed_at_any_call_leaves_all_or_nothing),
		T(test_shares__what_is_removed_meanwhile_is_not_damaged),
		T(test_shares__are_the_same_before_and_after_packs_were_rewritten),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
