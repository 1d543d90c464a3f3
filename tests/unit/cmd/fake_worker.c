/* SPDX-License-Identifier: Apache-2.0 */
/* fake_worker: see fake_worker.h. */
#include "tests/unit/cmd/fake_worker.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/worker/control.h"
#include "cmd/worker/steward.h"
#include "tests/unit/cm.h"

struct process {
	struct loop *loop;
	struct control *control;
	int status;
};

static void on_notify(void *arg, const char *event, const char *text)
{
	struct process *p = arg;

	if (p->control)
		control_event(p->control, event, text);
}

static void on_finish(void *arg, int status)
{
	struct process *p = arg;

	p->status = status;
	loop_stop(p->loop);
}

static _Noreturn void worker(const char *name, int listen_fd, int first_fd)
{
	struct process p = {.status = 99};
	struct vm_config config;
	struct steward *m;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)signal(SIGPIPE, SIG_IGN);
	config_init(&config);
	(void)snprintf(config.name, sizeof(config.name), "%s", name);
	config.memory_bytes = FAKE_MEMORY_BYTES;
	if (loop_create(&p.loop) != ERR_OK)
		_exit(98);
	int kernel_fd = memfd_create("kernel", 0);
	if (kernel_fd < 0 || write(kernel_fd, "not really a kernel", 19) != 19)
		_exit(98);
	struct steward_parts parts = {
		.loop = p.loop, .config = &config, .kvm_fd = -1, .kernel_fd = kernel_fd,
		.initrd_fd = -1, .console_fd = {-1, -1}, .notify = on_notify, .finish = on_finish,
		.arg = &p};
	if (steward_create(&parts, &m) != ERR_OK ||
	    control_create(p.loop, listen_fd, first_fd, m, on_finish, &p, &p.control) != ERR_OK ||
	    loop_run(p.loop) != ERR_OK)
		_exit(98);
	control_destroy(p.control);
	steward_destroy(m);
	loop_destroy(p.loop);
	config_fini(&config);
	_exit(p.status);
}

void fake_worker_start(struct fake_worker *w, const char *name)
{
	static unsigned serial;
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int pair[2], listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(w->path, sizeof(w->path), "/tmp/lifeboat-test-%d-%u", (int)getpid(), serial++);
	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", w->path);
	(void)unlink(w->path);
	assert_int_equal(bind(listen_fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(listen_fd, 64), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	w->pid = fork();
	assert_true(w->pid >= 0);
	if (w->pid == 0) {
		close(pair[0]);
		worker(name, listen_fd, pair[1]);
	}
	close(listen_fd);
	close(pair[1]);
	assert_ok(remote_adopt(pair[0], NULL, &w->remote));
	assert_int_equal(remote_pid(w->remote), w->pid);
}

int fake_worker_wait(struct fake_worker *w)
{
	int status;

	assert_int_equal(waitpid(w->pid, &status, 0), w->pid);
	w->pid = -1;
	return status;
}

void fake_worker_stop(struct fake_worker *w)
{
	remote_close(w->remote);
	w->remote = NULL;
	if (w->pid > 0) {
		(void)kill(w->pid, SIGKILL);
		(void)fake_worker_wait(w);
	}
	(void)unlink(w->path);
}

uint64_t fake_worker_count(const struct remote *r)
{
	uint8_t le[8];

	assert_ok(remote_read(r, 0, le, sizeof(le)));
	return le64_get(le);
}

int fake_worker_connect(const struct fake_worker *w)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", w->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}
