/* SPDX-License-Identifier: Apache-2.0 */
/* What is remembered of the newest checkpoint saves digests, and never costs a byte:
 * whatever happens to its file, what comes back is what was put. */
#include "tests/unit/store/bed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "store/recall.h"
#include "store/shared.h"

#define MIB (1u << 20)

static void file_of(const struct bed *b, const char *name, char path[400])
{
	snprintf(path, 400, "%s/index/recall-%s", b->archive, name);
}

/* The next checkpoint of web, from the newest. */
static void put_next(const struct bed *b, const struct content *c)
{
	struct checkpoint_info parent, info;
	struct archive_writer *w;
	struct archive *a;
	char ref[96];
	unsigned s;

	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_find(a, "web", &parent));
	assert_ok(archive_begin_from(a, "web", &parent, NULL, &w));
	assert_ok(archive_stream(w, "ram", c->len, &s));
	assert_ok(archive_put(w, s, 0, c->data, c->len));
	assert_ok(archive_commit(w, "", &info));
	snprintf(ref, sizeof(ref), "web@%llu", (unsigned long long)info.number);
	assert_ok(bed_check(a, ref, c));
	archive_close(a);
}

/* How many of the content's pages are recalled, for a writer that begins from the newest of
 * web.  None may have the sum of another page. */
static unsigned recalled(const struct bed *b, const struct content *c)
{
	const struct writer_id id = {{7}};
	struct checkpoint_info info;
	struct group_codec *codec;
	struct manifest m;
	struct recall *r;
	struct archive *a;
	unsigned n = 0;
	int fd = -1;

	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_find(a, "web", &info));
	assert_ok(manifest_load(a->root, a->crypt, info.name, info.number, &m, &fd));
	assert_ok(recall_open(a->root, a->crypt, &id, &m, &r));
	assert_ok(group_codec_create(&codec));
	for (uint64_t i = 0; i < c->len / PAGE_BYTES; i++) {
		const struct group_sum *have = recall_expect(r, 0, i);
		struct group_sum is;

		if (!have)
			continue;
		group_sum(codec, recall_key(r), c->data + i * PAGE_BYTES, &is);
		assert_int_equal(have->low, is.low);
		assert_int_equal(have->high, is.high);
		n++;
	}
	assert_null(recall_expect(r, 1, 0));
	assert_null(recall_expect(r, 0, c->len / PAGE_BYTES + 5000));
	group_codec_destroy(codec);
	recall_close(r);
	manifest_fini(&m);
	fs_auto_close(&fd);
	archive_close(a);
	return n;
}

static unsigned nonzero(const struct content *c)
{
	static const uint8_t zero[PAGE_BYTES];
	unsigned n = 0;

	for (size_t i = 0; i + PAGE_BYTES <= c->len; i += PAGE_BYTES)
		n += memcmp(c->data + i, zero, PAGE_BYTES) != 0;
	return n;
}

static void test_recall__every_page_of_the_newest_is_known(void **state)
{
	const struct bed *b = *state;
	struct content c;

	content_make(&c, 1, 33 * MIB); /* in three blocks */
	assert_ok(bed_put_once(b, "web", &c, NULL));
	assert_int_equal(recalled(b, &c), nonzero(&c));
	for (unsigned i = 2; i < 5; i++) {
		content_change(&c, i, 10);
		put_next(b, &c);
		assert_int_equal(recalled(b, &c), nonzero(&c));
	}
	assert_ok(bed_verify(b, true, NULL));
	content_free(&c);
}

static void test_recall__two_streams_in_turn(void **state)
{
	const struct bed *b = *state;
	const size_t part = 64 * PAGE_BYTES;
	struct archive_writer *w;
	struct archive *a;
	struct content c;
	unsigned s[2];

	content_make(&c, 2, 4 * MIB);
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_begin(a, "web", NULL, &w));
	assert_ok(archive_stream(w, "ram", c.len, &s[0]));
	assert_ok(archive_stream(w, "disk", c.len, &s[1]));
	for (size_t at = 0; at < c.len; at += part)
		for (unsigned k = 0; k < 2; k++)
			assert_ok(archive_put(w, s[k], at, c.data + at, part));
	assert_ok(archive_commit(w, "", NULL));
	archive_close(a);
	put_next(b, &c); /* reads blocks that were left and returned to */
	assert_int_equal(recalled(b, &c), nonzero(&c));
	content_free(&c);
}

static void test_recall__another_checkpoints_is_none(void **state)
{
	const struct bed *b = *state;
	char file[400], old[410], other[400];
	struct content c;

	content_make(&c, 3, 3 * MIB);
	file_of(b, "web", file);
	file_of(b, "other", other);
	snprintf(old, sizeof(old), "%s.old", b->dir);
	assert_ok(bed_put_once(b, "web", &c, NULL));
	bed_copy(file, old);
	content_change(&c, 4, 30);
	put_next(b, &c);
	assert_ok(bed_put_once(b, "other", &c, NULL));
	assert_int_equal(rename(old, file), 0); /* the one before */
	assert_int_equal(recalled(b, &c), 0);
	put_next(b, &c);
	assert_int_equal(recalled(b, &c), nonzero(&c));
	assert_int_equal(rename(other, file), 0); /* of the same pages, elsewhere */
	assert_int_equal(recalled(b, &c), 0);
	put_next(b, &c);
	content_free(&c);
}

static void test_recall__damage_costs_digests_and_no_byte(void **state)
{
	const struct bed *b = *state;
	uint64_t seed = bed_seed();
	char file[400], whole[410];
	struct content c;

	content_make(&c, 5, 2 * MIB);
	assert_ok(bed_put_once(b, "web", &c, NULL));
	file_of(b, "web", file);
	snprintf(whole, sizeof(whole), "%s.whole", b->dir);
	bed_copy(file, whole);
	for (unsigned i = 0; i < bed_count(400); i++) {
		uint64_t bytes = bed_file_size(file);

		/* half of them in the head and the table, which are small */
		uint64_t at = i % 2 ? bed_random(&seed) % bytes
				    : bed_random(&seed) % 2 ? bed_random(&seed) % 512
							    : bytes - 1 - bed_random(&seed) % 100;
		bed_flip(file, at * 8 + i % 8);
		assert_int_equal(recalled(b, &c), 0); /* which asserts that no sum is wrong */
		if (i % 16 == 0)
			assert_err(bed_verify(b, false, NULL), ERR_CORRUPT);
		bed_copy(whole, file);
	}
	assert_int_equal(recalled(b, &c), nonzero(&c));
	for (uint64_t len = 0; len < bed_file_size(whole); len += 7000) {
		assert_int_equal(truncate(file, (off_t)len), 0);
		assert_int_equal(recalled(b, &c), 0);
		bed_copy(whole, file);
	}
	bed_flip(file, 8 * 600);
	content_change(&c, 6, 20);
	put_next(b, &c);
	assert_int_equal(recalled(b, &c), nonzero(&c));
	content_free(&c);
}

static void test_recall__goes_with_its_checkpoints(void **state)
{
	const struct bed *b = *state;
	struct archive_gc_result result;
	char file[400], part[400];
	struct content c;

	content_make(&c, 7, MIB);
	assert_ok(bed_put_once(b, "web", &c, NULL));
	file_of(b, "web", file);
	file_of(b, "000000000000000000000000.part", part);
	bed_copy(file, part);
	assert_ok(bed_gc_once(b, 0, &result));
	assert_int_equal(access(file, F_OK), 0);
	assert_int_not_equal(access(part, F_OK), 0); /* of a writer that was killed */
	assert_ok(bed_remove_once(b, "web@1"));
	assert_ok(bed_gc_once(b, 0, &result));
	assert_int_not_equal(access(file, F_OK), 0);
	content_free(&c);
}

/* Who keeps pages knows no sums; the file that is there is of the parent. */
static void test_recall__pages_that_nobody_looked_at_are_not_remembered(void **state)
{
	const struct bed *b = *state;
	struct checkpoint_info parent, info;
	struct archive_writer *w;
	struct archive *a;
	struct content c;
	unsigned s;

	content_make(&c, 8, 2 * MIB);
	assert_ok(bed_put_once(b, "web", &c, NULL));
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_find(a, "web", &parent));
	assert_ok(archive_begin_from(a, "web", &parent, NULL, &w));
	assert_ok(archive_stream(w, "ram", c.len, &s));
	assert_ok(archive_put(w, s, 0, c.data, MIB));
	assert_ok(archive_keep(w, s, MIB, c.len - MIB));
	assert_ok(archive_commit(w, "", &info));
	archive_close(a);
	assert_int_equal(recalled(b, &c), 0);
	put_next(b, &c);
	assert_int_equal(recalled(b, &c), nonzero(&c));
	content_free(&c);
}

#define BED_TEST(f) cmocka_unit_test_setup_teardown(f, bed_setup, bed_teardown)
#define PLAIN_TEST(f)                                                                              \
	{                                                                                          \
		#f "_plain", f, bed_setup_plain, bed_teardown, NULL                                \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BED_TEST(test_recall__every_page_of_the_newest_is_known),
		PLAIN_TEST(test_recall__every_page_of_the_newest_is_known),
		BED_TEST(test_recall__two_streams_in_turn),
		BED_TEST(test_recall__another_checkpoints_is_none),
		PLAIN_TEST(test_recall__another_checkpoints_is_none),
		BED_TEST(test_recall__damage_costs_digests_and_no_byte),
		PLAIN_TEST(test_recall__damage_costs_digests_and_no_byte),
		BED_TEST(test_recall__goes_with_its_checkpoints),
		BED_TEST(test_recall__pages_that_nobody_looked_at_are_not_remembered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
