/* SPDX-License-Identifier: Apache-2.0 */
/* bed: see bed.h. */
#include "tests/unit/store/bed.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void bed_make(struct bed *b)
{
	const char *tmp = getenv("TMPDIR");

	if (!tmp) /* thousands of fsyncs: in memory they cost nothing */
		tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(b->dir, sizeof(b->dir), "%s/lifeboat-store-XXXXXX", tmp);
	if (!mkdtemp(b->dir))
		abort();
	snprintf(b->archive, sizeof(b->archive), "%s/archive", b->dir);
}

/* One key for all beds of the process, and of its children. */
static const struct archive_key *bed_key(void)
{
	static struct archive_key *key;
	char text[ARCHIVE_KEY_TEXT_MAX];

	if (!key && archive_key_make(text, &key) != ERR_OK)
		abort();
	return key;
}

enum err bed_init(const struct bed *b, const char *path)
{
	const struct archive_key *key = bed_key();
	struct archive_init_options opt = {.keys = &key, .n_keys = 1};

	if (b->plain)
		opt = (struct archive_init_options){.plain = true};
	return archive_init(path, &opt);
}

enum err bed_init_sharing(const struct bed *b, const char *path)
{
	const struct archive_key *key = bed_key();
	struct archive_init_options opt = {.keys = &key, .n_keys = 1};
	struct archive *a;
	enum err e = bed_open(b, false, &a);

	if (e != ERR_OK)
		return e;
	opt.domain_of = a;
	e = archive_init(path, &opt);
	archive_close(a);
	return e;
}

struct archive_options bed_options(const struct bed *b, bool writable)
{
	return (struct archive_options){.writable = writable,
					.threads = 2,
					.key = b->plain ? NULL : bed_key()};
}

static int setup(void **state, bool plain)
{
	struct bed *b = calloc(1, sizeof(*b));

	b->plain = plain;
	bed_make(b);
	*state = b;
	return bed_init(b, b->archive) == ERR_OK ? 0 : -1;
}

int bed_setup(void **state)
{
	return setup(state, false);
}

int bed_setup_plain(void **state)
{
	return setup(state, true);
}

int bed_teardown(void **state)
{
	struct bed *b = *state;

	bed_remove(b->dir);
	free(b);
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

void bed_remove(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The reserve says nothing, so it is copied as a hole: it would be most of each copy. */
static bool is_reserve(const char *path)
{
	const char *slash = strrchr(path, '/');

	return strcmp(slash ? slash + 1 : path, "reserve") == 0;
}

static void copy_file(const char *from, const char *to)
{
	char part[65536];
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ssize_t n;

	if (in < 0 || out < 0)
		abort();
	if ((is_reserve(from) || is_reserve(to)) && ftruncate(out, lseek(in, 0, SEEK_END)) != 0)
		abort();
	while ((n = read(in, part, sizeof(part))) > 0)
		if (write(out, part, (size_t)n) != n)
			abort();
	close(in);
	close(out);
}

void bed_copy(const char *from, const char *to)
{
	struct stat st;
	DIR *d;

	if (stat(from, &st) != 0)
		abort();
	if (!S_ISDIR(st.st_mode)) {
		copy_file(from, to);
		return;
	}
	mkdir(to, 0700);
	d = opendir(from);
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		char a[4096], b[4096];

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(a, sizeof(a), "%s/%s", from, e->d_name);
		snprintf(b, sizeof(b), "%s/%s", to, e->d_name);
		bed_copy(a, b);
	}
	closedir(d);
}

uint64_t bed_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint64_t bed_seed(void)
{
	const char *text = getenv("LIFEBOAT_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL) ^ (uint64_t)getpid() << 32;

	printf("seed: LIFEBOAT_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	return seed;
}

/* ./check says how thorough to be by LIFEBOAT_COUNTS. */
static double scale(void)
{
	const char *exact = getenv("LIFEBOAT_COUNT_SCALE"), *counts = getenv("LIFEBOAT_COUNTS");

	if (exact)
		return strtod(exact, NULL);
	if (counts && strcmp(counts, "full") == 0)
		return 25;
	return counts && strcmp(counts, "quick") == 0 ? 0.08 : 0.3;
}

unsigned bed_count(unsigned n)
{
	double scaled = n * scale();

	return scaled < 1 ? 1 : (unsigned)scaled;
}

static void make_page(uint8_t *page, uint64_t seed)
{
	uint64_t s = seed, kind = bed_random(&s) % 8;

	if (kind < 2)
		return; /* zero */
	if (kind == 2) {
		memset(page, (int)(bed_random(&s) % 4) + 1, ARCHIVE_PAGE_BYTES);
		return;
	}
	for (size_t i = 0; i < ARCHIVE_PAGE_BYTES; i += 8) {
		uint64_t v = bed_random(&s);

		if (kind < 6)
			v &= 0x0f0f0f0f00000000ull; /* compressible */
		memcpy(page + i, &v, 8);
	}
}

void content_make(struct content *c, uint64_t seed, size_t len)
{
	size_t pages = (len + ARCHIVE_PAGE_BYTES - 1) / ARCHIVE_PAGE_BYTES;

	c->len = len;
	c->data = calloc(pages + 1, ARCHIVE_PAGE_BYTES);
	for (size_t i = 0; i < pages; i++)
		make_page(c->data + i * ARCHIVE_PAGE_BYTES, seed + i % 1000 * 77);
	memset(c->data + len, 0, pages * ARCHIVE_PAGE_BYTES - len);
}

void content_change(struct content *c, uint64_t seed, unsigned percent)
{
	for (size_t i = 0; i + ARCHIVE_PAGE_BYTES <= c->len; i += ARCHIVE_PAGE_BYTES)
		if (bed_random(&seed) % 100 < percent)
			make_page(memset(c->data + i, 0, ARCHIVE_PAGE_BYTES), bed_random(&seed));
}

void content_free(struct content *c)
{
	free(c->data);
	c->data = NULL;
}

enum err bed_open(const struct bed *b, bool writable, struct archive **out)
{
	struct archive_options opt = bed_options(b, writable);

	return archive_open(b->archive, &opt, out);
}

enum err bed_put(struct archive *a, const char *name, const struct content *c, uint64_t *number)
{
	struct archive_writer *w;
	struct checkpoint_info info;
	unsigned index;
	enum err e = archive_begin(a, name, NULL, &w);

	if (e != ERR_OK)
		return e;
	e = archive_stream(w, "ram", c->len, &index);
	for (size_t at = 0, part; e == ERR_OK && at < c->len; at += part) {
		part = c->len - at < 37 * ARCHIVE_PAGE_BYTES ? c->len - at
							      : 37 * ARCHIVE_PAGE_BYTES;
		e = archive_put(w, index, at, c->data + at, part);
	}
	if (e != ERR_OK) {
		archive_abort(w);
		return e;
	}
	e = archive_commit(w, "a test", &info);
	if (e == ERR_OK && number)
		*number = info.number;
	return e;
}

enum err bed_put_once(const struct bed *b, const char *name, const struct content *c,
		      uint64_t *number)
{
	struct archive *a;
	enum err e = bed_open(b, true, &a);

	if (e != ERR_OK)
		return e;
	e = bed_put(a, name, c, number);
	archive_close(a);
	return e;
}

struct comparison {
	const struct content *c;
	uint64_t at; /* all before was compared */
	bool wrong;
};

static enum err compare(void *arg, uint64_t offset, const void *data, size_t len)
{
	struct comparison *k = arg;

	if (offset < k->at || offset + len > k->c->len) {
		k->wrong = true;
		return ERR_OK;
	}
	for (uint64_t i = k->at; i < offset; i++)
		k->wrong |= k->c->data[i] != 0;
	k->wrong |= memcmp(k->c->data + offset, data, len) != 0;
	k->at = offset + len;
	return ERR_OK;
}

enum err bed_check(struct archive *a, const char *ref, const struct content *c)
{
	struct comparison k = {.c = c};
	struct archive_reader *r;
	struct checkpoint_info info;
	unsigned index;
	enum err e = archive_find(a, ref, &info);

	if (e != ERR_OK || (e = archive_read_open(a, &info, &r)) != ERR_OK)
		return e;
	e = archive_read_find(r, "ram", &index);
	if (e == ERR_OK && archive_read_stream(r, index)->length != c->len)
		k.wrong = true;
	if (e == ERR_OK)
		e = archive_read_all(r, index, NULL, compare, &k);
	archive_read_close(r);
	for (uint64_t i = k.at; e == ERR_OK && i < c->len; i++)
		k.wrong |= c->data[i] != 0;
	return k.wrong ? err_note(ERR_FAILED, 0, "%s: wrong bytes were given out", ref) : e;
}

enum err bed_check_once(const struct bed *b, const char *ref, const struct content *c)
{
	struct archive *a;
	enum err e = bed_open(b, false, &a);

	if (e != ERR_OK)
		return e;
	e = bed_check(a, ref, c);
	archive_close(a);
	return e;
}

struct findings {
	struct archive_damage *first;
	unsigned n;
};

static void on_damage(void *arg, const struct archive_damage *d)
{
	struct findings *f = arg;

	if (f->n++ == 0 && f->first)
		*f->first = *d;
}

enum err bed_verify(const struct bed *b, bool loud, struct archive_damage *first)
{
	struct archive_damage mine = {.length = 0};
	struct findings f = {.first = first ? first : &mine};
	struct archive_verify_result result;
	struct archive *a;
	enum err e = bed_open(b, false, &a);

	if (e != ERR_OK)
		return e;
	e = archive_verify(a, NULL, NULL, on_damage, &f, &result);
	archive_close(a);
	if (loud && f.n)
		print_message("damage: %s %s %llu+%llu: %s\n", f.first->checkpoint, f.first->stream,
			      (unsigned long long)f.first->offset,
			      (unsigned long long)f.first->length, f.first->what);
	return e;
}

/* By its name, so that a damaged one goes as well. */
static enum err remove_ref(struct archive *a, const char *ref)
{
	struct checkpoint_info info = {.number = 0};
	const char *at = strchr(ref, '@');
	enum err e;

	if (!at && (e = archive_find(a, ref, &info)) != ERR_OK)
		return e;
	if (at) {
		snprintf(info.name, sizeof(info.name), "%.*s", (int)(at - ref), ref);
		info.number = strtoull(at + 1, NULL, 10);
	}
	return archive_remove(a, &info);
}

enum err bed_remove_once(const struct bed *b, const char *ref)
{
	struct archive *a;
	enum err e = bed_open(b, true, &a);

	if (e != ERR_OK)
		return e;
	e = remove_ref(a, ref);
	archive_close(a);
	return e;
}

enum err bed_gc_once(const struct bed *b, unsigned threshold, struct archive_gc_result *result)
{
	struct archive_gc_options opt = {.threshold_percent = threshold};
	struct archive *a;
	enum err e = bed_open(b, true, &a);

	if (e != ERR_OK)
		return e;
	e = archive_gc(a, &opt, NULL, NULL, NULL, result);
	archive_close(a);
	return e;
}

/* ---- an archive with everything ---- */

/* Something of which only a part is needed later. */
static enum err put_old(const struct bed *b)
{
	struct content old;
	enum err e;

	content_make(&old, 5, 900 * 1024);
	content_change(&old, 77, 70);
	e = bed_put_once(b, "old", &old, NULL);
	content_free(&old);
	return e;
}

static bool rewrite_and_pin(const struct bed *b)
{
	struct archive_gc_result r;
	struct archive_pin pin;
	struct checkpoint_info info;
	struct archive *a;
	bool good;

	if (bed_remove_once(b, "old@1") != ERR_OK || bed_gc_once(b, 95, &r) != ERR_OK ||
	    r.packs_rewritten == 0 || bed_open(b, true, &a) != ERR_OK)
		return false;
	good = archive_find(a, "web@1", &info) == ERR_OK &&
	       archive_pin(a, &info, "a test", &pin) == ERR_OK;
	archive_close(a);
	return good;
}

bool bed_put_three(const struct bed *b, struct content c[BED_FILLED])
{
	content_make(&c[0], 11, 700 * 1024 + 33);
	content_make(&c[1], 5, 900 * 1024);
	content_make(&c[2], 5, 900 * 1024);
	content_change(&c[2], 6, 20);
	return bed_put_once(b, "db", &c[0], NULL) == ERR_OK &&
	       bed_put_once(b, "web", &c[1], NULL) == ERR_OK &&
	       bed_put_once(b, "web", &c[2], NULL) == ERR_OK;
}

bool bed_fill(const struct bed *b, struct content c[BED_FILLED])
{
	return put_old(b) == ERR_OK && bed_put_three(b, c) && rewrite_and_pin(b);
}

static char **listed;
static size_t n_listed, base_len;

static int list_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)ftw;
	if (type == FTW_F) {
		listed = realloc(listed, (n_listed + 1) * sizeof(*listed));
		listed[n_listed++] = strdup(path + base_len + 1);
	}
	return 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

size_t bed_files(const char *path, char ***files)
{
	listed = NULL;
	n_listed = 0;
	base_len = strlen(path);
	nftw(path, list_one, 16, FTW_PHYS);
	if (n_listed)
		qsort(listed, n_listed, sizeof(*listed), by_text);
	*files = listed;
	return n_listed;
}

size_t bed_files_in(const struct bed *b, const char *part, const char *mark)
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

uint64_t bed_file_size(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

void bed_flip(const char *path, uint64_t bit)
{
	uint8_t byte = 0;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0 || pread(fd, &byte, 1, (off_t)(bit / 8)) != 1)
		abort();
	byte = (uint8_t)(byte ^ 1u << bit % 8);
	if (pwrite(fd, &byte, 1, (off_t)(bit / 8)) != 1)
		abort();
	close(fd);
}
