/* SPDX-License-Identifier: Apache-2.0 */
/* steward: pauses, holds, and the ends of a VM.  See steward.h.
 *
 * States of the VM are vm.h's; beside them:
 *   held_by      who holds it; run_after: whether it runs when the hold ends
 *   ending       the VM stopped by itself (power-off, reset, crash) and the
 *                consequence is still to be drawn: on the next turn of the loop,
 *                or when the hold ends.  Never inside the VM's own callback, for
 *                the consequence may be a reset.
 *   waiting      it was reset and stands still for a while, since it reboots again
 *                and again and would do nothing else with a host's CPU.  A wish to
 *                run ends the wait, a pause or a hold too. */
#include "cmd/worker/steward.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "hv/console.h"
#include "hv/vm.h"

#define REBOOT_QUICK_NS (10 * NS_PER_SEC) /* a life shorter than this is no life */
#define REBOOT_FREE 3u			  /* so many of them in a row cost nothing */
#define REBOOT_WAIT_NS (100 * NS_PER_MS)  /* then this, twice as long each time, up to: */
#define REBOOT_WAIT_MAX_NS (10 * NS_PER_SEC)

struct steward {
	struct steward_parts parts;
	struct vm *vm;
	struct console *console[2];
	struct loop_timer *soon, *again;
	uint64_t born_ns;
	const char *stop_reason;
	const void *held_by;
	bool run_after, was_running, button_after;
	uint64_t hold_ns; /* when the guest was told to stop */
	bool ending, waiting;
	uint64_t begun_ns;  /* when the guest's present life began */
	unsigned quick;	    /* short lives in a row */
	enum vm_event_kind end_kind;
	char *end_text;
};

static void notify(struct steward *m, const char *event, const char *text)
{
	m->parts.notify(m->parts.arg, event, text);
}

static const char *event_name(enum vm_event_kind kind)
{
	switch (kind) {
	case VM_EVENT_POWER_OFF: return "power-off";
	case VM_EVENT_RESET: return "reset";
	case VM_EVENT_TRIPLE_FAULT: return "triple-fault";
	case VM_EVENT_DISK_ERROR: return "disk-error";
	case VM_EVENT_INTERNAL_ERROR: return "internal-error";
	case VM_EVENT_GUEST_PANIC: return "guest-panic";
	case VM_EVENT_HEARTBEAT: return "heartbeat";
	case VM_EVENT_SHUTDOWN_REFUSED: return "shutdown-refused";
	}
	return "internal-error";
}

/* ---- the machine ends, or begins again ---- */

static void crash(struct steward *m, const char *text)
{
	log_event(LOG_ERROR, "internal error text=\"%s\"", text);
	notify(m, "internal-error", text);
	m->parts.finish(m->parts.arg, STEWARD_EXIT_CRASHED);
}

static enum err run(struct steward *m)
{
	enum err e;

	if (m->ending) /* the loop's next turn decides */
		return ERR_OK;
	e = vm_resume(m->vm);
	if (e != ERR_OK)
		return e;
	m->stop_reason = "";
	notify(m, "running", "");
	return ERR_OK;
}

/* How long a guest that resets itself stands still first. */
static uint64_t reboot_delay(struct steward *m)
{
	uint64_t delay = REBOOT_WAIT_NS;

	m->quick = clock_mono_ns() - m->begun_ns < REBOOT_QUICK_NS ? m->quick + 1 : 0;
	if (m->quick <= REBOOT_FREE)
		return 0;
	for (unsigned i = REBOOT_FREE + 1; i < m->quick && delay < REBOOT_WAIT_MAX_NS; i++)
		delay *= 2;
	return delay < REBOOT_WAIT_MAX_NS ? delay : REBOOT_WAIT_MAX_NS;
}

static void on_again(void *arg)
{
	struct steward *m = arg;

	if (!m->waiting)
		return;
	m->waiting = false;
	m->begun_ns = clock_mono_ns();
	if (run(m) != ERR_OK)
		crash(m, err_text());
}

static void begin_again(struct steward *m)
{
	uint64_t delay = reboot_delay(m);
	enum err e = vm_reset(m->vm);

	if (e != ERR_OK) {
		crash(m, err_text());
		return;
	}
	m->waiting = true;
	if (delay == 0) {
		on_again(m);
		return;
	}
	m->stop_reason = "reboot-delay";
	log_event(LOG_WARN, "machine reboots over and over quick_reboots=%u wait_ms=%llu", m->quick,
		  (unsigned long long)(delay / NS_PER_MS));
	notify(m, "paused", m->stop_reason);
	loop_timer_set(m->again, delay);
}

/* True if it was waiting to run. */
static bool stop_waiting(struct steward *m)
{
	bool was = m->waiting;

	m->waiting = false;
	loop_timer_set(m->again, 0);
	return was;
}

static void draw_consequence(void *arg)
{
	struct steward *m = arg;

	if (!m->ending || m->held_by)
		return;
	m->ending = false;
	m->stop_reason = event_name(m->end_kind);
	notify(m, m->stop_reason, m->end_text ? m->end_text : "");
	switch (m->end_kind) {
	case VM_EVENT_RESET:
		if (m->parts.config->on_reboot == CONFIG_REBOOT)
			begin_again(m);
		else
			m->parts.finish(m->parts.arg, STEWARD_EXIT_DONE);
		break;
	case VM_EVENT_TRIPLE_FAULT:
		if (m->parts.config->on_crash == CONFIG_REBOOT)
			begin_again(m);
		else
			m->parts.finish(m->parts.arg, STEWARD_EXIT_CRASHED);
		break;
	case VM_EVENT_INTERNAL_ERROR:
		m->parts.finish(m->parts.arg, STEWARD_EXIT_CRASHED);
		break;
	case VM_EVENT_POWER_OFF:
	case VM_EVENT_DISK_ERROR: /* these four do not end a machine */
	case VM_EVENT_GUEST_PANIC:
	case VM_EVENT_HEARTBEAT:
	case VM_EVENT_SHUTDOWN_REFUSED:
		m->parts.finish(m->parts.arg, STEWARD_EXIT_DONE);
		break;
	}
}

static void on_event(void *arg, const struct vm_event *event)
{
	struct steward *m = arg;

	if (event->kind >= VM_EVENT_GUEST_PANIC) { /* it runs on */
		notify(m, event_name(event->kind), event->text);
		return;
	}
	if (event->kind == VM_EVENT_DISK_ERROR) { /* it stands, until it is resumed */
		m->stop_reason = event_name(event->kind);
		notify(m, m->stop_reason, event->text);
		return;
	}
	free(m->end_text);
	m->end_text = strdup(event->text);
	m->end_kind = event->kind;
	m->ending = true;
	loop_timer_set(m->soon, 1);
}

/* ---- life ---- */

static enum err create_consoles(struct steward *m, const struct steward_parts *p)
{
	for (unsigned i = 0; i < 2; i++) {
		bool can_input = p->config->console[i] != CONFIG_CONSOLE_FILE;
		int fd = m->parts.console_fd[i];
		enum err e = console_create(p->loop, &m->console[i]);

		if (e != ERR_OK)
			return e;
		m->parts.console_fd[i] = -1;
		if (fd >= 0)
			e = console_attach(m->console[i], fd, false, can_input);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

enum err steward_create(const struct steward_parts *parts, struct steward **out)
{
	struct steward *m = calloc(1, sizeof(*m));
	enum err e;

	if (!m)
		return err_note(ERR_NOMEM, 0, "machine: out of memory");
	m->parts = *parts;
	m->born_ns = clock_mono_ns();
	m->stop_reason = "";
	e = loop_timer_create(parts->loop, draw_consequence, m, &m->soon);
	if (e == ERR_OK)
		e = loop_timer_create(parts->loop, on_again, m, &m->again);
	if (e == ERR_OK)
		e = create_consoles(m, parts);
	if (e != ERR_OK)
		goto fail;
	struct vm_host host = {
		.loop = parts->loop, .kvm_fd = parts->kvm_fd, .kernel_fd = parts->kernel_fd,
		.initrd_fd = parts->initrd_fd, .disks = parts->disks,
		.disks_from_image = parts->disks_from_image, .console = {m->console[0], m->console[1]},
		.event = on_event, .arg = m,
	};
	e = vm_create(parts->config, &host, &m->vm);
	if (e != ERR_OK)
		goto fail;
	*out = m;
	return ERR_OK;
fail:
	steward_destroy(m);
	return e;
}

void steward_destroy(struct steward *m)
{
	if (!m)
		return;
	vm_destroy(m->vm);
	for (unsigned i = 0; i < 2; i++) {
		console_destroy(m->console[i]);
		if (m->parts.console_fd[i] >= 0)
			close(m->parts.console_fd[i]);
	}
	if (m->soon)
		loop_timer_destroy(m->soon);
	if (m->again)
		loop_timer_destroy(m->again);
	free(m->end_text);
	free(m);
}

/* ---- looking ---- */

void steward_status(const struct steward *m, struct steward_status *out)
{
	static const char *const names[] = {
		[VM_CREATED] = "created", [VM_PAUSED] = "paused", [VM_RUNNING] = "running"};
	struct vm_stats s;

	vm_stats(m->vm, &s);
	*out = (struct steward_status){
		.state = names[vm_state(m->vm)],
		.stop_reason = m->stop_reason,
		.held = m->held_by != NULL,
		.uptime_ns = clock_mono_ns() - m->born_ns,
		.exits = s.exits,
		.unclaimed = s.unclaimed.port_reads + s.unclaimed.port_writes +
			     s.unclaimed.mmio_reads + s.unclaimed.mmio_writes,
		.resets = s.resets,
	};
}

const struct vm_config *steward_config(const struct steward *m)
{
	return vm_config(m->vm);
}

struct memory *steward_memory(struct steward *m)
{
	return vm_memory(m->vm);
}

bool steward_started(const struct steward *m)
{
	return vm_state(m->vm) != VM_CREATED;
}

int steward_kernel_fd(const struct steward *m)
{
	return m->parts.kernel_fd;
}

int steward_initrd_fd(const struct steward *m)
{
	return m->parts.initrd_fd;
}

const struct vm *steward_vm(const struct steward *m)
{
	return m->vm;
}

/* ---- wishes ---- */

static enum err need_started(const struct steward *m)
{
	if (steward_started(m))
		return ERR_OK;
	return err_note(ERR_BUSY, 0, "machine %s: was not started yet", m->parts.config->name);
}

static enum err need_fresh(const struct steward *m)
{
	if (!steward_started(m))
		return ERR_OK;
	return err_note(ERR_BUSY, 0, "machine %s: was started already", m->parts.config->name);
}

static enum err need_free(const struct steward *m)
{
	if (!m->held_by)
		return ERR_OK;
	return err_note(ERR_BUSY, 0, "machine %s: a checkpoint is being taken: try again when it "
			"is done", m->parts.config->name);
}

enum err steward_change(struct steward *m, struct vm **out)
{
	enum err e = need_started(m);

	if (e == ERR_OK)
		e = need_free(m);
	if (e == ERR_OK && m->ending)
		e = err_note(ERR_BUSY, 0, "machine %s: is just stopping: try again",
			     m->parts.config->name);
	*out = m->vm;
	return e;
}

void steward_changed(struct steward *m, const char *event, const char *what)
{
	notify(m, event, what);
}

enum err steward_boot(struct steward *m)
{
	enum err e = need_fresh(m);

	if (e == ERR_OK)
		e = vm_boot(m->vm);
	if (e != ERR_OK)
		return e;
	m->stop_reason = "boot";
	m->begun_ns = clock_mono_ns();
	return ERR_OK;
}

enum err steward_pause(struct steward *m, bool *was_running)
{
	enum err e = need_started(m);

	if (e != ERR_OK)
		return e;
	if (m->held_by) {
		*was_running = m->run_after;
		m->run_after = false;
		return ERR_OK;
	}
	*was_running = stop_waiting(m) || vm_state(m->vm) == VM_RUNNING;
	if (!*was_running)
		return ERR_OK;
	e = vm_pause(m->vm);
	if (e != ERR_OK)
		return e;
	m->stop_reason = "request";
	notify(m, "paused", m->stop_reason);
	return ERR_OK;
}

enum err steward_resume(struct steward *m)
{
	enum err e = need_started(m);

	if (e != ERR_OK || vm_state(m->vm) == VM_RUNNING)
		return e;
	if (m->held_by) {
		m->run_after = true;
		return ERR_OK;
	}
	(void)stop_waiting(m);
	return run(m);
}

enum err steward_reset(struct steward *m)
{
	bool running = vm_state(m->vm) == VM_RUNNING;
	enum err e = need_started(m);

	if (e == ERR_OK)
		e = need_free(m);
	if (e == ERR_OK && stop_waiting(m))
		running = true;
	if (e == ERR_OK && running)
		e = vm_pause(m->vm);
	if (e == ERR_OK)
		e = vm_reset(m->vm);
	if (e != ERR_OK)
		return e;
	m->ending = false;
	notify(m, "reset", "request");
	return running ? run(m) : ERR_OK;
}

enum err steward_power_button(struct steward *m)
{
	enum err e = need_started(m);

	if (e != ERR_OK)
		return e;
	if (m->held_by) {
		m->button_after = true;
		return ERR_OK;
	}
	return vm_power_button(m->vm);
}

enum err steward_guest(const struct steward *m, struct vm_guest *out)
{
	vm_guest_info(m->vm, out);
	return ERR_OK;
}

enum err steward_guest_ping(struct steward *m)
{
	enum err e = need_started(m);

	return e == ERR_OK ? vm_guest_ping(m->vm) : e;
}

enum err steward_guest_time(struct steward *m)
{
	enum err e = need_started(m);

	return e == ERR_OK ? vm_guest_time(m->vm) : e;
}

enum err steward_guest_shutdown(struct steward *m, bool restart)
{
	enum err e = need_started(m);

	return e == ERR_OK ? vm_guest_shutdown(m->vm, restart) : e;
}

void steward_kill(struct steward *m)
{
	notify(m, "killed", "request");
	m->parts.finish(m->parts.arg, STEWARD_EXIT_DONE);
}

/* ---- holds ---- */

enum err steward_hold(struct steward *m, const void *who, bool *was_running, uint64_t *park_ns)
{
	uint64_t start = clock_mono_ns();
	enum err e = need_started(m);

	if (e == ERR_OK)
		e = need_free(m);
	if (e == ERR_OK && m->ending)
		e = err_note(ERR_BUSY, 0, "machine %s: is just stopping: try again",
			     m->parts.config->name);
	if (e != ERR_OK)
		return e;
	m->was_running = stop_waiting(m) || vm_state(m->vm) == VM_RUNNING;
	if (m->was_running)
		e = vm_pause(m->vm);
	if (e != ERR_OK)
		return e;
	m->held_by = who;
	m->hold_ns = start;
	m->run_after = *was_running = m->was_running;
	*park_ns = clock_mono_ns() - start;
	if (m->was_running) {
		m->stop_reason = "hold";
		notify(m, "paused", m->stop_reason);
	}
	return ERR_OK;
}

enum err steward_release(struct steward *m, const void *who, uint64_t *paused_ns)
{
	bool spoiled = m->ending;
	enum err e = ERR_OK;

	if (m->held_by != who)
		return err_note(ERR_USAGE, 0, "machine %s: this connection does not hold it",
				m->parts.config->name);
	m->held_by = NULL;
	if (m->ending)
		loop_timer_set(m->soon, 1);
	else if (m->run_after)
		e = run(m);
	else if (m->was_running)
		m->stop_reason = "request"; /* somebody paused it meanwhile */
	*paused_ns = m->was_running ? clock_mono_ns() - m->hold_ns : 0;
	if (m->button_after && e == ERR_OK && !m->ending)
		e = vm_power_button(m->vm);
	m->button_after = false;
	if (e == ERR_OK && spoiled)
		return err_note(ERR_GUEST, 0, "machine %s: stopped by itself (%s) in the moment of "
				"the pause: try again", m->parts.config->name,
				event_name(m->end_kind));
	return e;
}

bool steward_holds(const struct steward *m, const void *who)
{
	return m->held_by == who;
}

void steward_forget(struct steward *m, const void *who)
{
	uint64_t paused_ns;

	if (m->held_by != who)
		return;
	log_event(LOG_WARN, "hold ended with its connection");
	if (steward_release(m, who, &paused_ns) != ERR_OK && !m->ending)
		crash(m, err_text());
}

/* ---- the image ---- */

enum err steward_save(struct steward *m, struct buf *state)
{
	enum err e = need_started(m);

	if (e != ERR_OK)
		return e;
	if (vm_state(m->vm) != VM_PAUSED)
		return err_note(ERR_BUSY, 0, "machine %s: runs: pause it first",
				m->parts.config->name);
	if (m->ending)
		return err_note(ERR_GUEST, 0, "machine %s: is just stopping (%s): try again",
				m->parts.config->name, event_name(m->end_kind));
	return vm_save(m->vm, state);
}

enum err steward_check(struct steward *m, const void *state, size_t len)
{
	enum err e = need_fresh(m);

	return e == ERR_OK ? vm_check(m->vm, state, len) : e;
}

enum err steward_load(struct steward *m, const void *state, size_t len)
{
	enum err e = need_fresh(m);

	if (e == ERR_OK)
		e = vm_load(m->vm, state, len);
	if (e != ERR_OK)
		return e;
	m->stop_reason = "restore";
	m->begun_ns = clock_mono_ns();
	return ERR_OK;
}

enum err steward_console(struct steward *m, unsigned port, bool replay, int fd)
{
	if (port > 1) {
		close(fd);
		return err_note(ERR_USAGE, 0, "machine %s: has no serial port %u",
				m->parts.config->name, port + 1);
	}
	return console_attach(m->console[port], fd, replay, true);
}
