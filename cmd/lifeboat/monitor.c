/* SPDX-License-Identifier: Apache-2.0 */
/* monitor: the process that keeps a worker's life.
 *
 * States: WAITING -[order]-> CREATED -[keep]-> KEPT -[worker's end]-> (exit)
 *         WAITING -[launcher gone]-> (what it had claimed removed, exit)
 *         CREATED -[launcher gone]-> (worker killed, exit)
 *         CREATED -[worker's end]-> (exit, once the launcher has said keep or gone)
 *
 * When the monitor itself is killed, the worker runs on: it has the lock too, so
 * that the name stays taken, and the next verb that finds the lock free tidies up.
 */
#include "cmd/lifeboat/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "cmd/lifeboat/channel.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/spawn.h"

#define LOG_KEEP_BYTES (1u << 20)
#define TEXT_BYTES 4096u
#define TIDY_TRIES 25u
#define TIDY_WAIT_US 20000u
#define LAUNCHER_MS 10000 /* a launcher has its next word ready sooner, or dies */

struct monitor {
	int channel; /* -1: the launcher is gone */
	bool kept, ran;
	struct home home;
	struct vm_config config;
	struct home_claim claim;
	struct spawn_fds fds;
	int pty[2]; /* kept open, so that the far end never sees a hang-up */
	struct remote *remote;
	pid_t worker;
	char ended[32]; /* last event that can end a machine */
	char text[TEXT_BYTES]; /* what it said: registers and instruction bytes */
};

/* ---- the log ---- */

static void write_log(void *arg, enum log_level level, const char *line)
{
	static const char *const words[] = {"debug", "info", "warn", "error"};
	const int *fd = arg;
	char time[21];

	clock_rfc3339(clock_real_ns(), time);
	if (dprintf(*fd, "%s %s %s\n", time, words[level], line) < 0)
		return; /* a full disk must not end a machine */
}

/* state_dir/NAME.log, appended to; one older file is kept beside it. */
static enum err open_log(struct monitor *m)
{
	char path[PATH_MAX + 80], old[PATH_MAX + 84];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s.log", m->home.state_dir, m->config.name);
	snprintf(old, sizeof(old), "%s.1", path);
	if (stat(path, &st) == 0 && st.st_size > LOG_KEEP_BYTES && rename(path, old) != 0)
		return err_sys(errno, "put the log %s aside", path);
	return fs_open(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0600, &m->fds.log);
}

/* ---- the order ---- */

static void place_fd(struct monitor *m, const char *what, int fd)
{
	const struct {
		const char *name;
		int *at;
	} places[] = {
		{"lock", &m->claim.lock_fd},	{"dir", &m->claim.dir_fd},
		{"listen", &m->fds.listen},	{"kernel", &m->fds.kernel},
		{"initrd", &m->fds.initrd},	{"console0", &m->fds.console[0]},
		{"console1", &m->fds.console[1]}, {"disks", &m->fds.disks},
		{"pty0", &m->pty[0]},
		{"pty1", &m->pty[1]},
	};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (strcmp(what, places[i].name) == 0 && *places[i].at < 0) {
			*places[i].at = fd;
			return;
		}
	close(fd);
}

static enum err read_order(struct monitor *m, const json_t *order, const int *fds, size_t count)
{
	const char *run_dir = json_string_value(json_object_get(order, "run_dir"));
	const char *state_dir = json_string_value(json_object_get(order, "state_dir"));
	const json_t *names = json_object_get(order, "fds");
	char *config = json_dumps(json_object_get(order, "config"), JSON_COMPACT);

	for (size_t i = 0; i < count; i++) {
		const char *name = json_string_value(json_array_get(names, i));

		place_fd(m, name ? name : "", fds[i]);
	}
	if (!config || !run_dir || !state_dir || m->claim.lock_fd < 0 || m->claim.dir_fd < 0) {
		free(config);
		return err_note(ERR_PEER, 0, "the launcher's order is incomplete");
	}
	snprintf(m->home.run_dir, sizeof(m->home.run_dir), "%s", run_dir);
	snprintf(m->home.state_dir, sizeof(m->home.state_dir), "%s", state_dir);
	m->fds.lock = m->claim.lock_fd;
	m->fds.weak_sandbox = json_is_true(json_object_get(order, "weak_sandbox"));
	m->fds.disks_from_image = json_is_true(json_object_get(order, "disks_from_image"));
	config_fini(&m->config);
	enum err e = config_from_json(config, strlen(config), &m->config);
	free(config);
	return e;
}

static void close_worker_fds(struct monitor *m)
{
	fs_auto_close(&m->fds.listen);
	fs_auto_close(&m->fds.kernel);
	fs_auto_close(&m->fds.initrd);
	fs_auto_close(&m->fds.disks);
	m->fds.disks = -1;
	fs_auto_close(&m->fds.console[0]);
	fs_auto_close(&m->fds.console[1]);
	m->fds.listen = m->fds.kernel = m->fds.initrd = -1;
	m->fds.console[0] = m->fds.console[1] = -1;
}

static enum err start_worker(struct monitor *m)
{
	enum err e = open_log(m);

	if (e != ERR_OK)
		return e;
	log_set(write_log, &m->fds.log, LOG_INFO);
	e = spawn_worker(&m->config, &m->fds, &m->remote, &m->worker);
	if (e != ERR_OK) {
		log_event(LOG_ERROR, "worker not started error=%s message=\"%s\"", err_name(e),
			  err_text());
		return e;
	}
	log_event(LOG_INFO, "worker started pid=%d monitor=%d", (int)m->worker, (int)getpid());
	home_note_pids(&m->claim, (int)getpid(), (int)m->worker);
	return ERR_OK;
}

static void answer(struct monitor *m, json_t *document)
{
	enum err e = ERR_OK;

	if (document && m->channel >= 0)
		e = channel_send(m->channel, document, NULL, 0);
	if (e != ERR_OK) /* the launcher is gone: poll will say so too */
		err_clear();
	json_decref(document);
}

/* A note of ours as JSON: guests' text in it need not be UTF-8. */
static json_t *note_json(const char *text)
{
	json_t *s = json_string(text);

	return s ? s : json_string("(text that is not UTF-8)");
}

static enum err take_order(struct monitor *m)
{
	json_t *order = NULL;
	int fds[CHANNEL_MAX_FDS];
	size_t count = CHANNEL_MAX_FDS;
	enum err e = channel_receive(m->channel, &order, fds, &count);

	if (e == ERR_OK)
		e = read_order(m, order, fds, count);
	json_decref(order);
	if (e == ERR_OK)
		e = start_worker(m);
	close_worker_fds(m);
	return e;
}

/* ---- the machine's life ---- */

static void note_event(struct monitor *m, struct remote_event *event)
{
	static const char *const ending[] = {"power-off", "reset", "triple-fault",
					     "internal-error"};
	static struct log_limit limit = LOG_LIMIT(64, 10000); /* a guest may reset for ever */

	log_limited(&limit, LOG_INFO, "event kind=%s%s%s%s", event->kind,
		    event->text && *event->text ? " text=\"" : "",
		    event->text && *event->text ? event->text : "",
		    event->text && *event->text ? "\"" : "");
	for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++)
		if (strcmp(event->kind, ending[i]) == 0) {
			snprintf(m->ended, sizeof(m->ended), "%s", event->kind);
			snprintf(m->text, sizeof(m->text), "%s", event->text ? event->text : "");
		}
	/* A machine that went on after a reset or a crash has not ended by it. */
	bool runs = strcmp(event->kind, "running") == 0;
	if (runs || strcmp(event->kind, "paused") == 0)
		m->ended[0] = m->text[0] = '\0';
	m->ran = m->ran || runs;
	free(event->text);
}

/* Everything that has arrived; false once the worker has closed the connection. */
static bool take_events(struct monitor *m)
{
	for (;;) {
		struct remote_event event = {0};
		enum err e = remote_next_event(m->remote, 0, &event);

		if (e != ERR_OK)
			return false;
		if (!event.kind[0]) {
			free(event.text);
			return true;
		}
		note_event(m, &event);
	}
}

/* The launcher said something, or is gone. */
static void take_word(struct monitor *m)
{
	json_t *word = NULL;
	enum err e = channel_receive(m->channel, &word, NULL, NULL);

	if (e == ERR_OK && json_is_true(json_object_get(word, "keep")))
		m->kept = true;
	json_decref(word);
	if (e == ERR_OK)
		return;
	err_clear();
	if (m->kept) {
		close(m->channel);
	} else if (m->worker > 0) {
		/* Left open: it closes with this process, which tells a launcher
		 * that waits that nothing is left. */
		log_event(LOG_WARN, "launcher gone before the machine was kept");
		kill(m->worker, SIGKILL);
	}
	m->channel = -1;
}

static void watch(struct monitor *m)
{
	for (;;) {
		struct pollfd p[2] = {{.fd = remote_fd(m->remote), .events = POLLIN},
				      {.fd = m->channel, .events = POLLIN}};

		if (!take_events(m))
			return;
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return;
		if (m->channel >= 0 && p[1].revents)
			take_word(m);
	}
}

/* ---- the end ---- */

struct end {
	const char *how;
	enum err error;
	char message[ERR_NOTE_BYTES];
};

/* What the wait status and the last event say together. */
static void judge(const struct monitor *m, enum err waited, struct end *end)
{
	const char *name = m->config.name;

	end->how = m->ended[0] ? m->ended : "killed";
	end->error = ERR_OK;
	end->message[0] = '\0';
	if (waited == ERR_GUEST || strcmp(end->how, "triple-fault") == 0 ||
	    strcmp(end->how, "internal-error") == 0) {
		end->error = ERR_GUEST;
		/* The first clause; all of it goes beside the sentence. */
		snprintf(end->message, sizeof(end->message), "machine %s: it crashed: %s%s%.*s", name,
			 m->ended[0] ? end->how : "see its log", m->text[0] ? ": " : "",
			 (int)strcspn(m->text, ";\n"), m->text);
	} else if (waited != ERR_OK) {
		end->how = "worker-failed";
		end->error = waited;
		snprintf(end->message, sizeof(end->message), "machine %s: %s", name, err_text());
	} else if (!m->ended[0]) { /* `lifeboat kill', or somebody's SIGKILL */
		end->error = ERR_FAILED;
		snprintf(end->message, sizeof(end->message), "machine %s: it was killed", name);
	}
}

static void record_end(const struct monitor *m, const struct end *end)
{
	char path[PATH_MAX + 80], time[21];

	clock_rfc3339(clock_real_ns(), time);
	snprintf(path, sizeof(path), "%s/%s.json", m->home.state_dir, m->config.name);
	json_t *d = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "name", m->config.name, "ended_at",
			      time, "ended", end->how, "error", err_name(end->error), "message",
			      note_json(end->message), "details", note_json(m->text));
	char *text = d ? json_dumps(d, JSON_INDENT(2)) : NULL;
	enum err e = text ? fs_write_file(AT_FDCWD, path, text, strlen(text), 0600) : ERR_NOMEM;

	log_event(end->error == ERR_OK ? LOG_INFO : LOG_WARN, "ended how=%s message=\"%s\"",
		  end->how, end->message);
	if (e != ERR_OK)
		log_event(LOG_WARN, "end not recorded error=%s", err_name(e));
	free(text);
	json_decref(d);
}

/* Reap the worker.  Until then its pid is its own, so `kill', which reads it from
 * the lock file, must not find it there afterwards. */
static enum err reap(struct monitor *m)
{
	siginfo_t info;
	int status = 0;

	while (waitid(P_PID, (id_t)m->worker, &info, WEXITED | WNOWAIT) != 0 && errno == EINTR)
		;
	home_note_pids(&m->claim, (int)getpid(), 0);
	while (waitpid(m->worker, &status, 0) < 0 && errno == EINTR)
		;
	m->worker = -1;
	/* Signals that only a person (or a host that goes down) sends are no failure of the
	 * worker's. */
	if (!m->ended[0] && WIFSIGNALED(status) &&
	    (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGTERM ||
	     WTERMSIG(status) == SIGQUIT))
		return ERR_OK;
	return spawn_status(status);
}

static void finish(struct monitor *m)
{
	struct end end;
	enum err waited = reap(m);

	judge(m, waited, &end);
	remote_close(m->remote);
	if (m->ran)
		record_end(m, &end);
	home_claim_remove(&m->home, m->config.name, &m->claim);
	answer(m, json_pack("{s:s, s:s, s:o, s:o}", "ended", end.how, "error", err_name(end.error),
			    "message", note_json(end.message), "details", note_json(m->text)));
	/* A machine can end before its launcher has said keep, and what is said to
	 * a closed socket would take our last packet with it. */
	struct pollfd p = {.fd = m->channel, .events = POLLIN};
	if (!m->kept && m->channel >= 0 && poll(&p, 1, LAUNCHER_MS) > 0)
		take_word(m);
}

/* No terminal, no signals of the launcher's. */
static void detach_process(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		close(null);
	}
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGTERM, SIG_DFL);
	prctl(PR_SET_NAME, "lifeboat-mon");
}

/* A launcher that died between the claim of a name and its order has left a directory that
 * nobody else knows of.  Its channel closes a moment before its lock: hence more than once. */
static void tidy_after_launcher(const struct monitor *m, const struct home *home)
{
	struct pollfd p = {.fd = m->channel};
	enum err e = ERR_OK;

	/* One that lives and only has no order has tidied up by itself. */
	if (poll(&p, 1, 0) <= 0 || !(p.revents & POLLHUP))
		return;
	for (unsigned i = 0; i < TIDY_TRIES && e == ERR_OK; i++) {
		e = home_tidy(home);
		(void)usleep(TIDY_WAIT_US);
	}
}

noreturn void monitor_main(const struct home *home, int fd)
{
	struct monitor m = {.channel = fd, .claim = HOME_CLAIM_NONE, .fds = SPAWN_FDS_NONE,
			    .pty = {-1, -1}, .worker = -1};

	config_init(&m.config);
	detach_process();
	enum err e = take_order(&m);
	json_t *reply = json_pack("{s:s, s:o, s:i}", "error", err_name(e), "message",
				  note_json(e == ERR_OK ? "" : err_text()), "worker_pid",
				  (int)m.worker);
	if (e != ERR_OK && m.claim.dir_fd >= 0)
		home_claim_remove(&m.home, m.config.name, &m.claim);
	else if (e != ERR_OK)
		tidy_after_launcher(&m, home);
	answer(&m, reply); /* after the last trace is gone */
	/* Only now: LIFEBOAT_WORKER may be a relative path. */
	if (e != ERR_OK || chdir("/") != 0)
		_exit(1);
	watch(&m);
	finish(&m);
	_exit(0);
}
