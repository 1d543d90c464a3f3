/* SPDX-License-Identifier: Apache-2.0 */
/* bench_store: how fast a checkpoint goes into an archive and comes back.
 *
 * usage: bench_store [DIR [MIB [SOURCE [plain]]]]
 *
 * The archive is encrypted unless the last word says "plain".
 *
 * SOURCE is a memory image (memory_image.py makes one), or a directory: then the data
 * are like a machine's memory: contents of the files below it, page-aligned, with
 * stretches of zero pages between them (about a third).
 *
 * Prints, for a first checkpoint, a second with 3 % changed, an unchanged third, a fourth with 3 %
 * changed and a map of what did, restores, random reads, a verification and a rebuild of
 * the index, the seconds on the wall and of CPU, and the rates in non-zero and in logical
 * bytes.  What is read from the archive is out of the page cache before. */
#include <ftw.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/thread.h"
#include "store/archive.h"

static uint8_t *memory;
static size_t memory_bytes, filled;

static uint64_t random_state = 1;
static uint64_t next_random(void)
{
	random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
	return random_state >> 33;
}

static int add_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	size_t room = memory_bytes - filled;
	int fd;
	ssize_t n;

	(void)ftw;
	if (type != FTW_F || st->st_size < 20000 || room < (1u << 20))
		return room < (1u << 20);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, memory + filled, room < (16u << 20) ? room : 16u << 20);
	close(fd);
	if (n <= 0)
		return 0;
	filled += ((size_t)n + 4095) / 4096 * 4096;
	filled += (size_t)n / 2 / 4096 * 4096; /* zero pages behind it */
	if (filled > memory_bytes)
		filled = memory_bytes;
	return filled >= memory_bytes;
}

static void fill(const char *source)
{
	struct stat st;
	int fd;

	if (stat(source, &st) != 0 || S_ISDIR(st.st_mode)) {
		nftw(source, add_file, 16, FTW_PHYS);
		return;
	}
	fd = open(source, O_RDONLY | O_CLOEXEC);
	for (ssize_t n = 1; fd >= 0 && n > 0 && filled < memory_bytes; filled += (size_t)n)
		if ((n = read(fd, memory + filled, memory_bytes - filled)) <= 0)
			break;
	close(fd);
}

static void check(enum err e, const char *what)
{
	if (e == ERR_OK)
		return;
	fprintf(stderr, "bench_store: %s: %s\n", what, err_text());
	exit(1);
}

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double cpu_start;

static uint64_t begin(void)
{
	cpu_start = cpu_seconds();
	return clock_mono_ns();
}

static void line(const char *what, uint64_t start_ns, uint64_t nonzero, uint64_t logical)
{
	double s = (double)(clock_mono_ns() - start_ns) / 1e9, cpu = cpu_seconds() - cpu_start;

	printf("%-22s %7.3f s %6.3f GB/s non-zero %6.3f GB/s logical; %6.3f CPU s, %6.3f GB/s a core\n",
	       what, s, (double)nonzero / s / 1e9, (double)logical / s / 1e9, cpu,
	       (double)nonzero / cpu / 1e9);
	fflush(stdout);
}

/* A line of /proc/self/status in MB. */
static double status(const char *key)
{
	FILE *f = fopen("/proc/self/status", "r");
	unsigned long kb = 0;
	char text[256];

	while (f && fgets(text, sizeof(text), f))
		if (strncmp(text, key, strlen(key)) == 0)
			kb = strtoul(text + strlen(key), NULL, 10);
	if (f)
		fclose(f);
	return (double)kb * 1024 / 1e6;
}

static double rss_start;

static void peak_begin(void)
{
	int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, "5", 1) != 1) /* resets VmHWM */
		perror("clear_refs");
	close(fd);
	rss_start = status("VmRSS:");
}

static void peak(const char *what)
{
	printf("%-22s %7.1f MB beside the data (index map included)\n", what,
	       status("VmHWM:") - rss_start);
}

static struct archive_key *key; /* NULL: not encrypted */

static uint8_t *dirty; /* of each page: changed by the last change() */

/* Whole stretches of pages that did, or did not, change. */
static void put_changes(struct archive_writer *w, unsigned stream)
{
	for (size_t at = 0, end; at < memory_bytes; at = end) {
		bool put = dirty[at / 4096];

		for (end = at + 4096; end < memory_bytes && (bool)dirty[end / 4096] == put;)
			end += 4096;
		if (put)
			check(archive_put(w, stream, at, memory + at, end - at), "put");
		else
			check(archive_keep(w, stream, at, end - at), "keep");
	}
}

static uint64_t put(const char *path, const char *what, bool map, struct checkpoint_info *info)
{
	struct archive_options opt = {.writable = true, .key = key};
	struct archive_writer *w;
	struct archive *a;
	struct checkpoint_info parent;
	enum err found;
	unsigned i;
	uint64_t start = begin();

	check(archive_open(path, &opt, &a), "open");
	found = archive_find(a, "bench", &parent);
	check(archive_begin_from(a, "bench", found == ERR_OK ? &parent : NULL, NULL, &w), "begin");
	check(archive_stream(w, "ram", memory_bytes, &i), "stream");
	if (map)
		put_changes(w, i);
	for (size_t at = 0; !map && at < memory_bytes; at += 2u << 20) {
		size_t part = memory_bytes - at < 2u << 20 ? memory_bytes - at : 2u << 20;

		check(archive_put(w, i, at, memory + at, part), "put");
	}
	check(archive_commit(w, "", info), "commit");
	line(what, start, info->nonzero_bytes, memory_bytes);
	archive_close(a);
	return info->nonzero_bytes;
}

static enum err take(void *arg, uint64_t offset, const void *data, size_t len)
{
	memcpy((uint8_t *)arg + offset, data, len);
	return ERR_OK;
}

static int uncache(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	int fd = type == FTW_F ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	(void)st, (void)ftw;
	if (fd >= 0) {
		(void)!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
	return 0;
}

static void cold(const char *path)
{
	sync();
	nftw(path, uncache, 16, FTW_PHYS);
}

static void get(const char *path, const char *what, const struct checkpoint_info *info, bool compare)
{
	struct archive_options opt = {.writable = false, .key = key};
	struct archive_reader *r;
	struct archive *a;
	uint8_t *out = calloc(1, memory_bytes);
	uint64_t start;

	memset(out, 1, memory_bytes); /* its pages are there before the clock starts */
	memset(out, 0, memory_bytes);
	cold(path);
	start = begin();
	check(archive_open(path, &opt, &a), "open");
	check(archive_read_open(a, info, &r), "read_open");
	check(archive_read_all(r, 0, NULL, take, out), "read_all");
	line(what, start, info->nonzero_bytes, memory_bytes);
	if (compare && memcmp(out, memory, memory_bytes) != 0) {
		fprintf(stderr, "bench_store: %s: wrong bytes\n", what);
		exit(1);
	}
	archive_read_close(r);
	archive_close(a);
	free(out);
}

struct random_reads {
	struct archive_reader *r;
	uint64_t seed;
	struct thread thread;
};

#define READS 2000u
#define READERS 16u

static void read_randomly(void *arg)
{
	struct random_reads *j = arg;
	uint8_t page[4096];

	for (unsigned i = 0; i < READS; i++) {
		uint64_t at;

		do {
			j->seed = j->seed * 6364136223846793005ull + 1442695040888963407ull;
			at = (j->seed >> 20) % (memory_bytes / 4096) * 4096;
		} while (bytes_zero(memory + at, 4096));
		check(archive_read(j->r, 0, at, page, sizeof(page)), "read");
		if (memcmp(page, memory + at, 4096) != 0)
			check(err_note(ERR_CORRUPT, 0, "wrong bytes"), "random read");
	}
}

/* Non-zero pages from an archive just opened. */
static void random_reads(const char *path, const struct checkpoint_info *info)
{
	struct archive_options opt = {.writable = false, .key = key};
	struct random_reads job[READERS];
	struct archive_reader *r;
	struct archive *a;
	uint64_t start;

	cold(path);
	start = begin();
	check(archive_open(path, &opt, &a), "open");
	check(archive_read_open(a, info, &r), "read_open");
	for (unsigned i = 0; i < READERS; i++) {
		job[i] = (struct random_reads){.r = r, .seed = i + 1};
		check(thread_start(&job[i].thread, "reader", read_randomly, &job[i]), "thread");
	}
	for (unsigned i = 0; i < READERS; i++)
		thread_join(&job[i].thread);
	printf("random 4 KiB reads, %u in flight: %.1f thousand/s; %.1f thousand/s a core\n", READERS,
	       READS * READERS / ((double)(clock_mono_ns() - start) / 1e9) / 1e3,
	       READS * READERS / (cpu_seconds() - cpu_start) / 1e3);
	archive_read_close(r);
	archive_close(a);
}

static void change(unsigned percent)
{
	for (size_t at = 0; at < memory_bytes; at += 4096) {
		dirty[at / 4096] = next_random() % 100 < percent && !bytes_zero(memory + at, 4096);
		if (dirty[at / 4096])
			for (size_t k = 0; k < 4096; k += 64)
				memory[at + k] = (uint8_t)next_random();
	}
}

static void figures(const char *path)
{
	struct archive_options opt = {.writable = true, .key = key};
	struct archive_verify_result v;
	struct archive_stats s;
	struct archive *a;
	uint64_t start = begin();

	check(archive_open(path, &opt, &a), "open");
	check(archive_verify(a, NULL, NULL, NULL, NULL, &v), "verify");
	line("verify", start, v.pages * 4096, v.bytes_read);
	start = begin();
	check(archive_rebuild_index(a, NULL), "rebuild");
	check(archive_stats(a, &s), "stats");
	printf("%-28s %7.3f s  %6.3f million pages/s\n", "rebuild of the index",
	       (double)(clock_mono_ns() - start) / 1e9,
	       (double)s.unique_pages / (double)(clock_mono_ns() - start) * 1e3);
	printf("unique pages %llu, packs %.1f MB, manifests %.3f MB, index %.1f MB\n",
	       (unsigned long long)s.unique_pages, (double)s.pack_bytes / 1e6,
	       (double)s.manifest_bytes / 1e6, (double)s.index_bytes / 1e6);
	archive_close(a);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void init(const char *path, bool plain)
{
	char text[ARCHIVE_KEY_TEXT_MAX];
	struct archive_init_options opt = {.plain = plain};

	if (!plain) {
		check(archive_key_make(text, &key), "make a key");
		opt.keys = (const struct archive_key *const *)&key;
		opt.n_keys = 1;
	}
	check(archive_init(path, &opt), "init");
}

int main(int argc, char **argv)
{
	const char *dir = argc > 1 ? argv[1] : "/tmp";
	struct checkpoint_info first, second, third, fourth;
	char path[4096];

	memory_bytes = (argc > 2 ? strtoull(argv[2], NULL, 10) : 1024) << 20;
	memory = calloc(1, memory_bytes);
	dirty = calloc(1, memory_bytes / 4096 + 1);
	fill(argc > 3 ? argv[3] : "/usr/lib");
	snprintf(path, sizeof(path), "%s/bench-store-%d", dir, (int)getpid());
	init(path, argc > 4 && strcmp(argv[4], "plain") == 0);
	peak_begin();
	put(path, "first checkpoint", false, &first);
	peak("  peak memory");
	get(path, "restore of the first", &first, true);
	change(3);
	peak_begin();
	put(path, "second, 3 % changed", false, &second);
	peak("  peak memory");
	get(path, "restore of the second", &second, true);
	random_reads(path, &second);
	put(path, "third, unchanged", false, &third);
	change(3);
	put(path, "fourth, map of 3 %", true, &fourth);
	get(path, "restore of the fourth", &fourth, true);
	printf("stored: %.1f, %.1f, %.1f, %.1f MB of %.1f MB non-zero\n", (double)first.stored_bytes / 1e6,
	       (double)second.stored_bytes / 1e6, (double)third.stored_bytes / 1e6,
	       (double)fourth.stored_bytes / 1e6,
	       (double)first.nonzero_bytes / 1e6);
	figures(path);
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(memory);
	free(dirty);
	return 0;
}
