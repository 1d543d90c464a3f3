/* SPDX-License-Identifier: Apache-2.0 */
/* farmem: guest RAM of another process.  See farmem.h.
 *
 * process_vm_readv and its twin name a process by its number, which another may get
 * after its end.  The descriptor says whether it has ended: alive afterwards means that
 * the number was its own all the time.  For a write that is also asked before, and the
 * number would have to be given anew, with memory at the same addresses, within that
 * one call.  The page map belongs to the process, not to its number.
 *
 * Source: process_vm_readv(2), pidfd_open(2), proc_pid_pagemap(5). */
#include "hv/farmem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <poll.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fs.h"
#include "hv/memory.h"

enum err farmem_open(pid_t pid, struct farmem *m)
{
	char path[64];

	*m = (struct farmem){.pid = pid, .pid_fd = pidfd_open(pid, 0), .pagemap_fd = -1};
	if (m->pid_fd < 0 && errno == ESRCH)
		return err_note(ERR_PEER, 0, "worker: has ended");
	if (m->pid_fd < 0)
		return err_sys(errno, "worker: hold on to process %d", (int)pid);
	(void)snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	m->pagemap_fd = open(path, O_RDONLY | O_CLOEXEC);
	return ERR_OK;
}

void farmem_close(struct farmem *m)
{
	fs_auto_close(&m->pid_fd);
	fs_auto_close(&m->pagemap_fd);
}

static enum err check_alive(const struct farmem *m, const char *verb)
{
	struct pollfd p = {.fd = m->pid_fd, .events = POLLIN};
	int n;

	while ((n = poll(&p, 1, 0)) < 0 && errno == EINTR)
		;
	if (n < 0)
		return err_sys(errno, "%s guest memory: look at the worker", verb);
	if (n == 0)
		return ERR_OK;
	return err_note(ERR_PEER, 0, "%s guest memory: the worker has ended", verb);
}

typedef ssize_t transfer_fn(pid_t pid, const struct iovec *local, unsigned long local_count,
			    const struct iovec *remote, unsigned long farmem_count,
			    unsigned long flags);

static enum err transfer(const struct farmem *m, transfer_fn *fn, const char *verb, uint64_t offset,
			 void *buf, size_t len)
{
	size_t done = 0;
	enum err e;

	if (offset > m->bytes || len > m->bytes - offset)
		return err_note(ERR_FAILED, 0, "%s guest memory: %zu bytes at %" PRIu64
				" are outside of its %" PRIu64, verb, len, offset, m->bytes);
	if ((e = check_alive(m, verb)) != ERR_OK)
		return e;
	while (done < len) {
		struct iovec local = {(char *)buf + done, len - done};
		struct iovec far = {(void *)(uintptr_t)(m->host_base + offset + done), len - done};
		ssize_t n = fn(m->pid, &local, 1, &far, 1, 0);

		if (n < 0 && errno == ESRCH)
			return err_note(ERR_PEER, 0, "%s guest memory: the worker has ended", verb);
		if (n < 0 && errno == EPERM)
			return err_note(ERR_AUTH, 0, "%s guest memory: not permitted: run as the "
				"machine's owner; kernel.yama.ptrace_scope above 1 allows only root",
				verb);
		if (n <= 0)
			return err_sys(n < 0 ? errno : EIO, "%s guest memory at %" PRIu64, verb,
				       offset + done);
		done += (size_t)n;
	}
	return check_alive(m, verb);
}

enum err farmem_read(const struct farmem *m, uint64_t offset, void *buf, size_t len)
{
	return transfer(m, process_vm_readv, "read", offset, buf, len);
}

enum err farmem_write(const struct farmem *m, uint64_t offset, const void *buf, size_t len)
{
	return transfer(m, process_vm_writev, "write", offset, (void *)(uintptr_t)buf, len);
}

#define TOUCHED_ENTRIES 1024u		 /* looked at in one read */
#define TOUCHED_GAP_PAGES 64u		 /* shorter gaps are read over */
#define TOUCHED_MAX_PAGES (64u << 20 >> 12)
#define PAGEMAP_TOUCHED (3ull << 62) /* present, or swapped out */

/* Extend the range [*first, *end) (empty: *first == *end) by the pages that the
 * entries of page `at` on tell; true when it is complete. */
static bool extend(const uint64_t *entries, uint64_t count, uint64_t at, uint64_t *first,
		   uint64_t *end)
{
	for (uint64_t i = 0; i < count; i++) {
		bool some = *end > *first;
		if (some && (at + i - *end >= TOUCHED_GAP_PAGES || *end - *first >= TOUCHED_MAX_PAGES))
			return true;
		if (!(entries[i] & PAGEMAP_TOUCHED))
			continue;
		if (!some)
			*first = at + i;
		*end = at + i + 1;
	}
	return false;
}

enum err farmem_next_touched(const struct farmem *m, uint64_t *offset, uint64_t *len)
{
	uint64_t entries[TOUCHED_ENTRIES];
	uint64_t pages = m->bytes / MEMORY_PAGE_BYTES;
	uint64_t at = *offset / MEMORY_PAGE_BYTES, first = 0, end = 0;

	*len = 0;
	if (*offset >= m->bytes)
		return ERR_OK;
	if (m->pagemap_fd < 0) {
		uint64_t left = m->bytes - *offset;
		*len = left < 64u << 20 ? left : 64u << 20;
		return ERR_OK;
	}
	for (bool complete = false; at < pages && !complete;) {
		uint64_t want = pages - at < TOUCHED_ENTRIES ? pages - at : TOUCHED_ENTRIES;
		ssize_t n = pread(m->pagemap_fd, entries, want * sizeof(entries[0]),
				  (off_t)((m->host_base / MEMORY_PAGE_BYTES + at) * sizeof(entries[0])));
		if (n < (ssize_t)sizeof(entries[0]))
			return err_note(ERR_PEER, n < 0 ? errno : 0,
					"read guest memory: the worker has ended");
		uint64_t got = (uint64_t)n / sizeof(entries[0]);
		complete = extend(entries, got, at, &first, &end);
		at += got;
	}
	*offset = first * MEMORY_PAGE_BYTES;
	*len = (end - first) * MEMORY_PAGE_BYTES;
	return ERR_OK;
}
