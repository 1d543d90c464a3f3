/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox: what is impossible inside, asked from the kernel, and that the keeper
 * can still read a worker's memory from outside.
 *
 * Each case forks a child that enters the sandbox; as root and, where the test is
 * run by root, as an ordinary user too. */
#include "cmd/worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/thread.h"
#include "tests/unit/cm.h"

#define USER 12345u
#define EXIT_REFUSED 77 /* this host permits no namespaces to this user */

static int wait_for(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void become_user(void)
{
	if (setresgid(USER, USER, USER) != 0 || setresuid(USER, USER, USER) != 0)
		_exit(98);
	(void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* as after an exec */
}

static void enter(void)
{
	struct buf missing = {0};
	enum err e = sandbox_enter(false, &missing);

	if (e == ERR_UNSUPPORTED && geteuid() != 0)
		_exit(EXIT_REFUSED);
	if (e != ERR_OK || missing.len != 0) {
		(void)fprintf(stderr, "%s\n", err_text());
		_exit(99);
	}
}

/* ---- what the filter ends ---- */

static void try_open(void) { (void)open("/", O_RDONLY); }
static void try_openat2(void) { (void)syscall(SYS_openat2, -1, "/", NULL, 0); }
static void try_socket(void) { (void)socket(AF_UNIX, SOCK_STREAM, 0); }
static void try_socketpair(void) { int p[2]; (void)socketpair(AF_UNIX, SOCK_STREAM, 0, p); }
static void try_connect(void) { (void)connect(0, NULL, 0); }
static void try_fork(void) { if (fork() == 0) _exit(0); }
static void try_clone3(void) { (void)syscall(SYS_clone3, NULL, 0); }
static void try_exec(void) { (void)execl("/bin/true", "true", (char *)NULL); }
static void try_ptrace(void) { (void)syscall(SYS_ptrace, 0, 0, 0, 0); }
static void try_read_others(void) { (void)process_vm_readv(1, NULL, 0, NULL, 0, 0); }
static void try_kill(void) { (void)kill(getppid(), 0); }
static void try_kill_thread(void) { (void)syscall(SYS_tgkill, 1, 1, 0); }
static void try_mount(void) { (void)syscall(SYS_mount, 0, 0, 0, 0, 0); }
static void try_unshare(void) { (void)unshare(CLONE_NEWUSER); }
static void try_setuid(void) { (void)syscall(SYS_setuid, 0); }
static void try_prctl(void) { (void)prctl(PR_SET_NAME, "x"); }
static void try_bpf(void) { (void)syscall(SYS_bpf, 0, 0, 0); }
static void try_io_uring(void) { (void)syscall(SYS_io_uring_setup, 0, 0); }
static void try_userfaultfd(void) { (void)syscall(SYS_userfaultfd, 0); }
static void try_memfd(void) { (void)memfd_create("x", 0); }
static void try_dup(void) { (void)fcntl(0, F_DUPFD, 10); }
static void try_unlink(void) { (void)unlink("/x"); }
static void try_tiocsti(void) { char c = 'x'; (void)ioctl(0, TIOCSTI, &c); }
static void try_kvm_create(void) { (void)ioctl(0, KVM_CREATE_VM, 0); }
static void try_exec_map(void)
{
	(void)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
static void try_exec_protect(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	(void)mprotect(p, 4096, PROT_READ | PROT_EXEC);
}
static void try_map_file(void) { (void)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 0, 0); }

static const struct {
	const char *name;
	void (*try)(void);
} forbidden[] = {
	{"open", try_open}, {"openat2", try_openat2}, {"socket", try_socket},
	{"socketpair", try_socketpair}, {"connect", try_connect}, {"fork", try_fork},
	{"clone3", try_clone3}, {"exec", try_exec}, {"ptrace", try_ptrace},
	{"process_vm_readv", try_read_others}, {"kill", try_kill},
	{"tgkill another process", try_kill_thread}, {"mount", try_mount},
	{"unshare", try_unshare}, {"setuid", try_setuid}, {"prctl", try_prctl}, {"bpf", try_bpf},
	{"io_uring_setup", try_io_uring}, {"userfaultfd", try_userfaultfd},
	{"memfd_create", try_memfd}, {"fcntl F_DUPFD", try_dup}, {"unlink", try_unlink},
	{"ioctl TIOCSTI", try_tiocsti}, {"ioctl KVM_CREATE_VM", try_kvm_create},
	{"mmap PROT_EXEC", try_exec_map}, {"mprotect PROT_EXEC", try_exec_protect},
	{"mmap of a descriptor", try_map_file},
};

static void test_sandbox__forbidden_calls_end_the_process(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
		pid_t pid = fork();
		if (pid == 0) {
			enter();
			if (sandbox_seal() != ERR_OK)
				_exit(98);
			forbidden[i].try();
			_exit(0);
		}
		int status = wait_for(pid);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("%s: wait status %#x, not SIGSYS", forbidden[i].name,
				 (unsigned)status);
	}
}

static int gate[2];

static void forbidden_in_thread(void *arg)
{
	char c;

	(void)arg;
	if (read(gate[0], &c, 1) == 1)
		(void)open("/", O_RDONLY);
}

static void test_sandbox__threads_that_run_already_are_sealed_too(void **state)
{
	(void)state;
	pid_t pid = fork();
	if (pid == 0) {
		struct thread t;
		enter();
		if (pipe(gate) != 0 || thread_start(&t, "t", forbidden_in_thread, NULL) != ERR_OK ||
		    sandbox_seal() != ERR_OK || write(gate[1], "x", 1) != 1)
			_exit(98);
		thread_join(&t);
		_exit(0);
	}
	int status = wait_for(pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void test_sandbox__what_a_worker_needs_still_works(void **state)
{
	(void)state;
	pid_t pid = fork();
	if (pid == 0) {
		enter();
		if (sandbox_seal() != ERR_OK)
			_exit(98);
		for (size_t n = 1; n < 64u << 20; n *= 2) {
			char *p = malloc(n);
			if (!p)
				_exit(1);
			p[n - 1] = 1;
			free(p);
		}
		if (write(2, "", 0) != 0)
			_exit(2);
		(void)raise(SIGABRT);
		_exit(3);
	}
	int status = wait_for(pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT); /* an assert can speak */
}

#define ALLOCATORS 32u

static pthread_barrier_t together;

static void allocate_inside(void *arg)
{
	char *volatile p;

	(void)arg;
	pthread_barrier_wait(&together);
	p = malloc(1000);
	if (p)
		p[0] = 1;
	pthread_barrier_wait(&together);
	free(p);
}

/* As many threads as a machine may have vCPUs, all of which report a crash at once. */
static void test_sandbox__every_thread_may_allocate(void **state)
{
	(void)state;
	pid_t pid = fork();
	if (pid == 0) {
		static struct thread threads[ALLOCATORS];

		enter();
		pthread_barrier_init(&together, NULL, ALLOCATORS + 1);
		for (unsigned i = 0; i < ALLOCATORS; i++)
			if (thread_start(&threads[i], "vcpu", allocate_inside, NULL) != ERR_OK)
				_exit(97);
		if (sandbox_seal() != ERR_OK)
			_exit(98);
		pthread_barrier_wait(&together);
		pthread_barrier_wait(&together);
		for (unsigned i = 0; i < ALLOCATORS; i++)
			thread_join(&threads[i]);
		_exit(0);
	}
	assert_int_equal(wait_for(pid), 0);
}

/* ---- what the kernel says about a process inside ---- */

struct inside {
	pid_t pid;
	int to, from; /* pipes */
	char *secret; /* memory to be read from outside */
};

static void start_inside(struct inside *in, bool user)
{
	int to[2], from[2];
	char c;

	in->secret = strdup("guest memory");
	assert_int_equal(pipe(to), 0);
	assert_int_equal(pipe(from), 0);
	in->pid = fork();
	if (in->pid == 0) {
		if (user)
			become_user();
		enter();
		if (sandbox_seal() != ERR_OK || write(from[1], "r", 1) != 1)
			_exit(98);
		close(to[1]);
		(void)!read(to[0], &c, 1);
		_exit(0);
	}
	close(to[0]);
	close(from[1]);
	in->to = to[1];
	in->from = from[0];
	if (read(in->from, &c, 1) == 1)
		return;
	int status = wait_for(in->pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_REFUSED)
		skip();
	fail_msg("not sealed: wait status %#x", (unsigned)status);
}

static void stop_inside(struct inside *in)
{
	close(in->to);
	close(in->from);
	assert_int_equal(wait_for(in->pid), 0);
	free(in->secret);
}

static void proc_text(pid_t pid, const char *file, char *text, size_t size)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	ssize_t n = read(fd, text, size - 1);
	assert_true(n > 0);
	text[n] = '\0';
	close(fd);
}

static void assert_namespace_differs(pid_t pid, const char *name)
{
	char path[64], theirs[64] = "", ours[64] = "";

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, name);
	assert_true(readlink(path, theirs, sizeof(theirs) - 1) > 0);
	(void)snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	assert_true(readlink(path, ours, sizeof(ours) - 1) > 0);
	assert_string_not_equal(theirs, ours);
}

static void assert_nothing_is_left(pid_t pid)
{
	static const char *const namespaces[] = {"mnt", "net", "ipc", "uts", "cgroup"};
	char text[8192], path[64];

	proc_text(pid, "status", text, sizeof(text));
	assert_non_null(strstr(text, "NoNewPrivs:\t1"));
	assert_non_null(strstr(text, "Seccomp:\t2"));
	assert_non_null(strstr(text, "CapInh:\t0000000000000000"));
	assert_non_null(strstr(text, "CapPrm:\t0000000000000000"));
	assert_non_null(strstr(text, "CapEff:\t0000000000000000"));
	assert_non_null(strstr(text, "CapBnd:\t0000000000000000"));
	assert_null(strstr(text, "Uid:\t0"));
	assert_null(strstr(text, "Gid:\t0"));
	for (size_t i = 0; i < sizeof(namespaces) / sizeof(namespaces[0]); i++)
		assert_namespace_differs(pid, namespaces[i]);
	proc_text(pid, "limits", text, sizeof(text));
	assert_non_null(strstr(text, "Max core file size        1                    1 "));
	(void)snprintf(path, sizeof(path), "ls -A /proc/%d/root/ | grep -q .", (int)pid);
	assert_int_not_equal(system(path), 0); /* its root is empty */
	(void)snprintf(path, sizeof(path), "touch /proc/%d/root/x 2>&1 | grep -q Read-only", (int)pid);
	assert_int_equal(system(path), 0);
}

/* As another process of uid 0 or `user`, without any capability: a keeper. */
static int read_as(const struct inside *in, unsigned user)
{
	pid_t pid = fork();

	if (pid == 0) {
		char text[16] = "";
		struct iovec here = {text, 12}, there = {in->secret, 12};
		if (user != 0 && (setresgid(user, user, user) || setresuid(user, user, user)))
			_exit(98);
		if (process_vm_readv(in->pid, &here, 1, &there, 1, 0) != 12)
			_exit(1);
		_exit(strcmp(text, "guest memory") != 0);
	}
	return wait_for(pid);
}

static void test_sandbox__started_by_root_nothing_is_left(void **state)
{
	struct inside in;

	(void)state;
	if (geteuid() != 0)
		skip();
	start_inside(&in, false);
	assert_nothing_is_left(in.pid);
	assert_int_equal(read_as(&in, 0), 0);
	/* Neither a user nor "nobody" gets at the memory of root's machines. */
	assert_int_not_equal(read_as(&in, USER), 0);
	assert_int_not_equal(read_as(&in, 65534), 0);
	stop_inside(&in);
}

static void test_sandbox__started_by_a_user_nothing_is_left(void **state)
{
	struct inside in;

	(void)state;
	start_inside(&in, geteuid() == 0);
	if (geteuid() == 0) { /* /proc/PID/root wants privilege to look at */
		assert_nothing_is_left(in.pid);
		assert_namespace_differs(in.pid, "user");
		assert_int_equal(read_as(&in, USER), 0); /* its own keeper, no ancestor of it */
		assert_int_not_equal(read_as(&in, USER + 1), 0);
	} else {
		assert_int_equal(read_as(&in, 0), 0);
	}
	stop_inside(&in);
}

static void test_sandbox__weak_one_names_what_is_missing(void **state)
{
	(void)state;
	pid_t pid = fork();
	if (pid == 0) {
		struct buf missing = {0};
		enum err e;
		if (geteuid() == 0)
			become_user();
		/* No more namespaces for what comes below this one. */
		if (unshare(CLONE_NEWUSER) != 0)
			_exit(EXIT_REFUSED);
		int fd = open("/proc/sys/user/max_user_namespaces", O_WRONLY);
		if (fd < 0 || write(fd, "0", 1) != 1)
			_exit(EXIT_REFUSED);
		e = sandbox_enter(false, &missing);
		if (e != ERR_UNSUPPORTED || !strstr(err_text(), "--sandbox=weak"))
			_exit(1);
		if (sandbox_enter(true, &missing) != ERR_OK ||
		    !strstr(buf_str(&missing), "own namespaces"))
			_exit(2);
		if (sandbox_seal() != ERR_OK)
			_exit(3);
		(void)open("/", O_RDONLY);
		_exit(4);
	}
	int status = wait_for(pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_REFUSED)
		skip();
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

/* In the child, which is root among two ids. */
static _Noreturn void enter_with_few_ids(int unshared, int mapped)
{
	struct buf missing = {0};
	char c;

	if (unshare(CLONE_NEWUSER) != 0)
		_exit(EXIT_REFUSED);
	if (write(unshared, "u", 1) != 1 || read(mapped, &c, 1) != 1)
		_exit(1);
	if (setresgid(0, 0, 0) != 0 || setresuid(0, 0, 0) != 0)
		_exit(2);
	if (sandbox_enter(false, &missing) != ERR_OK) {
		(void)fprintf(stderr, "%s\n", err_text());
		_exit(3);
	}
	_exit(geteuid() == 65534 && getegid() == 65534 &&
			      strstr(buf_str(&missing), "user of its own")
		      ? 0
		      : 4);
}

static void test_sandbox__a_shared_identity_is_told(void **state)
{
	static const char map[] = "0 0 1\n65534 65534 1\n";
	int unshared[2], mapped[2];
	char c, path[64];

	(void)state;
	if (geteuid() != 0)
		skip(); /* only root may make such a map */
	assert_int_equal(pipe(unshared), 0);
	assert_int_equal(pipe(mapped), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(unshared[0]);
		close(mapped[1]);
		enter_with_few_ids(unshared[1], mapped[0]);
	}
	close(unshared[1]);
	close(mapped[0]);
	if (read(unshared[0], &c, 1) == 1) {
		for (unsigned i = 0; i < 2; i++) {
			(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid,
				       i ? "gid_map" : "uid_map");
			int fd = open(path, O_WRONLY);
			assert_int_equal(write(fd, map, sizeof(map) - 1), sizeof(map) - 1);
			close(fd);
		}
		assert_int_equal(write(mapped[1], "m", 1), 1);
	}
	close(unshared[0]);
	close(mapped[1]);
	int status = wait_for(pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_REFUSED)
		skip();
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sandbox__forbidden_calls_end_the_process),
		cmocka_unit_test(test_sandbox__threads_that_run_already_are_sealed_too),
		cmocka_unit_test(test_sandbox__what_a_worker_needs_still_works),
		cmocka_unit_test(test_sandbox__every_thread_may_allocate),
		cmocka_unit_test(test_sandbox__started_by_root_nothing_is_left),
		cmocka_unit_test(test_sandbox__started_by_a_user_nothing_is_left),
		cmocka_unit_test(test_sandbox__a_shared_identity_is_told),
		cmocka_unit_test(test_sandbox__weak_one_names_what_is_missing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
