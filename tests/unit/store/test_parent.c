/* SPDX-License-Identifier: Apache-2.0 */
/* What an increment relies on: what its parent has at the same position costs nothing,
 * what comes back is right, and it stays as good to read after many generations. */
#include "tests/unit/store/bed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "store/budget.h"
#include "store/cursor.h"
#include "store/reader.h"

#define MIB (1u << 20)

/* ---- counting what is read ---- */

struct counts {
	uint64_t index_calls, pack_bytes, manifest_bytes;
};

static void count(void *arg, enum fs_op op, const char *what, size_t len, struct fs_fault *fault)
{
	struct counts *c = arg;

	(void)fault;
	if (strncmp(what, "index", 5) == 0 && strncmp(what, "index/recall-", 13) != 0)
		__atomic_fetch_add(&c->index_calls, 1, __ATOMIC_RELAXED);
	if (op == FS_READ && strncmp(what, "packs/", 6) == 0)
		__atomic_fetch_add(&c->pack_bytes, len, __ATOMIC_RELAXED);
	if (op == FS_READ && strncmp(what, "manifests/", 10) == 0)
		__atomic_fetch_add(&c->manifest_bytes, len, __ATOMIC_RELAXED);
}

/* ---- increments ---- */

static enum err newest(struct archive *a, struct checkpoint_info *info)
{
	return archive_find(a, "web", info);
}

/* Begin an increment of "web" with a stream "ram" of len bytes. */
static struct archive_writer *begin(struct archive *a, size_t len, unsigned *stream)
{
	struct checkpoint_info parent;
	struct archive_writer *w;

	assert_ok(newest(a, &parent));
	assert_ok(archive_begin_from(a, "web", &parent, NULL, &w));
	assert_ok(archive_stream(w, "ram", len, stream));
	return w;
}

static void commit_and_check(struct archive *a, struct archive_writer *w, const struct content *c,
			     struct checkpoint_info *info)
{
	char ref[64];

	assert_ok(archive_commit(w, "", info));
	snprintf(ref, sizeof(ref), "web@%llu", (unsigned long long)info->number);
	assert_ok(bed_check(a, ref, c));
}

static void test_parent__what_it_has_at_the_position_needs_no_index(void **state)
{
	const struct bed *b = *state;
	struct checkpoint_info info, parent;
	struct archive_writer *w;
	struct counts n = {0};
	struct archive *a;
	struct content c;
	unsigned s;

	content_make(&c, 5, 20 * MIB + 77);
	assert_ok(bed_open(b, true, &a));
	assert_ok(bed_put(a, "web", &c, NULL));
	assert_ok(newest(a, &parent));
	w = begin(a, c.len, &s);
	fs_fault_set(count, &n);
	assert_ok(archive_put(w, s, 0, c.data, c.len));
	fs_fault_set(NULL, NULL);
	commit_and_check(a, w, &c, &info);
	assert_int_equal(n.index_calls, 0);
	assert_int_equal(info.stored_bytes, 0);
	assert_int_equal(info.nonzero_bytes, parent.nonzero_bytes);
	assert_int_equal(info.parent.number, parent.number);
	assert_string_equal(info.parent.name, "web");
	assert_memory_equal(&info.parent.digest, &parent.digest, sizeof(parent.digest));
	archive_close(a);
	content_free(&c);
}

static void test_parent__kept_ranges_are_not_read(void **state)
{
	const struct bed *b = *state;
	struct checkpoint_info info, parent;
	struct archive_writer *w;
	struct counts n = {0};
	struct archive *a;
	struct content c;
	unsigned s;

	content_make(&c, 6, 20 * MIB + 77);
	assert_ok(bed_put_once(b, "web", &c, NULL));
	assert_ok(bed_open(b, true, &a));
	assert_ok(newest(a, &parent));
	w = begin(a, c.len, &s);
	fs_fault_set(count, &n);
	assert_ok(archive_keep(w, s, 0, c.len));
	fs_fault_set(NULL, NULL);
	commit_and_check(a, w, &c, &info);
	assert_int_equal(n.pack_bytes, 0);
	assert_int_equal(n.index_calls, 0);
	assert_int_equal(info.stored_bytes, 0);
	assert_int_equal(info.nonzero_bytes, parent.nonzero_bytes);
	archive_close(a);
	assert_ok(bed_verify(b, true, NULL));
	content_free(&c);
}

static void test_parent__keep_refuses_what_the_parent_has_not(void **state)
{
	const struct bed *b = *state;
	struct checkpoint_info info;
	struct archive_writer *w;
	struct archive *a;
	struct content c;
	unsigned s, other;

	content_make(&c, 7, MIB + 5);
	assert_ok(bed_open(b, true, &a));
	assert_ok(bed_put(a, "web", &c, NULL));
	w = begin(a, MIB - 5, &s);
	assert_ok(archive_stream(w, "disk0", MIB, &other));
	assert_err(archive_keep(w, other, 0, MIB), ERR_USAGE);
	assert_err(archive_keep(w, s, 0, MIB - 5), ERR_USAGE); /* ends in a page that goes on */
	assert_err(archive_keep(w, s, 4097, 4096), ERR_USAGE);
	assert_ok(archive_keep(w, s, 8192, 8192));
	assert_err(archive_keep(w, s, 4096, 4096), ERR_USAGE); /* back */
	archive_abort(w);
	/* Longer than the parent: zero from there on. */
	w = begin(a, 3 * MIB, &s);
	assert_ok(archive_keep(w, s, 0, 3 * MIB));
	c.data = realloc(c.data, 3 * MIB);
	memset(c.data + c.len, 0, 3 * MIB - c.len);
	c.len = 3 * MIB;
	commit_and_check(a, w, &c, &info);
	assert_ok(archive_begin(a, "web", NULL, &w));
	assert_ok(archive_stream(w, "ram", c.len, &s));
	assert_err(archive_keep(w, s, 0, 4096), ERR_USAGE); /* no parent at all */
	archive_abort(w);
	info.digest.b[0] ^= 1;
	assert_err(archive_begin_from(a, "web", &info, NULL, &w), ERR_CORRUPT);
	archive_close(a);
	content_free(&c);
}

/* ---- many generations ---- */

struct spread {
	unsigned packs, groups; /* the most of any region */
	uint64_t manifest_bytes;
};

static int by_value(const void *x, const void *y)
{
	const uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;

	return (a > b) - (a < b);
}

static void region_spread(uint64_t *place, size_t n, struct spread *out)
{
	unsigned packs = 0, groups = 0;

	qsort(place, n, sizeof(*place), by_value);
	for (size_t i = 0; i < n; i++) {
		packs += i == 0 || place[i - 1] >> 32 != place[i] >> 32;
		groups += i == 0 || place[i - 1] != place[i];
	}
	out->packs = packs > out->packs ? packs : out->packs;
	out->groups = groups > out->groups ? groups : out->groups;
}

/* From the manifest itself. */
static void measure(const struct archive *a, const struct checkpoint_info *info, struct spread *out)
{
	AUTO_FD int fd = -1;
	uint64_t place[BUDGET_PAGES], region = 0;
	const struct run *r;
	struct manifest m;
	struct cursor c;
	size_t n = 0;

	assert_ok(manifest_load(a->root, a->crypt, info->name, info->number, &m, &fd));
	assert_ok(cursor_init(&c, &m, fd, 0));
	while (cursor_next(&c, &r) == ERR_OK && r) {
		for (uint32_t i = 0; i < r->count; i++) {
			if ((r->page + i) / BUDGET_PAGES != region) {
				region_spread(place, n, out);
				region = (r->page + i) / BUDGET_PAGES;
				n = 0;
			}
			place[n++] = (uint64_t)r->pack << 32 |
				     (r->slot + (r->repeat ? 0 : i)) / GROUP_PAGES;
		}
	}
	region_spread(place, n, out);
	out->manifest_bytes = m.file_bytes;
	cursor_fini(&c);
	manifest_fini(&m);
}

/* Put the pages that differ, keep all others; or put all. */
static void put_changes(struct archive_writer *w, unsigned s, const struct content *before,
			const struct content *c, bool all)
{
	for (size_t at = 0, to; at < c->len; at = to) {
		bool changed = memcmp(before->data + at, c->data + at, 4096) != 0;

		for (to = at + 4096; to < c->len; to += 4096)
			if ((memcmp(before->data + to, c->data + to, 4096) != 0) != changed)
				break;
		if (changed || all)
			assert_ok(archive_put(w, s, at, c->data + at, to - at));
		else
			assert_ok(archive_keep(w, s, at, to - at));
	}
}

/* The limits hold for what is kept; new pages lie side by side in a pack or two and in as
 * many groups as they fill. */
static void generations(const struct bed *b, bool all, uint64_t seed)
{
	const unsigned n = 50, packs = BUDGET_PACKS + 2,
		       groups = BUDGET_GROUPS + BUDGET_PAGES / GROUP_PAGES + 2;
	struct checkpoint_info info;
	struct content c, before;
	struct archive *a;

	content_make(&c, seed, 16 * MIB);
	content_make(&before, seed, 16 * MIB);
	assert_ok(bed_open(b, true, &a));
	assert_ok(bed_put(a, "web", &c, NULL));
	for (unsigned i = 1; i <= n; i++) {
		struct archive_writer *w;
		struct spread spread = {0};
		unsigned s;

		content_change(&c, seed + i, 3);
		w = begin(a, c.len, &s);
		put_changes(w, s, &before, &c, all);
		memcpy(before.data, c.data, c.len);
		if (i % 10 == 0)
			commit_and_check(a, w, &c, &info);
		else
			assert_ok(archive_commit(w, "", &info));
		measure(a, &info, &spread);
		assert_in_range(spread.packs, 1, packs);
		assert_in_range(spread.groups, 1, groups);
		assert_in_range(spread.manifest_bytes, 1, c.len / 1000);
		if (i == n)
			printf("generation %u: at most %u packs, %u groups a region; manifest %llu "
			       "bytes\n",
			       i, spread.packs, spread.groups,
			       (unsigned long long)spread.manifest_bytes);
	}
	archive_close(a);
	assert_ok(bed_verify(b, true, NULL));
	content_free(&c);
	content_free(&before);
}

static void test_parent__fifty_generations_stay_within_the_budget(void **state)
{
	generations(*state, false, bed_seed());
}

static void test_parent__so_they_do_without_a_dirty_map(void **state)
{
	generations(*state, true, bed_seed());
}

static void test_parent__a_huge_checkpoint_opens_without_its_runs(void **state)
{
	const struct bed *b = *state;
	const uint64_t len = 16ull << 30;
	struct checkpoint_info info;
	struct archive_writer *w;
	struct archive_reader *r;
	struct counts n = {0};
	struct archive *a;
	struct content c;
	uint8_t got[4096];
	unsigned s;

	content_make(&c, 8, MIB);
	memset(c.data, 0x77, 8192);
	c.data[0] = 1;
	assert_ok(bed_open(b, true, &a));
	assert_ok(archive_begin(a, "web", NULL, &w));
	assert_ok(archive_stream(w, "ram", len, &s));
	for (uint64_t at = 0; at < len; at += MIB / 2)
		assert_ok(archive_put(w, s, at, c.data + at / (MIB / 2) % 2 * 4096, 4096));
	assert_ok(archive_commit(w, "", &info));
	archive_close(a);
	assert_ok(bed_open(b, false, &a));
	fs_fault_set(count, &n);
	assert_ok(archive_read_open(a, &info, &r));
	assert_ok(archive_read(r, 0, len / 2 + MIB / 2, got, sizeof(got)));
	fs_fault_set(NULL, NULL);
	assert_memory_equal(got, c.data + 4096, sizeof(got));
	assert_true(r->m.n_blocks > 10);
	assert_true(n.manifest_bytes <= r->m.root_bytes + 16 + RUNS_BLOCK_MAX);
	archive_read_close(r);
	archive_close(a);
	content_free(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, bed_setup, bed_teardown)
		T(test_parent__what_it_has_at_the_position_needs_no_index),
		T(test_parent__kept_ranges_are_not_read),
		T(test_parent__keep_refuses_what_the_parent_has_not),
		T(test_parent__a_huge_checkpoint_opens_without_its_runs),
		T(test_parent__fifty_generations_stay_within_the_budget),
		T(test_parent__so_they_do_without_a_dirty_map),
#undef T
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
