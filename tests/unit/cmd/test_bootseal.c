/* SPDX-License-Identifier: Apache-2.0 */
/* seal: what the reader of a guest's disk can no longer do. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/bootfs/seal.h"
#include "tests/unit/cm.h"

#define MAX_BYTES 4096

static void opens(void) { (void)open("/etc/passwd", O_RDONLY | O_CLOEXEC); }
static void connects(void) { (void)socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); }
static void forks(void) { (void)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }
static void executes(void)
{
	char *const none[] = {NULL};

	(void)execve("/bin/true", none, none);
}
static void signals(void) { (void)kill(getppid(), 0); }
static void maps_code(void) { (void)mmap(NULL, 4096, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }
static void writes_much(void)
{
	int fd = 3; /* memory of the test */

	for (int i = 0; i < 3; i++)
		(void)!pwrite(fd, "x", 1, (off_t)i * MAX_BYTES);
}
static void reads_and_writes(void)
{
	char c;

	(void)!pwrite(3, "x", 1, 0);
	(void)!pread(3, &c, 1, 0);
}

/* The signal that ends a sealed process that does this; 0: it ends by itself. */
static int ending(void (*what)(void))
{
	int status, memory = memfd_create("test", 0);
	pid_t pid = fork();

	if (pid == 0) {
		if (dup2(memory, 3) != 3 || seal(MAX_BYTES) != ERR_OK)
			_exit(1);
		what();
		_exit(0);
	}
	close(memory);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status))
		assert_int_equal(WEXITSTATUS(status), 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_seal__takes_away_all_but_reading_and_answering(void **state)
{
	(void)state;
	assert_int_equal(ending(reads_and_writes), 0);
	assert_int_equal(ending(opens), SIGSYS);
	assert_int_equal(ending(connects), SIGSYS);
	assert_int_equal(ending(forks), SIGSYS);
	assert_int_equal(ending(executes), SIGSYS);
	assert_int_equal(ending(signals), SIGSYS);
	assert_int_equal(ending(maps_code), SIGSYS);
	assert_int_equal(ending(writes_much), SIGXFSZ);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seal__takes_away_all_but_reading_and_answering),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
