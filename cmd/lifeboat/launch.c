/* SPDX-License-Identifier: Apache-2.0 */
/* launch: a new machine, from the side of the verb that wants it.
 *
 * The monitor is forked first of all, from a process without threads, archives
 * or keys, and is told later what to start: so it can never hold more than it
 * is handed.  See channel.h for the words they exchange. */
#include "cmd/lifeboat/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/units.h"
#include "cmd/lifeboat/channel.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/disks.h"
#include "cmd/lifeboat/monitor.h"

#define END_PATIENCE_MS 10000
#define EXPLAIN_MS 1000
#define OVERCOMMIT 4u

struct launch {
	int channel;
};

/* Twice, so that the monitor is nobody's child and has no way to a terminal. */
static void fork_monitor(const struct home *home, int channel)
{
	if (setsid() < 0)
		_exit(1);
	pid_t pid = fork();
	if (pid == 0)
		monitor_main(home, channel);
	_exit(pid < 0 ? 1 : 0);
}

enum err launch_prepare(const struct home *home, struct launch **out)
{
	int pair[2], status = 0;
	struct launch *l = calloc(1, sizeof(*l));

	*out = NULL;
	if (!l)
		return err_note(ERR_NOMEM, 0, "start a machine");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
		int sys = errno;

		free(l);
		return err_sys(sys, "start a monitor");
	}
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		close(pair[0]);
		fork_monitor(home, pair[1]);
	}
	int sys = errno;
	close(pair[1]);
	l->channel = pair[0];
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (pid < 0 || status != 0) {
		close(pair[0]);
		free(l);
		return err_note(ERR_NOMEM, pid < 0 ? sys : 0, "start a monitor process");
	}
	*out = l;
	return ERR_OK;
}

/* ---- the order ---- */

struct order {
	json_t *names;
	int fds[CHANNEL_MAX_FDS];
	size_t count;
};

/* fd is taken; it is closed when the order has been sent. */
static void add_fd(struct order *o, const char *name, int fd)
{
	if (fd < 0)
		return;
	json_array_append_new(o->names, json_string(name));
	o->fds[o->count++] = fd;
}

static enum err open_pty(const char *name, unsigned port, int *master, int *slave)
{
	char path[128];
	struct termios t;

	*master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*master < 0 || grantpt(*master) != 0 || unlockpt(*master) != 0 ||
	    ptsname_r(*master, path, sizeof(path)) != 0)
		return err_sys(errno, "machine %s: open a pseudo-terminal", name);
	*slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*slave < 0 || tcgetattr(*slave, &t) != 0)
		return err_sys(errno, "machine %s: open %s", name, path);
	cfmakeraw(&t); /* the guest echoes, not this terminal */
	if (tcsetattr(*slave, TCSANOW, &t) != 0)
		return err_sys(errno, "machine %s: set up %s", name, path);
	cli_say("machine %s: serial line %u is at %s", name, port + 1, path);
	return ERR_OK;
}

static enum err add_console(struct order *o, const struct machine *m, unsigned port)
{
	int master = -1, slave = -1, file = -1;
	enum err e = ERR_OK;

	switch (m->config.console[port]) {
	case CONFIG_CONSOLE_PTY: e = open_pty(m->config.name, port, &master, &slave); break;
	case CONFIG_CONSOLE_FILE:
		if (m->console_file[port])
			e = fs_open(AT_FDCWD, m->console_file[port],
				    O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY, 0600, &file);
		break;
	case CONFIG_CONSOLE_STDIO:
	case CONFIG_CONSOLE_NONE: break;
	}
	add_fd(o, port ? "console1" : "console0", master >= 0 ? master : file);
	add_fd(o, port ? "pty1" : "pty0", slave);
	return e;
}

static enum err add_disks(struct order *o, struct machine *m)
{
	int pack = -1;
	enum err e;

	disks_identify(&m->config);
	e = disks_pack(m, &pack);
	add_fd(o, "disks", pack);
	return e;
}

static enum err send_order(struct launch *l, const struct home *home, const struct machine *m,
			   bool weak_sandbox, struct order *o)
{
	AUTO_BUF struct buf text = {0};
	enum err e = config_to_json(&m->config, &text);

	if (e != ERR_OK)
		return e;
	json_t *config = json_loadb((const char *)text.data, text.len, 0, NULL);
	json_t *d = json_pack("{s:o, s:s, s:s, s:b, s:b, s:O}", "config", config, "run_dir",
			      home->run_dir, "state_dir", home->state_dir, "weak_sandbox",
			      weak_sandbox ? 1 : 0, "disks_from_image", m->disks_from_image ? 1 : 0,
			      "fds", o->names);
	if (!d)
		return err_note(ERR_NOMEM, 0, "start a machine");
	e = channel_send(l->channel, d, o->fds, o->count);
	json_decref(d);
	return e;
}

/* The monitor's answer, as an error of ours. */
static enum err read_answer(struct launch *l)
{
	json_t *d = NULL;
	enum err e = channel_receive(l->channel, &d, NULL, NULL);

	if (e != ERR_OK)
		return e;
	const char *word = json_string_value(json_object_get(d, "error"));
	const char *message = json_string_value(json_object_get(d, "message"));
	const char *details = json_string_value(json_object_get(d, "details"));
	e = err_from_name(word ? word : "failed");
	if (e != ERR_OK && details && *details)
		cli_say("%s", details);
	if (e != ERR_OK)
		e = err_note(e, 0, "%s", message ? message : "the monitor did not say why");
	json_decref(d);
	return e;
}

/* Something to read, or a signal. */
static enum err await_answer(const struct launch *l)
{
	struct pollfd p[2] = {{.fd = l->channel, .events = POLLIN},
			      {.fd = cli_signal_fd(), .events = POLLIN}};

	while (poll(p, 2, -1) < 0 && errno == EINTR)
		;
	/* What is already here counts before a signal. */
	return p[0].revents ? ERR_OK : cli_check_interrupted();
}

static enum err claim(const struct home *home, struct vm_config *config, struct order *o)
{
	struct home_claim claim = HOME_CLAIM_NONE;
	int listening = -1;
	enum err e = config->name[0] ? home_claim(home, config->name, &claim)
				     : home_claim_any(home, config->name, &claim);

	if (e != ERR_OK)
		return e;
	if ((e = config_check(config)) == ERR_OK)
		e = home_listen(&claim, config->name, &listening);
	if (e != ERR_OK) {
		home_claim_remove(home, config->name, &claim);
		return e;
	}
	add_fd(o, "lock", claim.lock_fd);
	add_fd(o, "dir", claim.dir_fd);
	add_fd(o, "listen", listening);
	return ERR_OK;
}

enum err launch_start(struct launch *l, const struct home *home, struct machine *machine,
		      int kernel_fd, int initrd_fd, bool weak_sandbox, struct remote **r)
{
	struct order o = {.names = json_array()};
	bool sent = false;

	*r = NULL;
	add_fd(&o, "kernel", kernel_fd);
	add_fd(&o, "initrd", initrd_fd);
	size_t unclaimed = o.count;
	enum err e = claim(home, &machine->config, &o);
	if (e == ERR_OK && (e = add_console(&o, machine, 0)) == ERR_OK &&
	    (e = add_console(&o, machine, 1)) == ERR_OK && (e = add_disks(&o, machine)) == ERR_OK &&
	    (e = send_order(l, home, machine, weak_sandbox, &o)) == ERR_OK)
		sent = true;
	if (!sent && o.count > unclaimed) { /* the lock comes first after them */
		struct home_claim held = {.lock_fd = o.fds[unclaimed],
					  .dir_fd = o.fds[unclaimed + 1]};

		home_claim_remove(home, machine->config.name, &held);
		o.fds[unclaimed] = o.fds[unclaimed + 1] = -1;
	}
	for (size_t i = 0; i < o.count; i++)
		fs_auto_close(&o.fds[i]);
	json_decref(o.names);
	if (e == ERR_OK && (e = await_answer(l)) == ERR_OK && (e = read_answer(l)) == ERR_OK)
		e = home_connect(home, machine->config.name, 0, r);
	return e;
}

enum err launch_explain(struct launch *l, enum err e)
{
	struct pollfd p = {.fd = l->channel, .events = POLLIN};
	char note[ERR_NOTE_BYTES];

	if (e != ERR_PEER)
		return e;
	snprintf(note, sizeof(note), "%s", err_text());
	/* One that is merely silent has no end to tell of. */
	enum err why = poll(&p, 1, EXPLAIN_MS) > 0 ? read_answer(l) : ERR_OK;
	return why != ERR_OK ? why : err_note(e, 0, "%s", note);
}

enum err launch_keep(struct launch *l)
{
	json_t *d = json_pack("{s:b}", "keep", 1);
	enum err e = d ? channel_send(l->channel, d, NULL, 0)
		       : err_note(ERR_NOMEM, 0, "keep a machine");

	json_decref(d);
	return e;
}

enum err launch_wait_end(struct launch *l)
{
	enum err e = await_answer(l);

	return e == ERR_OK ? read_answer(l) : e;
}

void launch_await_end(struct launch *l)
{
	struct pollfd p = {.fd = l->channel, .events = POLLIN};

	while (poll(&p, 1, END_PATIENCE_MS) < 0 && errno == EINTR)
		;
}

void launch_close(struct launch *l)
{
	char last[64];

	if (!l)
		return;
	/* Without `keep' the monitor takes this for "away with it"; kept machines
	 * go on, and then nothing comes and there is nothing to wait for. */
	shutdown(l->channel, SHUT_WR);
	struct pollfd p = {.fd = l->channel, .events = POLLIN};
	while (poll(&p, 1, END_PATIENCE_MS) > 0 && recv(l->channel, last, sizeof(last), 0) > 0)
		;
	close(l->channel);
	free(l);
}

enum err launch_sandbox(const char *value, bool *weak)
{
	*weak = strcmp(value, "weak") == 0;
	if (*weak || strcmp(value, "strict") == 0)
		return ERR_OK;
	return err_note(ERR_USAGE, 0, "\"%s\" is neither strict nor weak", value);
}

/* Memory that is not touched costs nothing, so more than there is can be promised,
 * but not so much that it can only be a mistake. */
static enum err check_memory(uint64_t bytes)
{
	char asked[UNITS_TEXT_BYTES], have[UNITS_TEXT_BYTES];
	struct sysinfo host;

	if (sysinfo(&host) != 0)
		return err_sys(errno, "memory of this host");
	uint64_t total = ((uint64_t)host.totalram + host.totalswap) * host.mem_unit;
	if (bytes / OVERCOMMIT <= total)
		return ERR_OK;
	return err_note(ERR_NOMEM, 0, "memory: %s is more than %u times what this host has (%s)",
			units_format_size(bytes, asked), OVERCOMMIT, units_format_size(total, have));
}

enum err launch_check(const struct machine *m)
{
	struct vm_config named = m->config; /* borrows the command line */

	if (!named.name[0])
		snprintf(named.name, sizeof(named.name), "vm-1");
	enum err e = config_check(&named);
	return e == ERR_OK ? check_memory(named.memory_bytes) : e;
}

/* ---- boot files ---- */

static enum err copy_sealed(const char *what, const char *path, int from, uint64_t bytes, int *out)
{
	AUTO_FD int fd = memfd_create(what, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return err_sys(errno, "%s %s: copy it", what, path);
	for (uint64_t done = 0; done < bytes;) {
		ssize_t n = sendfile(fd, from, NULL, bytes - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(n < 0 ? errno : EIO, "%s %s: copy it", what, path);
		done += (uint64_t)n;
	}
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		return err_sys(errno, "%s %s: seal the copy", what, path);
	*out = fd;
	fd = -1;
	return ERR_OK;
}

enum err launch_boot_file(const char *what, const char *path, uint64_t max_bytes, int *out)
{
	char have[UNITS_TEXT_BYTES], room[UNITS_TEXT_BYTES];
	AUTO_FD int fd = -1;
	struct stat st;
	/* O_NONBLOCK: a named pipe without a writer must not hang us. */
	enum err e = fs_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0, &fd);

	if (e != ERR_OK)
		return err_context(e, "%s", what);
	if (fstat(fd, &st) != 0)
		return err_sys(errno, "%s %s", what, path);
	if (!S_ISREG(st.st_mode))
		return err_note(ERR_USAGE, 0, "%s %s: it is not a regular file", what, path);
	if (st.st_size == 0)
		return err_note(ERR_USAGE, 0, "%s %s: it is empty", what, path);
	if ((uint64_t)st.st_size > max_bytes)
		return err_note(ERR_USAGE, 0,
				"%s %s: its %s do not fit into the machine's memory of %s: give it "
				"more by --memory", what, path,
				units_format_size((uint64_t)st.st_size, have),
				units_format_size(max_bytes, room));
	return copy_sealed(what, path, fd, (uint64_t)st.st_size, out);
}
