/* SPDX-License-Identifier: Apache-2.0 */
/* spawn: starts lifeboat-worker and talks to it until its machine exists.  See
 * spawn.h; the other side is cmd/worker/main.c.
 *
 * Between fork and exec only async-signal-safe calls are made, since this process
 * may have threads.  The child inherits four descriptors and no environment but
 * the sanitizers' options. */
#include "cmd/lifeboat/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "cmd/lifeboat/locate.h"
#include "hv/line.h"

#define SETUP_FD 3
#define SETUP_TIMEOUT_S 60
#define EXIT_NEVER_WAS 1
#define EXIT_NO_EXEC 126
#define EXIT_CRASHED 7

/* ---- what it needs ---- */

static enum err open_kvm(int *fd)
{
	*fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (*fd >= 0)
		return ERR_OK;
	if (errno == EACCES || errno == EPERM)
		return err_note(ERR_AUTH, 0, "/dev/kvm: permission denied: join the group kvm, or run "
				"as root");
	return err_note(ERR_UNSUPPORTED, errno, "/dev/kvm: this host has no KVM: load kvm-intel or "
			"kvm-amd, and switch virtualization on in the firmware");
}

/* ---- fork and exec ---- */

/* In the child: descriptors 0 to 3 as the worker wants them, then exec. */
static _Noreturn void become_worker(const char *path, int null_fd, int log_fd, int setup_fd)
{
	char name[] = "lifeboat-worker";
	char options[] = "ASAN_OPTIONS=symbolize=0:detect_leaks=0:abort_on_error=1";
	char *const argv[] = {name, NULL};
	char *const env[] = {options, NULL};
	struct sigaction plain = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		(void)sigaction(s, &plain, NULL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	/* Out of the way first, so that no source is overwritten before its turn. */
	null_fd = fcntl(null_fd, F_DUPFD, 10);
	setup_fd = fcntl(setup_fd, F_DUPFD, 10);
	log_fd = fcntl(log_fd, F_DUPFD, 10);
	if (null_fd >= 0 && setup_fd >= 0 && dup2(null_fd, 0) == 0 && dup2(null_fd, 1) == 1 &&
	    dup2(log_fd >= 0 ? log_fd : null_fd, 2) == 2 && dup2(setup_fd, SETUP_FD) == SETUP_FD &&
	    close_range(SETUP_FD + 1, ~0u, 0) == 0)
		(void)execve(path, argv, env);
	_exit(EXIT_NO_EXEC);
}

static enum err start(const char *path, int log_fd, int setup_fd, pid_t *pid)
{
	AUTO_FD int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null_fd < 0)
		return err_sys(errno, "/dev/null");
	*pid = fork();
	if (*pid < 0)
		return err_sys(errno, "start %s", path);
	if (*pid == 0)
		become_worker(path, null_fd, log_fd >= 0 ? log_fd : STDERR_FILENO, setup_fd);
	return ERR_OK;
}

/* ---- setup ---- */

static enum err setup_text(const struct vm_config *config, const struct spawn_fds *fds, json_t *names,
			   char **text)
{
	AUTO_BUF struct buf json = {0};
	enum err e = config_to_json(config, &json);

	*text = NULL;
	if (e != ERR_OK) {
		json_decref(names);
		return e;
	}
	json_t *o = json_pack("{s:i, s:o, s:o, s:b, s:b}", "protocol", REMOTE_PROTOCOL, "config",
			      json_loadb((const char *)json.data, json.len, 0, NULL), "fds", names,
			      "weak_sandbox", (int)fds->weak_sandbox, "disks_from_image",
			      (int)fds->disks_from_image);
	if (o)
		*text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	return *text ? ERR_OK : err_note(ERR_NOMEM, 0, "start the worker: out of memory");
}

static enum err send_setup(int fd, const struct vm_config *config, const struct spawn_fds *fds,
			   int kvm_fd)
{
	const struct {
		const char *name;
		int fd;
	} all[] = {
		{"kvm", kvm_fd}, {"listen", fds->listen}, {"kernel", fds->kernel},
		{"initrd", fds->initrd}, {"console0", fds->console[0]},
		{"console1", fds->console[1]}, {"lock", fds->lock}, {"disks", fds->disks},
	};
	int present[sizeof(all) / sizeof(all[0])];
	unsigned count = 0;
	json_t *names = json_array();
	char *text;
	size_t sent;

	_Static_assert(sizeof(all) / sizeof(all[0]) <= LINE_MAX_FDS, "fit one message");
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (all[i].fd < 0)
			continue;
		if (json_array_append_new(names, json_string(all[i].name)) != 0)
			break;
		present[count++] = all[i].fd;
	}
	enum err e = setup_text(config, fds, names, &text);
	if (e != ERR_OK)
		return e;
	size_t len = strlen(text);
	text[len] = '\n';
	e = line_send(fd, text, len + 1, present, count, &sent);
	free(text);
	return e;
}

static enum err parse_answer(const char *text, size_t len)
{
	json_t *o = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const char *word = json_string_value(json_object_get(o, "error"));
	const char *message = json_string_value(json_object_get(o, "message"));
	const char *missing = json_string_value(json_object_get(o, "missing"));
	enum err e = ERR_OK;

	if (!json_is_true(json_object_get(o, "ok")))
		e = err_note(err_from_name(word ? word : ""), 0, "%s",
			     message ? message : "worker: failed without saying why");
	else if (missing && *missing)
		log_event(LOG_WARN, "weak sandbox missing=\"%s\"", missing);
	json_decref(o);
	return e;
}

static enum err receive_answer(struct line_io *io)
{
	const struct timeval patience = {.tv_sec = SETUP_TIMEOUT_S}, forever = {.tv_sec = 0};
	const char *text;
	size_t len;
	bool more;
	enum err e;

	if (setsockopt(io->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0)
		return err_sys(errno, "start the worker");
	while (!(text = line_next(io, &len))) {
		e = line_receive(io, &more);
		if (e != ERR_OK)
			return e;
		if (!more)
			return err_note(ERR_PEER, 0, "worker: no answer within %d s", SETUP_TIMEOUT_S);
	}
	if (setsockopt(io->fd, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever)) != 0)
		return err_sys(errno, "start the worker");
	return parse_answer(text, len);
}

/* The worker broke off without an answer: its end says more than the socket. */
static enum err explain(pid_t pid, enum err e, bool *reaped)
{
	int status = 0;

	*reaped = false;
	if (e != ERR_PEER)
		return e;
	for (int i = 0; i < 100; i++) {
		pid_t got = waitpid(pid, &status, WNOHANG);
		if (got == pid) {
			*reaped = true;
			enum err end = spawn_status(status);
			return end == ERR_OK ? e : end;
		}
		if (got < 0)
			return e;
		(void)usleep(10000);
	}
	return e;
}

enum err spawn_worker(const struct vm_config *config, const struct spawn_fds *fds,
		      struct remote **out, pid_t *pid)
{
	/* A monitor has nobody who waits for it. */
	static const struct remote_wait patient = {.timeout_ns = 120 * NS_PER_SEC, .cancel_fd = -1};
	AUTO_FD int kvm_fd = -1;
	char path[PATH_MAX];
	int pair[2];
	bool reaped = false;
	enum err e = locate_program("lifeboat-worker", "worker", "LIFEBOAT_WORKER", path);

	if (e == ERR_OK)
		e = open_kvm(&kvm_fd);
	if (e != ERR_OK)
		return e;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return err_sys(errno, "start the worker");
	struct line_io io;
	e = line_init(&io, pair[0], false);
	if (e == ERR_OK)
		e = start(path, fds->log, pair[1], pid);
	close(pair[1]);
	if (e != ERR_OK) {
		line_fini(&io);
		return e;
	}
	e = send_setup(io.fd, config, fds, kvm_fd);
	if (e == ERR_OK)
		e = receive_answer(&io);
	if (e == ERR_OK) {
		int fd = io.fd;
		io.fd = -1;
		e = remote_adopt(fd, &patient, out);
	}
	line_fini(&io);
	if (e == ERR_OK)
		return ERR_OK;
	e = explain(*pid, e, &reaped);
	if (!reaped)
		spawn_kill(*pid);
	*pid = -1;
	return e;
}

/* ---- its end ---- */

enum err spawn_status(int status)
{
	if (WIFSIGNALED(status)) {
		int s = WTERMSIG(status);
		if (s == SIGSYS)
			return err_note(ERR_FAILED, 0, "worker: broke the rules of its sandbox and was "
					"ended: this is a bug or an attack from the guest; the kernel's "
					"log names the system call");
		if (s == SIGKILL)
			return err_note(ERR_FAILED, 0, "worker: was killed (SIGKILL): by somebody, or by "
					"the kernel for want of memory");
		return err_note(ERR_FAILED, 0, "worker: ended by signal %d (%s): this is a bug; the "
				"machine's log has more", s, strsignal(s));
	}
	switch (WEXITSTATUS(status)) {
	case 0:
		return ERR_OK;
	case EXIT_CRASHED:
		return err_note(ERR_GUEST, 0, "machine crashed: the events in its log say how");
	case EXIT_NO_EXEC:
		return err_note(ERR_FAILED, 0, "worker: could not be executed");
	case EXIT_NEVER_WAS:
		return err_note(ERR_FAILED, 0, "worker: gave up: the machine's log says why");
	default:
		return err_note(ERR_FAILED, 0, "worker: ended with status %d", WEXITSTATUS(status));
	}
}

enum err spawn_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys(errno, "wait for the worker");
	return spawn_status(status);
}

void spawn_kill(pid_t pid)
{
	if (pid <= 0)
		return;
	(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}
