/* SPDX-License-Identifier: Apache-2.0 */
/* bootdisk: starts lifeboat-bootfs, waits for its answer, and believes only its form.
 * See bootdisk.h; the other side is cmd/bootfs/main.c. */
#include "cmd/lifeboat/bootdisk.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fs.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/locate.h"

#define FIRST_FD 3
#define FDS 4
#define ANSWER_MAX 16384u
#define PATIENCE_NS (300ull * 1000000000ull)
#define EXIT_NO_EXEC 126

/* ---- the process ---- */

/* In the child: only async-signal-safe calls. */
static _Noreturn void become_reader(const char *path, const char *how, const char *max, int null_fd,
				    const int fds[FDS])
{
	char name[] = "lifeboat-bootfs", options[] = "ASAN_OPTIONS=detect_leaks=0:abort_on_error=1";
	char arg1[8], arg2[24];
	char *const argv[] = {name, arg1, arg2, NULL}, *const env[] = {options, NULL};
	struct sigaction plain = {.sa_handler = SIG_DFL};
	sigset_t none;
	int high[FDS];

	(void)snprintf(arg1, sizeof(arg1), "%s", how);
	(void)snprintf(arg2, sizeof(arg2), "%s", max);
	for (int s = 1; s < NSIG; s++)
		(void)sigaction(s, &plain, NULL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	/* Out of the way first, so that no source is overwritten before its turn. */
	null_fd = fcntl(null_fd, F_DUPFD, 20);
	for (int i = 0; i < FDS; i++)
		high[i] = fcntl(fds[i], F_DUPFD, 20);
	for (int i = 0; i < FIRST_FD; i++)
		if (dup2(null_fd, i) != i)
			_exit(EXIT_NO_EXEC);
	for (int i = 0; i < FDS; i++)
		if (high[i] < 0 || dup2(high[i], FIRST_FD + i) != FIRST_FD + i)
			_exit(EXIT_NO_EXEC);
	if (close_range(FIRST_FD + FDS, ~0u, 0) == 0)
		(void)execve(path, argv, env);
	_exit(EXIT_NO_EXEC);
}

/* Until its end of the pipe is closed; no more than ANSWER_MAX. */
static enum err receive(int pipe, struct buf *answer)
{
	const uint64_t end = clock_mono_ns() + PATIENCE_NS;
	struct pollfd p[2] = {{.fd = pipe, .events = POLLIN}, {.fd = cli_signal_fd(), .events = POLLIN}};
	char piece[4096];
	size_t got = 1;
	enum err e = ERR_OK;

	while (e == ERR_OK && got > 0) {
		uint64_t now = clock_mono_ns();

		if (now >= end)
			return err_note(ERR_CORRUPT, 0, "its file system leads nowhere: reading it was "
					"given up");
		if (poll(p, 2, (int)((end - now) / 1000000) + 1) < 0 && errno != EINTR)
			return err_sys(errno, "wait for its reader");
		if (p[1].revents && (e = cli_check_interrupted()) != ERR_OK)
			return e;
		if (!p[0].revents)
			continue;
		e = fs_read_next(pipe, "answer of its reader", piece, sizeof(piece), &got);
		if (e == ERR_OK)
			buf_put(answer, piece, got);
		if (answer->len > ANSWER_MAX)
			return err_note(ERR_CORRUPT, 0, "its reader said too much");
	}
	return e == ERR_OK ? buf_check(answer) : e;
}

/* Its end; false: it did not end by itself. */
static bool reap(pid_t pid, bool kill_it, int *signal)
{
	int status = 0;

	if (kill_it)
		(void)kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	*signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The last of fds is the answer's other end; it is closed here, so that its end is seen. */
static enum err run_reader(int fds[FDS], int answer_fd, bool weak, uint64_t max_bytes, struct buf *answer)
{
	AUTO_FD int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	char path[PATH_MAX], max[24];
	int sig = 0;
	enum err e = locate_program("lifeboat-bootfs", "bootfs", NULL, path);

	if (e != ERR_OK)
		return e;
	(void)snprintf(max, sizeof(max), "%llu", (unsigned long long)max_bytes);
	pid_t pid = null_fd < 0 ? -1 : fork();
	if (pid < 0)
		return err_sys(errno, "start %s", path);
	if (pid == 0)
		become_reader(path, weak ? "weak" : "strict", max, null_fd, fds);
	fs_auto_close(&fds[FDS - 1]);
	e = receive(answer_fd, answer);
	bool ended = reap(pid, e != ERR_OK, &sig);
	if (e != ERR_OK || ended)
		return e;
	if (sig)
		return err_note(ERR_CORRUPT, 0, "its reader, which is shut in, was ended by signal %d "
				"(%s): is its file system damaged, or hostile?: name a kernel by "
				"--kernel", sig, strsignal(sig));
	return err_note(ERR_FAILED, 0, "%s did not do its work", path);
}

/* ---- the answer ---- */

static bool plain(const char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			return false;
	return true;
}

static enum err keep(char **to, const char *value)
{
	if (*to)
		return ERR_OK; /* the first counts */
	*to = strdup(value);
	return *to ? ERR_OK : err_note(ERR_NOMEM, 0, "keep an answer");
}

static enum err take_line(struct bootdisk *b, const char *word, const char *value, bool *ok,
			  enum err *failed, const char **why)
{
	if (strcmp(word, "kernel") == 0)
		return keep(&b->kernel, value);
	if (strcmp(word, "cmdline") == 0)
		return keep(&b->cmdline, value);
	if (strcmp(word, "from") == 0)
		return keep(&b->from, value);
	if (strcmp(word, "dirty") == 0)
		b->dirty = *value == '1';
	else if (strcmp(word, "ok") == 0)
		*ok = true;
	else if (strcmp(word, "error") == 0)
		*failed = err_from_name(value);
	else if (strcmp(word, "message") == 0)
		*why = value;
	return ERR_OK;
}

static enum err take_answer(struct bootdisk *b, char *text)
{
	enum err e = ERR_OK, failed = ERR_OK;
	const char *why = "its reader did not say why";
	char *rest = NULL;
	bool ok = false;

	for (char *line = strtok_r(text, "\n", &rest); line && e == ERR_OK;
	     line = strtok_r(NULL, "\n", &rest)) {
		char *equals = strchr(line, '=');

		if (!equals || !plain(line))
			return err_note(ERR_CORRUPT, 0, "its reader gave no proper answer");
		*equals = '\0';
		e = take_line(b, line, equals + 1, &ok, &failed, &why);
	}
	if (e == ERR_OK && failed != ERR_OK)
		return err_note(failed, 0, "%s", why);
	if (e == ERR_OK && (!ok || !b->kernel || !b->cmdline || !b->from))
		return err_note(ERR_CORRUPT, 0, "its reader gave no whole answer");
	return e;
}

static enum err open_memory(const char *name, int *fd)
{
	*fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return *fd >= 0 ? ERR_OK : err_sys(errno, "memory for its %s", name);
}

/* What the reader, which has ended, left there; an empty one is none. */
static enum err seal(int *fd, uint64_t max_bytes)
{
	struct stat st;

	if (fcntl(*fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0 ||
	    fstat(*fd, &st) != 0)
		return err_sys(errno, "seal its boot files");
	if ((uint64_t)st.st_size > max_bytes)
		return err_note(ERR_CORRUPT, 0, "its boot files are too large");
	if (st.st_size == 0)
		fs_auto_close(fd);
	return ERR_OK;
}

static enum err read_disk(int disk, uint64_t max_bytes, bool weak, struct bootdisk *b)
{
	AUTO_FD int again = -1, from = -1;
	AUTO_BUF struct buf answer = {0};
	char path[32];
	int pair[2];
	enum err e;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", disk);
	again = open(path, O_RDONLY | O_CLOEXEC); /* which cannot write, whoever has it */
	if (again < 0)
		return err_sys(errno, "open it once more");
	if ((e = open_memory("kernel", &b->kernel_fd)) != ERR_OK ||
	    (e = open_memory("initrd", &b->initrd_fd)) != ERR_OK)
		return e;
	if (pipe2(pair, O_CLOEXEC) != 0)
		return err_sys(errno, "start its reader");
	from = pair[0];
	int fds[FDS] = {again, b->kernel_fd, b->initrd_fd, pair[1]};
	e = run_reader(fds, from, weak, max_bytes, &answer);
	fs_auto_close(&fds[FDS - 1]);
	buf_put(&answer, "", 1); /* an end of the text */
	if (e == ERR_OK && (e = buf_check(&answer)) == ERR_OK &&
	    (e = take_answer(b, (char *)answer.data)) == ERR_OK &&
	    (e = seal(&b->kernel_fd, max_bytes)) == ERR_OK)
		e = seal(&b->initrd_fd, max_bytes);
	if (e == ERR_OK && b->kernel_fd < 0)
		return err_note(ERR_CORRUPT, 0, "its kernel is empty");
	return e;
}

enum err bootdisk_read(int disk, const char *what, uint64_t max_bytes, bool weak_sandbox,
		       struct bootdisk *out)
{
	enum err e;

	*out = (struct bootdisk){.kernel_fd = -1, .initrd_fd = -1};
	e = read_disk(disk, max_bytes, weak_sandbox, out);
	if (e == ERR_OK)
		return ERR_OK;
	bootdisk_fini(out);
	return err_context(e, "boot from %s", what);
}

void bootdisk_fini(struct bootdisk *b)
{
	fs_auto_close(&b->kernel_fd);
	fs_auto_close(&b->initrd_fd);
	free(b->kernel);
	free(b->cmdline);
	free(b->from);
	*b = (struct bootdisk){.kernel_fd = -1, .initrd_fd = -1};
}
