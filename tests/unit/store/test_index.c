/* SPDX-License-Identifier: Apache-2.0 */
/* The index is a cache: whatever happens to it, pages are found again after a rebuild,
 * and what it says is never believed without the pack's own directory. */
#include "tests/unit/store/bed.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fs.h"
#include "store/dedup.h"
#include "store/record.h"
#include "store/runset.h"

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

/* The same content again: did it add no page, because all of them were found? */
static bool all_found(const struct bed *b)
{
	struct archive_stats before, after;
	struct archive *a;

	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_stats(a, &before));
	assert_ok(bed_put(a, "again", &c, NULL));
	assert_ok(archive_stats(a, &after));
	archive_close(a);
	assert_ok(bed_check_once(b, "again", &c));
	return before.pack_bytes == after.pack_bytes;
}

static void assert_all_found(const struct bed *b)
{
	assert_true(all_found(b));
	assert_ok(bed_verify(b, true, NULL));
}

static void test_index__a_killed_user_costs_nothing(void **state)
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
	assert_ok(bed_verify(b, true, NULL));
	assert_all_found(b);
}

/* The name of the one run there is. */
static void run_path(const struct bed *b, char path[512])
{
	char **files;
	size_t n = bed_files(b->archive, &files);

	path[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		if (strncmp(files[i], "index/run-", 10) == 0)
			snprintf(path, 512, "%s/%s", b->archive, files[i]);
		free(files[i]);
	}
	free(files);
	assert_true(path[0]);
}

static void rebuild(const struct bed *b)
{
	struct archive *a;

	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_rebuild_index(a, NULL));
	archive_close(a);
}

/* Whatever is flipped: verify finds it, nothing wrong comes of it, and a rebuild ends it.  (Only
 * a use that meets the damage brings that about by itself: neighbours need no look-up.) */
static void test_index__a_lost_or_garbled_index_is_made_again(void **state)
{
	const struct bed *b = *state;
	char path[512];
	uint64_t seed = bed_seed();

	snprintf(path, sizeof(path), "%s/index", b->archive);
	bed_remove(path);
	assert_all_found(b);
	for (unsigned i = 0; i < bed_count(40); i++) {
		struct content other;

		if (i % 4 == 0)
			snprintf(path, sizeof(path), "%s/index/state", b->archive);
		else if (i % 4 == 1)
			snprintf(path, sizeof(path), "%s/index/packs", b->archive);
		else
			run_path(b, path);
		bed_flip(path, bed_random(&seed) % (bed_file_size(path) * 8));
		assert_err(bed_verify(b, false, NULL), ERR_CORRUPT);
		content_make(&other, i, MIB);
		assert_ok(bed_put_once(b, "web", &c, NULL));
		assert_ok(bed_put_once(b, "other", &other, NULL));
		assert_ok(bed_check_once(b, "web", &c));
		if (i % 4 >= 2)
			rebuild(b);
		assert_ok(bed_check_once(b, "other", &other));
		content_free(&other);
		assert_all_found(b);
	}
}

static void test_index__rebuild_on_request_finds_all(void **state)
{
	const struct bed *b = *state;
	struct archive *a, *other;
	struct archive_writer *w;
	struct content more;

	content_make(&more, 7, MIB);
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_rebuild_index(a, NULL));
	assert_ok(bed_open(b, true, &other));
	assert_ok(archive_begin(other, "web", NULL, &w));
	assert_ok(archive_rebuild_index(a, NULL)); /* under a writer, which goes on */
	archive_abort(w);
	assert_ok(bed_put(other, "more", &more, NULL));
	archive_close(other);
	archive_close(a);
	assert_all_found(b);
	content_free(&more);
}

static struct index_entry lie_about(const struct content *fresh, uint32_t page)
{
	struct digest d;

	digest_of(fresh->data + (size_t)page * ARCHIVE_PAGE_BYTES, ARCHIVE_PAGE_BYTES, &d);
	return (struct index_entry){le64_get(d.b), 0, page};
}

/* Entries that point to other pages, written behind the user's back. */
static void test_index__a_false_hit_is_not_believed(void **state)
{
	const struct bed *b = *state;
	const uint32_t pages = MIB / ARCHIVE_PAGE_BYTES;
	struct index_entry entry[MIB / ARCHIVE_PAGE_BYTES];
	uint8_t rec[RECORD_BYTES];
	AUTO_BUF struct buf file = {0};
	struct content fresh;
	struct runset s;
	int root;

	content_make(&fresh, 4711, MIB);
	assert_ok(fs_open(AT_FDCWD, b->archive, O_RDONLY | O_DIRECTORY, 0, &root));
	for (uint32_t i = 0; i < pages; i++)
		entry[i] = lie_about(&fresh, i);
	runset_init(&s, root, false);
	s.next = 1000;
	assert_ok(runset_add(&s, entry, pages));
	assert_ok(fs_read_file(root, "index/state", RECORD_BYTES, &file));
	memcpy(rec, file.data, sizeof(rec));
	assert_int_equal(le32_get(rec + 28), 1);
	le32_put(rec + 44, s.run[0].number);
	le32_put(rec + 48, s.run[0].blocks);
	le64_put(rec + 52, s.run[0].entries);
	record_seal(rec);
	assert_ok(fs_write_file(root, "index/state", rec, sizeof(rec), 0600));
	runset_fini(&s);
	assert_ok(bed_put_once(b, "fresh", &fresh, NULL));
	assert_ok(bed_check_once(b, "fresh", &fresh));
	assert_ok(bed_check_once(b, "web@1", &c));
	content_free(&fresh);
	close(root);
}

/* Many runs, merged and not, against a sorted array. */
static void test_runset__finds_the_newest_of_what_was_added(void **state)
{
	const struct bed *b = *state;
	const uint32_t rounds = 60, keys = 5000;
	uint32_t *newest = calloc(keys, sizeof(*newest));
	uint64_t seed = bed_seed(), *key = calloc(keys, sizeof(*key));
	struct index_entry *entry = calloc(2000, sizeof(*entry)), found;
	struct runset s;
	int root;

	for (uint32_t i = 0; i < keys; i++)
		key[i] = i % 3 ? bed_random(&seed) << 31 ^ bed_random(&seed) : UINT64_MAX - i;
	assert_ok(fs_open(AT_FDCWD, b->archive, O_RDONLY | O_DIRECTORY, 0, &root));
	runset_init(&s, root, true);
	for (uint32_t round = 1; round <= rounds; round++) {
		uint32_t n = (uint32_t)(bed_random(&seed) % 1999) + 1;

		for (uint32_t i = 0; i < n; i++) {
			uint32_t k = (uint32_t)(bed_random(&seed) % keys);

			entry[i] = (struct index_entry){key[k], round, i};
			newest[k] = round;
		}
		assert_ok(runset_add(&s, entry, n));
		assert_true(s.n <= 8);
	}
	for (uint32_t i = 0; i < keys; i++) {
		enum err e = runset_find(&s, key[i], &found);

		assert_int_equal(e, newest[i] ? ERR_OK : ERR_NOTFOUND);
		if (newest[i])
			assert_int_equal(found.pack, newest[i]);
	}
	assert_int_equal(runset_find(&s, 12345, &found), ERR_NOTFOUND);
	runset_fini(&s);
	close(root);
	free(newest);
	free(entry);
	free(key);
}

static void test_dedup__finds_what_went_out_of_memory(void **state)
{
	const struct bed *b = *state;
	const uint32_t n = 40000;
	uint32_t pack, slot;
	struct dedup d;
	int root;

	assert_ok(fs_open(AT_FDCWD, b->archive, O_RDONLY | O_DIRECTORY, 0, &root));
	dedup_init(&d, root, 4096);
	for (uint32_t i = 0; i < n; i++) {
		struct digest key;

		digest_of(&i, sizeof(i), &key);
		assert_false(dedup_find(&d, &key, &pack, &slot));
		assert_ok(dedup_add(&d, &key, i / 7, i));
	}
	assert_true(d.room <= 4096);
	for (uint32_t i = 0; i < n; i++) {
		struct digest key;

		digest_of(&i, sizeof(i), &key);
		assert_true(dedup_find(&d, &key, &pack, &slot));
		assert_int_equal(pack, i / 7);
		assert_int_equal(slot, i);
	}
	dedup_fini(&d);
	close(root);
}

/* A state with right digests and impossible fields, as who may write to index/ can make it: never a
 * wrong byte or a failure; and where pages are not found for it, verify says so. */
static void test_index__a_forged_state_costs_at_most_space(void **state)
{
	static const struct {
		unsigned at, bytes;
		uint64_t value;
	} forged[] = {
		{20, 4, UINT32_MAX},	 {20, 4, 0},	  {24, 4, UINT32_MAX}, {24, 4, 0},
		{28, 4, 0},		 {28, 4, 27},	  {28, 4, UINT32_MAX}, {44, 4, UINT32_MAX},
		{48, 4, UINT32_MAX},	 {48, 4, 0},	  {48, 4, 3},	       {52, 8, UINT64_MAX},
		{52, 8, 1ull << 40},	 {52, 8, 0},	  {52, 8, 1},	       {12, 8, 0},
		{36, 8, 0},		 {12, 8, UINT64_MAX},
	};
	const struct bed *b = *state;
	char path[400], base[400];

	snprintf(base, sizeof(base), "%s/base", b->dir);
	bed_copy(b->archive, base);
	for (size_t i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
		uint8_t rec[RECORD_BYTES], value[8];
		enum err verdict;

		bed_remove(b->archive);
		bed_copy(base, b->archive);
		snprintf(path, sizeof(path), "%s/index/state", b->archive);
		int fd = open(path, O_RDWR | O_CLOEXEC);

		assert_int_equal(pread(fd, rec, sizeof(rec), 0), sizeof(rec));
		le64_put(value, forged[i].value);
		memcpy(rec + forged[i].at, value, forged[i].bytes);
		record_seal(rec);
		assert_int_equal(pwrite(fd, rec, sizeof(rec), 0), sizeof(rec));
		close(fd);
		print_message("field at %u: %llx\n", forged[i].at,
			      (unsigned long long)forged[i].value);
		verdict = bed_verify(b, false, NULL);
		assert_true(verdict == ERR_OK || verdict == ERR_CORRUPT);
		assert_ok(bed_check_once(b, "web@1", &c));
		if (!all_found(b))
			assert_int_equal(verdict, ERR_CORRUPT);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_index__a_killed_user_costs_nothing),
		T(test_index__a_lost_or_garbled_index_is_made_again),
		T(test_index__rebuild_on_request_finds_all),
		T(test_index__a_false_hit_is_not_believed),
		T(test_index__a_forged_state_costs_at_most_space),
		T(test_dedup__finds_what_went_out_of_memory),
		T(test_runset__finds_the_newest_of_what_was_added),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
