/* SPDX-License-Identifier: Apache-2.0 */
/* bench_gc: how long a collection takes, and how much memory.
 *
 * usage: bench_gc [DIR [MILLIONS]]
 *
 * Makes an archive of so many million different pages (default 10): 60 % are needed, 20 % by
 * nobody, and of the packs with the last 20 % every third page.  The pages compress to almost
 * nothing, so that the disk is not what is measured; packs, directories, manifests and runs are
 * as large as ever.  Then, each in a process of its own: a dry run, the collection, and
 * another that finds nothing to do.  Prints seconds and the peak of memory in use. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "store/archive.h"

#define PART_PAGES 256u

static char path[4096];

static void must(enum err e)
{
	if (e == ERR_OK)
		return;
	fprintf(stderr, "bench_gc: %s\n", err_text());
	exit(1);
}

static void fill_page(uint8_t *page, uint64_t id)
{
	memset(page, 0x5a, ARCHIVE_PAGE_BYTES);
	le64_put(page, id * 0x9e3779b97f4a7c15u + 1);
}

/* Pages first, first + step, ... of `count' as checkpoint name. */
static void put(struct archive *a, const char *name, uint64_t first, uint64_t count, unsigned step)
{
	static uint8_t part[PART_PAGES * ARCHIVE_PAGE_BYTES];
	struct archive_writer *w;
	unsigned index;

	must(archive_begin(a, name, NULL, &w));
	must(archive_stream(w, "ram", count * ARCHIVE_PAGE_BYTES, &index));
	for (uint64_t at = 0; at < count; at += PART_PAGES) {
		uint64_t n = count - at < PART_PAGES ? count - at : PART_PAGES;

		for (uint64_t i = 0; i < n; i++) {
			if ((at + i) % step)
				memset(part + i * ARCHIVE_PAGE_BYTES, 0, ARCHIVE_PAGE_BYTES);
			else
				fill_page(part + i * ARCHIVE_PAGE_BYTES, first + at + i);
		}
		must(archive_put(w, index, at * ARCHIVE_PAGE_BYTES, part, n * ARCHIVE_PAGE_BYTES));
	}
	must(archive_commit(w, "", NULL));
}

static void drop(struct archive *a, const char *name)
{
	struct checkpoint_info info;

	must(archive_find(a, name, &info));
	must(archive_remove(a, &info));
}

static void make(uint64_t pages)
{
	struct archive_options opt = {.writable = true};
	struct archive *a;
	uint64_t fifth = pages / 5;
	struct archive_init_options plain = {.plain = true};

	must(archive_init(path, &plain));
	must(archive_open(path, &opt, &a));
	put(a, "needed", 0, 3 * fifth, 1);
	put(a, "unneeded", 3 * fifth, fifth, 1);
	put(a, "sparse", 4 * fifth, fifth, 1);
	put(a, "third", 4 * fifth, fifth, 3);
	drop(a, "unneeded");
	drop(a, "sparse");
	archive_close(a);
}

/* Of this program: what wait4 tells includes what it was before exec. */
static long peak_kib(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	long kib = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmHWM: %ld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

static void collect(bool dry_run)
{
	struct archive_options opt = {.writable = !dry_run};
	struct archive_gc_options how = {.dry_run = dry_run,
					 .threshold_percent = ARCHIVE_GC_THRESHOLD};
	struct archive_gc_result r;
	struct archive *a;

	must(archive_open(path, &opt, &a));
	must(archive_gc(a, &how, NULL, NULL, NULL, &r));
	archive_close(a);
	printf("%llu pages, %llu needed; packs: %llu, deleted %llu, rewritten %llu; ",
	       (unsigned long long)r.pages, (unsigned long long)r.live_pages,
	       (unsigned long long)r.packs, (unsigned long long)r.packs_removed,
	       (unsigned long long)r.packs_rewritten);
	printf("%ld MB at most, ", peak_kib() / 1024);
	fflush(stdout);
}

static void measure(const char *what, bool dry_run)
{
	uint64_t begin = clock_mono_ns();
	struct rusage use;
	int status;
	pid_t pid;

	printf("%s: ", what);
	fflush(stdout);
	pid = fork();
	if (pid == 0) { /* a program of its own: memory that was inherited would count */
		execl("/proc/self/exe", "bench_gc", "--collect", path, dry_run ? "dry" : "wet", NULL);
		_exit(1);
	}
	if (pid < 0 || wait4(pid, &status, 0, &use) != pid || status != 0)
		exit(1);
	printf("%.1f s, %.1f s of CPU\n",
	       (double)(clock_mono_ns() - begin) / 1e9,
	       (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
		       (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6);
}

int main(int argc, char **argv)
{
	uint64_t begin = clock_mono_ns();

	if (argc == 4 && strcmp(argv[1], "--collect") == 0) {
		snprintf(path, sizeof(path), "%s", argv[2]);
		collect(strcmp(argv[3], "dry") == 0);
		return 0;
	}
	snprintf(path, sizeof(path), "%s/bench-gc-archive", argc > 1 ? argv[1] : "/tmp");
	make((argc > 2 ? strtoull(argv[2], NULL, 10) : 10) * 1000000);
	printf("made in %.1f s\n", (double)(clock_mono_ns() - begin) / 1e9);
	measure("dry run", true);
	measure("gc", false);
	measure("gc again", false);
	printf("left in %s\n", path);
	return 0;
}
