/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing is ever lost: for every N, a checkpoint is made and the Nth call to the file
 * system fails, is cut short, is the last one of a killed process, or the last one
 * before the power goes.  After each: verification is clean, what was committed
 * comes back, nothing half-made is listed, its space is free again, and the next
 * checkpoint works and gets a new number. */
#include "tests/unit/store/struck.h"

#include <stdlib.h>
#include <string.h>

static struct content before, during, after;

static enum err put(struct struck *s, struct archive *a)
{
	uint64_t number = 0;
	enum err e = bed_put(a, "web", &during, &number);

	if (e == ERR_OK)
		s->told->committed = (unsigned)number;
	return e;
}

/* One page of `during`: as the parent has it, or new. */
static enum err put_or_keep(struct archive_writer *w, unsigned index, size_t at)
{
	size_t len = during.len - at < ARCHIVE_PAGE_BYTES ? during.len - at : ARCHIVE_PAGE_BYTES;

	if (at + len <= before.len && len == ARCHIVE_PAGE_BYTES &&
	    memcmp(before.data + at, during.data + at, len) == 0)
		return archive_keep(w, index, at, len);
	return archive_put(w, index, at, during.data + at, len);
}

/* The same checkpoint, from web@1 with a map of what changed. */
static enum err put_from_parent(struct struck *s, struct archive *a)
{
	struct checkpoint_info parent, info;
	struct archive_writer *w;
	unsigned index;
	enum err e;

	if ((e = archive_find(a, "web@1", &parent)) != ERR_OK ||
	    (e = archive_begin_from(a, "web", &parent, NULL, &w)) != ERR_OK)
		return e;
	e = archive_stream(w, "ram", during.len, &index);
	for (size_t at = 0; e == ERR_OK && at < during.len; at += ARCHIVE_PAGE_BYTES)
		e = put_or_keep(w, index, at);
	if (e != ERR_OK) {
		archive_abort(w);
		return e;
	}
	e = archive_commit(w, "", &info);
	if (e == ERR_OK)
		s->told->committed = (unsigned)info.number;
	return e;
}

struct listed {
	unsigned n;
	uint64_t highest;
};

static enum err count(void *arg, const struct checkpoint_info *info)
{
	struct listed *l = arg;

	assert_string_equal(info->name, "web");
	l->n++;
	l->highest = info->number;
	return ERR_OK;
}

/* The archive after the event: sound, complete, and fit for use. */
static void check_after(struct struck *s)
{
	const struct bed *b = &s->b;
	struct archive_gc_result collected;
	struct archive_stats stats;
	struct listed l = {0};
	struct archive *a;
	uint64_t number;

	assert_ok(bed_verify(b, true, NULL));
	assert_ok(bed_open(b, false, &a));
	assert_ok(archive_list(a, count, &l));
	assert_true(l.n == 1 || l.n == 2);
	if (s->told->committed)
		assert_int_equal(l.highest, s->told->committed);
	if (s->mode != KILL && s->mode != CUT && s->told->result == ERR_OK)
		assert_int_equal(s->told->committed, 2);
	assert_ok(bed_check(a, "web@1", &before));
	if (l.n == 2) /* it exists, so it is whole, reported or not */
		assert_ok(bed_check(a, "web@2", &during));
	archive_close(a);

	assert_ok(bed_put_once(b, "web", &after, &number));
	assert_true(number > l.highest);
	assert_ok(bed_gc_once(b, 0, &collected)); /* a commit that was taken back leaves packs */
	assert_ok(bed_verify(b, true, NULL));
	assert_ok(bed_check_once(b, "web", &after));
	assert_ok(bed_check_once(b, "web@1", &before));
	assert_ok(bed_open(b, false, &a));
	assert_ok(archive_stats(a, &stats));
	archive_close(a);
	assert_int_equal(bed_files_in(b, "packs", ""), stats.packs);
	assert_int_equal(bed_files_in(b, "manifests", "tmp"), 0);
	assert_int_equal(bed_files_in(b, "numbers", "tmp"), 0);
	assert_int_equal(bed_files_in(b, "index", "tmp"), 0);
}

/* An archive with web@1. */
static int setup(void **state)
{
	struct struck *s = calloc(1, sizeof(*s));

	content_make(&before, 1, 300000);
	content_make(&during, 1, 500000);
	content_change(&during, 2, 60);
	content_make(&after, 3, 200000);
	s->work = put;
	s->after = check_after;
	if (!struck_begin(s) || bed_put_once(&s->b, "web", &before, NULL) != ERR_OK)
		return -1;
	struck_keep(s);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struck_end(*state);
	content_free(&before);
	content_free(&during);
	content_free(&after);
	free(*state);
	return 0;
}

static void test_faults__killed_at_every_call(void **state)
{
	struck_every(*state, KILL, 1000);
}

static void test_faults__every_call_fails_once(void **state)
{
	struck_every(*state, FAIL_ONCE, 1000);
}

static void test_faults__everything_fails_from_every_call_on(void **state)
{
	struck_every(*state, FAIL_ALWAYS, 1000);
}

static void test_faults__disk_full_from_every_call_on(void **state)
{
	struck_every(*state, FULL, 1000);
}

static void test_faults__writes_are_cut_short_from_every_call_on(void **state)
{
	struck_every(*state, SHORT, 1000);
}

static void test_faults__power_cut_at_every_call(void **state)
{
	struck_every_cut(*state, 800, 2);
}

static void test_faults__from_a_parent_every_call_is_struck(void **state)
{
	static const enum struck_mode modes[] = {KILL, FAIL_ONCE, FULL, SHORT};
	struct struck *s = *state;

	s->work = put_from_parent;
	for (size_t m = 0; m < sizeof(modes) / sizeof(modes[0]); m++)
		struck_every(s, modes[m], 200);
}

static void test_faults__from_a_parent_power_cut_at_every_call(void **state)
{
	struct struck *s = *state;

	s->work = put_from_parent;
	struck_every_cut(s, 200, 1);
}

static void test_faults__an_interrupted_init_can_be_repeated(void **state)
{
	struct struck *f = *state;
	unsigned calls;

	f->mode = COUNT;
	f->told->calls = 0;
	bed_remove(f->b.archive);
	fs_fault_set(struck_hook, f);
	assert_ok(bed_init(&f->b, f->b.archive));
	fs_fault_set(NULL, NULL);
	calls = f->told->calls;
	f->mode = FAIL_ALWAYS;
	for (f->stop_at = 1; f->stop_at <= calls; f->stop_at++) {
		enum err e;

		bed_remove(f->b.archive);
		f->told->calls = 0;
		fs_fault_set(struck_hook, f);
		e = bed_init(&f->b, f->b.archive);
		fs_fault_set(NULL, NULL);
		/* the very last call only removes the lock, and may fail */
		assert_int_equal(e, f->stop_at == calls ? ERR_OK : ERR_IO);
		e = bed_init(&f->b, f->b.archive);
		/* before it, only the last fsync may come after the archive exists */
		assert_true(e == ERR_OK || (e == ERR_BUSY && f->stop_at + 2 >= calls));
		assert_ok(bed_put_once(&f->b, "web", &before, NULL));
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* usage: test_faults [PATTERN] */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(test_faults__killed_at_every_call),
		T(test_faults__every_call_fails_once),
		T(test_faults__everything_fails_from_every_call_on),
		T(test_faults__disk_full_from_every_call_on),
		T(test_faults__writes_are_cut_short_from_every_call_on),
		T(test_faults__power_cut_at_every_call),
		T(test_faults__from_a_parent_every_call_is_struck),
		T(test_faults__from_a_parent_power_cut_at_every_call),
		T(test_faults__an_interrupted_init_can_be_repeated),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
