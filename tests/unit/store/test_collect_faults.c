/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing is ever lost while things are removed: for every N, checkpoints are removed and
 * collected, and the Nth call to the file system fails, is cut short, is the last one of a
 * killed process, or the last one before the power goes.  After each: verification is
 * clean, what was not removed comes back, the next collection finishes, and then no byte more
 * is stored than in an archive where nothing went wrong. */
#include "tests/unit/store/struck.h"

#include <stdlib.h>
#include <string.h>

static struct content first, second, other, fresh;

/* ---- the workloads ---- */

static enum err remove_web(struct struck *s, struct archive *a)
{
	struct checkpoint_info info = {.name = "web", .number = 1};
	enum err e = archive_remove(a, &info);

	s->told->removed |= e == ERR_OK;
	return e;
}

static enum err collect(struct archive *a, unsigned threshold)
{
	struct archive_gc_options opt = {.threshold_percent = threshold};
	struct archive_gc_result r;

	return archive_gc(a, &opt, NULL, NULL, NULL, &r);
}

/* A checkpoint that uses pages of web@1, which goes while it is made. */
static enum err write_meanwhile(struct struck *s, struct archive *a)
{
	struct archive_writer *w;
	unsigned index;
	enum err e = archive_begin(a, "new", NULL, &w);

	if (e != ERR_OK)
		return e;
	if ((e = archive_stream(w, "ram", fresh.len, &index)) == ERR_OK &&
	    (e = archive_put(w, index, 0, fresh.data, fresh.len / 2)) == ERR_OK &&
	    (e = remove_web(s, a)) == ERR_OK && (e = collect(a, 60)) == ERR_OK)
		e = archive_put(w, index, fresh.len / 2, fresh.data + fresh.len / 2,
				fresh.len / 2);
	if (e != ERR_OK) {
		archive_abort(w);
		return e;
	}
	e = archive_commit(w, "", NULL);
	s->told->committed = e == ERR_OK;
	return e == ERR_OK ? collect(a, 60) : e;
}

static enum err remove_and_collect(struct struck *s, struct archive *a)
{
	enum err e = remove_web(s, a);

	return e == ERR_OK ? collect(a, 0) : e;
}

static enum err remove_and_rewrite(struct struck *s, struct archive *a)
{
	enum err e = remove_web(s, a);

	return e == ERR_OK ? collect(a, 60) : e;
}

/* ---- the archive after the event ---- */

struct there {
	bool web, new;
};

static enum err note_there(void *arg, const struct checkpoint_info *info)
{
	struct there *t = arg;

	t->web |= strcmp(info->name, "web") == 0 && info->number == 1;
	t->new |= strcmp(info->name, "new") == 0;
	return ERR_OK;
}

static void check_reads(const struct bed *b, struct there *t)
{
	struct archive *a;

	memset(t, 0, sizeof(*t));
	assert_ok(bed_verify(b, true, NULL));
	assert_ok(bed_open(b, false, &a));
	assert_ok(archive_list(a, note_there, t));
	assert_ok(bed_check(a, "web@2", &second));
	assert_ok(bed_check(a, "db@1", &other));
	if (t->web)
		assert_ok(bed_check(a, "web@1", &first));
	if (t->new)
		assert_ok(bed_check(a, "new@1", &fresh));
	archive_close(a);
}

/* Sound now, and sound and without a spare byte after the next collection. */
static void check_after(struct struck *s)
{
	const struct bed *b = &s->b;
	struct archive_gc_result r;
	struct archive_stats stats;
	struct archive *a;
	struct there t;

	check_reads(b, &t);
	if (s->told->removed)
		assert_false(t.web);
	if (s->told->committed)
		assert_true(t.new);
	if (t.web)
		assert_ok(bed_remove_once(b, "web@1"));
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(r.packs_waiting, 0);
	assert_int_equal(r.packs_unmoved, 0);
	check_reads(b, &t);
	assert_false(t.web);
	assert_int_equal(bed_files_in(b, "condemned", ""), 0);
	assert_true(bed_files_in(b, "leases", "") <= 2); /* shared, epoch */
	assert_ok(bed_open(b, false, &a));
	assert_ok(archive_stats(a, &stats));
	archive_close(a);
	if (bed_files_in(b, "packs", "") != stats.packs)
		fail_msg("call %u: %zu packs instead of %llu", s->stop_at, bed_files_in(b, "packs", ""),
			 (unsigned long long)stats.packs);
	assert_ok(bed_put_once(b, "db", &fresh, NULL));
	assert_ok(bed_verify(b, true, NULL));
	assert_ok(bed_check_once(b, "db", &fresh));
}

/* ---- every call ---- */

/* web@1 and web@2, which share little, and db@1. */
static int setup(void **state)
{
	struct struck *s = calloc(1, sizeof(*s));

	content_make(&first, 1, 400000);
	content_make(&second, 1, 400000);
	content_change(&second, 2, 70);
	content_make(&other, 3, 100000);
	content_make(&fresh, 1, 8 * 40960);
	content_change(&fresh, 4, 40);
	s->after = check_after;
	if (!struck_begin(s) || bed_put_once(&s->b, "db", &other, NULL) != ERR_OK ||
	    bed_put_once(&s->b, "web", &first, NULL) != ERR_OK ||
	    bed_put_once(&s->b, "web", &second, NULL) != ERR_OK)
		return -1;
	struck_keep(s);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struck_end(*state);
	content_free(&first);
	content_free(&second);
	content_free(&other);
	content_free(&fresh);
	free(*state);
	return 0;
}

typedef enum err work_fn(struct struck *s, struct archive *a);

static void every_call(struct struck *s, work_fn *work)
{
	static const enum struck_mode modes[] = {KILL, FAIL_ONCE, FAIL_ALWAYS, FULL, SHORT};

	s->work = work;
	for (size_t m = 0; m < sizeof(modes) / sizeof(modes[0]); m++)
		struck_every(s, modes[m], 100);
}

static void every_cut(struct struck *s, work_fn *work)
{
	s->work = work;
	struck_every_cut(s, 60, 3);
}

static void test_collect__remove_fails_at_every_call(void **state)
{
	every_call(*state, remove_web);
}

static void test_collect__collect_fails_at_every_call(void **state)
{
	every_call(*state, remove_and_collect);
}

static void test_collect__rewrite_fails_at_every_call(void **state)
{
	every_call(*state, remove_and_rewrite);
}

static void test_collect__write_meanwhile_fails_at_every_call(void **state)
{
	every_call(*state, write_meanwhile);
}

static void test_collect__power_cut_at_every_call_of_remove(void **state)
{
	every_cut(*state, remove_web);
}

static void test_collect__power_cut_at_every_call_of_rewrite(void **state)
{
	every_cut(*state, remove_and_rewrite);
}

static void test_collect__power_cut_at_every_call_of_write_meanwhile(void **state)
{
	every_cut(*state, write_meanwhile);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* usage: test_collect_faults [PATTERN] */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(test_collect__remove_fails_at_every_call),
		T(test_collect__collect_fails_at_every_call),
		T(test_collect__rewrite_fails_at_every_call),
		T(test_collect__write_meanwhile_fails_at_every_call),
		T(test_collect__power_cut_at_every_call_of_remove),
		T(test_collect__power_cut_at_every_call_of_rewrite),
		T(test_collect__power_cut_at_every_call_of_write_meanwhile),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
