/* SPDX-License-Identifier: Apache-2.0 */
/* farmem: another process's memory, and nobody else's once that process has ended. */
#include "hv/farmem.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/cm.h"

#define BYTES (1u << 20)

static uint8_t *ram; /* private: each process has its own from the first write on */

static pid_t start_other(uint8_t fill)
{
	int ready[2];
	char c;

	assert_int_equal(pipe(ready), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		memset(ram, fill, BYTES);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void end(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void open_other(pid_t pid, struct farmem *m)
{
	assert_ok(farmem_open(pid, m));
	m->host_base = (uintptr_t)ram;
	m->bytes = BYTES;
}

static void test_farmem__reads_and_writes_another_process(void **state)
{
	pid_t pid = start_other(7);
	struct farmem m;
	uint8_t b[3] = {0};

	(void)state;
	open_other(pid, &m);
	assert_ok(farmem_read(&m, BYTES - 3, b, 3));
	assert_int_equal(b[2], 7);
	assert_ok(farmem_write(&m, 5, "x", 1));
	assert_ok(farmem_read(&m, 5, b, 1));
	assert_int_equal(b[0], 'x');
	assert_int_equal(ram[5], 0);
	assert_err(farmem_read(&m, BYTES - 2, b, 3), ERR_FAILED);
	end(pid);
	farmem_close(&m);
}

static void test_farmem__an_ended_process_is_told(void **state)
{
	pid_t pid = start_other(7);
	struct farmem m;
	uint8_t b;

	(void)state;
	open_other(pid, &m);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
	assert_err(farmem_read(&m, 0, &b, 1), ERR_PEER); /* not reaped yet */
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_err(farmem_read(&m, 0, &b, 1), ERR_PEER);
	assert_err(farmem_write(&m, 0, &b, 1), ERR_PEER);
	farmem_close(&m);
	assert_err(farmem_open(pid, &m), ERR_PEER);
}

/* What a number given anew looks like: it is another living process's. */
static void test_farmem__who_has_the_number_later_is_left_alone(void **state)
{
	pid_t pid = start_other(7), heir = start_other(9);
	struct farmem m, its;
	uint8_t b = 1;

	(void)state;
	open_other(pid, &m);
	open_other(heir, &its);
	end(pid);
	m.pid = heir;
	assert_err(farmem_write(&m, 0, &b, 1), ERR_PEER);
	assert_err(farmem_read(&m, 0, &b, 1), ERR_PEER);
	assert_ok(farmem_read(&its, 0, &b, 1));
	assert_int_equal(b, 9);
	end(heir);
	farmem_close(&m);
	farmem_close(&its);
}

static int map_ram(void **state)
{
	(void)state;
	ram = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return ram == MAP_FAILED;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_farmem__reads_and_writes_another_process),
		cmocka_unit_test(test_farmem__an_ended_process_is_told),
		cmocka_unit_test(test_farmem__who_has_the_number_later_is_left_alone),
	};

	return cmocka_run_group_tests(tests, map_ram, NULL);
}
