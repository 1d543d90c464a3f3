/* SPDX-License-Identifier: Apache-2.0 */
/* All short sequences of what two processes can do to one archive, against a simple model: a
 * set of checkpoints with their contents.  After each sequence the archive lists exactly these,
 * all read back, verification is clean, and after a collection nothing else is stored.
 *
 * The two are real processes that keep the archive open, so that what one removes and
 * collects goes from under the index and the packs that the other holds. */
#include "tests/unit/store/bed.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum op { PUT, COMMIT, ABORT, DELETE, COLLECT, REWRITE, COPY, OPS, OPEN = OPS, CLOSE };
static const char *const op_names[] = {"put", "commit", "abort", "delete", "gc", "repack", "copy"};

#define SYMBOLS (2u * OPS) /* an operation of one of the two */
#define HALF (12u * ARCHIVE_PAGE_BYTES)

struct order {
	enum op op;
	char name[ARCHIVE_NAME_BYTES]; /* DELETE */
	uint64_t number;
};
struct answer {
	enum err err;
	uint64_t number; /* COMMIT, COPY: of the checkpoint */
	char note[ERR_NOTE_BYTES];
};

static struct bed main_bed, other_bed;
static char base[320];
/* What is there at first, what each process puts, and what is in the other archive. */
static struct content first, mine[2], elsewhere;

/* ---- a process ---- */

struct actor {
	unsigned who;
	struct archive *a;
	struct archive_writer *w;
	unsigned index, halves;
};

static enum err put(struct actor *x)
{
	enum err e = ERR_OK;

	if (!x->w) {
		x->halves = 0;
		e = archive_begin(x->a, x->who ? "b" : "a", NULL, &x->w);
		if (e == ERR_OK)
			e = archive_stream(x->w, "ram", mine[x->who].len, &x->index);
	}
	if (e == ERR_OK && x->halves < 2)
		e = archive_put(x->w, x->index, (uint64_t)x->halves * HALF,
				mine[x->who].data + x->halves * HALF, HALF);
	x->halves++;
	return e;
}

static enum err commit(struct actor *x, uint64_t *number)
{
	struct checkpoint_info info;
	enum err e = archive_commit(x->w, "", &info);

	x->w = NULL;
	if (e == ERR_OK)
		*number = info.number;
	return e;
}

static enum err copy(struct actor *x, uint64_t *number)
{
	struct archive_copy_options opt = {.name = "copy"};
	struct archive_copy_result result;
	struct checkpoint_info info;
	struct archive *from;
	enum err e = bed_open(&other_bed, false, &from);

	if (e != ERR_OK)
		return e;
	e = archive_find(from, "far@1", &info);
	if (e == ERR_OK)
		e = archive_copy(from, &info, x->a, &opt, NULL, &result);
	archive_close(from);
	if (e == ERR_OK)
		*number = result.info.number;
	return e;
}

static enum err collect(struct actor *x, unsigned threshold)
{
	struct archive_gc_options opt = {.threshold_percent = threshold};
	struct archive_gc_result r;

	return archive_gc(x->a, &opt, NULL, NULL, NULL, &r);
}

static enum err leave(struct actor *x)
{
	archive_abort(x->w);
	archive_close(x->a);
	x->w = NULL;
	x->a = NULL;
	return ERR_OK;
}

static enum err act(struct actor *x, const struct order *o, uint64_t *number)
{
	struct checkpoint_info info = {.number = o->number};

	switch (o->op) {
	case OPEN: return bed_open(&main_bed, true, &x->a);
	case CLOSE: return leave(x);
	case PUT: return put(x);
	case COMMIT: return commit(x, number);
	case ABORT:
		archive_abort(x->w);
		x->w = NULL;
		return ERR_OK;
	case COLLECT: return collect(x, 0);
	case REWRITE: return collect(x, 80);
	case COPY: return copy(x, number);
	default: break;
	}
	snprintf(info.name, sizeof(info.name), "%s", o->name);
	return archive_remove(x->a, &info);
}

static void serve(unsigned who, int orders, int answers)
{
	struct actor x = {.who = who};
	struct order o;

	while (read(orders, &o, sizeof(o)) == (ssize_t)sizeof(o)) {
		struct answer answer = {.err = ERR_OK};

		answer.err = act(&x, &o, &answer.number);
		if (answer.err != ERR_OK)
			snprintf(answer.note, sizeof(answer.note), "%s", err_text());
		if (write(answers, &answer, sizeof(answer)) != (ssize_t)sizeof(answer))
			_exit(1);
	}
	_exit(0);
}

static struct process {
	pid_t pid;
	int orders, answers;
} process[2];

static void start(unsigned who)
{
	int down[2], up[2];

	assert_int_equal(pipe(down), 0);
	assert_int_equal(pipe(up), 0);
	fflush(NULL);
	process[who].pid = fork();
	assert_true(process[who].pid >= 0);
	if (process[who].pid == 0) {
		close(down[1]);
		close(up[0]);
		if (who)
			close(process[0].orders);
		serve(who, down[0], up[1]);
	}
	close(down[0]);
	close(up[1]);
	process[who].orders = down[1];
	process[who].answers = up[0];
}

static struct answer ask(unsigned who, const struct order *o)
{
	struct answer answer;

	assert_int_equal(write(process[who].orders, o, sizeof(*o)), sizeof(*o));
	assert_int_equal(read(process[who].answers, &answer, sizeof(answer)), sizeof(answer));
	return answer;
}

/* ---- the model ---- */

struct there {
	char name[ARCHIVE_NAME_BYTES];
	uint64_t number;
	const struct content *c;
	bool half; /* only the first half was put */
};

static struct model {
	struct there list[12];
	unsigned n;
	unsigned halves[2]; /* that each process's writer has put; 0: no writer */
	char said[200];	    /* the sequence so far */
} model;

static void arrive(const char *name, uint64_t number, const struct content *c, bool half)
{
	struct there *t = &model.list[model.n++];

	snprintf(t->name, sizeof(t->name), "%s", name);
	t->number = number;
	t->c = c;
	t->half = half;
}

static bool is_there(const char *name, uint64_t number)
{
	for (unsigned i = 0; i < model.n; i++)
		if (model.list[i].number == number && strcmp(model.list[i].name, name) == 0)
			return true;
	return false;
}

static void depart(unsigned i)
{
	memmove(&model.list[i], &model.list[i + 1], (--model.n - i) * sizeof(model.list[0]));
}

/* One step; what makes no sense at that point is left out. */
static void step(unsigned who, enum op op)
{
	struct order o = {.op = op};
	struct answer answer;
	size_t len = strlen(model.said);

	snprintf(model.said + len, sizeof(model.said) - len, " %c:%s", who ? 'b' : 'a', op_names[op]);
	if ((op == COMMIT || op == ABORT) && !model.halves[who])
		return;
	if (op == DELETE) {
		if (model.n == 0)
			return;
		snprintf(o.name, sizeof(o.name), "%s", model.list[0].name);
		o.number = model.list[0].number;
	}
	answer = ask(who, &o);
	if (answer.err != ERR_OK)
		fail_msg("%s: %s", model.said, answer.note);
	if (op == PUT)
		model.halves[who]++;
	if (op == COMMIT)
		arrive(who ? "b" : "a", answer.number, &mine[who], model.halves[who] == 1);
	if (op == COMMIT || op == ABORT)
		model.halves[who] = 0;
	if (op == COPY && !is_there("copy", answer.number))
		arrive("copy", answer.number, &elsewhere, false);
	if (op == DELETE)
		depart(0);
}

static enum err note_listed(void *arg, const struct checkpoint_info *info)
{
	unsigned *n = arg;

	if (is_there(info->name, info->number)) {
		++*n;
		return ERR_OK;
	}
	return err_note(ERR_FAILED, 0, "%s@%llu should not be there", info->name,
			(unsigned long long)info->number);
}

static enum err check_one(struct archive *a, const struct there *t)
{
	struct content half = {.len = t->c->len};
	char ref[ARCHIVE_NAME_BYTES + 24];
	enum err e;

	snprintf(ref, sizeof(ref), "%s@%llu", t->name, (unsigned long long)t->number);
	if (!t->half)
		return bed_check(a, ref, t->c);
	half.data = calloc(1, t->c->len);
	memcpy(half.data, t->c->data, HALF);
	e = bed_check(a, ref, &half);
	free(half.data);
	return e;
}

static void check_model(void)
{
	struct archive *a;
	unsigned n = 0;
	enum err e = bed_open(&main_bed, false, &a);

	if (e == ERR_OK)
		e = archive_list(a, note_listed, &n);
	for (unsigned i = 0; e == ERR_OK && i < model.n; i++)
		e = check_one(a, &model.list[i]);
	if (e == ERR_OK && n != model.n)
		e = err_note(ERR_FAILED, 0, "%u checkpoints are listed instead of %u", n, model.n);
	if (e != ERR_OK)
		fail_msg("after%s: %s", model.said, err_text());
	archive_close(a);
	if (bed_verify(&main_bed, true, NULL) != ERR_OK)
		fail_msg("after%s: verify: %s", model.said, err_text());
}

static size_t pack_files(void)
{
	return bed_files_in(&main_bed, "packs", "");
}

static void check_collected(void)
{
	struct archive_gc_result r;
	struct archive_stats stats;
	struct archive *a;

	assert_ok(bed_gc_once(&main_bed, 0, &r));
	check_model();
	assert_ok(bed_open(&main_bed, false, &a));
	assert_ok(archive_stats(a, &stats));
	archive_close(a);
	if (r.packs_waiting || pack_files() != stats.packs)
		fail_msg("after%s: %zu packs instead of %llu, waiting: %llu", model.said,
			 pack_files(), (unsigned long long)stats.packs,
			 (unsigned long long)r.packs_waiting);
}

/* ---- sequences ---- */

static void tell_both(enum op op)
{
	const struct order o = {.op = op};

	for (unsigned who = 0; who < 2; who++)
		assert_int_equal(ask(who, &o).err, ERR_OK);
}

static void begin(void)
{
	bed_remove(main_bed.archive);
	bed_copy(base, main_bed.archive);
	memset(&model, 0, sizeof(model));
	arrive("first", 1, &first, false);
	tell_both(OPEN);
}

static void end(void)
{
	check_model();
	tell_both(CLOSE);
	check_collected();
}

static void sequence(uint64_t number, unsigned steps)
{
	begin();
	for (unsigned i = 0; i < steps; i++) {
		step((unsigned)(number % 2), (enum op)(number / 2 % OPS));
		number /= SYMBOLS;
	}
	end();
}

/* All of a length, or, where bed_count scales down, a part of them at random. */
static void sequences(unsigned steps, unsigned wanted)
{
	uint64_t all = 1, seed = bed_seed(), done = 0;
	unsigned share = bed_count(wanted);

	for (unsigned i = 0; i < steps; i++)
		all *= SYMBOLS;
	for (uint64_t i = 0; i < all; i++) {
		if (bed_random(&seed) % all >= share)
			continue;
		sequence(i, steps);
		done++;
	}
	print_message("%llu of %llu sequences\n", (unsigned long long)done, (unsigned long long)all);
}

static void test_sequences__of_up_to_three_steps(void **state)
{
	(void)state;
	for (unsigned steps = 1; steps <= 3; steps++)
		sequences(steps, 110);
}

static void test_sequences__of_four_steps(void **state)
{
	(void)state;
	sequences(4, 1600);
}

/* Longer ones that are most likely to hurt: who, and the first letter of what. */
static void test_sequences__that_remove_what_the_other_uses(void **state)
{
	static const char *const rows[] = {
		"ap bd bg ac bg",
		"ap bd br ap ac br",
		"ap ac bd br ap ac ar",
		"bp ad ar ba ar bp bc",
		"ac bd br bC ad ar aC br",
		"ap bp ac ad br bc ar",
		"ap bd bg aC ac bg ad br",
		"ap ac bp bd br bc ad ar bd br",
	};

	(void)state;
	for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
		begin();
		for (const char *p = rows[k]; *p; p += p[2] ? 3 : 2)
			step(p[0] == 'b', (enum op)(strchr("pcadgrC", p[1]) - "pcadgrC"));
		end();
	}
}

static int setup(void **state)
{
	char path[320];

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	content_make(&first, 1, 2 * HALF);
	content_make(&elsewhere, 1, 2 * HALF);
	content_change(&elsewhere, 9, 60);
	for (unsigned who = 0; who < 2; who++) {
		content_make(&mine[who], 1, 2 * HALF);
		content_change(&mine[who], 3 + who, 50);
	}
	bed_make(&main_bed);
	bed_make(&other_bed);
	snprintf(base, sizeof(base), "%s/base", main_bed.dir);
	if (bed_init(&main_bed, main_bed.archive) != ERR_OK ||
	    bed_init(&other_bed, other_bed.archive) != ERR_OK ||
	    bed_put_once(&main_bed, "first", &first, NULL) != ERR_OK ||
	    bed_put_once(&other_bed, "far", &elsewhere, NULL) != ERR_OK)
		return -1;
	snprintf(path, sizeof(path), "%s/reserve", main_bed.archive);
	if (truncate(path, 0) != 0) /* so that a copy costs little */
		return -1;
	bed_copy(main_bed.archive, base);
	start(0);
	start(1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned who = 0; who < 2; who++) {
		close(process[who].orders);
		close(process[who].answers);
		waitpid(process[who].pid, NULL, 0);
		content_free(&mine[who]);
	}
	content_free(&first);
	content_free(&elsewhere);
	bed_remove(main_bed.dir);
	bed_remove(other_bed.dir);
	return 0;
}

/* usage: test_sequences [PATTERN] */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sequences__that_remove_what_the_other_uses),
		cmocka_unit_test(test_sequences__of_up_to_three_steps),
		cmocka_unit_test(test_sequences__of_four_steps),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, setup, teardown);
}
