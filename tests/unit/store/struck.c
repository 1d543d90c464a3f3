/* SPDX-License-Identifier: Apache-2.0 */
/* struck: see struck.h. */
#include "tests/unit/store/struck.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/store/cut.h"

static const char *const mode_names[] = {"count",	  "kill", "cut", "fail once", "fail",
					 "no space left", "short"};
static pthread_mutex_t hook_lock = PTHREAD_MUTEX_INITIALIZER;

static bool writes(enum fs_op op)
{
	return op == FS_WRITE || op == FS_OPEN || op == FS_MKDIR || op == FS_RENAME ||
	       op == FS_SYNC || op == FS_SYNC_DIR || op == FS_ALLOCATE;
}

void struck_hook(void *arg, enum fs_op op, const char *what, size_t len, struct fs_fault *fault)
{
	struct struck *s = arg;
	unsigned n;

	pthread_mutex_lock(&hook_lock);
	n = ++s->told->calls;
	if (n == s->stop_at && (s->mode == KILL || s->mode == CUT))
		_exit(99); /* with the lock held: nobody goes on */
	if (s->mode == CUT)
		cut_note(op, what);
	pthread_mutex_unlock(&hook_lock);
	if ((s->mode == FAIL_ONCE && n == s->stop_at) ||
	    (s->mode == FAIL_ALWAYS && n >= s->stop_at))
		fault->error = EIO;
	if (s->mode == FULL && n >= s->stop_at && writes(op))
		fault->error = ENOSPC;
	if (s->mode == SHORT && n >= s->stop_at && op == FS_WRITE)
		fault->short_bytes = len / 2;
}

static void work(struct struck *s)
{
	struct archive_options opt = bed_options(&s->b, true);
	struct archive *a;
	enum err e;

	opt.threads = 1;
	fs_fault_set(struck_hook, s);
	e = archive_open(s->b.archive, &opt, &a);
	if (e == ERR_OK) {
		e = s->work(s, a);
		archive_close(a);
	}
	s->told->result = e;
	if (e != ERR_OK)
		snprintf(s->told->note, sizeof(s->told->note), "%s", err_text());
	fs_fault_set(NULL, NULL);
}

/* 0, or 99 if it was ended by the hook. */
static int run(struct struck *s)
{
	int status;
	pid_t pid;

	memset(s->told, 0, sizeof(*s->told));
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		work(s);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void reset(const struct struck *s)
{
	bed_remove(s->b.archive);
	bed_copy(s->base, s->b.archive);
}

bool struck_begin(struct struck *s)
{
	s->told = mmap(NULL, sizeof(*s->told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	if (s->told == MAP_FAILED)
		return false;
	bed_make(&s->b);
	snprintf(s->base, sizeof(s->base), "%s/base", s->b.dir);
	return bed_init(&s->b, s->b.archive) == ERR_OK;
}

void struck_keep(struct struck *s)
{
	bed_copy(s->b.archive, s->base);
}

void struck_end(struct struck *s)
{
	bed_remove(s->b.dir);
	munmap(s->told, sizeof(*s->told));
}

unsigned struck_count(struct struck *s)
{
	unsigned calls;

	s->mode = COUNT;
	s->stop_at = 0;
	reset(s);
	assert_int_equal(run(s), 0);
	if (s->told->result != ERR_OK)
		fail_msg("undisturbed: %s", s->told->note);
	calls = s->told->calls;
	assert_true(calls > 20);
	s->after(s);
	print_message("the workload makes %u calls\n", calls);
	return calls;
}

static bool chosen(uint64_t *seed, unsigned permille)
{
	return bed_random(seed) % 1000 < bed_count(permille);
}

static void once(struct struck *s, unsigned calls)
{
	int status;

	reset(s);
	status = run(s);
	if (s->mode == KILL)
		assert_true(status == 99 || s->told->calls < s->stop_at);
	else
		assert_int_equal(status, 0);
	if (s->mode == FAIL_ALWAYS && s->stop_at < calls / 2)
		assert_true(s->told->result != ERR_OK);
	if (s->mode == FULL && s->told->result != ERR_OK && s->told->result != ERR_NOSPACE)
		fail_msg("from call %u on, a full disk is told as: %s", s->stop_at, s->told->note);
	s->after(s);
}

/* Which mode and call it was, should something fail. */
static void say(const struct struck *s)
{
	print_message("up to call %u: %s\n", s->stop_at, mode_names[s->mode]);
}

void struck_every(struct struck *s, enum struck_mode mode, unsigned permille)
{
	unsigned calls = struck_count(s);
	uint64_t seed = bed_seed();

	s->mode = mode;
	for (s->stop_at = 1; s->stop_at <= calls; s->stop_at++)
		if (chosen(&seed, permille))
			once(s, calls);
	say(s);
}

static void cut_at(struct struck *s, uint64_t seed)
{
	char shadow[320], out[320];

	snprintf(shadow, sizeof(shadow), "%s/shadow", s->b.dir);
	snprintf(out, sizeof(out), "%s/out", s->b.dir);
	bed_remove(shadow);
	bed_remove(out);
	reset(s);
	cut_begin(s->b.archive, shadow);
	(void)run(s);
	cut_restore(s->b.archive, shadow, out, seed);
	bed_remove(s->b.archive);
	assert_int_equal(rename(out, s->b.archive), 0);
	s->after(s);
}

void struck_every_cut(struct struck *s, unsigned permille, unsigned mixed)
{
	unsigned calls = struck_count(s);
	uint64_t seed = bed_seed();

	s->mode = CUT;
	for (s->stop_at = 1; s->stop_at <= calls + 1; s->stop_at++) {
		if (chosen(&seed, permille))
			cut_at(s, 0);
		for (unsigned i = 0; i < mixed; i++)
			if (chosen(&seed, permille))
				cut_at(s, bed_random(&seed) | 1);
	}
	say(s);
}
