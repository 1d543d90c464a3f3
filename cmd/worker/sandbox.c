/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox: namespaces, identity and limits of a worker.  See sandbox.h; the filter
 * of system calls is in filter.c.
 *
 * What each step takes away, and why the worker does not miss it:
 *   mount namespace    all files: its root is an empty, read-only tmpfs.  Kernel,
 *                      initrd, consoles and /dev/kvm come as open descriptors.
 *   network namespace  all interfaces; the control socket was bound by the keeper.
 *   IPC, UTS, cgroup   System V objects, host name, the host's cgroup paths.
 *   user namespace     what is left of an identity outside of it.
 *   identity           started by root: an own uid and gid (UID_BASE + pid) that
 *                      nothing else on the host has, so that no other process of
 *                      "the" unprivileged user can reach guest memory; where there
 *                      are too few ids, nobody, which is told as missing.  Started
 *                      by a user: that user, seen as nobody inside.
 *   capabilities       all, also from the bounding set; no_new_privs.
 *   limits             no core files (a core is guest memory), a bounded number of
 *                      descriptors, little locked memory, no message queues.
 *
 * Not used: a PID namespace.  It needs one more process per machine, and what it
 * would prevent (signals, ptrace) the filter prevents.
 *
 * The keeper must still read guest memory from outside (process_vm_readv), hence
 * PR_SET_DUMPABLE, which a change of identity had cleared, and PR_SET_PTRACER for
 * Yama's ptrace_scope 1: the keeper of a later checkpoint is no ancestor of ours.
 * Both let in only root and processes of the same user.
 *
 * Source: user_namespaces(7), pivot_root(2), capabilities(7), prctl(2). */
#include "cmd/worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"

/* Above what systemd, containers and subordinate ids use, below 2^31; a pid has at
 * most 22 bits. */
#define UID_BASE 0x70000000u
#define NOBODY 65534u
#define MAX_DESCRIPTORS 1024u

#define OWN_NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

struct jail {
	bool weak;
	struct buf *missing;
};

/* Something that this host does not allow. */
static enum err lacks(struct jail *j, int sys, const char *what)
{
	if (j->weak) {
		buf_printf(j->missing, "%s%s: %s", j->missing->len ? "; " : "", what, strerror(sys));
		return ERR_OK;
	}
	return err_note(ERR_UNSUPPORTED, 0, "sandbox: %s: %s: run as root, permit user namespaces "
			"on this host, or accept less protection with --sandbox=weak", what,
			strerror(sys));
}

/* In a container with few ids there is none that is a worker's alone.  It does not stop a
 * strict sandbox, for no host setting would help; but it is told. */
static void shares_identity(struct jail *j, int sys)
{
	buf_printf(j->missing, "%sa user of its own (it is nobody, like all workers here): %s",
		   j->missing->len ? "; " : "", strerror(sys));
}

static int write_text(const char *path, const char *text)
{
	AUTO_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return errno;
	return write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : errno;
}

/* Inside we are nobody; outside still the user that started us. */
static int map_identity(uid_t uid, gid_t gid)
{
	AUTO_BUF struct buf map = {0};
	int sys;

	buf_printf(&map, "%u %u 1\n", NOBODY, uid);
	sys = write_text("/proc/self/uid_map", buf_str(&map));
	if (sys != 0)
		return sys;
	sys = write_text("/proc/self/setgroups", "deny");
	if (sys != 0)
		return sys;
	buf_clear(&map);
	buf_printf(&map, "%u %u 1\n", NOBODY, gid);
	return write_text("/proc/self/gid_map", buf_str(&map));
}

/* Leave the old root for the tmpfs that we stand in.  An initramfs as root cannot
 * be pivoted away from; there the tmpfs is moved over it. */
static int change_root(void)
{
	if (syscall(SYS_pivot_root, ".", ".") == 0) {
		if (umount2(".", MNT_DETACH) != 0)
			return errno;
		return chdir("/") == 0 ? 0 : errno;
	}
	if (errno != EINVAL)
		return errno;
	if (mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 || chdir("/") != 0)
		return errno;
	return 0;
}

static int empty_root(void)
{
	static const char *const places[] = {"/proc", "/dev", "/tmp"};
	const unsigned long quiet = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	int sys;

	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return errno;
	sys = ENOENT;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]) && sys != 0; i++) {
		sys = 0;
		if (mount("tmpfs", places[i], "tmpfs", quiet, "mode=0555,size=4k,nr_inodes=1") != 0 ||
		    chdir(places[i]) != 0)
			sys = errno;
	}
	if (sys != 0)
		return sys;
	sys = change_root();
	if (sys != 0)
		return sys;
	return mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | quiet, NULL) == 0 ? 0 : errno;
}

/* Without CAP_SETPCAP the set stays, and no_new_privs makes it void. */
static void empty_bounding_set(void)
{
	for (cap_value_t c = 0; cap_get_bound(c) >= 0; c++)
		(void)cap_drop_bound(c);
}

/* Root: namespaces first, while we may, then another identity. */
static enum err leave_as_root(struct jail *j)
{
	const unsigned id = UID_BASE + (unsigned)getpid();
	enum err e = ERR_OK;
	int sys = 0;

	if (unshare(OWN_NAMESPACES) != 0)
		e = lacks(j, errno, "own namespaces");
	else if ((sys = empty_root()) != 0)
		e = lacks(j, sys, "empty root directory");
	if (e != ERR_OK)
		return e;
	empty_bounding_set(); /* for which another identity has no right any more */
	if (setgroups(0, NULL) != 0)
		return lacks(j, errno, "no supplementary groups");
	if (setresgid(id, id, id) != 0)
		sys = errno;
	if (sys != 0 && setresgid(NOBODY, NOBODY, NOBODY) != 0)
		return lacks(j, errno, "unprivileged group");
	if (sys != 0 || setresuid(id, id, id) != 0) {
		sys = sys != 0 ? sys : errno;
		if (setresuid(NOBODY, NOBODY, NOBODY) != 0)
			return lacks(j, errno, "unprivileged user");
		shares_identity(j, sys);
	}
	/* A last layer where an unprivileged user may have it; without it nothing
	 * is lost that this identity could use. */
	(void)unshare(CLONE_NEWUSER);
	return ERR_OK;
}

static enum err leave_as_user(struct jail *j)
{
	const uid_t uid = geteuid();
	const gid_t gid = getegid();
	int sys;

	if (unshare(CLONE_NEWUSER | OWN_NAMESPACES) != 0)
		return lacks(j, errno, "own namespaces");
	sys = map_identity(uid, gid);
	if (sys != 0)
		return lacks(j, sys, "identity in a user namespace");
	sys = empty_root();
	if (sys != 0)
		return lacks(j, sys, "empty root directory");
	return ERR_OK;
}

static enum err drop_capabilities(void)
{
	cap_t none = cap_init();

	if (!none)
		return err_note(ERR_NOMEM, 0, "sandbox: out of memory");
	empty_bounding_set(); /* again: a new user namespace comes with a full one */
	(void)cap_reset_ambient();
	int failed = cap_set_proc(none);
	int sys = errno;
	cap_free(none);
	if (failed)
		return err_note(ERR_FAILED, sys, "sandbox: give up capabilities");
	return ERR_OK;
}

static enum err set_limits(void)
{
	static const struct {
		__rlimit_resource_t what;
		rlim_t value;
		const char *name;
	} limits[] = {
		/* 1, not 0: only 1 also keeps a core from a handler behind a pipe. */
		{RLIMIT_CORE, 1, "core size"},
		{RLIMIT_NOFILE, MAX_DESCRIPTORS, "descriptors"},
		/* The rings of disks, which some kernels count so, for all machines of a user. */
		{RLIMIT_MEMLOCK, 8u << 20, "locked memory"},
		{RLIMIT_MSGQUEUE, 0, "message queues"},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rlimit now;
		if (getrlimit(limits[i].what, &now) != 0)
			return err_sys(errno, "sandbox: limit of %s", limits[i].name);
		rlim_t v = limits[i].value < now.rlim_max ? limits[i].value : now.rlim_max;
		struct rlimit next = {.rlim_cur = v, .rlim_max = v};
		if (setrlimit(limits[i].what, &next) != 0)
			return err_sys(errno, "sandbox: limit of %s", limits[i].name);
	}
	return ERR_OK;
}

enum err sandbox_enter(bool weak, struct buf *missing)
{
	struct jail j = {.weak = weak, .missing = missing};
	enum err e = geteuid() == 0 ? leave_as_root(&j) : leave_as_user(&j);

	if (e == ERR_OK)
		e = drop_capabilities();
	if (e == ERR_OK)
		e = set_limits();
	if (e != ERR_OK)
		return e;
	(void)umask(0077);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return err_sys(errno, "sandbox: no_new_privs");
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0)
		return err_sys(errno, "sandbox: stay readable by the keeper");
	/* EINVAL where there is no Yama: then nothing is needed. */
	(void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
	return buf_check(missing);
}
