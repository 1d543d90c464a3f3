/* SPDX-License-Identifier: Apache-2.0 */
/* Removing and collecting: what goes is gone, its space comes back, what stays reads back, and
 * nothing goes from under somebody who needs it. */
#include "tests/unit/store/bed.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"

#define SIZE (4u << 20)

static struct content first, second, third;

static int group_setup(void **state)
{
	(void)state;
	content_make(&first, 11, SIZE);
	content_make(&second, 11, SIZE);
	content_change(&second, 5, 70);
	content_make(&third, 99, SIZE / 2);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	content_free(&first);
	content_free(&second);
	content_free(&third);
	return 0;
}

static uint64_t bytes_in(const struct bed *b, const char *part)
{
	char path[400], file[800], **files;
	uint64_t sum = 0;
	size_t n;

	snprintf(path, sizeof(path), "%s/%s", b->archive, part);
	n = bed_files(path, &files);
	for (size_t i = 0; i < n; i++) {
		snprintf(file, sizeof(file), "%s/%s", path, files[i]);
		sum += bed_file_size(file);
		free(files[i]);
	}
	free(files);
	return sum;
}

static void put(const struct bed *b, const char *name, const struct content *c)
{
	assert_ok(bed_put_once(b, name, c, NULL));
}

static void expect(const struct bed *b, const char *ref, const struct content *c)
{
	assert_ok(bed_check_once(b, ref, c));
}

static void test_gc__a_removed_checkpoint_frees_its_space_and_no_other(void **state)
{
	struct bed *b = *state;
	struct archive_gc_result r;
	uint64_t before;

	put(b, "web", &first);
	before = bytes_in(b, "packs");
	put(b, "db", &third);
	assert_ok(bed_remove_once(b, "db@1"));
	assert_int_equal(bed_check_once(b, "db@1", &third), ERR_NOTFOUND);
	assert_ok(bed_gc_once(b, 0, &r));
	assert_int_equal(r.packs_removed, 1);
	assert_int_equal(r.packs_waiting, 0);
	assert_int_equal(bytes_in(b, "packs"), before);
	assert_int_equal(bed_files_in(b, "condemned", ""), 0);
	expect(b, "web@1", &first);
	assert_ok(bed_verify(b, true, NULL));
	assert_ok(bed_gc_once(b, 0, &r));
	assert_int_equal(r.packs_removed + r.packs_rewritten, 0);
}

static void test_gc__numbers_are_not_used_again(void **state)
{
	struct bed *b = *state;
	uint64_t number;

	put(b, "web", &third);
	assert_ok(bed_remove_once(b, "web@1"));
	assert_ok(bed_put_once(b, "web", &third, &number));
	assert_int_equal(number, 2);
	assert_int_equal(bed_remove_once(b, "web@1"), ERR_NOTFOUND);
	expect(b, "web@2", &third);
}

static void test_gc__a_mostly_dead_pack_is_rewritten(void **state)
{
	struct bed *b = *state;
	struct archive_gc_result r;
	struct archive *a;
	struct checkpoint_info was, is;
	uint64_t before;

	put(b, "web", &first);
	put(b, "web", &second); /* needs some 30 % of the first one's pack */
	assert_ok(bed_remove_once(b, "web@1"));
	before = bytes_in(b, "packs");
	assert_ok(bed_open(b, false, &a));
	assert_ok(archive_find(a, "web@2", &was));
	archive_close(a);
	assert_ok(bed_gc_once(b, 20, &r));
	assert_int_equal(r.packs_rewritten, 0);
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(r.packs_rewritten, 1);
	assert_int_equal(bed_files_in(b, "forwards", ""), 1);
	assert_int_equal(bed_files_in(b, "condemned", ""), 0);
	assert_true(bytes_in(b, "packs") < before);
	assert_int_equal(before - bytes_in(b, "packs"), r.removed_bytes - r.made_bytes);
	expect(b, "web@2", &second);
	assert_ok(bed_verify(b, true, NULL));
	assert_ok(bed_open(b, false, &a)); /* the checkpoint is what it was, byte for byte */
	assert_ok(archive_find(a, "web@2", &is));
	archive_close(a);
	assert_memory_equal(&was.digest, &is.digest, sizeof(was.digest));
}

static void test_gc__what_was_rewritten_is_found_again_by_the_next_checkpoint(void **state)
{
	struct bed *b = *state;
	struct archive_gc_result r;
	uint64_t before;

	put(b, "web", &first);
	put(b, "web", &second);
	assert_ok(bed_remove_once(b, "web@1"));
	assert_ok(bed_gc_once(b, 60, &r));
	before = bytes_in(b, "packs");
	put(b, "copy", &second);
	assert_int_equal(bytes_in(b, "packs"), before);
	assert_ok(bed_remove_once(b, "web@2")); /* its forward may go, the pages may not */
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(r.forwards_removed, 1);
	assert_int_equal(bed_files_in(b, "forwards", ""), 0);
	expect(b, "copy@1", &second);
	assert_ok(bed_verify(b, true, NULL));
}

static void test_gc__pages_are_rewritten_again_and_again(void **state)
{
	struct bed *b = *state;
	struct archive_gc_result r;
	struct content now;

	content_make(&now, 7, SIZE);
	put(b, "base", &now);
	for (unsigned i = 0; i < 6; i++) {
		content_change(&now, 100 + i, 40);
		put(b, "vm", &now);
		if (i) {
			char ref[32];

			snprintf(ref, sizeof(ref), "vm@%u", i);
			assert_ok(bed_remove_once(b, ref));
		} else {
			assert_ok(bed_remove_once(b, "base@1"));
		}
		assert_ok(bed_gc_once(b, 90, &r));
		expect(b, "vm", &now);
		assert_ok(bed_verify(b, true, NULL));
	}
	assert_ok(bed_remove_once(b, "vm"));
	assert_ok(bed_gc_once(b, 90, &r));
	assert_int_equal(bed_files_in(b, "packs", ""), 0);
	assert_int_equal(bed_files_in(b, "forwards", ""), 0);
	content_free(&now);
}

/* Every fifth page of c, from that one on. */
static void put_fifth(const struct bed *b, const char *name, const struct content *c, size_t from)
{
	struct content part = {.len = c->len, .data = calloc(1, c->len)};

	for (size_t at = from * 4096; at + 4096 <= c->len; at += 5 * 4096)
		memcpy(part.data + at, c->data + at, 4096);
	put(b, name, &part);
	content_free(&part);
}

/* A forward that leads to a forward, which has less of it, because less was needed then. */
static void test_gc__what_nobody_needed_is_no_damage(void **state)
{
	struct bed *b = *state;
	struct archive_gc_result r;

	put(b, "web", &first);
	put_fifth(b, "one", &first, 1);
	put_fifth(b, "two", &first, 2);
	assert_ok(bed_remove_once(b, "web"));
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(r.packs_rewritten, 1);
	assert_ok(bed_remove_once(b, "two"));
	assert_ok(bed_gc_once(b, 60, &r));
	if (r.packs_rewritten == 0)
		assert_ok(bed_gc_once(b, 90, &r));
	assert_int_equal(r.packs_rewritten, 1);
	assert_ok(bed_verify(b, true, NULL));
}

static void test_gc__a_dry_run_changes_nothing(void **state)
{
	struct bed *b = *state;
	struct archive_gc_options opt = {.dry_run = true, .threshold_percent = 60};
	struct archive_gc_result r;
	struct archive *a;
	size_t before;

	put(b, "web", &first);
	put(b, "web", &second);
	put(b, "db", &third);
	assert_ok(bed_remove_once(b, "web@1"));
	assert_ok(bed_remove_once(b, "db@1"));
	before = bed_files_in(b, ".", "");
	assert_ok(bed_open(b, false, &a));
	assert_ok(archive_gc(a, &opt, NULL, NULL, NULL, &r));
	archive_close(a);
	assert_int_equal(bed_files_in(b, ".", ""), before);
	assert_int_equal(r.packs_removed, 1);
	assert_int_equal(r.packs_rewritten, 1);
	assert_true(r.removed_bytes > r.made_bytes);
}

/* ---- who needs something ---- */

static void test_gc__a_pin_keeps_a_checkpoint(void **state)
{
	struct bed *b = *state;
	struct checkpoint_info info;
	struct archive_pin pin;
	struct archive *a;

	put(b, "web", &third);
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_find(a, "web@1", &info));
	assert_ok(archive_pin(a, &info, "a restore of web", &pin));
	assert_int_equal(archive_remove(a, &info), ERR_BUSY);
	assert_non_null(strstr(err_text(), pin.id));
	assert_non_null(strstr(err_text(), "a restore of web"));
	archive_close(a);
	expect(b, "web@1", &third);
	assert_ok(bed_open(b, true, &a));
	assert_int_equal(archive_unpin(a, "0000000000000000"), ERR_NOTFOUND);
	assert_int_equal(archive_unpin(a, "../numbers/web"), ERR_USAGE);
	assert_ok(archive_unpin(a, pin.id));
	assert_ok(archive_remove(a, &info));
	assert_int_equal(archive_pin(a, &info, "too late", &pin), ERR_NOTFOUND);
	archive_close(a);
}

static void test_gc__a_damaged_pin_keeps_everything(void **state)
{
	struct bed *b = *state;
	struct checkpoint_info info;
	struct archive_pin pin;
	struct archive *a;
	char path[400];

	put(b, "web", &third);
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_find(a, "web@1", &info));
	assert_ok(archive_pin(a, &info, "somebody", &pin));
	snprintf(path, sizeof(path), "%s/pins/%s", b->archive, pin.id);
	bed_flip(path, 100);
	assert_int_equal(archive_remove(a, &info), ERR_BUSY); /* the second copy */
	bed_flip(path, 8 * 512 + 100);
	assert_int_equal(archive_remove(a, &info), ERR_BUSY);
	assert_non_null(strstr(err_text(), "damaged"));
	assert_ok(archive_unpin(a, pin.id));
	assert_ok(archive_remove(a, &info));
	archive_close(a);
}

static void count_holder(void *arg, const struct archive_holder *h)
{
	unsigned *n = arg;

	++*n;
	assert_int_equal(h->pid, getpid());
	assert_non_null(strstr(h->what, "web@1"));
}

static void test_gc__who_reads_goes_on_reading(void **state)
{
	struct bed *b = *state;
	struct archive_gc_options opt = {.threshold_percent = 60};
	struct archive_gc_result r;
	struct checkpoint_info info;
	struct archive_reader *reader;
	struct archive *a, *other;
	uint8_t *page = malloc(SIZE);
	unsigned holders = 0;

	put(b, "web", &first);
	assert_ok(bed_open(b, false, &a));
	assert_ok(archive_find(a, "web@1", &info));
	assert_ok(archive_read_open(a, &info, &reader));
	assert_ok(bed_remove_once(b, "web@1"));
	assert_ok(bed_open(b, true, &other));
	assert_ok(archive_gc(other, &opt, NULL, count_holder, &holders, &r));
	assert_int_equal(holders, 1);
	assert_int_equal(r.packs_removed, 0);
	assert_int_equal(r.packs_waiting, 1);
	assert_true(r.waiting_bytes > 0);
	assert_ok(archive_read(reader, 0, 0, page, SIZE));
	assert_memory_equal(page, first.data, SIZE);
	archive_read_close(reader);
	assert_ok(archive_gc(other, &opt, NULL, count_holder, &holders, &r));
	assert_int_equal(holders, 1);
	assert_int_equal(r.packs_removed, 1);
	archive_close(other);
	archive_close(a);
	free(page);
	assert_int_equal(bed_files_in(b, "packs", ""), 0);
}

/* A reader that began after the condemnation holds nothing up. */
static void test_gc__later_readers_do_not_delay_it(void **state)
{
	struct bed *b = *state;
	struct archive_gc_result r;
	struct checkpoint_info info;
	struct archive_reader *before, *after;
	struct archive *a;

	put(b, "db", &third);
	put(b, "web", &first);
	assert_ok(bed_open(b, false, &a));
	assert_ok(archive_find(a, "web@1", &info));
	assert_ok(archive_read_open(a, &info, &before));
	assert_ok(bed_remove_once(b, "web@1"));
	assert_ok(bed_gc_once(b, 0, &r));
	assert_int_equal(r.packs_waiting, 1);
	assert_ok(archive_find(a, "db@1", &info));
	assert_ok(archive_read_open(a, &info, &after));
	archive_read_close(before);
	assert_ok(bed_gc_once(b, 0, &r));
	assert_int_equal(r.packs_removed, 1);
	archive_read_close(after);
	archive_close(a);
}

static void test_gc__the_lease_of_a_killed_process_is_void(void **state)
{
	struct bed *b = *state;
	struct archive_gc_result r;
	int status;
	pid_t pid;

	put(b, "web", &first);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		struct checkpoint_info info;
		struct archive_reader *reader;
		struct archive *a;
		bool ok = bed_open(b, false, &a) == ERR_OK &&
			  archive_find(a, "web@1", &info) == ERR_OK &&
			  archive_read_open(a, &info, &reader) == ERR_OK;

		_exit(ok ? 7 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 7);
	assert_int_equal(bed_files_in(b, "leases", ""), 2); /* shared, and the dead one's */
	assert_ok(bed_remove_once(b, "web@1"));
	assert_ok(bed_gc_once(b, 0, &r));
	assert_int_equal(r.packs_removed, 1);
}

/* A writer that uses a page again which nobody else needs any more. */
static void test_gc__a_writer_keeps_what_it_refers_to(void **state)
{
	struct bed *b = *state;
	struct archive_gc_result r;
	struct archive_writer *w;
	struct archive *a;
	unsigned index;

	put(b, "web", &first);
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_begin(a, "late", NULL, &w));
	assert_ok(archive_stream(w, "ram", first.len, &index));
	assert_ok(archive_put(w, index, 0, first.data, first.len));
	assert_ok(bed_remove_once(b, "web@1"));
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(r.packs_removed, 0);
	assert_int_equal(r.packs_waiting, 1);
	assert_ok(archive_commit(w, "", NULL));
	archive_close(a);
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(r.packs_removed + r.packs_waiting, 0);
	assert_int_equal(bed_files_in(b, "condemned", ""), 0);
	expect(b, "late@1", &first);
	assert_ok(bed_verify(b, true, NULL));
}

static void remove_leases(const struct bed *b)
{
	char path[400];
	DIR *d;

	snprintf(path, sizeof(path), "%s/leases", b->archive);
	d = opendir(path);
	for (struct dirent *e; (e = readdir(d)) != NULL;)
		if (strlen(e->d_name) == 16)
			unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
}

static void test_gc__a_writer_that_was_fenced_off_fails_cleanly(void **state)
{
	struct bed *b = *state;
	struct archive_gc_result r;
	struct archive_writer *w;
	struct archive *a;
	unsigned index;

	put(b, "db", &third);
	put(b, "web", &first);
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_begin(a, "late", NULL, &w));
	assert_ok(archive_stream(w, "ram", first.len, &index));
	assert_ok(archive_put(w, index, 0, first.data, first.len));
	remove_leases(b);
	assert_ok(bed_remove_once(b, "web@1"));
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(r.packs_removed, 1);
	assert_int_equal(archive_commit(w, "", NULL), ERR_BUSY);
	assert_non_null(strstr(err_text(), "again"));
	assert_ok(bed_put(a, "late", &first, NULL)); /* the same archive is fit for use */
	archive_close(a);
	expect(b, "late", &first);
	expect(b, "db@1", &third);
	assert_ok(bed_verify(b, true, NULL));
}

/* An archive that stays open over collections does not refer to what went. */
static void test_gc__an_archive_that_stays_open_goes_on(void **state)
{
	struct bed *b = *state;
	struct archive_gc_result r;
	struct archive *a;

	assert_ok(bed_open(b, true, &a));
	assert_ok(bed_put(a, "web", &first, NULL));
	assert_ok(bed_put(a, "web", &second, NULL));
	assert_ok(bed_remove_once(b, "web@1"));
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(r.packs_rewritten, 1);
	assert_ok(bed_put(a, "web", &second, NULL));
	assert_ok(bed_put(a, "web", &first, NULL));
	assert_ok(bed_remove_once(b, "web@2"));
	assert_ok(bed_gc_once(b, 60, &r));
	assert_ok(bed_put(a, "web", &second, NULL));
	assert_ok(bed_check(a, "web@3", &second));
	assert_ok(bed_check(a, "web@4", &first));
	assert_ok(bed_check(a, "web@5", &second));
	archive_close(a);
	assert_ok(bed_verify(b, true, NULL));
}

static int no_lease; /* the errno with which a file below leases/ cannot be made */

static void refuse_leases(void *arg, enum fs_op op, const char *what, size_t len,
			  struct fs_fault *fault)
{
	(void)arg, (void)len;
	if (op == FS_OPEN && strncmp(what, "leases/", 7) == 0 && strlen(what) == 7 + 16)
		fault->error = no_lease;
}

/* On a full or read-only file system, or without the right to write. */
static void test_gc__who_cannot_make_a_lease_reads_and_is_respected(void **state)
{
	static const int errors[] = {ENOSPC, EROFS, EACCES};
	struct bed *b = *state;

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		struct archive_gc_result r;
		struct checkpoint_info info;
		struct archive_reader *reader;
		struct archive *a;
		uint8_t *page = malloc(SIZE);

		put(b, "web", &first);
		assert_ok(bed_open(b, false, &a));
		assert_ok(archive_find(a, "web", &info));
		no_lease = errors[i];
		fs_fault_set(refuse_leases, NULL);
		assert_ok(archive_read_open(a, &info, &reader));
		fs_fault_set(NULL, NULL);
		assert_ok(bed_remove_once(b, "web"));
		assert_ok(bed_gc_once(b, 60, &r));
		assert_int_equal(r.packs_removed, 0);
		assert_int_equal(r.packs_waiting, 1);
		assert_ok(archive_read(reader, 0, 0, page, SIZE));
		assert_memory_equal(page, first.data, SIZE);
		archive_read_close(reader);
		archive_close(a);
		assert_ok(bed_gc_once(b, 60, &r));
		assert_int_equal(r.packs_removed, 1);
		free(page);
	}
}

/* It holds up what was condemned after it began, and nothing else. */
static void test_gc__who_cannot_make_a_lease_holds_up_only_what_he_may_read(void **state)
{
	struct bed *b = *state;
	struct archive_gc_result r;
	struct archive_reader *early, *late;
	struct checkpoint_info info;
	struct archive *a;

	put(b, "db", &third);
	put(b, "web", &first);
	assert_ok(bed_open(b, false, &a));
	no_lease = EACCES;
	fs_fault_set(refuse_leases, NULL);
	assert_ok(archive_find(a, "web", &info));
	assert_ok(archive_read_open(a, &info, &early));
	fs_fault_set(NULL, NULL);
	assert_ok(bed_remove_once(b, "web"));
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(r.packs_waiting, 1);
	fs_fault_set(refuse_leases, NULL);
	assert_ok(archive_find(a, "db", &info));
	assert_ok(archive_read_open(a, &info, &late));
	fs_fault_set(NULL, NULL);
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(r.packs_waiting, 1); /* the early one has it yet */
	archive_read_close(early);
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(r.packs_removed, 1);
	assert_int_equal(r.packs_waiting, 0);
	archive_read_close(late);
	archive_close(a);
	expect(b, "db@1", &third);
}

static void test_gc__one_at_a_time(void **state)
{
	struct bed *b = *state;
	struct archive_gc_result r;
	char path[400];
	int fd;

	put(b, "web", &third);
	snprintf(path, sizeof(path), "%s/gc.lock", b->archive);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_ok(fs_lock(fd, path, true, false));
	assert_int_equal(bed_gc_once(b, 60, &r), ERR_BUSY);
	assert_non_null(strstr(err_text(), "another collection"));
	close(fd);
	assert_ok(bed_gc_once(b, 60, &r));
}

static void test_gc__nothing_goes_while_a_manifest_cannot_be_read(void **state)
{
	struct bed *b = *state;
	struct archive_gc_result r;
	char path[400];
	size_t packs;

	put(b, "web", &first);
	put(b, "db", &third);
	assert_ok(bed_remove_once(b, "db@1"));
	packs = bed_files_in(b, "packs", "");
	snprintf(path, sizeof(path), "%s/manifests/web@1", b->archive);
	bed_flip(path, 8 * 60);
	assert_int_equal(bed_gc_once(b, 60, &r), ERR_CORRUPT);
	assert_int_equal(bed_files_in(b, "packs", ""), packs);
	bed_flip(path, 8 * 60);
	assert_ok(bed_gc_once(b, 60, &r));
	expect(b, "web@1", &first);
	bed_flip(path, 8 * 60); /* a damaged one can be removed */
	assert_ok(bed_remove_once(b, "web@1"));
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(bed_files_in(b, "packs", ""), 0);
}

static void test_gc__a_damaged_forward_is_read_from_its_second_copy(void **state)
{
	struct bed *b = *state;
	struct archive_gc_result r;
	struct archive_damage found;
	char path[400], file[800], **files;
	uint64_t size;

	put(b, "web", &first);
	put(b, "web", &second);
	assert_ok(bed_remove_once(b, "web@1"));
	assert_ok(bed_gc_once(b, 60, &r));
	snprintf(path, sizeof(path), "%s/forwards", b->archive);
	assert_int_equal(bed_files(path, &files), 1);
	snprintf(file, sizeof(file), "%s/%s", path, files[0]);
	size = bed_file_size(file);
	bed_flip(file, 8 * 1500);
	expect(b, "web@2", &second);
	assert_int_equal(bed_verify(b, false, &found), ERR_CORRUPT);
	bed_flip(file, 8 * (size / 2 + 1500));
	assert_int_equal(bed_check_once(b, "web@2", &second), ERR_CORRUPT);
	assert_int_equal(bed_verify(b, false, &found), ERR_CORRUPT);
	assert_non_null(strstr(found.what, "forwards/"));
	assert_int_equal(bed_gc_once(b, 60, &r), ERR_CORRUPT);
	bed_flip(file, 8 * 1500);
	bed_flip(file, 8 * (size / 2 + 1500));
	assert_ok(bed_verify(b, true, NULL));
	free(files[0]);
	free(files);
}

static void test_gc__a_pack_that_cannot_be_read_is_left_alone(void **state)
{
	struct bed *b = *state;
	struct archive_gc_result r;
	char path[400], file[800], **files;

	put(b, "web", &first);
	snprintf(path, sizeof(path), "%s/packs", b->archive);
	assert_int_equal(bed_files(path, &files), 1);
	snprintf(file, sizeof(file), "%s/%s", path, files[0]);
	put(b, "web", &second);
	assert_ok(bed_remove_once(b, "web@1"));
	for (unsigned i = 0; i < 200; i++)
		bed_flip(file, 8ull * (600 + i * 4001) + i % 8);
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(r.packs_rewritten, 0);
	assert_int_equal(r.packs_unmoved, 1);
	assert_int_equal(access(file, F_OK), 0);
	assert_int_equal(bed_files_in(b, "packs", ""), 2);
	free(files[0]);
	free(files);
}

#define T(f) cmocka_unit_test_setup_teardown(f, bed_setup, bed_teardown)

/* usage: test_gc [PATTERN] */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(test_gc__a_removed_checkpoint_frees_its_space_and_no_other),
		T(test_gc__numbers_are_not_used_again),
		T(test_gc__a_mostly_dead_pack_is_rewritten),
		T(test_gc__what_was_rewritten_is_found_again_by_the_next_checkpoint),
		T(test_gc__pages_are_rewritten_again_and_again),
		T(test_gc__what_nobody_needed_is_no_damage),
		T(test_gc__a_dry_run_changes_nothing),
		T(test_gc__a_pin_keeps_a_checkpoint),
		T(test_gc__a_damaged_pin_keeps_everything),
		T(test_gc__who_reads_goes_on_reading),
		T(test_gc__later_readers_do_not_delay_it),
		T(test_gc__the_lease_of_a_killed_process_is_void),
		T(test_gc__a_writer_keeps_what_it_refers_to),
		T(test_gc__a_writer_that_was_fenced_off_fails_cleanly),
		T(test_gc__an_archive_that_stays_open_goes_on),
		T(test_gc__who_cannot_make_a_lease_reads_and_is_respected),
		T(test_gc__who_cannot_make_a_lease_holds_up_only_what_he_may_read),
		T(test_gc__one_at_a_time),
		T(test_gc__nothing_goes_while_a_manifest_cannot_be_read),
		T(test_gc__a_damaged_forward_is_read_from_its_second_copy),
		T(test_gc__a_pack_that_cannot_be_read_is_left_alone),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
