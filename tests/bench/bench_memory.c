/* SPDX-License-Identifier: Apache-2.0 */
/* bench_memory: what guest RAM costs, by how it is backed.
 *
 *   bench_memory [MIB]        default 1024
 *
 * Compares anonymous private memory, reached from another process by
 * process_vm_readv/writev, with a shared memfd that the other process maps.  The
 * figures and what follows from them are in docs/MEMORY.md.
 * Prints one line per measurement: backing, what, GB/s or ms, and how much of it
 * the host backed by huge pages. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1024ull * 1024)
#define PIECE MIB
#define HUGE_BYTES (2 * MIB)

struct ram {
	const char *kind;
	uint8_t *p;
	int fd; /* -1: anonymous */
	uint64_t bytes;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void stop(const char *what)
{
	fprintf(stderr, "bench_memory: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void rate(const struct ram *r, const char *what, uint64_t start_ns)
{
	double s = (double)(now_ns() - start_ns) / 1e9;

	printf("%-16s %-28s %8.2f GB/s\n", r->kind, what, (double)r->bytes / 1e9 / s);
	fflush(stdout);
}

static void duration(const struct ram *r, const char *what, uint64_t start_ns)
{
	printf("%-16s %-28s %8.2f ms\n", r->kind, what, (double)(now_ns() - start_ns) / 1e6);
	fflush(stdout);
}

/* kB of this process in huge pages. */
static long huge_kib(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "re");
	char line[256];
	long sum = 0, v;

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "AnonHugePages: %ld", &v) == 1 ||
		    sscanf(line, "ShmemPmdMapped: %ld", &v) == 1)
			sum += v;
	if (f)
		fclose(f);
	return sum;
}

static struct ram ram_new(const char *kind, bool shared, uint64_t bytes)
{
	struct ram r = {.kind = kind, .fd = -1, .bytes = bytes};
	const int prot = PROT_READ | PROT_WRITE;
	uint8_t *p;

	if (shared) {
		r.fd = memfd_create("ram", MFD_CLOEXEC);
		if (r.fd < 0 || ftruncate(r.fd, (off_t)bytes) < 0)
			stop("memfd");
	}
	p = mmap(NULL, bytes + HUGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		stop("reserve");
	p = (uint8_t *)(((uintptr_t)p + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	r.p = mmap(p, bytes, prot,
		   MAP_FIXED | MAP_NORESERVE | (shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS),
		   r.fd, 0);
	if (r.p == MAP_FAILED)
		stop("map");
	madvise(r.p, bytes, MADV_HUGEPAGE);
	return r;
}

static void ram_free(struct ram *r)
{
	munmap(r->p, r->bytes);
	if (r->fd >= 0)
		close(r->fd);
}

static void ram_fill(struct ram *r)
{
	for (uint64_t at = 0; at < r->bytes; at += 64)
		*(uint64_t *)(void *)(r->p + at) = at * 0x9e3779b97f4a7c15ull;
}

/* In a child, as the keeper: read (or write) all of the parent's RAM in pieces. */
static void keeper(const struct ram *r, pid_t owner, bool write, const char *what)
{
	uint8_t *piece = malloc(PIECE), *map = NULL;
	uint64_t start;

	if (!piece)
		stop("malloc");
	memset(piece, 0x5a, PIECE);
	if (r->fd >= 0) {
		map = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
		if (map == MAP_FAILED)
			stop("map as the keeper");
	}
	start = now_ns();
	for (uint64_t at = 0; at < r->bytes; at += PIECE) {
		struct iovec local = {piece, PIECE}, remote = {r->p + at, PIECE};

		if (map && write)
			memcpy(map + at, piece, PIECE);
		else if (map)
			memcpy(piece, map + at, PIECE);
		else if ((write ? process_vm_writev(owner, &local, 1, &remote, 1, 0)
				: process_vm_readv(owner, &local, 1, &remote, 1, 0)) !=
			 (ssize_t)PIECE)
			stop("copy from the other process");
	}
	rate(r, what, start);
	free(piece);
}

static void in_keeper(const struct ram *r, bool write, const char *what)
{
	pid_t owner = getpid(), pid;
	int status;

	fflush(stdout);
	/* The child must not share the parent's pages by copy-on-write. */
	if (r->fd < 0)
		madvise(r->p, r->bytes, MADV_DONTFORK);
	pid = fork();
	if (pid < 0)
		stop("fork");
	if (pid == 0) {
		keeper(r, owner, write, what);
		exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status != 0)
		exit(1);
	if (r->fd < 0)
		madvise(r->p, r->bytes, MADV_DOFORK);
}

static void protect(const struct ram *r, int uffd, bool on, const char *what)
{
	struct uffdio_writeprotect wp = {
		.range = {(uintptr_t)r->p, r->bytes},
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	uint64_t start = now_ns();

	if (ioctl(uffd, UFFDIO_WRITEPROTECT, &wp) < 0)
		printf("%-16s %-28s not possible: %s\n", r->kind, what, strerror(errno));
	else
		duration(r, what, start);
}

static void userfault(const struct ram *r)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP};
	struct uffdio_register reg = {
		.range = {(uintptr_t)r->p, r->bytes},
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) < 0 ||
	    ioctl(uffd, UFFDIO_REGISTER, &reg) < 0) {
		printf("%-16s %-28s not possible: %s\n", r->kind, "userfaultfd write-protect",
		       strerror(errno));
	} else {
		protect(r, uffd, true, "userfaultfd protect all");
		protect(r, uffd, false, "userfaultfd unprotect all");
	}
	if (uffd >= 0)
		close(uffd);
}

static void measure(const char *kind, bool shared, uint64_t bytes)
{
	struct ram r = ram_new(kind, shared, bytes);
	uint64_t start = now_ns();

	ram_fill(&r);
	rate(&r, "first write by the guest", start);
	printf("%-16s %-28s %8.0f %%\n", kind, "in huge pages",
	       (double)huge_kib() * 1024 * 100 / (double)bytes);
	in_keeper(&r, false, "read by the keeper");
	in_keeper(&r, false, "read by the keeper, again");
	in_keeper(&r, true, "overwrite by the keeper");
	userfault(&r);
	ram_free(&r);
	r = ram_new(kind, shared, bytes);
	in_keeper(&r, true, "first write by the keeper");
	start = now_ns();
	ram_fill(&r);
	rate(&r, "guest's writes after that", start);
	ram_free(&r);
	r = ram_new(kind, shared, bytes);
	in_keeper(&r, false, "read of untouched RAM");
	ram_free(&r);
}

/* In a virtual machine the first use of a page costs its host, not us. */
static void warm_up(uint64_t bytes)
{
	struct ram r = ram_new("", false, bytes);

	ram_fill(&r);
	ram_free(&r);
}

int main(int argc, char **argv)
{
	uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 1024;

	if (mib < 2 || mib > 1024 * 1024) {
		fprintf(stderr, "usage: bench_memory [MIB]\n");
		return 2;
	}
	mib &= ~1ull;
	warm_up(mib * MIB);
	measure("anonymous", false, mib * MIB);
	measure("shared-memfd", true, mib * MIB);
	return 0;
}
