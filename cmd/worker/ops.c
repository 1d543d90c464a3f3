/* SPDX-License-Identifier: Apache-2.0 */
/* ops: the table of the control protocol's requests.  See ops.h.
 *
 * A request comes from outside and is checked field by field.  Descriptors that it
 * brings must be memory (memfd) or, for a console, a socket: reading or writing any
 * other could block the loop, and with it the machine. */
#include "cmd/worker/ops_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "hv/config.h"
#include "hv/remote.h"
#include "hv/state.h"

/* ---- fields ---- */

static enum err put(json_t *o, const char *key, json_t *value)
{
	if (json_object_set_new(o, key, value) != 0)
		return err_note(ERR_NOMEM, 0, "reply: out of memory");
	return ERR_OK;
}

enum err ops_put_u64(json_t *o, const char *key, uint64_t v)
{
	return put(o, key, json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v));
}

enum err ops_put_text(json_t *o, const char *key, const char *text)
{
	return put(o, key, json_string(text));
}

static enum err put_bool(json_t *o, const char *key, bool v)
{
	return put(o, key, json_boolean(v));
}

/* A whole number in [0, max]; absent is `fallback`. */
enum err ops_get_u64(const json_t *o, const char *key, uint64_t max, uint64_t fallback,
			uint64_t *v)
{
	const json_t *j = json_object_get(o, key);

	*v = fallback;
	if (!j)
		return ERR_OK;
	if (!json_is_integer(j) || json_integer_value(j) < 0 ||
	    (uint64_t)json_integer_value(j) > max)
		return err_note(ERR_USAGE, 0, "request: \"%s\" is not a number up to %" PRIu64, key,
				max);
	*v = (uint64_t)json_integer_value(j);
	return ERR_OK;
}

enum err ops_get_bool(const json_t *o, const char *key, bool *v)
{
	const json_t *j = json_object_get(o, key);

	*v = false;
	if (j && !json_is_boolean(j))
		return err_note(ERR_USAGE, 0, "request: \"%s\" is neither true nor false", key);
	*v = json_is_true(j);
	return ERR_OK;
}

/* The memory file that came with the request (given). */
static enum err take_memory_fd(struct ops_call *c, int *fd)
{
	*fd = line_take_fd(c->io);
	if (*fd < 0)
		return err_note(ERR_USAGE, 0, "request: needs a descriptor");
	if (fcntl(*fd, F_GET_SEALS) >= 0)
		return ERR_OK;
	close(*fd);
	*fd = -1;
	return err_note(ERR_USAGE, 0, "request: its descriptor is not a memfd");
}

/* The socket that came with the request (given): the only thing that can be read and
 * written without ever waiting, whatever its other owners do to it. */
static enum err take_socket(struct ops_call *c, int *fd)
{
	struct stat st;

	*fd = line_take_fd(c->io);
	if (*fd < 0)
		return err_note(ERR_USAGE, 0, "request: needs a descriptor");
	if (fstat(*fd, &st) == 0 && S_ISSOCK(st.st_mode))
		return ERR_OK;
	close(*fd);
	*fd = -1;
	return err_note(ERR_USAGE, 0, "request: its descriptor is not a socket");
}

/* ---- looking ---- */

static enum err op_hello(struct ops_call *c)
{
	uint64_t protocol;
	enum err e = ops_get_u64(c->request, "protocol", UINT32_MAX, REMOTE_PROTOCOL, &protocol);

	if (e == ERR_OK && protocol != REMOTE_PROTOCOL)
		e = err_note(ERR_VERSION, 0, "worker: speaks control protocol %d, not %" PRIu64
			     ": use the lifeboat it was started by", REMOTE_PROTOCOL, protocol);
	if (e == ERR_OK)
		e = ops_put_u64(c->reply, "protocol", REMOTE_PROTOCOL);
	return e == ERR_OK ? ops_put_text(c->reply, "program", "lifeboat-worker") : e;
}

static uint64_t disk_bytes(const struct vm_config *config)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < config->disk_count; i++)
		sum += config->disks[i].bytes;
	return sum;
}

static enum err op_status(struct ops_call *c)
{
	const struct vm_config *config = steward_config(c->steward);
	struct steward_status s;
	enum err e;

	steward_status(c->steward, &s);
	const struct {
		const char *key;
		uint64_t v;
	} numbers[] = {
		{"vcpus", config->vcpus}, {"memory_bytes", config->memory_bytes},
		{"disks", config->disk_count}, {"disk_bytes", disk_bytes(config)},
		{"uptime_ns", s.uptime_ns}, {"exits", s.exits},
		{"unclaimed_accesses", s.unclaimed}, {"resets", s.resets},
	};
	e = ops_put_text(c->reply, "name", config->name);
	if (e == ERR_OK)
		e = ops_put_text(c->reply, "state", s.state);
	if (e == ERR_OK)
		e = ops_put_text(c->reply, "stop_reason", s.stop_reason);
	if (e == ERR_OK)
		e = put_bool(c->reply, "held", s.held);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]) && e == ERR_OK; i++)
		e = ops_put_u64(c->reply, numbers[i].key, numbers[i].v);
	return e;
}

static enum err op_config(struct ops_call *c)
{
	AUTO_BUF struct buf text = {0};
	enum err e = config_to_json(steward_config(c->steward), &text);

	if (e != ERR_OK)
		return e;
	return put(c->reply, "config", json_loadb((const char *)text.data, text.len, 0, NULL));
}

static enum err op_boot_files(struct ops_call *c)
{
	int kernel = steward_kernel_fd(c->steward), initrd = steward_initrd_fd(c->steward);
	enum err e = put_bool(c->reply, "kernel", kernel >= 0);

	if (e == ERR_OK)
		e = put_bool(c->reply, "initrd", initrd >= 0);
	if (kernel >= 0)
		c->fds[c->fd_count++] = kernel;
	if (initrd >= 0)
		c->fds[c->fd_count++] = initrd;
	return e;
}

static enum err op_memory(struct ops_call *c)
{
	const struct memory *m = steward_memory(c->steward);
	unsigned count;
	const struct memory_slot *slots = memory_slots(m, &count);
	json_t *list = json_array();
	enum err e = ops_put_u64(c->reply, "host_base", memory_host_base(m));

	if (e == ERR_OK)
		e = ops_put_u64(c->reply, "bytes", memory_bytes(m));
	for (unsigned i = 0; i < count && list; i++)
		(void)json_array_append_new(list, json_pack("{s:I, s:I, s:I}",
			"base", (json_int_t)slots[i].base.v, "offset", (json_int_t)slots[i].offset,
			"bytes", (json_int_t)slots[i].bytes));
	if (e == ERR_OK)
		return put(c->reply, "slots", list);
	json_decref(list);
	return e;
}

static enum err op_events(struct ops_call *c)
{
	c->subscribe = true;
	return ERR_OK;
}

/* ---- running ---- */

static enum err op_boot(struct ops_call *c)
{
	return steward_boot(c->steward);
}

static enum err op_pause(struct ops_call *c)
{
	bool hold, was_running;
	uint64_t park_ns;
	enum err e = ops_get_bool(c->request, "hold", &hold);

	if (e == ERR_OK && hold) {
		e = steward_hold(c->steward, c->who, &was_running, &park_ns);
		if (e == ERR_OK)
			e = ops_put_u64(c->reply, "park_ns", park_ns);
	} else if (e == ERR_OK) {
		e = steward_pause(c->steward, &was_running);
	}
	return e == ERR_OK ? put_bool(c->reply, "was_running", was_running) : e;
}

static enum err op_release(struct ops_call *c)
{
	uint64_t paused_ns;
	enum err e = steward_release(c->steward, c->who, &paused_ns);

	return e == ERR_OK ? ops_put_u64(c->reply, "paused_ns", paused_ns) : e;
}

static enum err op_resume(struct ops_call *c)
{
	return steward_resume(c->steward);
}

static enum err op_reset(struct ops_call *c)
{
	return steward_reset(c->steward);
}

static enum err op_power_button(struct ops_call *c)
{
	return steward_power_button(c->steward);
}

/* ---- the guest's services ---- */

static enum err put_version(json_t *o, const char *key, uint32_t version)
{
	char text[16] = "";

	if (version)
		snprintf(text, sizeof(text), "%u.%u", version >> 16, version & 0xffff);
	return ops_put_text(o, key, text);
}

static enum err put_service(json_t *o, const char *key, bool ready, uint32_t version,
			    json_t **service)
{
	enum err e;

	*service = json_object();
	if ((e = put(o, key, *service)) == ERR_OK && (e = put_bool(*service, "ready", ready)) == ERR_OK)
		e = put_version(*service, "version", version);
	return e;
}

static enum err put_services(json_t *o, const struct vm_guest *g)
{
	json_t *s;
	enum err e;

	if ((e = put_service(o, "heartbeat", g->heartbeat.ready, g->heartbeat.version, &s)) != ERR_OK ||
	    (e = put_bool(s, "healthy", g->heartbeat.healthy)) != ERR_OK ||
	    (e = ops_put_u64(s, "answers", g->heartbeat.answers)) != ERR_OK ||
	    (e = ops_put_u64(s, "round_trip_ns", g->heartbeat.round_trip_ns)) != ERR_OK ||
	    (e = put_service(o, "shutdown", g->shutdown.ready, g->shutdown.version, &s)) != ERR_OK ||
	    (e = put_service(o, "time", g->timesync.ready, g->timesync.version, &s)) != ERR_OK ||
	    (e = ops_put_u64(s, "answers", g->timesync.answers)) != ERR_OK)
		return e;
	return ops_put_u64(s, "syncs", g->timesync.syncs);
}

static enum err op_guest(struct ops_call *c)
{
	json_t *bus = json_object();
	struct vm_guest g;
	enum err e = put(c->reply, "bus", bus);

	if (e != ERR_OK || (e = steward_guest(c->steward, &g)) != ERR_OK ||
	    (e = put_bool(bus, "connected", g.bus.connected)) != ERR_OK ||
	    (e = put_version(bus, "version", g.bus.version)) != ERR_OK ||
	    (e = ops_put_u64(bus, "channels_offered", g.bus.offered)) != ERR_OK ||
	    (e = ops_put_u64(bus, "channels_open", g.bus.open)) != ERR_OK ||
	    (e = ops_put_u64(bus, "violations", g.bus.violations)) != ERR_OK)
		return e;
	return put_services(c->reply, &g);
}

static enum err op_guest_ping(struct ops_call *c)
{
	return steward_guest_ping(c->steward);
}

static enum err op_guest_time(struct ops_call *c)
{
	return steward_guest_time(c->steward);
}

static enum err op_guest_shutdown(struct ops_call *c)
{
	bool restart;
	enum err e = ops_get_bool(c->request, "restart", &restart);

	return e == ERR_OK ? steward_guest_shutdown(c->steward, restart) : e;
}

static enum err op_kill(struct ops_call *c)
{
	steward_kill(c->steward);
	return ERR_OK;
}

static enum err op_console(struct ops_call *c)
{
	uint64_t port;
	bool replay;
	int fd = -1;
	enum err e = take_socket(c, &fd);

	if (e == ERR_OK)
		e = ops_get_u64(c->request, "port", UINT32_MAX, 0, &port);
	if (e == ERR_OK)
		e = ops_get_bool(c->request, "replay", &replay);
	if (e != ERR_OK) {
		if (fd >= 0)
			close(fd);
		return e;
	}
	return steward_console(c->steward, (unsigned)port, replay, fd);
}

/* ---- the image ---- */

static enum err op_save(struct ops_call *c)
{
	AUTO_BUF struct buf state = {0};
	AUTO_FD int fd = -1;
	enum err e = take_memory_fd(c, &fd);

	if (e == ERR_OK)
		e = steward_save(c->steward, &state);
	if (e == ERR_OK)
		e = buf_check(&state);
	if (e == ERR_OK)
		e = fs_write_at(fd, "state", state.data, state.len, 0);
	return e == ERR_OK ? ops_put_u64(c->reply, "bytes", state.len) : e;
}

/* The state in the request's descriptor. */
static enum err take_state(struct ops_call *c, struct buf *state)
{
	AUTO_FD int fd = -1;
	uint64_t bytes;
	enum err e = take_memory_fd(c, &fd);

	if (e == ERR_OK)
		e = ops_get_u64(c->request, "bytes", STATE_MAX_BYTES, 0, &bytes);
	if (e != ERR_OK)
		return e;
	off_t size = lseek(fd, 0, SEEK_END);
	if (bytes == 0 || size < 0 || (uint64_t)size != bytes)
		return err_note(ERR_USAGE, 0, "request: its state is not of the size it says");
	buf_put_zero(state, (size_t)bytes);
	e = buf_check(state);
	return e == ERR_OK ? fs_read_at(fd, "state", state->data, (size_t)bytes, 0) : e;
}

static enum err op_check(struct ops_call *c)
{
	AUTO_BUF struct buf state = {0};
	enum err e = take_state(c, &state);

	return e == ERR_OK ? steward_check(c->steward, state.data, state.len) : e;
}

static enum err op_load(struct ops_call *c)
{
	AUTO_BUF struct buf state = {0};
	enum err e = take_state(c, &state);

	return e == ERR_OK ? steward_load(c->steward, state.data, state.len) : e;
}

/* ---- the table ---- */

static const struct {
	const char *name;
	enum err (*run)(struct ops_call *c);
} ops[] = {
	{"hello", op_hello}, {"status", op_status}, {"config", op_config},
	{"boot-files", op_boot_files}, {"disk", ops_disk}, {"memory", op_memory}, {"events", op_events},
	{"boot", op_boot}, {"pause", op_pause}, {"release", op_release}, {"resume", op_resume},
	{"reset", op_reset}, {"power-button", op_power_button}, {"kill", op_kill},
	{"disk-add", ops_disk_add}, {"disk-remove", ops_disk_remove}, {"disk-resize", ops_disk_resize},
	{"console", op_console}, {"guest", op_guest}, {"guest-ping", op_guest_ping},
	{"guest-time", op_guest_time}, {"guest-shutdown", op_guest_shutdown},
	{"save", op_save}, {"check", op_check}, {"load", op_load},
};

enum err ops_run(struct ops_call *call)
{
	const char *name = json_string_value(json_object_get(call->request, "op"));

	if (!name)
		return err_note(ERR_USAGE, 0, "request: has no \"op\"");
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (strcmp(ops[i].name, name) == 0)
			return ops[i].run(call);
	return err_note(ERR_USAGE, 0, "request: unknown op \"%.40s\"", name);
}
