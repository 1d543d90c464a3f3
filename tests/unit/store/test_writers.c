/* SPDX-License-Identifier: Apache-2.0 */
/* Several processes at once on one archive: writers of one name and of others, readers,
 * some of them killed; afterwards everything that was reported is there, once. */
#include "tests/unit/store/bed.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "store/lease.h"

#define WRITERS 4
#define ROUNDS 4

struct record {
	char name[16];
	uint64_t number, seed;
};

struct board {
	_Atomic unsigned n, wrong;
	_Atomic bool stop;
	struct record record[256];
};
static struct board *board;

static void content_of(struct content *c, uint64_t seed)
{
	content_make(c, seed % 5, 600 * 1024);
	content_change(c, seed, 10);
}

static void write_some(const struct bed *b, unsigned id, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++) {
		const char *name = (id + i) % 2 ? "shared" : "other";
		uint64_t seed = id * 1000 + i, number;
		struct content c;
		struct record *r;

		content_of(&c, seed);
		if (bed_put_once(b, name, &c, &number) != ERR_OK) {
			fprintf(stderr, "writer %u: %s\n", id, err_text());
			board->wrong++;
		} else {
			r = &board->record[board->n++];
			snprintf(r->name, sizeof(r->name), "%s", name);
			r->number = number;
			r->seed = seed;
		}
		content_free(&c);
	}
}

static void read_some(const struct bed *b)
{
	uint64_t seed = (uint64_t)getpid();

	while (!board->stop) {
		unsigned n = board->n;
		struct record r;
		struct content c;
		char ref[40];

		if (n < 2)
			continue;
		r = board->record[bed_random(&seed) % (n - 1)];
		if (!r.number)
			continue; /* being noted */
		content_of(&c, r.seed);
		snprintf(ref, sizeof(ref), "%s@%llu", r.name, (unsigned long long)r.number);
		if (bed_check_once(b, ref, &c) != ERR_OK) {
			fprintf(stderr, "reader: %s: %s\n", ref, err_text());
			board->wrong++;
		}
		content_free(&c);
	}
}

static pid_t start(void)
{
	fflush(NULL);
	return fork();
}

static int setup(void **state)
{
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	return board == MAP_FAILED ? -1 : bed_setup(state);
}

static int teardown(void **state)
{
	munmap(board, sizeof(*board));
	return bed_teardown(state);
}

static void check_board(const struct bed *b)
{
	struct archive *a;

	assert_int_equal(board->wrong, 0);
	assert_ok(bed_verify(b, true, NULL));
	assert_ok(bed_open(b, true, &a));
	for (unsigned i = 0; i < board->n; i++) {
		struct record *r = &board->record[i];
		struct content c;
		char ref[40];

		for (unsigned k = 0; k < i; k++)
			assert_false(board->record[k].number == r->number &&
				     strcmp(board->record[k].name, r->name) == 0);
		content_of(&c, r->seed);
		snprintf(ref, sizeof(ref), "%s@%llu", r->name, (unsigned long long)r->number);
		assert_ok(bed_check(a, ref, &c));
		content_free(&c);
	}
	archive_close(a);
}

static void test_writers__four_processes_write_while_two_read(void **state)
{
	const struct bed *b = *state;
	pid_t pid[WRITERS + 2];

	for (unsigned i = 0; i < WRITERS + 2; i++) {
		if ((pid[i] = start()) == 0) {
			if (i < WRITERS)
				write_some(b, i, ROUNDS);
			else
				read_some(b);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < WRITERS + 2; i++) {
		int status;

		if (i == WRITERS)
			board->stop = true;
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(board->n, WRITERS * ROUNDS);
	check_board(b);
}

static void test_writers__killed_writers_disturb_nobody(void **state)
{
	const struct bed *b = *state;
	uint64_t seed = bed_seed();
	pid_t steady = start();

	if (steady == 0) {
		write_some(b, 0, 8);
		_exit(0);
	}
	for (unsigned i = 0; i < bed_count(12); i++) {
		struct timespec t = {.tv_nsec = (long)(bed_random(&seed) % 60000000)};
		pid_t pid = start();
		int status;

		if (pid == 0) {
			struct content c;

			content_make(&c, i + 100, 3 << 20);
			for (;;)
				(void)!bed_put_once(b, "doomed", &c, NULL);
		}
		nanosleep(&t, NULL);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
	}
	assert_int_equal(waitpid(steady, NULL, 0), steady);
	assert_int_equal(board->n, 8);
	check_board(b);
}

static void test_writers__two_writers_of_one_archive_handle(void **state)
{
	const struct bed *b = *state;
	struct archive_writer *w[2];
	struct checkpoint_info info[2];
	struct archive *a;
	struct content c[2];
	unsigned s;

	assert_ok(bed_open(b, true, &a));
	for (unsigned i = 0; i < 2; i++) {
		content_make(&c[i], i * 50, 1 << 20);
		assert_ok(archive_begin(a, "twin", NULL, &w[i]));
		assert_ok(archive_stream(w[i], "ram", c[i].len, &s));
	}
	for (size_t at = 0; at < c[0].len; at += 65536)
		for (unsigned i = 0; i < 2; i++)
			assert_ok(archive_put(w[i], 0, at, c[i].data + at, 65536));
	assert_ok(archive_commit(w[1], "", &info[1]));
	assert_ok(archive_commit(w[0], "", &info[0]));
	assert_int_equal(info[1].number, 1);
	assert_int_equal(info[0].number, 2);
	assert_ok(bed_check(a, "twin@1", &c[1]));
	assert_ok(bed_check(a, "twin@2", &c[0]));
	archive_close(a);
	assert_ok(bed_verify(b, true, NULL));
	content_free(&c[0]);
	content_free(&c[1]);
}

static void test_writers__a_live_writer_is_not_swept(void **state)
{
	const struct bed *b = *state;
	struct archive_writer *w;
	struct checkpoint_info info;
	struct archive *a, *other;
	struct content c;
	unsigned s;

	content_make(&c, 3, 4 << 20);
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_begin(a, "slow", NULL, &w));
	assert_ok(archive_stream(w, "ram", c.len, &s));
	assert_ok(archive_put(w, s, 0, c.data, c.len / 2));
	assert_ok(bed_open(b, true, &other)); /* sweeps */
	assert_ok(bed_put(other, "quick", &c, NULL));
	archive_close(other);
	assert_ok(archive_put(w, s, c.len / 2, c.data + c.len / 2, c.len / 2));
	assert_ok(archive_commit(w, "", &info));
	archive_close(a);
	assert_ok(bed_check_once(b, "slow@1", &c));
	assert_ok(bed_check_once(b, "quick@1", &c));
	assert_ok(bed_verify(b, true, NULL));
	content_free(&c);
}

/* Its pages stay for whom they were promised to. */
static void test_writers__a_parent_may_go_while_its_pages_are_kept(void **state)
{
	struct bed *b = *state;
	struct checkpoint_info parent;
	struct archive_gc_result r;
	struct archive_writer *w;
	struct archive *a;
	struct content c;
	unsigned s;

	content_make(&c, 3, 200 * ARCHIVE_PAGE_BYTES);
	assert_ok(bed_put_once(b, "web", &c, NULL));
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_find(a, "web@1", &parent));
	assert_ok(archive_begin_from(a, "web", &parent, NULL, &w));
	assert_ok(archive_stream(w, "ram", c.len, &s));
	assert_ok(archive_keep(w, s, 0, c.len / 2));
	assert_ok(bed_remove_once(b, "web@1"));
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(r.packs_removed, 0);
	assert_ok(archive_keep(w, s, c.len / 2, c.len / 2));
	assert_ok(archive_commit(w, "", NULL));
	assert_int_equal(archive_begin_from(a, "web", &parent, NULL, &w), ERR_NOTFOUND);
	archive_close(a);
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(r.packs_removed, 0);
	assert_ok(bed_check_once(b, "web@2", &c));
	assert_ok(bed_verify(b, true, NULL));
	content_free(&c);
}

/* Whatever the files of leases say, there is a next epoch, and readers are respected. */
static void test_writers__no_epoch_is_the_last(void **state)
{
	struct bed *b = *state;
	struct archive_gc_result r;
	struct archive_reader *reader;
	struct checkpoint_info info;
	struct archive *a;
	struct content c;
	int root;

	content_make(&c, 3, 100000);
	assert_ok(bed_put_once(b, "web", &c, NULL));
	root = open(b->archive, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_ok(lease_epoch_write(root, UINT64_MAX));
	close(root);
	assert_ok(bed_open(b, false, &a));
	assert_ok(archive_find(a, "web", &info));
	assert_ok(archive_read_open(a, &info, &reader));
	assert_ok(bed_remove_once(b, "web"));
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(r.packs_waiting, 1);
	archive_read_close(reader);
	archive_close(a);
	assert_ok(bed_gc_once(b, 60, &r));
	assert_int_equal(r.packs_removed, 1);
	content_free(&c);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_writers__four_processes_write_while_two_read),
		T(test_writers__killed_writers_disturb_nobody),
		T(test_writers__two_writers_of_one_archive_handle),
		T(test_writers__a_live_writer_is_not_swept),
		T(test_writers__a_parent_may_go_while_its_pages_are_kept),
		T(test_writers__no_epoch_is_the_last),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
