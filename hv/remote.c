/* SPDX-License-Identifier: Apache-2.0 */
/* remote: the client's end of the control protocol (docs/CONTROL.md), and guest
 * RAM seen from outside.  See remote.h.
 *
 * The worker is not trusted: a guest may have taken it over.  Its lines, events
 * and descriptors are bounded and checked; its pid comes from the kernel with its
 * messages, not from its words; it can only mislead about its own memory.
 *
 * A pid could be taken by another process after the worker's death.  So its process
 * is held by a descriptor before the second answer, which proves that the descriptor is
 * the worker's, and is asked at every access (farmem.c).
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
#include "hv/config.h"
#include "hv/farmem.h"
#include "hv/request.h"

#define STATE_LIMIT (256ull << 20)
#define KILL_NS (10 * NS_PER_SEC)
#define CONNECT_AGAIN_MS 10

struct remote {
	struct request_io io;
	struct farmem memory;
	bool subscribed;
};

static enum err call(struct remote *r, enum request_kind kind, const char *op, json_t **reply)
{
	return request_call(&r->io, kind, op, json_object(), -1, reply);
}

static enum err call_plain(struct remote *r, enum request_kind kind, const char *op)
{
	json_t *reply;
	enum err e = call(r, kind, op, &reply);

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

	e = request_call(&r->io, REQUEST_QUICK, "hello",
			 json_pack("{s:i}", "protocol", REMOTE_PROTOCOL), -1, &reply);
	if (e != ERR_OK)
		return e;
	bool same = get_u64(reply, "protocol") == REMOTE_PROTOCOL;
	json_decref(reply);
	if (!same)
		return err_note(ERR_VERSION, 0, "worker: speaks another control protocol: use the "
			"lifeboat it was started by");
	if (r->io.line.pid <= 0)
		return err_note(ERR_PEER, 0, "worker: the kernel names no process for it");
	pid_t pid = r->io.line.pid;
	e = farmem_open(pid, &r->memory);
	if (e == ERR_OK)
		e = call(r, REQUEST_QUICK, "memory", &reply);
	if (e != ERR_OK)
		return e;
	uint64_t base = get_u64(reply, "host_base"), bytes = get_u64(reply, "bytes");
	json_decref(reply);
	if (bytes == 0 || bytes > MEMORY_MAX_BYTES || base > UINTPTR_MAX - bytes)
		return err_note(ERR_PEER, 0, "worker: says nonsense about its memory");
	if (r->io.line.pid != pid)
		return err_note(ERR_PEER, 0, "worker: two processes answer for it");
	r->memory.host_base = base;
	r->memory.bytes = bytes;
	return ERR_OK;
}

enum err remote_adopt(int fd, const struct remote_wait *wait, struct remote **out)
{
	struct remote *r = calloc(1, sizeof(*r));
	enum err e;

	if (!r) {
		close(fd);
		return err_note(ERR_NOMEM, 0, "control connection: out of memory");
	}
	r->memory = (struct farmem)FARMEM_CLOSED;
	e = request_init(&r->io, fd, wait);
	if (e == ERR_OK)
		e = greet(r);
	if (e != ERR_OK) {
		remote_close(r);
		return e;
	}
	*out = r;
	return ERR_OK;
}

/* One that does not accept (it was stopped, or hangs) has its queue full some time: then
 * the kernel says EAGAIN, and there is nothing to poll for. */
static enum err connect_within(int fd, const struct sockaddr_un *a, const struct remote_wait *wait)
{
	uint64_t time = wait->timeout_ns ? wait->timeout_ns : REMOTE_TIMEOUT_NS;
	uint64_t deadline = clock_mono_ns() + time;

	while (connect(fd, (const struct sockaddr *)a, sizeof(*a)) != 0) {
		struct pollfd p = {.fd = wait->cancel_fd, .events = POLLIN};
		if (errno == ENOENT || errno == ECONNREFUSED)
			return err_note(ERR_NOTFOUND, 0, "control socket %s: no machine listens there",
					a->sun_path);
		if (errno != EAGAIN && errno != EINTR)
			return err_sys(errno, "control socket %s", a->sun_path);
		if (clock_mono_ns() > deadline)
			return request_no_answer(time);
		if (poll(&p, 1, CONNECT_AGAIN_MS) > 0)
			return err_note(ERR_CANCELLED, 0, "interrupted");
	}
	return ERR_OK;
}

enum err remote_connect(const char *path, const struct remote_wait *wait, struct remote **out)
{
	static const struct remote_wait usual = REMOTE_WAIT_DEFAULT;
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	AUTO_FD int fd = -1;
	enum err e;

	if (strlen(path) >= sizeof(a.sun_path))
		return err_note(ERR_USAGE, 0, "control socket %s: the path is longer than %zu bytes",
				path, sizeof(a.sun_path) - 1);
	memcpy(a.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(errno, "control socket");
	if ((e = connect_within(fd, &a, wait ? wait : &usual)) != ERR_OK)
		return e;
	int taken = fd;
	fd = -1;
	return remote_adopt(taken, wait, out);
}

void remote_close(struct remote *r)
{
	if (!r)
		return;
	farmem_close(&r->memory);
	request_fini(&r->io);
	free(r);
}

bool remote_gone(const struct remote *r)
{
	return request_gone(&r->io);
}

int remote_fd(const struct remote *r)
{
	return r->io.line.fd;
}

pid_t remote_pid(const struct remote *r)
{
	return r->memory.pid;
}

/* ---- control ---- */

enum err remote_status(struct remote *r, struct remote_status *out)
{
	json_t *s;
	enum err e = call(r, REQUEST_QUICK, "status", &s);

	if (e != ERR_OK)
		return e;
	*out = (struct remote_status){
		.vcpus = (uint32_t)get_u64(s, "vcpus"),
		.memory_bytes = get_u64(s, "memory_bytes"),
		.disks = (uint32_t)get_u64(s, "disks"),
		.disk_bytes = get_u64(s, "disk_bytes"),
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
	enum err e = call(r, REQUEST_QUICK, "pause", &reply);

	if (e != ERR_OK)
		return e;
	*was_running = json_is_true(json_object_get(reply, "was_running"));
	json_decref(reply);
	return ERR_OK;
}

enum err remote_hold(struct remote *r, bool *was_running, uint64_t *park_ns)
{
	json_t *reply;
	enum err e = request_call(&r->io, REQUEST_LONG, "pause", json_pack("{s:b}", "hold", 1),
				  -1, &reply);

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
	enum err e = call(r, REQUEST_RELEASE, "release", &reply);

	if (e != ERR_OK)
		return e;
	*paused_ns = get_u64(reply, "paused_ns");
	json_decref(reply);
	return ERR_OK;
}

enum err remote_resume(struct remote *r)
{
	return call_plain(r, REQUEST_QUICK, "resume");
}

enum err remote_power_button(struct remote *r)
{
	return call_plain(r, REQUEST_QUICK, "power-button");
}

static void get_service(const json_t *reply, const char *key, struct remote_service *out)
{
	const json_t *o = json_object_get(reply, key);

	out->ready = json_is_true(json_object_get(o, "ready"));
	get_text(o, "version", out->version, sizeof(out->version));
}

enum err remote_guest(struct remote *r, struct remote_guest *out)
{
	const json_t *bus, *beat, *time;
	json_t *reply;
	enum err e = call(r, REQUEST_QUICK, "guest", &reply);

	if (e != ERR_OK)
		return e;
	memset(out, 0, sizeof(*out));
	bus = json_object_get(reply, "bus");
	beat = json_object_get(reply, "heartbeat");
	time = json_object_get(reply, "time");
	out->connected = json_is_true(json_object_get(bus, "connected"));
	get_text(bus, "version", out->version, sizeof(out->version));
	out->channels_offered = get_u64(bus, "channels_offered");
	out->channels_open = get_u64(bus, "channels_open");
	out->violations = get_u64(bus, "violations");
	get_service(reply, "heartbeat", &out->heartbeat);
	get_service(reply, "shutdown", &out->shutdown);
	get_service(reply, "time", &out->time);
	out->healthy = json_is_true(json_object_get(beat, "healthy"));
	out->beats = get_u64(beat, "answers");
	out->round_trip_ns = get_u64(beat, "round_trip_ns");
	out->times = get_u64(time, "answers");
	out->syncs = get_u64(time, "syncs");
	json_decref(reply);
	return ERR_OK;
}

enum err remote_guest_ping(struct remote *r)
{
	return call_plain(r, REQUEST_QUICK, "guest-ping");
}

enum err remote_guest_time(struct remote *r)
{
	return call_plain(r, REQUEST_QUICK, "guest-time");
}

enum err remote_guest_shutdown(struct remote *r, bool restart)
{
	json_t *reply;
	enum err e = request_call(&r->io, REQUEST_QUICK, "guest-shutdown",
				  json_pack("{s:b}", "restart", restart), -1, &reply);

	if (e == ERR_OK)
		json_decref(reply);
	return e;
}

enum err remote_reset(struct remote *r)
{
	return call_plain(r, REQUEST_LONG, "reset");
}

enum err remote_boot(struct remote *r)
{
	return call_plain(r, REQUEST_LONG, "boot");
}

enum err remote_kill(struct remote *r)
{
	enum err e = call_plain(r, REQUEST_END, "kill");

	/* The end of the connection is the answer. */
	if (e == ERR_OK)
		return request_await_end(&r->io, KILL_NS);
	if (e != ERR_PEER || !request_gone(&r->io))
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
	e = request_call(&r->io, REQUEST_LONG, "save", json_object(), fd, &reply);
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
		e = request_call(&r->io, REQUEST_LONG, op,
				 json_pack("{s:I}", "bytes", (json_int_t)len), fd, &reply);
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
	enum err e = call(r, REQUEST_QUICK, "config", &reply);
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
	e = call(r, REQUEST_QUICK, "boot-files", &reply);
	if (e != ERR_OK)
		return e;
	bool kernel = json_is_true(json_object_get(reply, "kernel"));
	bool initrd = json_is_true(json_object_get(reply, "initrd"));
	json_decref(reply);
	if (r->io.line.fd_count != (unsigned)kernel + (unsigned)initrd)
		return err_note(ERR_PEER, 0, "worker: sent %u boot files, named %u", r->io.line.fd_count,
				(unsigned)kernel + (unsigned)initrd);
	if (kernel)
		*kernel_fd = line_take_fd(&r->io.line);
	if (initrd)
		*initrd_fd = line_take_fd(&r->io.line);
	return ERR_OK;
}

enum err remote_disk(struct remote *r, unsigned lun, int *fd)
{
	json_t *reply;
	enum err e = request_call(&r->io, REQUEST_QUICK, "disk",
				  json_pack("{s:i}", "lun", (int)lun), -1, &reply);

	if (e != ERR_OK)
		return e;
	json_decref(reply);
	*fd = line_take_fd(&r->io.line);
	return *fd >= 0 ? ERR_OK : err_note(ERR_PEER, 0, "worker: sent no disk%u", lun);
}

enum err remote_disk_add(struct remote *r, struct config_disk *d, int fd, int direct_fd)
{
	const int fds[] = {fd, direct_fd};
	char id[2 * CONFIG_DISK_ID_BYTES + 1];
	json_t *reply, *body;
	enum err e;

	bytes_hex(d->id, CONFIG_DISK_ID_BYTES, id);
	body = json_pack("{s:i, s:s, s:b, s:s, s:s}", "lun", (int)d->lun, "identity", id,
			 "read_only", d->read_only ? 1 : 0,
			 "cache", config_cache_name(d->cache), "on_error",
			 config_on_error_name(d->on_error));
	e = request_call_fds(&r->io, REQUEST_LONG, "disk-add", body, fds,
				      direct_fd >= 0 ? 2 : 1, &reply);

	if (e != ERR_OK)
		return e;
	d->bytes = get_u64(reply, "bytes");
	json_decref(reply);
	return ERR_OK;
}

static enum err call_disk(struct remote *r, const char *op, unsigned lun, uint64_t bytes)
{
	json_t *reply, *body = json_pack("{s:i, s:I}", "lun", (int)lun, "bytes", (json_int_t)bytes);
	enum err e = request_call(&r->io, REQUEST_LONG, op, body, -1, &reply);

	if (e == ERR_OK)
		json_decref(reply);
	return e;
}

enum err remote_disk_remove(struct remote *r, unsigned lun)
{
	return call_disk(r, "disk-remove", lun, 0);
}

enum err remote_disk_resize(struct remote *r, unsigned lun, uint64_t bytes)
{
	return call_disk(r, "disk-resize", lun, bytes);
}

enum err remote_console(struct remote *r, unsigned port, bool replay, int *fd)
{
	int pair[2];
	json_t *reply;
	enum err e;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return err_sys(errno, "console connection");
	e = request_call(&r->io, REQUEST_QUICK, "console",
			 json_pack("{s:i, s:b}", "port", (int)port, "replay", (int)replay), pair[1],
			 &reply);
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

/* Ask for them once.  Where the worker does not answer any more, what it said before
 * is there all the same, and may well be why. */
static enum err subscribe(struct remote *r)
{
	char text[ERR_NOTE_BYTES];
	enum err e;

	if (r->subscribed)
		return ERR_OK;
	e = call_plain(r, REQUEST_QUICK, "events");
	r->subscribed = e == ERR_OK;
	if (e != ERR_PEER)
		return e;
	(void)snprintf(text, sizeof(text), "%s", err_text());
	return request_last_words(&r->io) ? ERR_OK : err_note(e, 0, "%s", text);
}

enum err remote_next_event(struct remote *r, uint64_t timeout_ns, struct remote_event *out)
{
	*out = (struct remote_event){.kind = ""};
	enum err e = subscribe(r);
	if (e == ERR_OK)
		e = request_event(&r->io, timeout_ns, out);
	if (e == ERR_OK && !out->text)
		out->text = strdup("");
	return e == ERR_OK && !out->text ? err_note(ERR_NOMEM, 0, "event: out of memory") : e;
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
	return farmem_write(&r->memory, offset, buf, len);
}

enum err remote_next_touched(const struct remote *r, uint64_t *offset, uint64_t *len)
{
	return farmem_next_touched(&r->memory, offset, len);
}
