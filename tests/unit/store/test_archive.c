/* SPDX-License-Identifier: Apache-2.0 */
/* What users of an archive rely on: what was committed comes back, numbers count up,
 * pages are stored once, names and references are understood. */
#include "tests/unit/store/bed.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/thread.h"

#define MIB (1u << 20)

static void test_archive__what_was_put_comes_back(void **state)
{
	const struct bed *b = *state;
	const size_t lengths[] = {0, 1, 4095, 4096, 4097, 65536, 65537, 3 * MIB, 9 * MIB + 123};

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct content c;
		uint64_t number;
		char ref[32];

		content_make(&c, i * 1000, lengths[i]);
		assert_ok(bed_put_once(b, "web", &c, &number));
		assert_int_equal(number, i + 1);
		snprintf(ref, sizeof(ref), "web@%zu", i + 1);
		assert_ok(bed_check_once(b, ref, &c));
		content_free(&c);
	}
	assert_ok(bed_verify(b, true, NULL));
}

static void test_archive__any_range_can_be_read(void **state)
{
	const struct bed *b = *state;
	uint64_t seed = bed_seed();
	struct checkpoint_info info;
	struct archive_reader *r;
	struct archive *a;
	struct content c;
	uint8_t *got;

	content_make(&c, seed, 5 * MIB + 777);
	got = malloc(c.len);
	assert_ok(bed_put_once(b, "web", &c, NULL));
	assert_ok(bed_open(b, false, &a));
	assert_ok(archive_find(a, "web", &info));
	assert_ok(archive_read_open(a, &info, &r));
	assert_int_equal(archive_read_streams(r), 1);
	assert_string_equal(archive_read_stream(r, 0)->name, "ram");
	for (int i = 0; i < 300; i++) {
		size_t from = bed_random(&seed) % c.len;
		size_t len = bed_random(&seed) % (i % 3 ? 9000 : c.len - from + 1);

		if (len > c.len - from)
			len = c.len - from;
		assert_ok(archive_read(r, 0, from, got, len));
		assert_memory_equal(got, c.data + from, len);
	}
	assert_err(archive_read(r, 0, c.len - 1, got, 2), ERR_USAGE);
	assert_err(archive_read(r, 1, 0, got, 1), ERR_USAGE);
	archive_read_close(r);
	archive_close(a);
	content_free(&c);
	free(got);
}

struct random_reads {
	struct archive_reader *r;
	const struct content *c;
	uint64_t seed;
	unsigned bad;
	struct thread thread;
};

static void read_randomly(void *arg)
{
	struct random_reads *j = arg;
	uint8_t got[9000];

	for (int i = 0; i < 200; i++) {
		size_t len = bed_random(&j->seed) % sizeof(got);
		size_t from = bed_random(&j->seed) % (j->c->len - len);

		j->bad += archive_read(j->r, 0, from, got, len) != ERR_OK ||
			  memcmp(got, j->c->data + from, len) != 0;
	}
}

static void test_archive__many_threads_read_at_once(void **state)
{
	const struct bed *b = *state;
	struct random_reads job[16];
	struct checkpoint_info info;
	struct archive_reader *r;
	struct archive *a;
	struct content c;

	content_make(&c, bed_seed(), 6 * MIB);
	assert_ok(bed_put_once(b, "web", &c, NULL));
	assert_ok(bed_open(b, false, &a));
	assert_ok(archive_find(a, "web", &info));
	assert_ok(archive_read_open(a, &info, &r));
	for (unsigned i = 0; i < 16; i++) {
		job[i] = (struct random_reads){.r = r, .c = &c, .seed = i + 1};
		assert_ok(thread_start(&job[i].thread, "reader", read_randomly, &job[i]));
	}
	for (unsigned i = 0; i < 16; i++) {
		thread_join(&job[i].thread);
		assert_int_equal(job[i].bad, 0);
	}
	archive_read_close(r);
	archive_close(a);
	content_free(&c);
}

static void test_archive__streams_interleave_and_keep_their_names(void **state)
{
	const struct bed *b = *state;
	struct checkpoint_info info;
	struct archive_writer *w;
	struct archive_reader *r;
	struct archive *a;
	struct content ram, disk;
	unsigned i_ram, i_disk, i_text;
	uint8_t *got;

	content_make(&ram, 1, 2 * MIB);
	content_make(&disk, 2, 2 * MIB);
	got = malloc(2 * MIB);
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_begin(a, "db", NULL, &w));
	assert_ok(archive_stream(w, "ram", ram.len, &i_ram));
	assert_ok(archive_stream(w, "disk0", disk.len, &i_disk));
	assert_err(archive_stream(w, "ram", 1, &i_text), ERR_USAGE);
	for (size_t at = 0; at < ram.len; at += 64 * 1024) {
		assert_ok(archive_put(w, i_ram, at, ram.data + at, 64 * 1024));
		assert_ok(archive_put(w, i_disk, at, disk.data + at, 64 * 1024));
	}
	assert_ok(archive_stream(w, "config", 17, &i_text));
	assert_ok(archive_put(w, i_text, 0, "{\"memory\": 1234}\n", 17));
	assert_ok(archive_commit(w, "nightly", &info));
	assert_int_equal(info.streams, 3);
	assert_int_equal(info.logical_bytes, 4 * MIB + 17);
	assert_string_equal(info.label, "nightly");
	assert_ok(archive_read_open(a, &info, &r));
	assert_ok(archive_read_find(r, "disk0", &i_disk));
	assert_ok(archive_read(r, i_disk, 0, got, disk.len));
	assert_memory_equal(got, disk.data, disk.len);
	assert_ok(archive_read_find(r, "config", &i_text));
	assert_int_equal(archive_read_stream(r, i_text)->length, 17);
	assert_ok(archive_read(r, i_text, 0, got, 17));
	assert_memory_equal(got, "{\"memory\": 1234}\n", 17);
	assert_err(archive_read_find(r, "disk1", &i_disk), ERR_NOTFOUND);
	archive_read_close(r);
	archive_close(a);
	content_free(&ram);
	content_free(&disk);
	free(got);
}

static void test_archive__put_refuses_what_is_no_page_range(void **state)
{
	const struct bed *b = *state;
	static uint8_t page[8192] = {1};
	struct archive_writer *w;
	struct archive *a;
	unsigned i;

	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_begin(a, "web", NULL, &w));
	assert_ok(archive_stream(w, "ram", 10000, &i));
	assert_err(archive_put(w, i, 1, page, 4096), ERR_USAGE);
	assert_err(archive_put(w, i, 0, page, 100), ERR_USAGE);
	assert_err(archive_put(w, i, 8192, page, 4096), ERR_USAGE);
	assert_err(archive_put(w, i + 1, 0, page, 4096), ERR_USAGE);
	assert_ok(archive_put(w, i, 4096, page, 4096));
	assert_err(archive_put(w, i, 4096, page, 4096), ERR_USAGE);
	assert_ok(archive_put(w, i, 8192, page, 10000 - 8192));
	archive_abort(w);
	assert_err(archive_begin(a, "Web", NULL, &w), ERR_USAGE);
	assert_err(archive_begin(a, "", NULL, &w), ERR_USAGE);
	assert_err(archive_begin(a, "-a", NULL, &w), ERR_USAGE);
	assert_err(archive_begin(a, "a/b", NULL, &w), ERR_USAGE);
	archive_close(a);
}

static void test_archive__equal_pages_are_stored_once(void **state)
{
	const struct bed *b = *state;
	struct archive_stats before, after;
	struct checkpoint_info info;
	struct archive_writer *w;
	struct archive *a;
	struct content c;
	unsigned i;

	content_make(&c, 5, 8 * MIB);
	assert_ok(bed_put_once(b, "web", &c, NULL));
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_stats(a, &before));
	assert_ok(archive_begin(a, "db", NULL, &w));
	assert_ok(archive_stream(w, "ram", c.len, &i));
	assert_ok(archive_put(w, i, 0, c.data, c.len));
	assert_ok(archive_commit(w, NULL, &info));
	assert_int_equal(info.stored_bytes, 0);
	assert_ok(archive_stats(a, &after));
	assert_int_equal(after.checkpoints, 2);
	assert_int_equal(after.unique_pages, before.unique_pages);
	assert_int_equal(after.pack_bytes, before.pack_bytes);
	/* 1000 different pages in 2048; a quarter of them zero, some equal. */
	assert_true(before.unique_pages < 1000);
	assert_ok(bed_check(a, "db@1", &c));
	archive_close(a);
	content_free(&c);
}

static void test_archive__a_changed_page_costs_a_page(void **state)
{
	const struct bed *b = *state;
	struct archive_stats before, after;
	struct archive *a;
	struct content c;

	content_make(&c, 5, 8 * MIB);
	assert_ok(bed_put_once(b, "web", &c, NULL));
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_stats(a, &before));
	memset(c.data + 100 * ARCHIVE_PAGE_BYTES, 0xa5, 10);
	assert_ok(bed_put(a, "web", &c, NULL));
	assert_ok(archive_stats(a, &after));
	assert_int_equal(after.unique_pages, before.unique_pages + 1);
	assert_ok(bed_check(a, "web@2", &c));
	archive_close(a);
	content_free(&c);
}

/* More pages than one pack holds, then the first ones again: they are found in a
 * pack that is sealed already, though not yet published. */
static void test_archive__metadata_stays_small_and_packs_follow_each_other(void **state)
{
	const struct bed *b = *state;
	struct checkpoint_info info;
	struct archive_stats s;
	struct archive_writer *w;
	struct archive *a;
	struct content c = {.len = 132 * MIB};
	uint64_t seed = 9;
	unsigned i;

	c.data = malloc(c.len + MIB);
	for (size_t at = 0; at < c.len; at += 8) {
		uint64_t v = bed_random(&seed);
		memcpy(c.data + at, &v, 8);
	}
	memcpy(c.data + c.len, c.data, MIB);
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_begin(a, "web", NULL, &w));
	assert_ok(archive_stream(w, "ram", c.len + MIB, &i));
	assert_ok(archive_put(w, i, 0, c.data, c.len + MIB));
	assert_ok(archive_commit(w, "", &info));
	assert_ok(archive_stats(a, &s));
	assert_int_equal(s.packs, 2);
	assert_int_equal(s.unique_pages, c.len / ARCHIVE_PAGE_BYTES);
	assert_true(s.manifest_bytes <= c.len / 1000);
	/* digest 32, group entry 1, twice: 66 bytes a page */
	assert_true(s.pack_bytes <= c.len + c.len / ARCHIVE_PAGE_BYTES * 67 + 2 * 4096);
	assert_int_equal(info.stored_bytes, s.pack_bytes);
	c.len += MIB;
	assert_ok(bed_check(a, "web@1", &c));
	archive_close(a);
	assert_ok(bed_verify(b, true, NULL));
	content_free(&c);
}

static void test_archive__numbers_are_never_reused(void **state)
{
	const struct bed *b = *state;
	struct content c;
	uint64_t number;
	char path[512];

	content_make(&c, 1, 10000);
	assert_ok(bed_put_once(b, "web", &c, &number));
	assert_ok(bed_put_once(b, "web", &c, &number));
	assert_int_equal(number, 2);
	snprintf(path, sizeof(path), "%s/manifests/web@2", b->archive);
	assert_int_equal(unlink(path), 0);
	assert_ok(bed_put_once(b, "web", &c, &number));
	assert_int_equal(number, 3);
	assert_ok(bed_put_once(b, "web2", &c, &number));
	assert_int_equal(number, 1);
	content_free(&c);
}

static enum err collect(void *arg, const struct checkpoint_info *info)
{
	char *text = arg;

	sprintf(text + strlen(text), "%s@%llu ", info->name, (unsigned long long)info->number);
	return ERR_OK;
}

static void test_archive__listing_is_ordered_and_references_are_found(void **state)
{
	const struct bed *b = *state;
	struct checkpoint_info info, same;
	char text[1000] = "", hex[65];
	struct archive *a;
	struct content c;

	content_make(&c, 1, 10000);
	assert_ok(bed_open(b, true, &a));
	for (int i = 0; i < 11; i++)
		assert_ok(bed_put(a, "web", &c, NULL));
	assert_ok(bed_put(a, "db", &c, NULL));
	assert_ok(archive_list(a, collect, text));
	assert_string_equal(text, "db@1 web@1 web@2 web@3 web@4 web@5 web@6 web@7 web@8 web@9 "
				  "web@10 web@11 ");
	assert_ok(archive_find(a, "web", &info));
	assert_int_equal(info.number, 11);
	assert_ok(archive_find(a, "web@9", &info));
	assert_int_equal(info.number, 9);
	for (int i = 0; i < 32; i++)
		sprintf(hex + 2 * i, "%02x", info.digest.b[i]);
	hex[12] = '\0';
	assert_ok(archive_find(a, hex, &same));
	assert_int_equal(same.number, 9);
	assert_err(archive_find(a, "web@12", &info), ERR_NOTFOUND);
	assert_err(archive_find(a, "nobody", &info), ERR_NOTFOUND);
	assert_err(archive_find(a, "ffffffffffffffff", &info), ERR_NOTFOUND);
	assert_err(archive_find(a, "web@0", &info), ERR_USAGE);
	assert_err(archive_find(a, "web@01", &info), ERR_USAGE);
	assert_err(archive_find(a, "../web", &info), ERR_USAGE);
	assert_err(archive_find(a, "", &info), ERR_USAGE);
	archive_close(a);
	content_free(&c);
}

static void test_archive__abort_leaves_nothing(void **state)
{
	const struct bed *b = *state;
	struct archive_writer *w;
	struct archive *a;
	struct content c;
	char **files, path[512];
	unsigned i;

	content_make(&c, 1, 20 * MIB);
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_begin(a, "web", NULL, &w));
	assert_ok(archive_stream(w, "ram", c.len, &i));
	assert_ok(archive_put(w, i, 0, c.data, c.len));
	archive_abort(w);
	archive_abort(NULL);
	archive_close(a);
	snprintf(path, sizeof(path), "%s/packs", b->archive);
	assert_int_equal(bed_files(path, &files), 0);
	snprintf(path, sizeof(path), "%s/manifests", b->archive);
	assert_int_equal(bed_files(path, &files), 0);
	content_free(&c);
}

static void test_archive__cancel_ends_a_put_and_a_read(void **state)
{
	const struct bed *b = *state;
	struct progress progress = {0};
	struct checkpoint_info info;
	struct archive_writer *w;
	struct archive *a;
	struct content c;
	unsigned i;

	content_make(&c, 1, MIB);
	assert_ok(bed_put_once(b, "web", &c, NULL));
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_begin(a, "web", &progress, &w));
	assert_ok(archive_stream(w, "ram", c.len, &i));
	assert_ok(archive_put(w, i, 0, c.data, c.len / 2));
	atomic_store(&progress.cancel, true);
	assert_err(archive_put(w, i, c.len / 2, c.data + c.len / 2, c.len / 2), ERR_CANCELLED);
	assert_err(archive_commit(w, "", &info), ERR_CANCELLED);
	assert_err(archive_find(a, "web@2", &info), ERR_NOTFOUND);
	archive_close(a);
	content_free(&c);
}

static void test_archive__init_and_open_say_what_is_wrong(void **state)
{
	const struct bed *b = *state;
	struct archive_options opt = bed_options(b, true);
	struct archive *a;
	struct archive_writer *w;
	char path[512];
	FILE *f;

	assert_err(bed_init(b, b->archive), ERR_BUSY);
	snprintf(path, sizeof(path), "%s/packs", b->archive);
	assert_err(archive_open(path, &opt, &a), ERR_NOTFOUND);
	snprintf(path, sizeof(path), "%s/none", b->dir);
	assert_err(archive_open(path, &opt, &a), ERR_NOTFOUND);
	snprintf(path, sizeof(path), "%s/deep/er", b->dir);
	assert_ok(bed_init(b, path));
	assert_ok(archive_open(path, &opt, &a));
	archive_close(a);
	snprintf(path, sizeof(path), "%s/full", b->dir);
	bed_copy(b->archive, path);
	strcat(path, "/other");
	assert_non_null(f = fopen(path, "w"));
	fclose(f);
	*strrchr(path, '/') = '\0';
	assert_err(bed_init(b, path), ERR_BUSY);
	assert_ok(bed_open(b, false, &a));
	assert_err(archive_begin(a, "web", NULL, &w), ERR_USAGE);
	archive_close(a);
	archive_close(NULL);
}

static void test_archive__another_version_is_refused(void **state)
{
	const struct bed *b = *state;
	struct archive *a;
	char path[512];

	snprintf(path, sizeof(path), "%s/archive", b->archive);
	bed_flip(path, 8 * 8);
	bed_flip(path, (512 + 8) * 8);
	assert_err(bed_open(b, false, &a), ERR_VERSION);
}

static void test_archive__one_record_of_the_configuration_is_enough(void **state)
{
	const struct bed *b = *state;
	struct archive_damage d;
	struct content c;
	char path[512];

	content_make(&c, 1, MIB);
	assert_ok(bed_put_once(b, "web", &c, NULL));
	snprintf(path, sizeof(path), "%s/archive", b->archive);
	bed_flip(path, 20 * 8);
	assert_ok(bed_check_once(b, "web@1", &c));
	assert_err(bed_verify(b, false, &d), ERR_CORRUPT);
	bed_flip(path, (512 + 20) * 8);
	assert_err(bed_check_once(b, "web@1", &c), ERR_CORRUPT);
	content_free(&c);
}

/* Somebody gives the name away a moment before the writer does. */
static void take_name(void *arg, enum fs_op op, const char *what, size_t len,
		      struct fs_fault *fault)
{
	(void)len;
	(void)fault;
	if (op == FS_RENAME && strcmp(what, "manifests/web@2") == 0)
		close(open(arg, O_CREAT | O_WRONLY, 0600));
}

static void test_archive__a_name_that_is_taken_stays_its_owners(void **state)
{
	const struct bed *b = *state;
	struct content c;
	char path[512], **files;
	size_t packs;

	content_make(&c, 1, MIB);
	assert_ok(bed_put_once(b, "web", &c, NULL));
	snprintf(path, sizeof(path), "%s/packs", b->archive);
	packs = bed_files(path, &files);
	for (size_t i = 0; i < packs; i++)
		free(files[i]);
	free(files);
	content_change(&c, 2, 50);
	snprintf(path, sizeof(path), "%s/manifests/web@2", b->archive);
	fs_fault_set(take_name, path);
	assert_err(bed_put_once(b, "web", &c, NULL), ERR_BUSY);
	fs_fault_set(NULL, NULL);
	assert_int_equal(access(path, F_OK), 0);
	snprintf(path, sizeof(path), "%s/packs", b->archive);
	assert_int_equal(bed_files(path, &files), packs); /* ours are gone */
	for (size_t i = 0; i < packs; i++)
		free(files[i]);
	free(files);
	content_free(&c);
}

/* Each page from another checkpoint's pack, as after years of small changes. */
static enum err count_listed(void *arg, const struct checkpoint_info *info)
{
	(void)info;
	++*(unsigned *)arg;
	return ERR_OK;
}

/* A crafted archive neither hangs its reader nor hides its other checkpoints. */
static void test_archive__a_pipe_for_a_manifest_is_damage(void **state)
{
	const struct bed *b = *state;
	struct archive *a;
	struct content c;
	char path[600];
	unsigned listed = 0;

	content_make(&c, 5, 4096);
	assert_ok(bed_put_once(b, "web", &c, NULL));
	snprintf(path, sizeof(path), "%s/manifests/alien@1", b->archive);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_ok(bed_open(b, false, &a));
	assert_ok(archive_list(a, count_listed, &listed));
	assert_int_equal(listed, 2);
	archive_close(a);
	assert_ok(bed_check_once(b, "web@1", &c));
	content_free(&c);
}

/* Removing left-over files must not happen in a directory that is not the archive's. */
static void test_archive__a_linked_part_is_refused(void **state)
{
	const struct bed *b = *state;
	struct archive *a = NULL;
	char path[600], aside[600];

	snprintf(path, sizeof(path), "%s/numbers", b->archive);
	snprintf(aside, sizeof(aside), "%s/elsewhere", b->dir);
	assert_int_equal(rename(path, aside), 0);
	assert_int_equal(symlink(aside, path), 0);
	assert_err(bed_open(b, true, &a), ERR_CORRUPT);
	assert_non_null(strstr(err_text(), "numbers"));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rename(aside, path), 0);
	assert_ok(bed_open(b, true, &a));
	archive_close(a);
}

static void test_archive__a_checkpoint_of_many_packs_needs_few_descriptors(void **state)
{
	enum { PACKS = 300, DESCRIPTORS = 220 };
	const struct bed *b = *state;
	struct rlimit before, few;
	struct content all, one;
	struct archive *a;

	all.len = PACKS * ARCHIVE_PAGE_BYTES;
	all.data = calloc(1, all.len);
	assert_non_null(all.data);
	assert_ok(bed_open(b, true, &a));
	for (unsigned i = 0; i < PACKS; i++) {
		one.data = all.data + (size_t)i * ARCHIVE_PAGE_BYTES;
		one.len = ARCHIVE_PAGE_BYTES;
		snprintf((char *)one.data, 16, "page %u", i);
		assert_ok(bed_put(a, "web", &one, NULL));
	}
	assert_ok(bed_put(a, "all", &all, NULL));
	archive_close(a);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	few.rlim_cur = DESCRIPTORS;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_ok(bed_check_once(b, "all@1", &all));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	free(all.data);
}

#define T(f) cmocka_unit_test_setup_teardown(f, bed_setup, bed_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_archive__what_was_put_comes_back),
		T(test_archive__any_range_can_be_read),
		T(test_archive__many_threads_read_at_once),
		T(test_archive__streams_interleave_and_keep_their_names),
		T(test_archive__put_refuses_what_is_no_page_range),
		T(test_archive__equal_pages_are_stored_once),
		T(test_archive__a_changed_page_costs_a_page),
		T(test_archive__metadata_stays_small_and_packs_follow_each_other),
		T(test_archive__numbers_are_never_reused),
		T(test_archive__listing_is_ordered_and_references_are_found),
		T(test_archive__abort_leaves_nothing),
		T(test_archive__cancel_ends_a_put_and_a_read),
		T(test_archive__init_and_open_say_what_is_wrong),
		T(test_archive__another_version_is_refused),
		T(test_archive__one_record_of_the_configuration_is_enough),
		T(test_archive__a_name_that_is_taken_stays_its_owners),
		T(test_archive__a_pipe_for_a_manifest_is_damage),
		T(test_archive__a_linked_part_is_refused),
		T(test_archive__a_checkpoint_of_many_packs_needs_few_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
