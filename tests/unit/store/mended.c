/* SPDX-License-Identifier: Apache-2.0 */
/* mended: see mended.h. */
#include "tests/unit/store/mended.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "tests/unit/store/cut.h"


const char *const refs[REFS] = {"db@1", "web@1", "web@2"};

void mended_open_at(const char *path, bool writable, struct archive **a)
{
	static const struct bed encrypted;
	struct archive_options opt = bed_options(&encrypted, writable);

	assert_ok(archive_open(path, &opt, a));
}

void mended_copy_all(struct fixture *f, const char *to)
{
	struct archive *from, *into;

	assert_ok(bed_init(&f->b, to));
	mended_open_at(f->b.archive, false, &from);
	mended_open_at(to, true, &into);
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

int mended_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	bed_make(&f->b);
	snprintf(f->mirror, sizeof(f->mirror), "%s/mirror", f->b.dir);
	snprintf(f->other, sizeof(f->other), "%s/other", f->b.dir);
	if (bed_init(&f->b, f->b.archive) != ERR_OK || !bed_fill(&f->b, f->c))
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

int mended_teardown(void **state)
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
enum err mended_heal(struct fixture *f, const char *from, unsigned files)
{
	const char *names[REFS] = {f->file[0], f->file[1], f->file[2]};
	struct archive_repair_options opt = {.files = names, .n_files = files};
	struct archive_options read_only = bed_options(&f->b, false);
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

void mended_check_whole(struct fixture *f)
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

void mended_begin_again(struct fixture *f)
{
	bed_remove(f->b.archive);
	bed_copy(f->mirror, f->b.archive);
}

void mended_pick(struct fixture *f, uint64_t *seed, char *path, size_t size, size_t *bytes)
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
void mended_directories(const char *path, uint64_t at[2])
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
void mended_a_pack(const struct fixture *f, char *path, size_t size)
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

/* ---- copies ---- */

enum err mended_copy_ref(struct fixture *f, const char *ref, struct archive_copy_result *r)
{
	struct archive_options opt = bed_options(&f->b, false);
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
void mended_check_other(const struct fixture *f, uint64_t checkpoints)
{
	struct archive_verify_result result;
	struct archive *a;

	mended_open_at(f->other, false, &a);
	assert_ok(archive_verify(a, NULL, NULL, NULL, NULL, &result));
	assert_int_equal(result.checkpoints, checkpoints);
	archive_close(a);
}

/* ---- faults ---- */

void mended_strike(void *arg, enum fs_op op, const char *what, size_t len, struct fs_fault *fault)
{
	struct countdown *c = arg;

	(void)op, (void)what, (void)len;
	if (__atomic_sub_fetch(&c->left, 1, __ATOMIC_RELAXED) == 0) /* from pool threads too */
		fault->error = c->error;
}

/* ---- power cuts ---- */

static unsigned *calls, stop_at; /* calls: shared with the child */
static bool cutting;		 /* not only killing */
static pthread_mutex_t cut_lock = PTHREAD_MUTEX_INITIALIZER;

static void cut_hook(void *arg, enum fs_op op, const char *what, size_t len, struct fs_fault *fault)
{
	(void)arg, (void)len, (void)fault;
	pthread_mutex_lock(&cut_lock);
	if (++*calls == stop_at)
		_exit(99); /* with the lock held: nobody goes on */
	if (cutting)
		cut_note(op, what);
	pthread_mutex_unlock(&cut_lock);
}

/* Do work in a child that ends at call stop_at. */
static void until_stopped(struct fixture *f, enum err (*work)(struct fixture *f))
{
	int status;
	pid_t pid;

	*calls = 0;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		fs_fault_set(cut_hook, NULL);
		_exit(work(f) == ERR_OK ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 1);
}

/* Do work in a child until its power goes at a call, and leave in dir what was secured, and of the
 * rest what seed says. */
static void until_cut(struct fixture *f, const char *dir, enum err (*work)(struct fixture *f),
		      uint64_t seed)
{
	char shadow[320], out[320];

	snprintf(shadow, sizeof(shadow), "%s/shadow", f->b.dir);
	snprintf(out, sizeof(out), "%s/out", f->b.dir);
	bed_remove(shadow);
	bed_remove(out);
	cut_begin(dir, shadow);
	until_stopped(f, work);
	cut_restore(dir, shadow, out, seed);
	bed_remove(dir);
	assert_int_equal(rename(out, dir), 0);
}

static void begin_counting(void)
{
	calls = mmap(NULL, sizeof(*calls), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	assert_true(calls != MAP_FAILED);
	stop_at = 0;
}

/* base: what dir is before. */
void mended_cut(struct fixture *f, const char *base, const char *dir,
		enum err (*work)(struct fixture *f), void (*after)(struct fixture *f))
{
	uint64_t seed = bed_seed();
	unsigned all;

	begin_counting();
	cutting = true;
	bed_remove(dir);
	bed_copy(base, dir);
	until_cut(f, dir, work, 0);
	after(f);
	all = *calls;
	for (unsigned i = 0; i < bed_count(30); i++) {
		bed_remove(dir);
		bed_copy(base, dir);
		stop_at = 1 + (unsigned)(bed_random(&seed) % all);
		until_cut(f, dir, work, i % 2 ? bed_random(&seed) | 1 : 0);
		after(f);
	}
	munmap(calls, sizeof(*calls));
}

void mended_kill(struct fixture *f, const char *base, const char *dir,
		 enum err (*work)(struct fixture *f), void (*after)(struct fixture *f))
{
	uint64_t seed = bed_seed();
	unsigned all;

	begin_counting();
	cutting = false;
	bed_remove(dir);
	bed_copy(base, dir);
	until_stopped(f, work);
	all = *calls;
	for (stop_at = 1; stop_at <= all; stop_at++) {
		if (bed_random(&seed) % all >= bed_count(40))
			continue;
		bed_remove(dir);
		bed_copy(base, dir);
		until_stopped(f, work);
		after(f);
	}
	munmap(calls, sizeof(*calls));
}
