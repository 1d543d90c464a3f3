/* SPDX-License-Identifier: Apache-2.0 */
/* hostcheck_memory: does userfaultfd really serve faults here, and do huge pages
 * really come?
 *
 * Each userfaultfd test lets a thread run into a fault and serves it.  A fault that
 * is not reported within PATIENCE_MS counts as "does not work"; the descriptor is
 * then closed, which lets the thread go on.
 *
 * Source: ioctl_userfaultfd(2), Linux Documentation/admin-guide/mm/userfaultfd.rst. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/thread.h"
#include "hv/hostcheck_parts.h"

enum {
	PAGE = 4096,
	REGION = 4 * PAGE,
	PATIENCE_MS = 500,
	HUGE_PAGE = 2 << 20,
};

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

/* ---- userfaultfd ---- */

struct region {
	uint8_t *p, *alias; /* alias: the same pages, not registered; shared memory only */
	struct thread thread;
	bool write;
	volatile uint8_t seen;
};

static void region_touch(void *arg)
{
	struct region *r = arg;
	volatile uint8_t *p = r->p;

	if (r->write)
		p[0] = 7;
	r->seen = p[0];
}

static bool region_map(struct region *r, bool shared)
{
	int fd = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS;
	void *a, *b = MAP_FAILED;

	if (shared) {
		fd = memfd_create("hostcheck", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, REGION) < 0) {
			fs_auto_close(&fd);
			return false;
		}
		flags = MAP_SHARED;
		b = mmap(NULL, REGION, PROT_READ | PROT_WRITE, flags, fd, 0);
	}
	a = mmap(NULL, REGION, PROT_READ | PROT_WRITE, flags, fd, 0);
	fs_auto_close(&fd);
	*r = (struct region){.p = a == MAP_FAILED ? NULL : a, .alias = b == MAP_FAILED ? NULL : b};
	return r->p && (r->alias || !shared);
}

static void region_unmap(struct region *r)
{
	if (r->p)
		munmap(r->p, REGION);
	if (r->alias)
		munmap(r->alias, REGION);
}

static int uffd_open(int flags, uint64_t features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) < 0)
		fs_auto_close(&fd);
	return fd;
}

static bool uffd_register(int fd, const struct region *r, uint64_t mode)
{
	struct uffdio_register reg = {.range = {(uintptr_t)r->p, REGION}, .mode = mode};

	return ioctl(fd, UFFDIO_REGISTER, &reg) == 0;
}

static bool uffd_protect(int fd, const struct region *r, uint64_t mode)
{
	struct uffdio_writeprotect wp = {.range = {(uintptr_t)r->p, REGION}, .mode = mode};

	return ioctl(fd, UFFDIO_WRITEPROTECT, &wp) == 0;
}

static bool uffd_serve_missing(int fd, const struct region *r)
{
	static uint8_t page[PAGE];
	struct uffdio_copy copy = {.dst = (uintptr_t)r->p, .src = (uintptr_t)page, .len = PAGE};

	memset(page, 42, sizeof(page));
	return ioctl(fd, UFFDIO_COPY, &copy) == 0;
}

static bool uffd_serve_minor(int fd, const struct region *r)
{
	struct uffdio_continue cont = {.range = {(uintptr_t)r->p, PAGE}};

	return ioctl(fd, UFFDIO_CONTINUE, &cont) == 0;
}

static bool uffd_serve_wp(int fd, const struct region *r)
{
	return uffd_protect(fd, r, 0);
}

struct uffd_case {
	uint64_t features, mode, flag; /* flag: expected of the fault */
	bool shared, populate, write;
	uint8_t expect;
	bool (*serve)(int fd, const struct region *r);
};

/* The thread's fault came as it should, and was served. */
static bool uffd_fault(int fd, struct region *r, const struct uffd_case *c)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	struct uffd_msg msg;

	if (poll(&pfd, 1, PATIENCE_MS) != 1 || read(fd, &msg, sizeof(msg)) != (ssize_t)sizeof(msg))
		return false;
	if (msg.event != UFFD_EVENT_PAGEFAULT ||
	    (c->flag && !(msg.arg.pagefault.flags & c->flag)))
		return false;
	return c->serve(fd, r);
}

static enum err uffd_try(int flags, const struct uffd_case *c, bool *works)
{
	struct region r;
	int fd = uffd_open(flags, c->features);
	enum err e = ERR_OK;
	bool served = false;

	*works = false;
	if (fd < 0)
		return ERR_OK;
	if (!region_map(&r, c->shared)) {
		region_unmap(&r);
		fs_auto_close(&fd);
		return err_sys(ENOMEM, "host check: map 16 KiB");
	}
	if (c->populate)
		memset(c->shared ? r.alias : r.p, 42, REGION);
	r.write = c->write;
	if (uffd_register(fd, &r, c->mode) &&
	    (c->mode != UFFDIO_REGISTER_MODE_WP ||
	     uffd_protect(fd, &r, UFFDIO_WRITEPROTECT_MODE_WP)) &&
	    (e = thread_start(&r.thread, "hostcheck", region_touch, &r)) == ERR_OK)
		served = uffd_fault(fd, &r, c);
	close(fd); /* lets the thread go on if it was not served */
	thread_join(&r.thread);
	*works = served && r.seen == c->expect;
	region_unmap(&r);
	return e;
}

static void uffd_explain(struct hostcheck *h, int sys)
{
	if (sys == ENOSYS)
		snprintf(h->uffd_text, sizeof(h->uffd_text), "this kernel was built without it");
	else if (sys == EPERM || sys == EACCES)
		snprintf(h->uffd_text, sizeof(h->uffd_text),
			 "not permitted: run as root, with CAP_SYS_PTRACE, or set "
			 "vm.unprivileged_userfaultfd=1");
	else
		snprintf(h->uffd_text, sizeof(h->uffd_text), "%s", strerror(sys));
}

static enum err hostcheck_uffd(struct hostcheck *h)
{
	static const struct uffd_case missing = {0, UFFDIO_REGISTER_MODE_MISSING, 0, false, false,
						 false, 42, uffd_serve_missing};
	static const struct uffd_case missing_shmem = {UFFD_FEATURE_MISSING_SHMEM,
						       UFFDIO_REGISTER_MODE_MISSING, 0, true,
						       false, false, 42, uffd_serve_missing};
	static const struct uffd_case minor_shmem = {UFFD_FEATURE_MINOR_SHMEM,
						     UFFDIO_REGISTER_MODE_MINOR,
						     UFFD_PAGEFAULT_FLAG_MINOR, true, true, false,
						     42, uffd_serve_minor};
	static const struct uffd_case wp_anon = {UFFD_FEATURE_PAGEFAULT_FLAG_WP,
						 UFFDIO_REGISTER_MODE_WP,
						 UFFD_PAGEFAULT_FLAG_WP, false, true, true, 7,
						 uffd_serve_wp};
	struct uffd_case wp_shmem = wp_anon;
	int fd = uffd_open(0, 0), flags = 0;
	enum err e;

	h->uffd = HOSTCHECK_UFFD_FULL;
	if (fd < 0) {
		uffd_explain(h, errno);
		flags = UFFD_USER_MODE_ONLY;
		fd = uffd_open(flags, 0);
		h->uffd = fd < 0 ? HOSTCHECK_UFFD_NONE : HOSTCHECK_UFFD_USER_ONLY;
	}
	if (fd < 0)
		return ERR_OK;
	close(fd);
	wp_shmem.shared = true;
#ifdef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
	wp_shmem.features |= UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
#endif
	if ((e = uffd_try(flags, &missing, &h->uffd_missing)) != ERR_OK ||
	    (e = uffd_try(flags, &missing_shmem, &h->uffd_missing_shmem)) != ERR_OK ||
	    (e = uffd_try(flags, &minor_shmem, &h->uffd_minor_shmem)) != ERR_OK ||
	    (e = uffd_try(flags, &wp_anon, &h->uffd_wp_anon)) != ERR_OK)
		return e;
	return uffd_try(flags, &wp_shmem, &h->uffd_wp_shmem);
}

/* ---- huge pages ---- */

/* The word in brackets of a sysfs file: "always [madvise] never". */
static void hostcheck_mode(const char *path, char *out, size_t size)
{
	AUTO_BUF struct buf text = {0};
	const char *open_bracket, *close_bracket;

	if (fs_read_file(AT_FDCWD, path, 4096, &text) != ERR_OK) {
		err_clear();
		return;
	}
	open_bracket = strchr(buf_str(&text), '[');
	close_bracket = open_bracket ? strchr(open_bracket, ']') : NULL;
	if (close_bracket)
		snprintf(out, size, "%.*s", (int)(close_bracket - open_bracket - 1),
			 open_bracket + 1);
}

/* kB of `what` (as "AnonHugePages:") that /proc/self/smaps counts at p. */
static unsigned long hostcheck_smaps(const void *p, const char *what)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long found = 0, from, to;
	bool inside = false;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = (uintptr_t)p >= from && (uintptr_t)p < to;
		else if (inside && !strncmp(line, what, strlen(what)))
			found += strtoul(line + strlen(what), NULL, 10);
	}
	if (f)
		fclose(f);
	return found;
}

static bool hostcheck_huge(bool shared)
{
	const size_t len = 2u * HUGE_PAGE;
	int fd = shared ? memfd_create("hostcheck", MFD_CLOEXEC) : -1;
	uint8_t *p = MAP_FAILED, *aligned;
	bool got = false;

	if (!shared || (fd >= 0 && ftruncate(fd, (off_t)len) == 0))
		p = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
	if (p != MAP_FAILED) {
		aligned = (uint8_t *)(((uintptr_t)p + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
		(void)madvise(p, len, MADV_HUGEPAGE);
		*(volatile uint8_t *)aligned = 1;
		got = hostcheck_smaps(aligned, shared ? "ShmemPmdMapped:" : "AnonHugePages:") >=
		      HUGE_PAGE / 1024;
		munmap(p, len);
	}
	fs_auto_close(&fd);
	return got;
}

enum err hostcheck_memory_measure(struct hostcheck *h)
{
	hostcheck_mode("/sys/kernel/mm/transparent_hugepage/enabled", h->thp_mode,
		       sizeof(h->thp_mode));
	hostcheck_mode("/sys/kernel/mm/transparent_hugepage/shmem_enabled", h->thp_shmem_mode,
		       sizeof(h->thp_shmem_mode));
	h->thp_anon = hostcheck_huge(false);
	h->thp_shmem = hostcheck_huge(true);
	return hostcheck_uffd(h);
}
