/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing is ever lost while things are removed: for every N, checkpoints are removed and
 * collected, and the Nth call to the file system fails, is cut short, is the last one of a
 * killed process, or the last one before the power goes.  After each: verification is
 * clean, what was not removed comes back, the next collection finishes, and then no byte more
 * is stored than in an archive where nothing went wrong. */
#include "tests/unit/store/bed.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "tests/unit/store/cut.h"

enum mode { COUNT, KILL, CUT, FAIL_ONCE, FAIL_ALWAYS, FULL, SHORT };
static const char *const mode_names[] = {"count", "kill",	   "cut",  "fail once",
					 "fail",  "no space left", "short"};

/* What the child does: see workload. */
enum work { REMOVE, COLLECT, REWRITE, WRITE_MEANWHILE };

struct shared {
	unsigned calls;
	bool removed, committed; /* reported as done */
	enum err result;
	char note[ERR_NOTE_BYTES];
};
static struct shared *shared;

static enum mode mode;
static enum work work;
static unsigned stop_at;
static pthread_mutex_t hook_lock = PTHREAD_MUTEX_INITIALIZER;

static struct content first, second, other, fresh;

static bool writes(enum fs_op op)
{
	return op == FS_WRITE || op == FS_OPEN || op == FS_MKDIR || op == FS_RENAME ||
	       op == FS_SYNC || op == FS_SYNC_DIR || op == FS_ALLOCATE;
}

static void hook(void *arg, enum fs_op op, const char *what, size_t len, struct fs_fault *fault)
{
	unsigned n;

	(void)arg;
	pthread_mutex_lock(&hook_lock);
	n = ++shared->calls;
	if (n == stop_at && (mode == KILL || mode == CUT))
		_exit(99); /* with the lock held: nobody goes on */
	if (mode == CUT)
		cut_note(op, what);
	pthread_mutex_unlock(&hook_lock);
	if ((mode == FAIL_ONCE && n == stop_at) || (mode == FAIL_ALWAYS && n >= stop_at))
		fault->error = EIO;
	if (mode == FULL && n >= stop_at && writes(op))
		fault->error = ENOSPC;
	if (mode == SHORT && n >= stop_at && op == FS_WRITE)
		fault->short_bytes = len / 2;
}

/* ---- the workloads ---- */

static enum err remove_web(struct archive *a)
{
	struct checkpoint_info info = {.name = "web", .number = 1};
	enum err e = archive_remove(a, &info);

	shared->removed |= e == ERR_OK;
	return e;
}

static enum err collect(struct archive *a, unsigned threshold)
{
	struct archive_gc_options opt = {.threshold_percent = threshold};
	struct archive_gc_result r;

	return archive_gc(a, &opt, NULL, NULL, NULL, &r);
}

/* A checkpoint that uses pages of web@1, which goes while it is made. */
static enum err write_meanwhile(struct archive *a)
{
	struct archive_writer *w;
	unsigned index;
	enum err e = archive_begin(a, "new", NULL, &w);

	if (e != ERR_OK)
		return e;
	if ((e = archive_stream(w, "ram", fresh.len, &index)) == ERR_OK &&
	    (e = archive_put(w, index, 0, fresh.data, fresh.len / 2)) == ERR_OK &&
	    (e = remove_web(a)) == ERR_OK && (e = collect(a, 60)) == ERR_OK)
		e = archive_put(w, index, fresh.len / 2, fresh.data + fresh.len / 2,
				fresh.len / 2);
	if (e != ERR_OK) {
		archive_abort(w);
		return e;
	}
	e = archive_commit(w, "", NULL);
	shared->committed = e == ERR_OK;
	return e == ERR_OK ? collect(a, 60) : e;
}

static void workload(const struct bed *b)
{
	struct archive_options opt = bed_options(b, true);
	struct archive *a;
	enum err e;

	opt.threads = 1;
	fs_fault_set(hook, NULL);
	e = archive_open(b->archive, &opt, &a);
	if (e == ERR_OK) {
		if (work == WRITE_MEANWHILE)
			e = write_meanwhile(a);
		else
			e = remove_web(a);
		if (e == ERR_OK && (work == COLLECT || work == REWRITE))
			e = collect(a, work == REWRITE ? 60 : 0);
		archive_close(a);
	}
	shared->result = e;
	if (e != ERR_OK)
		snprintf(shared->note, sizeof(shared->note), "%s", err_text());
	fs_fault_set(NULL, NULL);
}

static int run_child(const struct bed *b)
{
	int status;
	pid_t pid;

	memset(shared, 0, sizeof(*shared));
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		workload(b);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
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

static size_t files_in(const struct bed *b, const char *part)
{
	char path[512], **files;
	size_t n;

	snprintf(path, sizeof(path), "%s/%s", b->archive, part);
	n = bed_files(path, &files);
	for (size_t i = 0; i < n; i++)
		free(files[i]);
	free(files);
	return n;
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
static void check_after(const struct bed *b)
{
	struct archive_gc_result r;
	struct archive_stats stats;
	struct archive *a;
	struct there t;

	check_reads(b, &t);
	if (shared->removed)
		assert_false(t.web);
	if (shared->committed)
		assert_true(t.new);
	if (t.web)
		assert_ok(bed_remove_once(b, "web@1"));
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(r.packs_waiting, 0);
	assert_int_equal(r.packs_unmoved, 0);
	check_reads(b, &t);
	assert_false(t.web);
	assert_int_equal(files_in(b, "condemned"), 0);
	assert_true(files_in(b, "leases") <= 2); /* shared, epoch */
	assert_ok(bed_open(b, false, &a));
	assert_ok(archive_stats(a, &stats));
	archive_close(a);
	if (files_in(b, "packs") != stats.packs)
		fail_msg("call %u, %s: %zu packs instead of %llu", stop_at, mode_names[mode],
			 files_in(b, "packs"), (unsigned long long)stats.packs);
	assert_ok(bed_put_once(b, "db", &fresh, NULL));
	assert_ok(bed_verify(b, true, NULL));
	assert_ok(bed_check_once(b, "db", &fresh));
}

/* ---- every call ---- */

/* web@1 and web@2, which share little, and db@1, in dir/base, from which every try starts. */
struct faults {
	struct bed b;
	char base[300];
};

static int setup(void **state)
{
	struct faults *f = calloc(1, sizeof(*f));

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return -1;
	bed_make(&f->b);
	snprintf(f->base, sizeof(f->base), "%s/base", f->b.dir);
	content_make(&first, 1, 400000);
	content_make(&second, 1, 400000);
	content_change(&second, 2, 70);
	content_make(&other, 3, 100000);
	content_make(&fresh, 1, 8 * 40960);
	content_change(&fresh, 4, 40);
	if (bed_init(&f->b, f->b.archive) != ERR_OK ||
	    bed_put_once(&f->b, "db", &other, NULL) != ERR_OK ||
	    bed_put_once(&f->b, "web", &first, NULL) != ERR_OK ||
	    bed_put_once(&f->b, "web", &second, NULL) != ERR_OK)
		return -1;
	bed_copy(f->b.archive, f->base);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct faults *f = *state;

	bed_remove(f->b.dir);
	content_free(&first);
	content_free(&second);
	content_free(&other);
	content_free(&fresh);
	munmap(shared, sizeof(*shared));
	free(f);
	return 0;
}

static void reset(const struct faults *f)
{
	bed_remove(f->b.archive);
	bed_copy(f->base, f->b.archive);
}

static unsigned count_calls(const struct faults *f)
{
	mode = COUNT;
	stop_at = 0;
	reset(f);
	assert_int_equal(run_child(&f->b), 0);
	if (shared->result != ERR_OK)
		fail_msg("undisturbed: %s", shared->note);
	assert_true(shared->calls > 20);
	check_after(&f->b);
	print_message("the workload makes %u calls\n", shared->calls);
	return shared->calls;
}

/* All N; where bed_count scales down, that part of them, at random. */
static bool chosen(uint64_t *seed, unsigned permille)
{
	return bed_random(seed) % 1000 < bed_count(permille);
}

static void one_call(struct faults *f)
{
	int status;

	reset(f);
	status = run_child(&f->b);
	if (mode == KILL)
		assert_true(status == 99 || shared->calls < stop_at);
	else
		assert_int_equal(status, 0);
	if (mode == FULL && shared->result != ERR_OK && shared->result != ERR_NOSPACE)
		fail_msg("from call %u on, a full disk is told as: %s", stop_at, shared->note);
	check_after(&f->b);
}

static void cut_at(struct faults *f, uint64_t seed)
{
	char shadow[320], out[320];

	snprintf(shadow, sizeof(shadow), "%s/shadow", f->b.dir);
	snprintf(out, sizeof(out), "%s/out", f->b.dir);
	bed_remove(shadow);
	bed_remove(out);
	reset(f);
	cut_begin(f->b.archive, shadow);
	(void)run_child(&f->b);
	cut_restore(f->b.archive, shadow, out, seed);
	bed_remove(f->b.archive);
	assert_int_equal(rename(out, f->b.archive), 0);
	check_after(&f->b);
}

/* Which workload, mode and call it was, should something fail. */
static void say(const char *what)
{
	print_message("%s, call %u: %s\n", what, stop_at, mode_names[mode]);
}

static void every_call(struct faults *f, enum work what)
{
	static const enum mode modes[] = {KILL, FAIL_ONCE, FAIL_ALWAYS, FULL, SHORT};
	uint64_t seed = bed_seed();
	unsigned calls;

	work = what;
	calls = count_calls(f);
	for (size_t m = 0; m < sizeof(modes) / sizeof(modes[0]); m++) {
		mode = modes[m];
		for (stop_at = 1; stop_at <= calls; stop_at++)
			if (chosen(&seed, 100))
				one_call(f);
		say("up to");
	}
}

static void every_cut(struct faults *f, enum work what)
{
	uint64_t seed = bed_seed();
	unsigned calls;

	work = what;
	calls = count_calls(f);
	mode = CUT;
	for (stop_at = 1; stop_at <= calls + 1; stop_at++) {
		if (chosen(&seed, 60))
			cut_at(f, 0);
		for (unsigned i = 0; i < 3; i++)
			if (chosen(&seed, 60))
				cut_at(f, bed_random(&seed) | 1);
	}
	say("up to");
}

static void test_collect__remove_fails_at_every_call(void **state)
{
	every_call(*state, REMOVE);
}

static void test_collect__collect_fails_at_every_call(void **state)
{
	every_call(*state, COLLECT);
}

static void test_collect__rewrite_fails_at_every_call(void **state)
{
	every_call(*state, REWRITE);
}

static void test_collect__write_meanwhile_fails_at_every_call(void **state)
{
	every_call(*state, WRITE_MEANWHILE);
}

static void test_collect__power_cut_at_every_call_of_remove(void **state)
{
	every_cut(*state, REMOVE);
}

static void test_collect__power_cut_at_every_call_of_rewrite(void **state)
{
	every_cut(*state, REWRITE);
}

static void test_collect__power_cut_at_every_call_of_write_meanwhile(void **state)
{
	every_cut(*state, WRITE_MEANWHILE);
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
