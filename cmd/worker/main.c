/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat-worker: one machine, in a process that can do nothing else.
 *
 * Started by lifeboat (cmd/lifeboat/spawn.c), never by a person.  Descriptor 3 is a
 * socket to the keeper.  Its first line brings the configuration and every other
 * descriptor that the machine will ever have:
 *
 *   {"protocol": 1, "config": {...}, "fds": ["kvm", "listen", ...], "weak_sandbox": false,
 *    "disks_from_image": false}
 *
 * and is answered when the machine exists and the sandbox is closed:
 *
 *   {"ok": true, "missing": ""}   or   {"ok": false, "error": "...", "message": "..."}
 *
 * From then on descriptor 3 is an ordinary control connection (docs/CONTROL.md).
 *
 * Exit status: 0 the machine ended by its own wish or on request; 7 it crashed; 1
 * it never came to be.  SIGSYS: it broke its sandbox. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/worker/control.h"
#include "cmd/worker/journal.h"
#include "cmd/worker/steward.h"
#include "cmd/worker/sandbox.h"
#include "hv/config.h"
#include "hv/fdpack.h"
#include "hv/line.h"
#include "hv/remote.h"

#define SETUP_FD 3
#define SETUP_TIMEOUT_S 30
#define EXIT_NEVER_WAS 1

enum setup_name { FD_KVM, FD_LISTEN, FD_KERNEL, FD_INITRD, FD_CONSOLE0, FD_CONSOLE1, FD_LOCK,
		  FD_DISKS, FD_COUNT };
static const char *const setup_names[FD_COUNT] = {"kvm",      "listen",	  "kernel", "initrd",
						  "console0", "console1", "lock",
						  "disks"};

struct worker {
	struct line_io setup;
	struct vm_config config;
	int fds[FD_COUNT];
	bool weak_sandbox, disks_from_image;
	struct vm_disk disks[CONFIG_MAX_DISKS];
	struct loop *loop;
	struct steward *steward;
	struct control *control;
	int status;
};

/* ---- what the machine and the control tell us ---- */

static void on_notify(void *arg, const char *event, const char *text)
{
	static struct log_limit limit = LOG_LIMIT(64, 10000); /* a guest may reset for ever */
	struct worker *w = arg;

	log_limited(&limit, LOG_INFO, "machine event=%s", event);
	if (w->control)
		control_event(w->control, event, text);
}

static void on_finish(void *arg, int status)
{
	struct worker *w = arg;

	w->status = status;
	loop_stop(w->loop);
}

/* ---- setup ---- */

static enum err name_fds(struct worker *w, const json_t *names)
{
	size_t i;
	const json_t *name;

	json_array_foreach(names, i, name) {
		const char *text = json_string_value(name);
		int known = FD_COUNT, fd = line_take_fd(&w->setup);

		for (int k = 0; k < FD_COUNT && text; k++)
			if (strcmp(text, setup_names[k]) == 0 && w->fds[k] < 0)
				known = k;
		if (known == FD_COUNT || fd < 0) {
			if (fd >= 0)
				close(fd);
			return err_note(ERR_USAGE, 0, "worker: descriptor \"%.20s\" is unknown, twice "
					"there, or missing", text ? text : "");
		}
		w->fds[known] = fd;
	}
	if (w->fds[FD_KVM] < 0 || w->setup.fd_count > 0)
		return err_note(ERR_USAGE, 0, "worker: without /dev/kvm, or with unnamed descriptors");
	return ERR_OK;
}

/* In the order of the configuration; a disk that bypasses the cache has two. */
static enum err unpack_disks(struct worker *w)
{
	int fds[2 * CONFIG_MAX_DISKS];
	unsigned count = 0, at = 0;
	enum err e;

	for (uint32_t i = 0; i < w->config.disk_count; i++)
		count += w->config.disks[i].cache == CONFIG_CACHE_DIRECT ? 2 : 1;
	if (count == 0)
		return ERR_OK;
	if (w->fds[FD_DISKS] < 0)
		return err_note(ERR_USAGE, 0, "worker: was given no disks");
	e = fdpack_open(w->fds[FD_DISKS], fds, count);
	w->fds[FD_DISKS] = -1;
	for (uint32_t i = 0; i < w->config.disk_count && e == ERR_OK; i++) {
		bool direct = w->config.disks[i].cache == CONFIG_CACHE_DIRECT;

		w->disks[i].fd = fds[at++];
		w->disks[i].direct_fd = direct ? fds[at++] : -1;
	}
	return e;
}

static enum err parse_setup(struct worker *w, const json_t *setup)
{
	const json_t *config = json_object_get(setup, "config");

	if (json_integer_value(json_object_get(setup, "protocol")) != REMOTE_PROTOCOL)
		return err_note(ERR_VERSION, 0, "worker: made for another lifeboat: install both of "
				"the same version");
	w->weak_sandbox = json_is_true(json_object_get(setup, "weak_sandbox"));
	w->disks_from_image = json_is_true(json_object_get(setup, "disks_from_image"));
	enum err e = name_fds(w, json_object_get(setup, "fds"));
	if (e != ERR_OK)
		return e;
	char *text = json_is_object(config) ? json_dumps(config, JSON_COMPACT) : NULL;
	if (!text)
		return err_note(ERR_USAGE, 0, "worker: was given no configuration");
	e = config_from_json(text, strlen(text), &w->config);
	free(text);
	if (e == ERR_OK)
		e = config_check(&w->config);
	return e == ERR_OK ? unpack_disks(w) : e;
}

static enum err receive_setup(struct worker *w)
{
	const struct timeval patience = {.tv_sec = SETUP_TIMEOUT_S};
	const char *text;
	size_t len;
	bool more = true;
	enum err e = line_init(&w->setup, SETUP_FD, false);

	if (e == ERR_OK && setsockopt(SETUP_FD, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)))
		return err_sys(errno, "worker: descriptor 3 (lifeboat starts it, not a person)");
	while (e == ERR_OK && !(text = line_next(&w->setup, &len))) {
		e = line_receive(&w->setup, &more);
		if (e == ERR_OK && !more)
			e = err_note(ERR_PEER, 0, "worker: no setup within %d s", SETUP_TIMEOUT_S);
	}
	if (e != ERR_OK)
		return e;
	json_t *setup = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	e = parse_setup(w, setup);
	json_decref(setup);
	return e;
}

/* ok: an answer without error. */
static enum err answer(int fd, enum err result, const char *missing)
{
	json_t *o = result == ERR_OK
		? json_pack("{s:b, s:s}", "ok", 1, "missing", missing)
		: json_pack("{s:b, s:s, s:s}", "ok", 0, "error", err_name(result), "message",
			    err_text());
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	size_t sent;

	json_decref(o);
	if (!text)
		return err_note(ERR_NOMEM, 0, "worker: out of memory");
	size_t len = strlen(text);
	text[len] = '\n';
	enum err e = line_send(fd, text, len + 1, NULL, 0, &sent);
	free(text);
	return e;
}

/* ---- life ---- */

static enum err create_machine(struct worker *w)
{
	const struct steward_parts parts = {
		.loop = w->loop, .config = &w->config, .kvm_fd = w->fds[FD_KVM],
		.kernel_fd = w->fds[FD_KERNEL], .initrd_fd = w->fds[FD_INITRD],
		.console_fd = {w->fds[FD_CONSOLE0], w->fds[FD_CONSOLE1]},
		.disks = w->disks, .disks_from_image = w->disks_from_image,
		.notify = on_notify, .finish = on_finish, .arg = w,
	};

	return steward_create(&parts, &w->steward);
}

/* Everything that will ever be created is created here; then the sandbox closes. */
static enum err build(struct worker *w, struct buf *missing)
{
	int first = w->setup.fd;
	enum err e = sandbox_enter(w->weak_sandbox, missing);

	if (e == ERR_OK)
		e = journal_start();
	if (e == ERR_OK)
		e = loop_create(&w->loop);
	if (e == ERR_OK)
		e = create_machine(w);
	if (e != ERR_OK)
		return e;
	w->setup.fd = -1;
	e = control_create(w->loop, w->fds[FD_LISTEN], first, w->steward, on_finish, w, &w->control);
	return e == ERR_OK ? sandbox_seal() : e;
}

static int live(struct worker *w, int answer_fd)
{
	AUTO_BUF struct buf missing = {0};
	enum err e = receive_setup(w);

	if (e == ERR_OK)
		e = build(w, &missing);
	if (e != ERR_OK) {
		log_event(LOG_ERROR, "machine not created reason=\"%s\"", err_text());
		(void)!answer(answer_fd, e, "");
		return EXIT_NEVER_WAS;
	}
	if (missing.len > 0)
		log_event(LOG_WARN, "weak sandbox missing=\"%s\"", buf_str(&missing));
	e = answer(answer_fd, ERR_OK, buf_str(&missing));
	close(answer_fd); /* or the keeper would never see an end */
	if (e == ERR_OK)
		e = loop_run(w->loop);
	if (e != ERR_OK) {
		log_event(LOG_ERROR, "worker ends reason=\"%s\"", err_text());
		return EXIT_NEVER_WAS;
	}
	return w->status;
}

int main(int argc, char **argv)
{
	struct worker w = {.setup = {.fd = -1}};

	if (argc == 2 && strcmp(argv[1], "--syscalls") == 0) {
		sandbox_print(stdout);
		return fflush(stdout) == 0 ? 0 : 1;
	}
	if (argc > 1 || fcntl(SETUP_FD, F_GETFD) < 0) {
		(void)fprintf(stderr, "lifeboat-worker: is started by lifeboat, with a socket as "
			      "descriptor %d; --syscalls lists what its sandbox permits\n", SETUP_FD);
		return 2;
	}
	for (int k = 0; k < FD_COUNT; k++)
		w.fds[k] = -1;
	/* Nothing that the keeper happened to have open. */
	(void)close_range(SETUP_FD + 1, ~0u, 0);
	(void)signal(SIGPIPE, SIG_IGN);
	/* Ctrl-C in the keeper's terminal is for the keeper. */
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	/* jansson's seed and the C library's time zone come from files: now, or never. */
	json_object_seed(0);
	tzset();
	log_set(journal_line, NULL, LOG_INFO);
	config_init(&w.config);
	int status = live(&w, fcntl(SETUP_FD, F_DUPFD_CLOEXEC, 0));
	control_destroy(w.control);
	steward_destroy(w.steward);
	loop_destroy(w.loop);
	journal_end();
	/* Not exit(): there is nothing to flush, and handlers of libraries may want
	 * what the sandbox forbids. */
	_exit(status);
}
