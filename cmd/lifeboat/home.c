/* SPDX-License-Identifier: Apache-2.0 */
/* home: the directories of this user's machines.
 *
 * The lock decides, not the presence of files.  Two races are answered here:
 * - a directory is removed by whoever holds its lock, lock file last, while
 *   another process opens it: who gets a lock checks that the file it locked is
 *   still the one of that name, and starts over if not;
 * - a process that cleans holds the lock for a moment: who finds it held waits a
 *   little before it says that the machine runs.
 *
 * A socket path may be longer than sun_path (108 bytes): sockets are bound and
 * connected through /proc/self/fd/N/control of the opened directory.
 */
#include "cmd/lifeboat/home.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "cmd/lifeboat/cli.h"
#include "hv/config.h"

#define LOCK "lock"
#define CONTROL "control"
#define CLAIM_PATIENCE_NS (500 * NS_PER_MS)

/* ---- directories ---- */

static enum err join(char out[PATH_MAX], const char *a, const char *b)
{
	int n = snprintf(out, PATH_MAX, "%s/%s", a, b);

	if (n < 0 || n >= PATH_MAX)
		return err_note(ERR_USAGE, 0, "%.80s.../%s: the path is too long: choose another "
				"directory by LIFEBOAT_HOME", a, b);
	return ERR_OK;
}

static enum err choose(struct home *h)
{
	const char *own = getenv("LIFEBOAT_HOME"), *dir;
	enum err e;

	if (own && *own) {
		if ((e = join(h->run_dir, own, "run")) != ERR_OK)
			return e;
		return join(h->state_dir, own, "state");
	}
	if (geteuid() == 0) {
		if ((e = join(h->run_dir, "/run", "lifeboat")) != ERR_OK)
			return e;
		return join(h->state_dir, "/var/lib", "lifeboat");
	}
	dir = getenv("XDG_RUNTIME_DIR");
	if (!dir || !*dir)
		return err_note(ERR_USAGE, 0,
				"no directory for running machines: XDG_RUNTIME_DIR is not set: "
				"set it or LIFEBOAT_HOME");
	if ((e = join(h->run_dir, dir, "lifeboat")) != ERR_OK)
		return e;
	dir = getenv("XDG_STATE_HOME");
	if (dir && *dir)
		return join(h->state_dir, dir, "lifeboat");
	dir = getenv("HOME");
	if (!dir || !*dir)
		return err_note(ERR_USAGE, 0,
				"no directory for state: HOME is not set: set it or LIFEBOAT_HOME");
	return join(h->state_dir, dir, ".local/state/lifeboat");
}

/* Make it, and its name absolute: the monitor lives in another directory.  What others
 * can write to is refused: a link in the place of a log would be followed. */
static enum err settle(char path[PATH_MAX])
{
	char real[PATH_MAX];
	struct stat st;
	enum err e = fs_mkdirs(path, 0700);

	if (e != ERR_OK)
		return e;
	if (!realpath(path, real) || stat(real, &st) != 0)
		return err_sys(errno, "%s", path);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return err_note(ERR_AUTH, 0, "directory %s: it belongs to another user, who could lead us "
				"anywhere: choose another by LIFEBOAT_HOME", real);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return err_note(ERR_AUTH, 0, "directory %s: others may write to it: `chmod go-w' it, or "
				"choose another by LIFEBOAT_HOME", real);
	memcpy(path, real, sizeof(real));
	return ERR_OK;
}

/* ---- locks ---- */

enum lock_result { LOCK_GOT, LOCK_HELD, LOCK_VANISHED, LOCK_FAILED };

/* Lock name/lock below run_dir.  create: make what is missing. */
static enum lock_result try_lock(int dir_fd, bool create, int *lock_fd, enum err *error)
{
	struct stat by_fd, by_name;
	int fd = openat(dir_fd, LOCK, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);

	if (fd < 0) {
		if (errno == ENOENT)
			return LOCK_VANISHED;
		*error = err_sys(errno, "open the lock");
		return LOCK_FAILED;
	}
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	if (fcntl(fd, F_OFD_SETLK, &l) != 0) {
		bool held = errno == EAGAIN || errno == EACCES;

		if (!held)
			*error = err_sys(errno, "lock");
		close(fd);
		return held ? LOCK_HELD : LOCK_FAILED;
	}
	if (fstat(fd, &by_fd) != 0 || fstatat(dir_fd, LOCK, &by_name, 0) != 0 ||
	    by_fd.st_ino != by_name.st_ino || by_fd.st_dev != by_name.st_dev) {
		close(fd);
		return LOCK_VANISHED;
	}
	*lock_fd = fd;
	return LOCK_GOT;
}

static int open_dir(const struct home *h, const char *name)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", h->run_dir, name) >= (int)sizeof(path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/* Everything in the directory, the lock last, then the directory. */
static void remove_dir(const struct home *h, const char *name, int dir_fd)
{
	char path[PATH_MAX];

	unlinkat(dir_fd, CONTROL, 0);
	unlinkat(dir_fd, LOCK, 0);
	if (snprintf(path, sizeof(path), "%s/%s", h->run_dir, name) < (int)sizeof(path))
		rmdir(path);
}

static void clean_one(const struct home *h, const char *name)
{
	char path[PATH_MAX];
	int lock_fd = -1, dir_fd = open_dir(h, name);
	enum err ignored;

	if (dir_fd < 0)
		return;
	enum lock_result r = try_lock(dir_fd, false, &lock_fd, &ignored);
	if (r == LOCK_GOT)
		remove_dir(h, name, dir_fd);
	else if (r == LOCK_VANISHED && snprintf(path, sizeof(path), "%s/%s", h->run_dir, name) <
					       (int)sizeof(path))
		/* Left over from a crash between mkdir and lock, or about to be
		 * claimed: then the claimant starts over.  Not a file in it may be
		 * touched without the lock. */
		rmdir(path);
	if (lock_fd >= 0)
		close(lock_fd);
	close(dir_fd);
}

enum err home_tidy(const struct home *h)
{
	char **names = NULL;
	size_t count = 0;
	enum err e = fs_list(AT_FDCWD, h->run_dir, &names, &count);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; i < count; i++)
		if (config_name_ok(names[i]))
			clean_one(h, names[i]);
	fs_names_free(names, count);
	return ERR_OK;
}

enum err home_open(struct home *h)
{
	enum err e;

	if ((e = choose(h)) != ERR_OK || (e = settle(h->run_dir)) != ERR_OK ||
	    (e = settle(h->state_dir)) != ERR_OK)
		return e;
	return home_tidy(h);
}

/* ---- claims ---- */

static enum lock_result claim_once(const struct home *h, const char *name, struct home_claim *out,
				   enum err *error)
{
	char path[PATH_MAX];

	*error = join(path, h->run_dir, name);
	if (*error != ERR_OK)
		return LOCK_FAILED;
	if (mkdir(path, 0700) != 0 && errno != EEXIST) {
		*error = err_sys(errno, "make the directory %s", path);
		return LOCK_FAILED;
	}
	int dir_fd = open_dir(h, name);
	if (dir_fd < 0) {
		if (errno == ENOENT)
			return LOCK_VANISHED;
		*error = err_sys(errno, "open the directory %s", path);
		return LOCK_FAILED;
	}
	enum lock_result r = try_lock(dir_fd, true, &out->lock_fd, error);
	if (r != LOCK_GOT) {
		close(dir_fd);
		return r;
	}
	unlinkat(dir_fd, CONTROL, 0); /* of one that died */
	out->dir_fd = dir_fd;
	return LOCK_GOT;
}

enum err home_claim(const struct home *h, const char *name, struct home_claim *out)
{
	uint64_t until = clock_mono_ns() + CLAIM_PATIENCE_NS;
	enum err e = ERR_OK;

	*out = (struct home_claim)HOME_CLAIM_NONE;
	for (;;) {
		enum lock_result r = claim_once(h, name, out, &e);

		if (r == LOCK_GOT)
			return ERR_OK;
		if (r == LOCK_FAILED)
			return err_context(e, "machine %s", name);
		/* One that is reachable runs: there is nothing to wait for. */
		struct remote *there = NULL;
		if (r == LOCK_HELD && home_connect(h, name, CLAIM_PATIENCE_NS, &there) == ERR_OK)
			until = 0;
		remote_close(there);
		if (clock_mono_ns() >= until)
			return err_note(ERR_BUSY, 0,
					"machine %s: it runs already: choose another --name, or end it "
					"by `lifeboat stop %s'", name, name);
		cli_sleep(10 * NS_PER_MS);
	}
}

enum err home_claim_any(const struct home *h, char *name, struct home_claim *out)
{
	for (unsigned i = 1; i < 10000; i++) {
		enum err e;

		snprintf(name, CONFIG_NAME_BYTES, "vm-%u", i);
		*out = (struct home_claim)HOME_CLAIM_NONE;
		enum lock_result r = claim_once(h, name, out, &e);
		if (r == LOCK_GOT)
			return ERR_OK;
		if (r == LOCK_FAILED)
			return e;
	}
	return err_note(ERR_BUSY, 0, "all names from vm-1 to vm-9999 are taken: choose one by --name");
}

void home_claim_drop(struct home_claim *c)
{
	fs_auto_close(&c->dir_fd);
	fs_auto_close(&c->lock_fd);
	*c = (struct home_claim)HOME_CLAIM_NONE;
}

void home_claim_remove(const struct home *h, const char *name, struct home_claim *c)
{
	if (c->dir_fd >= 0)
		remove_dir(h, name, c->dir_fd);
	home_claim_drop(c);
}

enum err home_listen(const struct home_claim *c, const char *name, int *out)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_sys(errno, "machine %s: make its control socket", name);
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/" CONTROL, c->dir_fd);
	mode_t mask = umask(0177);
	int r = bind(fd, (struct sockaddr *)&a, sizeof(a));
	int sys = errno;
	umask(mask);
	if (r != 0)
		return err_sys(sys, "machine %s: bind its control socket", name);
	if (listen(fd, 16) != 0)
		return err_sys(errno, "machine %s: listen on its control socket", name);
	*out = fd;
	fd = -1;
	return ERR_OK;
}

/* ---- running machines ---- */

enum err home_missing(const char *name)
{
	if (config_name_ok(name))
		return err_note(ERR_NOTFOUND, 0, "machine %s: it does not run: see `lifeboat ps'",
				name);
	return err_note(ERR_USAGE, 0,
			"machine \"%s\": that is no name: lower-case letters, digits and dashes, not a "
			"dash first, at most 63", name);
}

enum err home_connect(const struct home *h, const char *name, uint64_t timeout_ns,
		      struct remote **out)
{
	const struct remote_wait wait = {.timeout_ns = timeout_ns, .cancel_fd = cli_signal_fd()};
	char path[64];

	*out = NULL;
	if (!config_name_ok(name))
		return home_missing(name);
	AUTO_FD int dir_fd = open_dir(h, name);
	if (dir_fd < 0)
		return errno == ENOENT ? home_missing(name) : err_sys(errno, "machine %s", name);
	snprintf(path, sizeof(path), "/proc/self/fd/%d/" CONTROL, dir_fd);
	enum err e = remote_connect(path, &wait, out);
	if (e == ERR_NOTFOUND)
		return home_missing(name);
	return e == ERR_OK ? e : err_context(e, "machine %s", name);
}

/* The worker's pid comes from the lock file.  It is that worker's as long as the lock is
 * held and the file still says it: the monitor takes it out before it reaps, and a worker
 * without a monitor holds the lock itself.  So: first the descriptor, then the look. */
static bool kill_by_pid(const struct home *h, const char *name, enum err *e)
{
	int monitor, worker, still;

	home_pids(h, name, &monitor, &worker);
	if (worker <= 1)
		return false;
	AUTO_FD int fd = pidfd_open(worker, 0);
	int sys = fd < 0 ? errno : 0;
	home_pids(h, name, &monitor, &still);
	if (still != worker || !home_running(h, name))
		return false;
	if (fd >= 0 && pidfd_send_signal(fd, SIGKILL, NULL, 0) != 0)
		sys = errno;
	if (sys == EPERM)
		return false; /* it may still do it by itself */
	*e = sys == 0 || sys == ESRCH
		     ? ERR_OK
		     : err_sys(sys, "machine %s: end its worker %d", name, worker);
	return true;
}

enum err home_kill(const struct home *h, const char *name)
{
	struct remote *r = NULL;
	enum err e;

	if (kill_by_pid(h, name, &e))
		return e;
	e = home_connect(h, name, 0, &r);
	if (e == ERR_OK && (e = remote_kill(r)) == ERR_PEER && remote_gone(r))
		e = ERR_OK;
	remote_close(r);
	return e;
}

enum err home_end(const struct home *h, const char *name, struct remote *r)
{
	if (remote_kill(r) == ERR_OK || remote_gone(r))
		return ERR_OK;
	enum err e = home_kill(h, name);
	return e == ERR_NOTFOUND ? ERR_OK : e;
}

bool home_running(const struct home *h, const char *name)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	AUTO_FD int dir_fd = open_dir(h, name);

	if (dir_fd < 0)
		return false;
	AUTO_FD int fd = openat(dir_fd, LOCK, O_RDWR | O_CLOEXEC);
	return fd >= 0 && fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

void home_pids(const struct home *h, const char *name, int *monitor_pid, int *worker_pid)
{
	AUTO_BUF struct buf text = {0};
	AUTO_FD int dir_fd = open_dir(h, name);

	*monitor_pid = *worker_pid = 0;
	if (dir_fd < 0 || fs_read_file(dir_fd, LOCK, 256, &text) != ERR_OK)
		return;
	if (sscanf(buf_str(&text), "%d %d", monitor_pid, worker_pid) < 1)
		*monitor_pid = 0;
}

void home_note_pids(const struct home_claim *c, int monitor_pid, int worker_pid)
{
	char text[64];
	/* Of one length, so that an old one is overwritten in one write. */
	int n = snprintf(text, sizeof(text), "%10d\n%10d\n", monitor_pid, worker_pid);

	/* Only `kill' misses it, and falls back to asking the worker. */
	if (pwrite(c->lock_fd, text, (size_t)n, 0) != n && ftruncate(c->lock_fd, 0) != 0)
		return;
}

enum err home_wait_gone(const struct home *h, const char *name, uint64_t timeout_ns)
{
	uint64_t until = clock_mono_ns() + timeout_ns;

	while (home_running(h, name)) {
		enum err e = cli_check_interrupted();

		if (e != ERR_OK)
			return e;
		if (clock_mono_ns() >= until)
			return err_note(ERR_BUSY, 0, "machine %s: it has not ended", name);
		cli_sleep(2 * NS_PER_MS);
	}
	return ERR_OK;
}

enum err home_list(const struct home *h, char ***names, size_t *count)
{
	size_t kept = 0;
	enum err e = fs_list(AT_FDCWD, h->run_dir, names, count);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; i < *count; i++) {
		char *n = (*names)[i];

		if (config_name_ok(n) && home_running(h, n))
			(*names)[kept++] = n;
		else
			free(n);
	}
	*count = kept;
	return ERR_OK;
}
