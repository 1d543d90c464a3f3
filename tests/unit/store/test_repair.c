/* SPDX-License-Identifier: Apache-2.0 */
/* Copies and repairs: damage of every kind, healed from a copy, from another archive, from files, or
 * from the archive itself; then verify is clean and every byte is what it was. */
#include "tests/unit/store/bed.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"

#define KIB 1024u
#define REFS 3

static const char *const refs[REFS] = {"db@1", "web@1", "web@2"};

struct fixture {
	struct bed b;
	char mirror[300], other[300]; /* file by file; by archive_copy */
	char *file[REFS];	      /* the contents */
	struct content c[REFS];
	unsigned said;
	struct archive_repair_result result;
};

static void open_at(const char *path, bool writable, struct archive **a)
{
	struct archive_options opt = {.writable = writable, .threads = 2};

	assert_ok(archive_open(path, &opt, a));
}

static void copy_all(struct fixture *f, const char *to)
{
	struct archive *from, *into;

	assert_ok(archive_init(to));
	open_at(f->b.archive, false, &from);
	open_at(to, true, &into);
	for (int i = 0; i < REFS; i++) {
		struct archive_copy_result r;
		struct checkpoint_info info;

		assert_ok(archive_find(from, refs[i], &info));
		assert_ok(archive_copy(from, &info, into, NULL, NULL, &r));
		assert_false(r.existed);
	}
	archive_close(into);
	archive_close(from);
}

/* Something of which only a part is needed later. */
static bool put_old(struct fixture *f)
{
	struct content old;
	enum err e;

	content_make(&old, 5, 900 * KIB);
	content_change(&old, 77, 70);
	e = bed_put_once(&f->b, "old", &old, NULL);
	content_free(&old);
	return e == ERR_OK;
}

/* So that there is a pack that was rewritten, and a pin. */
static bool collect(struct fixture *f)
{
	struct archive_gc_options opt = {.threshold_percent = 95};
	struct archive_gc_result r;
	struct archive_pin pin;
	struct checkpoint_info info;
	struct archive *a;
	bool good;

	if (bed_open(&f->b, true, &a) != ERR_OK)
		return false;
	good = archive_find(a, "old@1", &info) == ERR_OK && archive_remove(a, &info) == ERR_OK &&
	       archive_gc(a, &opt, NULL, NULL, NULL, &r) == ERR_OK && r.packs_rewritten > 0 &&
	       archive_find(a, "web@1", &info) == ERR_OK &&
	       archive_pin(a, &info, "a test", &pin) == ERR_OK;
	archive_close(a);
	return good;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	bed_make(&f->b);
	snprintf(f->mirror, sizeof(f->mirror), "%s/mirror", f->b.dir);
	snprintf(f->other, sizeof(f->other), "%s/other", f->b.dir);
	content_make(&f->c[0], 11, 700 * KIB + 33);
	content_make(&f->c[1], 5, 900 * KIB);
	content_make(&f->c[2], 5, 900 * KIB);
	content_change(&f->c[2], 6, 20);
	if (archive_init(f->b.archive) != ERR_OK || !put_old(f) ||
	    bed_put_once(&f->b, "db", &f->c[0], NULL) != ERR_OK ||
	    bed_put_once(&f->b, "web", &f->c[1], NULL) != ERR_OK ||
	    bed_put_once(&f->b, "web", &f->c[2], NULL) != ERR_OK || !collect(f))
		return -1;
	bed_copy(f->b.archive, f->mirror);
	for (int i = 0; i < REFS; i++) {
		int fd;

		if (asprintf(&f->file[i], "%s/file%d", f->b.dir, i) < 0)
			return -1;
		fd = open(f->file[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0 || write(fd, f->c[i].data, f->c[i].len) != (ssize_t)f->c[i].len)
			return -1;
		close(fd);
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	bed_remove(f->b.dir);
	for (int i = 0; i < REFS; i++) {
		content_free(&f->c[i]);
		free(f->file[i]);
	}
	free(f);
	return 0;
}

static void on_said(void *arg, const char *what)
{
	struct fixture *f = arg;

	assert_true(strlen(what) > 10);
	f->said++;
}

/* Repair, from another archive and from `files` of the files. */
static enum err heal(struct fixture *f, const char *from, unsigned files)
{
	const char *names[REFS] = {f->file[0], f->file[1], f->file[2]};
	struct archive_repair_options opt = {.files = names, .n_files = files};
	struct archive_options read_only = {.threads = 2};
	struct archive *a, *source = NULL;
	bool healed;
	enum err e = bed_open(&f->b, true, &a);

	if ((e == ERR_CORRUPT || e == ERR_NOTFOUND || e == ERR_VERSION) && from &&
	    (e = archive_repair_config(f->b.archive, from, &healed)) == ERR_OK)
		e = bed_open(&f->b, true, &a);
	if (e != ERR_OK)
		return e;
	if (from)
		e = archive_open(from, &read_only, &source);
	opt.from = source;
	f->said = 0;
	if (e == ERR_OK)
		e = archive_repair(a, &opt, NULL, on_said, f, &f->result);
	archive_close(source);
	archive_close(a);
	return e;
}

static void check_whole(struct fixture *f)
{
	struct archive *a;

	assert_ok(bed_verify(&f->b, true, NULL));
	for (int i = 0; i < REFS; i++)
		assert_ok(bed_check_once(&f->b, refs[i], &f->c[i]));
	assert_ok(bed_open(&f->b, true, &a)); /* and it can be written to */
	assert_ok(bed_put(a, "new", &f->c[0], NULL));
	archive_close(a);
	assert_ok(bed_verify(&f->b, true, NULL));
}

static void begin_again(struct fixture *f)
{
	bed_remove(f->b.archive);
	bed_copy(f->mirror, f->b.archive);
}

static void pick(struct fixture *f, uint64_t *seed, char *path, size_t size, size_t *bytes)
{
	char **files;
	size_t n = bed_files(f->b.archive, &files);

	for (*bytes = 0; *bytes == 0;) {
		snprintf(path, size, "%s/%s", f->b.archive, files[bed_random(seed) % n]);
		*bytes = bed_file_size(path);
	}
	for (size_t i = 0; i < n; i++)
		free(files[i]);
	free(files);
}

/* Where its directories are, by its trailer. */
static void directories(const char *path, uint64_t at[2])
{
	uint8_t trailer[512];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t size = bed_file_size(path);

	assert_int_equal(pread(fd, trailer, sizeof(trailer), (off_t)size - 1024), sizeof(trailer));
	close(fd);
	at[0] = le64_get(trailer + 12 + 48);
	at[1] = (at[0] + le32_get(trailer + 12 + 56) + 511) / 512 * 512;
}

/* The largest. */
static void a_pack(const struct fixture *f, char *path, size_t size)
{
	char dir[400], **files, one[512];
	uint64_t most = 0;
	size_t n;

	snprintf(dir, sizeof(dir), "%s/packs", f->b.archive);
	n = bed_files(dir, &files);
	assert_true(n > 0);
	for (size_t i = 0; i < n; i++) {
		snprintf(one, sizeof(one), "%s/%s", dir, files[i]);
		if (bed_file_size(one) > most) {
			most = bed_file_size(one);
			snprintf(path, size, "%s", one);
		}
		free(files[i]);
	}
	free(files);
}

static void test_repair__of_a_sound_archive_changes_nothing(void **state)
{
	struct fixture *f = *state;

	assert_ok(heal(f, f->mirror, REFS));
	assert_int_equal(f->said, 0);
	assert_int_equal(f->result.healed, 0);
	check_whole(f);
}

static void test_repair__a_copy_heals_any_damage(void **state)
{
	struct fixture *f = *state;
	uint64_t seed = bed_seed();

	for (unsigned i = 0; i < bed_count(100); i++) {
		for (unsigned k = 0; k <= i % 4; k++) {
			char path[512];
			size_t bytes;

			pick(f, &seed, path, sizeof(path), &bytes);
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
		assert_ok(heal(f, f->mirror, 0));
		check_whole(f);
		begin_again(f);
	}
}

/* One flipped bit in a group, healed from where the pages still are. */
static void heal_groups(struct fixture *f, const char *from, unsigned files)
{
	uint64_t seed = bed_seed();

	for (unsigned i = 0; i < bed_count(40); i++) {
		char path[512];
		uint64_t directory[2];

		a_pack(f, path, sizeof(path));
		directories(path, directory);
		for (unsigned k = 0; k <= i % 5; k++)
			bed_flip(path, (512 + bed_random(&seed) % (directory[0] - 1024)) * 8);
		assert_int_equal(bed_verify(&f->b, false, NULL), ERR_CORRUPT);
		assert_ok(heal(f, from, files));
		assert_int_equal(f->result.pages_lost, 0);
		assert_int_equal(f->result.unfit, 0);
		check_whole(f);
		begin_again(f);
	}
}

static void test_repair__another_archive_with_the_pages_heals_groups(void **state)
{
	struct fixture *f = *state;

	copy_all(f, f->other);
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
		a_pack(f, path, sizeof(path));
		uint64_t size = bed_file_size(path), directory[2];

		directories(path, directory);
		bed_flip(path, 20 * 8);				  /* header */
		bed_flip(path, (size - (copy ? 1000 : 500)) * 8); /* a trailer */
		bed_flip(path, (directory[copy] + 100) * 8);
		assert_int_equal(bed_verify(&f->b, false, NULL), ERR_CORRUPT);
		assert_ok(heal(f, NULL, 0));
		assert_int_equal(f->result.healed, 3);
		check_whole(f);
		begin_again(f);
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
	assert_ok(heal(f, NULL, 0));
	assert_ok(bed_verify(&f->b, true, NULL));
	assert_ok(bed_put_once(&f->b, "web", &f->c[1], &number));
	assert_true(number > 100);
}

static void test_repair__what_is_nowhere_is_counted_and_the_rest_is_healed(void **state)
{
	struct fixture *f = *state;
	struct archive_damage first;
	char path[512];

	a_pack(f, path, sizeof(path));
	bed_flip(path, 20 * 8);
	bed_flip(path, (512 + 5000) * 8);
	assert_ok(heal(f, NULL, 0));
	assert_int_equal(f->result.healed, 1);
	assert_true(f->result.pages_lost > 0);
	assert_int_equal(bed_verify(&f->b, false, &first), ERR_CORRUPT);
	assert_true(first.checkpoint[0] !=
		    '\0'); /* not the frame any more: pages, with their owner */
	assert_string_equal(first.stream, "ram");
	assert_ok(heal(f, NULL, REFS)); /* later the data turns up */
	check_whole(f);
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

/* ---- faults at every call ---- */

struct countdown {
	long left;
	int error;
};

static void strike(void *arg, enum fs_op op, const char *what, size_t len, struct fs_fault *fault)
{
	struct countdown *c = arg;

	(void)op, (void)what, (void)len;
	if (--c->left == 0)
		fault->error = c->error;
}

/* Whatever fails, nothing becomes worse, and the next repair heals. */
static void test_repair__fails_cleanly_at_every_call(void **state)
{
	struct fixture *f = *state;
	char damaged[300], path[512];
	struct countdown c;

	snprintf(damaged, sizeof(damaged), "%s/damaged", f->b.dir);
	a_pack(f, path, sizeof(path));
	bed_flip(path, 20 * 8);
	bed_flip(path, (512 + 5000) * 8);
	snprintf(path, sizeof(path), "%s/manifests/web@1", f->b.archive);
	bed_flip(path, 700 * 8);
	snprintf(path, sizeof(path), "%s/numbers/web", f->b.archive);
	bed_flip(path, 40 * 8);
	bed_copy(f->b.archive, damaged);
	for (long n = 1, step = bed_count(100) < 100 ? 7 : 1;; n += step) {
		enum err e;

		bed_remove(f->b.archive);
		bed_copy(damaged, f->b.archive);
		c = (struct countdown){.left = n, .error = n % 2 ? 5 : 28}; /* EIO, ENOSPC */
		fs_fault_set(strike, &c);
		e = heal(f, f->mirror, 0);
		fs_fault_set(NULL, NULL);
		if (c.left > 0) {
			assert_ok(e);
			break;
		}
		assert_ok(heal(f, f->mirror, 0));
		assert_ok(bed_verify(&f->b, true, NULL));
		for (int i = 0; i < REFS; i++)
			assert_ok(bed_check_once(&f->b, refs[i], &f->c[i]));
	}
	check_whole(f);
}

/* ---- copies ---- */

static enum err copy_ref(struct fixture *f, const char *ref, struct archive_copy_result *r)
{
	struct archive_options opt = {.threads = 2};
	struct archive *from = NULL, *into = NULL;
	struct checkpoint_info info;
	enum err e = archive_open(f->b.archive, &opt, &from);

	opt.writable = true;
	if (e == ERR_OK)
		e = archive_find(from, ref, &info);
	if (e == ERR_OK)
		e = archive_open(f->other, &opt, &into);
	if (e == ERR_OK)
		e = archive_copy(from, &info, into, NULL, NULL, r);
	archive_close(into);
	archive_close(from);
	return e;
}

/* What is in `other`: sound, and as many checkpoints. */
static void check_other(const struct fixture *f, uint64_t checkpoints)
{
	struct archive_verify_result result;
	struct archive *a;

	open_at(f->other, false, &a);
	assert_ok(archive_verify(a, NULL, NULL, NULL, NULL, &result));
	assert_int_equal(result.checkpoints, checkpoints);
	archive_close(a);
}

static void test_copy__of_damaged_pages_is_refused_whole(void **state)
{
	struct fixture *f = *state;
	struct archive_copy_result r;
	char path[512];
	unsigned refused = 0;

	assert_ok(archive_init(f->other));
	a_pack(f, path, sizeof(path));
	bed_flip(path, (512 + 5000) * 8);
	for (int i = 0; i < REFS; i++) {
		enum err e = copy_ref(f, refs[i], &r);

		assert_true(e == ERR_OK || e == ERR_CORRUPT);
		refused += e == ERR_CORRUPT;
	}
	assert_true(refused > 0);
	check_other(f, REFS - refused);
}

static void test_copy__fails_cleanly_at_every_call(void **state)
{
	struct fixture *f = *state;
	struct archive_copy_result r;
	char path[300];
	uint64_t made = 0;

	snprintf(path, sizeof(path), "%s/empty", f->b.dir);
	assert_ok(archive_init(f->other));
	assert_ok(copy_ref(f, "web@1", &r));
	bed_copy(f->other, path);
	for (long n = 1, step = bed_count(100) < 100 ? 7 : 1;; n += step) {
		struct countdown c = {.left = n, .error = n % 2 ? 5 : 28};
		enum err e;

		bed_remove(f->other);
		bed_copy(path, f->other);
		fs_fault_set(strike, &c);
		e = copy_ref(f, "web@2", &r);
		fs_fault_set(NULL, NULL);
		check_other(f, e == ERR_OK ? 2 : 1);
		assert_ok(copy_ref(f, "web@2", &r));
		assert_int_equal(r.existed, e == ERR_OK);
		assert_true(r.existed || r.pages_known > r.pages_read);
		made += e == ERR_OK;
		if (c.left > 0)
			break;
	}
	assert_true(made > 0);
	check_other(f, 2);
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

	copy_all(f, f->other);
	assert_ok(bed_open(&f->b, false, &a));
	assert_ok(archive_shares(a, NULL, on_share, &mine));
	archive_close(a);
	open_at(f->other, false, &a);
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

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

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
		T(test_repair__what_is_nowhere_is_counted_and_the_rest_is_healed),
		T(test_repair__does_not_run_beside_another),
		T(test_repair__fails_cleanly_at_every_call),
		T(test_copy__of_damaged_pages_is_refused_whole),
		T(test_copy__fails_cleanly_at_every_call),
		T(test_shares__are_the_same_before_and_after_packs_were_rewritten),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
