/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing is ever lost: for every N, a checkpoint is made and the Nth call to the file
 * system fails, is cut short, is the last one of a killed process, or the last one
 * before the power goes.  After each: verification is clean, what was committed
 * comes back, nothing half-made is listed, its space is free again, and the next
 * checkpoint works and gets a new number. */
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

/* Shared with the child that runs the workload. */
struct shared {
	unsigned calls;
	unsigned committed; /* number of the checkpoint that commit reported */
	enum err result;
	char note[ERR_NOTE_BYTES];
};
static struct shared *shared;

static enum mode mode;
static unsigned stop_at;
static pthread_mutex_t hook_lock = PTHREAD_MUTEX_INITIALIZER;

static bool writes(enum fs_op op)
{
	return op == FS_WRITE || op == FS_OPEN || op == FS_MKDIR || op == FS_RENAME ||
	       op == FS_SYNC || op == FS_SYNC_DIR;
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

static struct content before, during, after;

/* In the child: one checkpoint under the hook. */
static void workload(const struct bed *b)
{
	struct archive_options opt = bed_options(b, true);
	struct archive *a;
	uint64_t number = 0;
	enum err e;

	opt.threads = 1;
	fs_fault_set(hook, NULL);
	e = archive_open(b->archive, &opt, &a);
	if (e == ERR_OK) {
		e = bed_put(a, "web", &during, &number);
		if (e == ERR_OK)
			shared->committed = (unsigned)number;
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

static size_t left_overs(const struct bed *b, const char *part, const char *mark)
{
	char path[512], **files;
	size_t n, found = 0;

	snprintf(path, sizeof(path), "%s/%s", b->archive, part);
	n = bed_files(path, &files);
	for (size_t i = 0; i < n; i++) {
		found += strstr(files[i], mark) != NULL;
		free(files[i]);
	}
	free(files);
	return found;
}

/* The archive after the event: sound, complete, and fit for use. */
static void check_after(const struct bed *b)
{
	struct archive_gc_result collected;
	struct archive_stats stats;
	struct listed l = {0};
	struct archive *a;
	uint64_t number;

	assert_ok(bed_verify(b, true, NULL));
	assert_ok(bed_open(b, false, &a));
	assert_ok(archive_list(a, count, &l));
	assert_true(l.n == 1 || l.n == 2);
	if (shared->committed)
		assert_int_equal(l.highest, shared->committed);
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
	assert_int_equal(left_overs(b, "packs", ""), stats.packs);
	assert_int_equal(left_overs(b, "manifests", "tmp"), 0);
	assert_int_equal(left_overs(b, "numbers", "tmp"), 0);
	assert_int_equal(left_overs(b, "index", "tmp"), 0);
}

/* An archive with web@1 in dir/base, from which every try starts. */
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
	content_make(&before, 1, 300000);
	content_make(&during, 1, 500000);
	content_change(&during, 2, 60);
	content_make(&after, 3, 200000);
	if (bed_init(&f->b, f->b.archive) != ERR_OK ||
	    bed_put_once(&f->b, "web", &before, NULL) != ERR_OK)
		return -1;
	bed_copy(f->b.archive, f->base);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct faults *f = *state;

	bed_remove(f->b.dir);
	content_free(&before);
	content_free(&during);
	content_free(&after);
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
	assert_int_equal(shared->result, ERR_OK);
	assert_true(shared->calls > 50);
	print_message("the workload makes %u calls\n", shared->calls);
	return shared->calls;
}

/* All N; where bed_count scales down, that part of them, at random. */
static bool chosen(uint64_t *seed)
{
	return bed_random(seed) % 1000 < bed_count(1000);
}

static void every_call(struct faults *f, enum mode m)
{
	unsigned calls = count_calls(f);
	uint64_t seed = bed_seed();

	mode = m;
	for (stop_at = 1; stop_at <= calls; stop_at++) {
		int status;

		if (!chosen(&seed))
			continue;
		reset(f);
		status = run_child(&f->b);
		if (m == KILL)
			assert_true(status == 99 || shared->calls < stop_at);
		else
			assert_int_equal(status, 0);
		if (m == FAIL_ALWAYS && stop_at < calls / 2)
			assert_true(shared->result != ERR_OK);
		if (m == FULL && shared->result != ERR_OK && shared->result != ERR_NOSPACE)
			fail_msg("from call %u on, a full disk is told as: %s", stop_at,
				 shared->note);
		if (shared->result == ERR_OK && status == 0)
			assert_int_equal(shared->committed, 2);
		check_after(&f->b);
	}
}

static void test_faults__killed_at_every_call(void **state)
{
	every_call(*state, KILL);
}

static void test_faults__every_call_fails_once(void **state)
{
	every_call(*state, FAIL_ONCE);
}

static void test_faults__everything_fails_from_every_call_on(void **state)
{
	every_call(*state, FAIL_ALWAYS);
}

static void test_faults__disk_full_from_every_call_on(void **state)
{
	every_call(*state, FULL);
}

static void test_faults__writes_are_cut_short_from_every_call_on(void **state)
{
	every_call(*state, SHORT);
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

static void test_faults__power_cut_at_every_call_keeps_only_what_was_synced(void **state)
{
	struct faults *f = *state;
	unsigned calls = count_calls(f);
	uint64_t seed = bed_seed();

	mode = CUT;
	for (stop_at = 1; stop_at <= calls + 1; stop_at++)
		if (chosen(&seed))
			cut_at(f, 0);
}

static void test_faults__power_cut_at_every_call_keeps_some_of_the_rest(void **state)
{
	struct faults *f = *state;
	unsigned calls = count_calls(f);
	uint64_t seed = bed_seed();

	mode = CUT;
	for (unsigned round = 0; round < bed_count(2); round++)
		for (stop_at = 1; stop_at <= calls + 1; stop_at++)
			if (chosen(&seed))
				cut_at(f, bed_random(&seed) | 1);
}

static void test_faults__an_interrupted_init_can_be_repeated(void **state)
{
	struct faults *f = *state;
	unsigned calls;

	mode = COUNT;
	shared->calls = 0;
	bed_remove(f->b.archive);
	fs_fault_set(hook, NULL);
	assert_ok(bed_init(&f->b, f->b.archive));
	fs_fault_set(NULL, NULL);
	calls = shared->calls;
	mode = FAIL_ALWAYS;
	for (stop_at = 1; stop_at <= calls; stop_at++) {
		enum err e;

		bed_remove(f->b.archive);
		shared->calls = 0;
		fs_fault_set(hook, NULL);
		e = bed_init(&f->b, f->b.archive);
		fs_fault_set(NULL, NULL);
		/* the very last call only removes the lock, and may fail */
		assert_int_equal(e, stop_at == calls ? ERR_OK : ERR_IO);
		e = bed_init(&f->b, f->b.archive);
		/* before it, only the last fsync may come after the archive exists */
		assert_true(e == ERR_OK || (e == ERR_BUSY && stop_at + 2 >= calls));
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
		T(test_faults__power_cut_at_every_call_keeps_only_what_was_synced),
		T(test_faults__power_cut_at_every_call_keeps_some_of_the_rest),
		T(test_faults__an_interrupted_init_can_be_repeated),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
