/* SPDX-License-Identifier: Apache-2.0 */
/* remote: the client's end of the control protocol (docs/CONTROL.md), and guest
 * RAM seen from outside.  See remote.h.
 *
 * The worker is not trusted: a guest may have taken it over.  Its lines, events
 * and descriptors are bounded and checked; its pid comes from the kernel with its
 * messages, not from its words; it can only mislead about its own memory.
 *
 * A pid could be taken by another process after the worker's death.  So a write
 * first asks the connection whether the worker is there, and who reads (capture)
 * trusts what it read only after the worker answered once more (remote_release).
 *
 * Source: unix(7). */
#include "hv/remote.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "hv/farmem.h"
#include "hv/line.h"

#define EVENTS_MAX 64u
#define GREET_TIMEOUT_NS (10 * NS_PER_SEC)  /* nobody accepts: a stale socket, a dead worker */
#define REPLY_TIMEOUT_NS (120 * NS_PER_SEC) /* a reset of much memory takes its time */
#define STATE_LIMIT (256ull << 20)

struct remote {
	struct line_io io;
	json_int_t next_id;
	uint64_t timeout_ns;
	struct farmem memory;
	bool subscribed;
	struct remote_event events[EVENTS_MAX]; /* arrived while a reply was awaited */
	unsigned event_first, event_count;
};

/* ---- lines ---- */

static void keep_event(struct remote *r, const json_t *line)
{
	const char *kind = json_string_value(json_object_get(line, "event"));
	const char *text = json_string_value(json_object_get(line, "text"));

	if (!kind || r->event_count == EVENTS_MAX)
		return;
	struct remote_event *ev = &r->events[(r->event_first + r->event_count) % EVENTS_MAX];
	(void)snprintf(ev->kind, sizeof(ev->kind), "%s", kind);
	ev->text = strdup(text ? text : "");
	if (ev->text)
		r->event_count++;
}

/* Wait until the socket has something; ERR_OK with *ready false after the time. */
static enum err wait_readable(struct remote *r, uint64_t deadline_ns, bool *ready)
{
	for (;;) {
		struct pollfd p = {.fd = r->io.fd, .events = POLLIN};
		uint64_t now = clock_mono_ns();
		uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
		uint64_t ms = (left + NS_PER_MS - 1) / NS_PER_MS;
		int n = poll(&p, 1, ms > 60000 ? 60000 : (int)ms);

		if (n < 0 && errno != EINTR)
			return err_sys(errno, "control connection: poll");
		*ready = n > 0;
		if (n > 0 || (n == 0 && left <= 60000 * NS_PER_MS))
			return ERR_OK;
	}
}

/* The next line as an object (given); NULL after the deadline. */
static enum err next_line(struct remote *r, uint64_t deadline_ns, json_t **out)
{
	size_t len;
	char *text;
	bool ready, more;
	enum err e;

	*out = NULL;
	while (!(text = line_next(&r->io, &len))) {
		e = wait_readable(r, deadline_ns, &ready);
		if (e != ERR_OK || !ready)
			return e;
		e = line_receive(&r->io, &more);
		if (e != ERR_OK)
			return err_context(e, "worker");
	}
	*out = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(*out)) {
		json_decref(*out);
		*out = NULL;
		return err_note(ERR_PEER, 0, "worker: its answer is not a JSON object");
	}
	return ERR_OK;
}

/* The worker's own error, as ours. */
static enum err reply_error(const json_t *reply)
{
	const char *word = json_string_value(json_object_get(reply, "error"));
	const char *text = json_string_value(json_object_get(reply, "message"));

	return err_note(err_from_name(word ? word : ""), 0, "%s",
			text && *text ? text : "worker: failed without saying why");
}

static enum err await_reply(struct remote *r, json_int_t id, json_t **out)
{
	uint64_t deadline = clock_mono_ns() + r->timeout_ns;
	json_t *line;
	enum err e;

	for (;;) {
		e = next_line(r, deadline, &line);
		if (e != ERR_OK)
			return e;
		if (!line)
			return err_note(ERR_PEER, 0, "worker: no answer within %u s",
					(unsigned)(r->timeout_ns / NS_PER_SEC));
		if (json_object_get(line, "event")) {
			keep_event(r, line);
			json_decref(line);
			continue;
		}
		if (json_integer_value(json_object_get(line, "id")) != id) {
			json_decref(line);
			return err_note(ERR_PEER, 0, "worker: answered what was not asked");
		}
		break;
	}
	if (json_is_true(json_object_get(line, "ok"))) {
		*out = line;
		return ERR_OK;
	}
	e = reply_error(line);
	json_decref(line);
	return e;
}

/* Send request (taken; may be NULL after a failed allocation) as op, with fd if it
 * is not -1 (borrowed), and wait for the answer (given). */
static enum err call_with(struct remote *r, const char *op, json_t *request, int fd, json_t **reply)
{
	json_int_t id = r->next_id++;
	size_t sent = 0, len;
	char *text = NULL;
	enum err e;

	line_drop_fds(&r->io);
	if (request && json_object_set_new(request, "id", json_integer(id)) == 0 &&
	    json_object_set_new(request, "op", json_string(op)) == 0)
		text = json_dumps(request, JSON_COMPACT);
	json_decref(request);
	if (!text)
		return err_note(ERR_NOMEM, 0, "request to the worker: out of memory");
	len = strlen(text);
	text[len] = '\n'; /* takes the place of the NUL */
	e = line_send(r->io.fd, text, len + 1, &fd, fd >= 0 ? 1 : 0, &sent);
	free(text);
	if (e != ERR_OK)
		return err_context(e, "worker");
	if (sent < len + 1)
		return err_note(ERR_PEER, 0, "worker: does not read its control connection");
	return await_reply(r, id, reply);
}

static enum err call(struct remote *r, const char *op, json_t **reply)
{
	return call_with(r, op, json_object(), -1, reply);
}

static enum err call_plain(struct remote *r, const char *op)
{
	json_t *reply;
	enum err e = call(r, op, &reply);

	if (e == ERR_OK)
		json_decref(reply);
	return e;
}

static uint64_t get_u64(const json_t *o, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(o, key));

	return v > 0 ? (uint64_t)v : 0;
}

static void get_text(const json_t *o, const char *key, char *out, size_t size)
{
	const char *s = json_string_value(json_object_get(o, key));

	(void)snprintf(out, size, "%s", s ? s : "");
}

/* ---- life ---- */

static enum err greet(struct remote *r)
{
	json_t *reply;
	enum err e;

	e = call_with(r, "hello", json_pack("{s:i}", "protocol", REMOTE_PROTOCOL), -1, &reply);
	if (e != ERR_OK)
		return e;
	bool same = get_u64(reply, "protocol") == REMOTE_PROTOCOL;
	json_decref(reply);
	if (!same)
		return err_note(ERR_VERSION, 0, "worker: speaks another control protocol: use the "
			"lifeboat it was started by");
	if (r->io.pid <= 0)
		return err_note(ERR_PEER, 0, "worker: the kernel names no process for it");
	e = call(r, "memory", &reply);
	if (e != ERR_OK)
		return e;
	uint64_t base = get_u64(reply, "host_base"), bytes = get_u64(reply, "bytes");
	json_decref(reply);
	if (bytes == 0 || bytes > MEMORY_MAX_BYTES || base > UINTPTR_MAX - bytes)
		return err_note(ERR_PEER, 0, "worker: says nonsense about its memory");
	farmem_open(r->io.pid, base, bytes, &r->memory);
	return ERR_OK;
}

enum err remote_adopt(int fd, struct remote **out)
{
	struct remote *r = calloc(1, sizeof(*r));
	enum err e;

	if (!r) {
		close(fd);
		return err_note(ERR_NOMEM, 0, "control connection: out of memory");
	}
	r->memory.pagemap_fd = -1;
	r->timeout_ns = GREET_TIMEOUT_NS;
	r->next_id = 1;
	e = line_init(&r->io, fd, true);
	if (e == ERR_OK)
		e = greet(r);
	if (e != ERR_OK) {
		remote_close(r);
		return e;
	}
	r->timeout_ns = REPLY_TIMEOUT_NS;
	*out = r;
	return ERR_OK;
}

enum err remote_connect(const char *path, struct remote **out)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	AUTO_FD int fd = -1;

	if (strlen(path) >= sizeof(a.sun_path))
		return err_note(ERR_USAGE, 0, "control socket %s: the path is longer than %zu bytes",
				path, sizeof(a.sun_path) - 1);
	memcpy(a.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(errno, "control socket");
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
		if (errno == ENOENT || errno == ECONNREFUSED)
			return err_note(ERR_NOTFOUND, 0, "control socket %s: no machine listens there",
					path);
		return err_sys(errno, "control socket %s", path);
	}
	int taken = fd;
	fd = -1;
	return remote_adopt(taken, out);
}

void remote_close(struct remote *r)
{
	if (!r)
		return;
	for (; r->event_count > 0; r->event_count--)
		free(r->events[r->event_first++ % EVENTS_MAX].text);
	farmem_close(&r->memory);
	line_fini(&r->io);
	free(r);
}

int remote_fd(const struct remote *r)
{
	return r->io.fd;
}

pid_t remote_pid(const struct remote *r)
{
	return r->memory.pid;
}

/* ---- control ---- */

enum err remote_status(struct remote *r, struct remote_status *out)
{
	json_t *s;
	enum err e = call(r, "status", &s);

	if (e != ERR_OK)
		return e;
	*out = (struct remote_status){
		.vcpus = (uint32_t)get_u64(s, "vcpus"),
		.memory_bytes = get_u64(s, "memory_bytes"),
		.uptime_ns = get_u64(s, "uptime_ns"),
		.exits = get_u64(s, "exits"),
		.unclaimed_accesses = get_u64(s, "unclaimed_accesses"),
		.resets = get_u64(s, "resets"),
		.held = json_is_true(json_object_get(s, "held")),
	};
	get_text(s, "name", out->name, sizeof(out->name));
	get_text(s, "state", out->state, sizeof(out->state));
	get_text(s, "stop_reason", out->stop_reason, sizeof(out->stop_reason));
	json_decref(s);
	return ERR_OK;
}

enum err remote_pause(struct remote *r, bool *was_running)
{
	json_t *reply;
	enum err e = call(r, "pause", &reply);

	if (e != ERR_OK)
		return e;
	*was_running = json_is_true(json_object_get(reply, "was_running"));
	json_decref(reply);
	return ERR_OK;
}

enum err remote_hold(struct remote *r, bool *was_running, uint64_t *park_ns)
{
	json_t *reply;
	enum err e = call_with(r, "pause", json_pack("{s:b}", "hold", 1), -1, &reply);

	if (e != ERR_OK)
		return e;
	*was_running = json_is_true(json_object_get(reply, "was_running"));
	*park_ns = get_u64(reply, "park_ns");
	json_decref(reply);
	return ERR_OK;
}

enum err remote_release(struct remote *r, uint64_t *paused_ns)
{
	json_t *reply;
	enum err e = call(r, "release", &reply);

	if (e != ERR_OK)
		return e;
	*paused_ns = get_u64(reply, "paused_ns");
	json_decref(reply);
	return ERR_OK;
}

enum err remote_resume(struct remote *r)
{
	return call_plain(r, "resume");
}

enum err remote_power_button(struct remote *r)
{
	return call_plain(r, "power-button");
}

enum err remote_reset(struct remote *r)
{
	return call_plain(r, "reset");
}

enum err remote_boot(struct remote *r)
{
	return call_plain(r, "boot");
}

enum err remote_kill(struct remote *r)
{
	uint64_t deadline = clock_mono_ns() + 10 * NS_PER_SEC;
	json_t *line;
	enum err e = call_plain(r, "kill");

	/* The end of the connection is the answer; what comes before it is read. */
	while (e == ERR_OK) {
		e = next_line(r, deadline, &line);
		if (e == ERR_OK && !line)
			return err_note(ERR_PEER, 0, "worker: still there 10 s after it was told to end");
		json_decref(line);
	}
	if (e != ERR_PEER)
		return e;
	err_clear();
	return ERR_OK;
}

/* ---- the image's parts ---- */

static enum err memfd_open(const char *what, int *fd)
{
	*fd = memfd_create(what, MFD_CLOEXEC);
	return *fd >= 0 ? ERR_OK : err_sys(errno, "memory file for %s", what);
}

enum err remote_save(struct remote *r, struct buf *state)
{
	AUTO_FD int fd = -1;
	uint64_t bytes;
	json_t *reply;
	enum err e = memfd_open("state", &fd);

	if (e != ERR_OK)
		return e;
	e = call_with(r, "save", json_object(), fd, &reply);
	if (e != ERR_OK)
		return e;
	bytes = get_u64(reply, "bytes");
	json_decref(reply);
	if (bytes == 0 || bytes > STATE_LIMIT)
		return err_note(ERR_PEER, 0, "worker: a machine state of %" PRIu64 " bytes", bytes);
	size_t start = state->len;
	buf_put_zero(state, (size_t)bytes);
	e = buf_check(state);
	if (e != ERR_OK)
		return e;
	e = fs_read_at(fd, "machine state", state->data + start, (size_t)bytes, 0);
	if (e == ERR_CORRUPT)
		return err_note(ERR_PEER, 0, "worker: its machine state is shorter than it said");
	return e;
}

static enum err send_state(struct remote *r, const char *op, const void *state, size_t len)
{
	AUTO_FD int fd = -1;
	json_t *reply;
	enum err e = memfd_open("state", &fd);

	if (e == ERR_OK)
		e = fs_write_at(fd, "machine state", state, len, 0);
	if (e == ERR_OK)
		e = call_with(r, op, json_pack("{s:I}", "bytes", (json_int_t)len), fd, &reply);
	if (e == ERR_OK)
		json_decref(reply);
	return e;
}

enum err remote_check(struct remote *r, const void *state, size_t len)
{
	return send_state(r, "check", state, len);
}

enum err remote_load(struct remote *r, const void *state, size_t len)
{
	return send_state(r, "load", state, len);
}

enum err remote_config(struct remote *r, struct buf *json)
{
	json_t *reply;
	enum err e = call(r, "config", &reply);
	if (e != ERR_OK)
		return e;

	const json_t *config = json_object_get(reply, "config");
	char *text = json_is_object(config) ? json_dumps(config, JSON_INDENT(1)) : NULL;
	json_decref(reply);
	if (!text)
		return err_note(ERR_PEER, 0, "worker: sent no configuration");
	buf_put_str(json, text);
	free(text);
	return buf_check(json);
}

enum err remote_boot_files(struct remote *r, int *kernel_fd, int *initrd_fd)
{
	json_t *reply;
	enum err e;

	*kernel_fd = *initrd_fd = -1;
	e = call(r, "boot-files", &reply);
	if (e != ERR_OK)
		return e;
	bool kernel = json_is_true(json_object_get(reply, "kernel"));
	bool initrd = json_is_true(json_object_get(reply, "initrd"));
	json_decref(reply);
	if (r->io.fd_count != (unsigned)kernel + (unsigned)initrd)
		return err_note(ERR_PEER, 0, "worker: sent %u boot files, named %u", r->io.fd_count,
				(unsigned)kernel + (unsigned)initrd);
	if (kernel)
		*kernel_fd = line_take_fd(&r->io);
	if (initrd)
		*initrd_fd = line_take_fd(&r->io);
	return ERR_OK;
}

enum err remote_console(struct remote *r, unsigned port, bool replay, int *fd)
{
	int pair[2];
	json_t *reply;
	enum err e;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return err_sys(errno, "console connection");
	e = call_with(r, "console", json_pack("{s:i, s:b}", "port", (int)port, "replay", (int)replay),
		      pair[1], &reply);
	close(pair[1]);
	if (e != ERR_OK) {
		close(pair[0]);
		return e;
	}
	json_decref(reply);
	*fd = pair[0];
	return ERR_OK;
}

/* ---- events ---- */

/* The worker does not answer any more; what it said before is there all the same, and
 * may well be why. */
static enum err last_words(struct remote *r, enum err why)
{
	char text[ERR_NOTE_BYTES];
	json_t *line = NULL;

	(void)snprintf(text, sizeof(text), "%s", err_text());
	while (next_line(r, 0, &line) == ERR_OK && line) {
		keep_event(r, line);
		json_decref(line);
	}
	return r->event_count > 0 ? ERR_OK : err_note(why, 0, "%s", text);
}

enum err remote_next_event(struct remote *r, uint64_t timeout_ns, struct remote_event *out)
{
	uint64_t deadline = clock_mono_ns() + timeout_ns;
	json_t *line;
	enum err e;

	*out = (struct remote_event){.kind = ""};
	if (!r->subscribed) {
		e = call_plain(r, "events");
		r->subscribed = e == ERR_OK;
		if (e != ERR_OK && (e = last_words(r, e)) != ERR_OK)
			return e;
	}
	while (r->event_count == 0) {
		e = next_line(r, deadline, &line);
		if (e != ERR_OK)
			return e;
		if (!line) {
			out->text = strdup("");
			return out->text ? ERR_OK : err_note(ERR_NOMEM, 0, "event: out of memory");
		}
		keep_event(r, line);
		json_decref(line);
	}
	*out = r->events[r->event_first];
	r->event_first = (r->event_first + 1) % EVENTS_MAX;
	r->event_count--;
	return ERR_OK;
}

/* ---- memory ---- */

uint64_t remote_memory_bytes(const struct remote *r)
{
	return r->memory.bytes;
}

enum err remote_read(const struct remote *r, uint64_t offset, void *buf, size_t len)
{
	return farmem_read(&r->memory, offset, buf, len);
}

enum err remote_write(const struct remote *r, uint64_t offset, const void *buf, size_t len)
{
	struct pollfd p = {.fd = r->io.fd, .events = POLLRDHUP};

	if (poll(&p, 1, 0) != 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)))
		return err_note(ERR_PEER, 0, "write guest memory: the worker has ended");
	return farmem_write(&r->memory, offset, buf, len);
}

enum err remote_next_touched(const struct remote *r, uint64_t *offset, uint64_t *len)
{
	return farmem_next_touched(&r->memory, offset, len);
}
