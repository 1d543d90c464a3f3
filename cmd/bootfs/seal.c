/* SPDX-License-Identifier: Apache-2.0 */
/* seal: what the reader may do once it reads: use memory, read its disk, write its three
 * answers, end.  See seal.h.
 *
 * What is not in the table kills it (SIGSYS), which the verb that started it tells.  It needs
 * no new descriptor, so opening one is not among the calls; memory never becomes
 * executable.  Limits: CPU time, for a file system can be made a maze; memory, for it can
 * claim any size; the size of what it writes.
 *
 * Source: seccomp(2), setrlimit(2), libseccomp's seccomp_rule_add(3). */
#include "cmd/bootfs/seal.h"

#include <errno.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CPU_SECONDS 60u
#define MEMORY_BYTES (1ull << 30)

static const int calls[] = {
	SYS_read, SYS_pread64, SYS_write, SYS_pwrite64, SYS_lseek, SYS_fstat, SYS_close,
	SYS_munmap, SYS_mremap, SYS_brk, SYS_madvise, SYS_futex, SYS_clock_gettime, SYS_getrandom,
	SYS_rt_sigreturn, SYS_exit, SYS_exit_group,
#ifdef LIFEBOAT_SANITIZED
	SYS_sigaltstack, SYS_getpid, SYS_gettid,
#endif
};

static int fill(scmp_filter_ctx filter)
{
	int r = 0;

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]) && r == 0; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SYS_mprotect, 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SYS_mmap, 2,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
				     SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, MAP_ANONYMOUS));
	return r == 0 ? seccomp_load(filter) : r;
}

static enum err limit(__rlimit_resource_t what, uint64_t value)
{
	struct rlimit r = {.rlim_cur = value, .rlim_max = value};

	return setrlimit(what, &r) == 0 ? ERR_OK : err_sys(errno, "limits of the reader of a disk");
}

enum err seal(uint64_t max_bytes)
{
	enum err e = limit(RLIMIT_CPU, CPU_SECONDS);

	if (e == ERR_OK)
		e = limit(RLIMIT_FSIZE, max_bytes);
#ifndef LIFEBOAT_SANITIZED
	if (e == ERR_OK)
		e = limit(RLIMIT_AS, MEMORY_BYTES);
#endif
	if (e != ERR_OK)
		return e;
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!filter)
		return err_note(ERR_NOMEM, 0, "system-call filter: out of memory");
	int r = fill(filter);
	seccomp_release(filter);
	return r == 0 ? ERR_OK
		      : err_note(ERR_UNSUPPORTED, -r, "this kernel does not take the system-call filter");
}
