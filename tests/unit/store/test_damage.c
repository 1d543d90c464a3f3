/* SPDX-License-Identifier: Apache-2.0 */
/* Damage is found and named, and never becomes wrong bytes: one flipped bit, a lost
 * end, lost blocks, or a lost file, at random places of every kind of file. */
#include "tests/unit/store/bed.h"

#include "base/bytes.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REFS BED_FILLED
#define FINDINGS 4096

static const char *const refs[REFS] = {"db@1", "web@1", "web@2"};

struct fixture {
	struct bed b;
	char base[300];
	struct content c[REFS];
	struct archive_damage *found;
	unsigned n_found;
};

static int begin(void **state, bool everything)
{
	struct fixture *f = calloc(1, sizeof(*f));

	bed_make(&f->b);
	snprintf(f->base, sizeof(f->base), "%s/base", f->b.dir);
	f->found = calloc(FINDINGS, sizeof(*f->found));
	if (bed_init(&f->b, f->b.archive) != ERR_OK ||
	    !(everything ? bed_fill(&f->b, f->c) : bed_put_three(&f->b, f->c)))
		return -1;
	bed_copy(f->b.archive, f->base);
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return begin(state, true);
}

/* All pages of all packs are needed. */
static int setup_small(void **state)
{
	return begin(state, false);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	bed_remove(f->b.dir);
	for (int i = 0; i < REFS; i++)
		content_free(&f->c[i]);
	free(f->found);
	free(f);
	return 0;
}

static void on_damage(void *arg, const struct archive_damage *d)
{
	struct fixture *f = arg;

	assert_true(strlen(d->what) > 0);
	if (f->n_found < FINDINGS)
		f->found[f->n_found++] = *d;
}

static enum err verify_all(struct fixture *f)
{
	struct archive_verify_result result;
	struct archive *a;
	enum err e = bed_open(&f->b, false, &a);

	f->n_found = 0;
	if (e != ERR_OK)
		return e;
	e = archive_verify(a, NULL, NULL, on_damage, f, &result);
	archive_close(a);
	assert_true(e != ERR_OK || result.damages == 0);
	return e;
}

/* Did verify say that this byte of a checkpoint is damaged (or all of it)? */
static bool named(const struct fixture *f, const char *ref, uint64_t offset)
{
	for (unsigned i = 0; i < f->n_found; i++) {
		const struct archive_damage *d = &f->found[i];

		if (strcmp(d->checkpoint, ref) != 0)
			continue;
		if (d->stream[0] == '\0')
			return true;
		if (strcmp(d->stream, "ram") == 0 && offset >= d->offset &&
		    offset < d->offset + d->length)
			return true;
	}
	return false;
}

/* The byte that the note of a failed read names; the note must name the rest too. */
static uint64_t offset_in_note(const char *ref)
{
	char want[64];
	const char *at;

	snprintf(want, sizeof(want), "%s, stream ram at byte ", ref);
	at = strstr(err_text(), want);
	if (!at)
		fail_msg("the note does not name %s and a byte: %s", ref, err_text());
	return strtoull(at + strlen(want), NULL, 10);
}

/* What a damaged checkpoint still gives out, page by page. */
struct salvaged {
	const struct fixture *f;
	const struct content *c;
	const char *ref;
	uint8_t *state; /* by page: 1 given, 2 lost */
	unsigned lost;
};

static enum err on_given(void *arg, uint64_t offset, const void *data, size_t len)
{
	struct salvaged *s = arg;

	assert_true(offset + len <= s->c->len);
	assert_memory_equal(data, s->c->data + offset, len);
	for (uint64_t at = offset; at < offset + len; at += ARCHIVE_PAGE_BYTES)
		s->state[at / ARCHIVE_PAGE_BYTES] |= 1;
	return ERR_OK;
}

static void on_lost(void *arg, uint64_t offset, uint64_t length, const char *why)
{
	struct salvaged *s = arg;

	assert_true(strlen(why) > 0 && length > 0 && offset + length <= s->c->len);
	s->lost++;
	for (uint64_t at = offset; at < offset + length; at += ARCHIVE_PAGE_BYTES) {
		s->state[at / ARCHIVE_PAGE_BYTES] |= 2;
		if (s->f->n_found)
			assert_true(named(s->f, s->ref, at));
	}
}

/* Every page that is not zero is given out right, or named as lost, and not both. */
static void check_salvage(struct fixture *f, int i)
{
	size_t pages = (f->c[i].len + ARCHIVE_PAGE_BYTES - 1) / ARCHIVE_PAGE_BYTES;
	struct salvaged s = {.f = f, .c = &f->c[i], .ref = refs[i], .state = calloc(pages, 1)};
	struct checkpoint_info info;
	struct archive_reader *r;
	struct archive *a;

	if (bed_open(&f->b, false, &a) != ERR_OK) { /* its configuration is gone */
		free(s.state);
		return;
	}
	if (archive_find(a, refs[i], &info) == ERR_OK &&
	    archive_read_open(a, &info, &r) == ERR_OK) {
		assert_ok(archive_salvage(r, 0, 0, f->c[i].len, NULL, on_given, on_lost, &s));
		assert_true(s.lost > 0);
		for (size_t page = 0; page < pages; page++) {
			size_t at = page * ARCHIVE_PAGE_BYTES;
			size_t len = f->c[i].len - at < 4096 ? f->c[i].len - at : 4096;

			assert_int_not_equal(s.state[page], 3);
			if (!bytes_zero(f->c[i].data + at, len))
				assert_int_not_equal(s.state[page], 0);
		}
		archive_read_close(r);
	}
	archive_close(a);
	free(s.state);
}

/* Every checkpoint reads back right, or says that it is damaged, as verify did. */
static void check_reads(struct fixture *f)
{
	for (int i = 0; i < REFS; i++) {
		enum err e = bed_check_once(&f->b, refs[i], &f->c[i]);

		if (e == ERR_OK)
			continue;
		if (e == ERR_NOTFOUND || e == ERR_VERSION)
			continue; /* its manifest or the configuration is gone */
		assert_int_equal(e, ERR_CORRUPT);
		if (f->n_found && !strstr(err_text(), "manifests/"))
			assert_true(named(f, refs[i], offset_in_note(refs[i])));
		check_salvage(f, i);
	}
}

/* A writer on the damaged archive: it may be refused, but what it commits is either
 * right or known to be damaged. */
static void check_write(struct fixture *f)
{
	uint64_t number;
	char ref[40];
	enum err e = bed_put_once(&f->b, "new", &f->c[2], &number);

	if (e != ERR_OK) {
		/* not found: the configuration itself is gone */
		assert_true(e == ERR_CORRUPT || e == ERR_VERSION || e == ERR_NOTFOUND);
		return;
	}
	snprintf(ref, sizeof(ref), "new@%llu", (unsigned long long)number);
	e = bed_check_once(&f->b, ref, &f->c[2]);
	assert_true(e == ERR_OK || e == ERR_CORRUPT);
}

/* The writer has made it again, if it met the damage; if not, that can be asked for. */
static void check_index(struct fixture *f)
{
	struct archive *a;

	if (bed_verify(&f->b, false, NULL) != ERR_OK) {
		assert_ok(bed_open(&f->b, true, &a));
		assert_ok(archive_rebuild_index(a, NULL));
		archive_close(a);
	}
	assert_ok(bed_verify(&f->b, true, NULL));
}

static size_t pick(struct fixture *f, uint64_t *seed, char *path, size_t size, char *name)
{
	char **files;
	size_t n = bed_files(f->b.archive, &files), bytes = 0;

	while (bytes == 0) {
		size_t i = bed_random(seed) % n;

		snprintf(path, size, "%s/%s", f->b.archive, files[i]);
		snprintf(name, 200, "%s", files[i]);
		bytes = bed_file_size(path);
		if (strcmp(name, "reserve") == 0 || strcmp(name, "leases/epoch") == 0)
			bytes = 0; /* they say nothing that anybody could miss */
	}
	for (size_t i = 0; i < n; i++)
		free(files[i]);
	free(files);
	return bytes;
}

static void rebuild_index(const struct fixture *f)
{
	struct archive *a;

	assert_ok(bed_open(&f->b, true, &a));
	assert_ok(archive_rebuild_index(a, NULL));
	archive_close(a);
}

static void test_damage__one_flipped_bit_anywhere_is_found(void **state)
{
	struct fixture *f = *state;
	uint64_t seed = bed_seed();

	for (unsigned i = 0; i < bed_count(400); i++) {
		char path[512], name[200];
		size_t bytes = pick(f, &seed, path, sizeof(path), name);
		uint64_t bit = bed_random(&seed) % (bytes * 8);
		bool index = strncmp(name, "index/", 6) == 0;
		enum err e;

		bed_flip(path, bit);
		e = verify_all(f);
		if (e != ERR_CORRUPT)
			fail_msg("bit %llu of %s: verify says %s", (unsigned long long)bit, name,
				 err_name(e));
		check_reads(f);
		if (index)
			for (int k = 0; k < REFS; k++)
				assert_ok(bed_check_once(&f->b, refs[k], &f->c[k]));
		check_write(f);
		if (strncmp(name, "index/recall-", 13) == 0)
			rebuild_index(f); /* a writer replaces that of its own name only */
		if (index)
			check_index(f);
		bed_remove(f->b.archive);
		bed_copy(f->base, f->b.archive);
	}
}

static void damage_file(const char *path, size_t bytes, uint64_t *seed)
{
	uint8_t noise[700];
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint64_t at = bed_random(seed) % bytes;

	assert_true(fd >= 0);
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (uint8_t)bed_random(seed);
	switch (bed_random(seed) % 4) {
	case 0: /* the end is lost */ assert_int_equal(ftruncate(fd, (off_t)at), 0); break;
	case 1: /* something is behind it */
		assert_true(pwrite(fd, noise, sizeof(noise), (off_t)bytes) > 0);
		break;
	case 2: /* noise inside */
		assert_true(pwrite(fd, noise, 1 + at % sizeof(noise), (off_t)at) > 0);
		break;
	default: assert_int_equal(unlink(path), 0);
	}
	close(fd);
}

static void test_damage__lost_ends_noise_and_lost_files_never_give_wrong_bytes(void **state)
{
	struct fixture *f = *state;
	uint64_t seed = bed_seed();

	for (unsigned i = 0; i < bed_count(150); i++) {
		char path[512], name[200];
		size_t bytes = pick(f, &seed, path, sizeof(path), name);

		damage_file(path, bytes, &seed);
		(void)!verify_all(f);
		check_reads(f);
		check_write(f);
		bed_remove(f->b.archive);
		bed_copy(f->base, f->b.archive);
	}
}

static void first_pack(const struct fixture *f, char *path, size_t size)
{
	char dir[400], **files;
	size_t n;

	snprintf(dir, sizeof(dir), "%s/packs", f->b.archive);
	n = bed_files(dir, &files);
	assert_true(n > 0);
	snprintf(path, size, "%s/%s", dir, files[0]);
	for (size_t i = 0; i < n; i++)
		free(files[i]);
	free(files);
}

static void test_damage__a_damaged_group_names_checkpoint_stream_and_pages(void **state)
{
	struct fixture *f = *state;
	char path[512];
	unsigned pages = 0;

	first_pack(f, path, sizeof(path));
	bed_flip(path, (512 + 5000) * 8);
	assert_int_equal(verify_all(f), ERR_CORRUPT);
	assert_true(f->n_found > 0);
	for (unsigned i = 0; i < f->n_found; i++) {
		assert_string_equal(f->found[i].stream, "ram");
		assert_true(f->found[i].checkpoint[0] != '\0');
		assert_non_null(strstr(f->found[i].what, "packs/"));
		assert_int_equal(f->found[i].offset % ARCHIVE_PAGE_BYTES, 0);
		pages += (unsigned)(f->found[i].length + 4095) / 4096;
	}
	assert_true(pages >= 1);
	check_reads(f);
}

static void test_damage__one_directory_of_a_pack_is_enough(void **state)
{
	struct fixture *f = *state;
	char path[512];
	uint64_t size;

	first_pack(f, path, sizeof(path));
	size = bed_file_size(path);
	bed_flip(path, (size - 1024 - 600) * 8); /* in the second copy */
	assert_int_equal(verify_all(f), ERR_CORRUPT);
	assert_int_equal(f->n_found, 1);
	assert_string_equal(f->found[0].checkpoint, "");
	for (int i = 0; i < REFS; i++)
		assert_ok(bed_check_once(&f->b, refs[i], &f->c[i]));
}

static void test_damage__a_missing_pack_loses_only_its_pages(void **state)
{
	struct fixture *f = *state;
	struct checkpoint_info info;
	struct archive_reader *r;
	struct archive *a;
	uint8_t page[4096];
	unsigned good = 0, bad = 0;
	char path[512];

	first_pack(f, path, sizeof(path));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(verify_all(f), ERR_CORRUPT);
	assert_ok(bed_open(&f->b, false, &a));
	for (int i = 0; i < REFS; i++) {
		assert_ok(archive_find(a, refs[i], &info));
		assert_ok(archive_read_open(a, &info, &r));
		for (size_t at = 0; at + 4096 <= f->c[i].len; at += 4096) {
			enum err e = archive_read(r, 0, at, page, 4096);

			if (e == ERR_OK) {
				assert_memory_equal(page, f->c[i].data + at, 4096);
				assert_false(named(f, refs[i], at));
				good++;
			} else {
				assert_int_equal(e, ERR_CORRUPT);
				assert_true(named(f, refs[i], at));
				assert_int_equal(offset_in_note(refs[i]), at);
				bad++;
			}
		}
		archive_read_close(r);
	}
	archive_close(a);
	assert_true(good > 0 && bad > 0);
}

static void test_damage__a_damaged_manifest_is_listed_as_such(void **state)
{
	struct fixture *f = *state;
	struct checkpoint_info info;
	struct archive *a;
	char path[512];

	snprintf(path, sizeof(path), "%s/manifests/web@1", f->b.archive);
	bed_flip(path, 100 * 8);
	assert_int_equal(verify_all(f), ERR_CORRUPT);
	assert_string_equal(f->found[0].checkpoint, "web@1");
	assert_ok(bed_open(&f->b, false, &a));
	assert_err(archive_find(a, "web@1", &info), ERR_CORRUPT);
	assert_ok(archive_find(a, "web@2", &info));
	archive_close(a);
	assert_ok(bed_check_once(&f->b, "web@2", &f->c[2]));
	/* A writer must not take the packs of the unreadable manifest for garbage. */
	check_write(f);
	bed_flip(path, 100 * 8);
	assert_ok(bed_check_once(&f->b, "web@1", &f->c[1]));
}

static void test_damage__a_renamed_manifest_or_pack_is_not_believed(void **state)
{
	struct fixture *f = *state;
	struct checkpoint_info info;
	struct archive *a;
	char from[512], to[512];

	snprintf(from, sizeof(from), "%s/manifests/web@1", f->b.archive);
	snprintf(to, sizeof(to), "%s/manifests/web@7", f->b.archive);
	assert_int_equal(rename(from, to), 0);
	assert_ok(bed_open(&f->b, false, &a));
	assert_err(archive_find(a, "web@7", &info), ERR_CORRUPT);
	archive_close(a);
	assert_int_equal(verify_all(f), ERR_CORRUPT);
	assert_string_equal(f->found[0].checkpoint, "web@7");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define SMALL(f) cmocka_unit_test_setup_teardown(f, setup_small, teardown)

/* usage: test_damage [PATTERN] */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(test_damage__one_flipped_bit_anywhere_is_found),
		T(test_damage__lost_ends_noise_and_lost_files_never_give_wrong_bytes),
		SMALL(test_damage__a_damaged_group_names_checkpoint_stream_and_pages),
		SMALL(test_damage__one_directory_of_a_pack_is_enough),
		SMALL(test_damage__a_missing_pack_loses_only_its_pages),
		SMALL(test_damage__a_damaged_manifest_is_listed_as_such),
		SMALL(test_damage__a_renamed_manifest_or_pack_is_not_believed),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
