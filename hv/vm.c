/* SPDX-License-Identifier: Apache-2.0 */
/* vm: moves all of the machine between its states; see vm.h.
 *
 * Pausing: all vCPUs are asked to park, then waited for; then devices are quiesced,
 * last one of the list first, so that nothing a device depends on stops before it.
 * Resuming goes the other way round.
 *
 * Stopping by the guest: a vCPU thread records why (`stop`, the first reason
 * counts), asks all vCPUs to park and wakes the loop, which finishes the pause and
 * tells the owner.  A machine that is paused or saved in between keeps its reason,
 * and tells it when it is resumed: no power-off is lost in a checkpoint.  A crash
 * stays until reset or load: such vCPUs cannot go on.
 *
 * Reset: KVM's part (vCPUs, interrupt controllers, PIT) is loaded from a state that
 * was saved before anything ran; our own part has reset functions; RAM is cleared and
 * filled as at the first start.
 *
 * Threads: everything on the loop thread but vm_stop and vm_panic (vCPU threads).
 * `lock` guards stop and panic, and makes "unpark all" and "park all" one step each.
 * Order: device.lock before vm.lock before a vCPU's own. */
#include "hv/vm.h"

#include "base/log.h"
#include "base/thread.h"
#include "hv/acpi.h"
#include "hv/boot.h"
#include "hv/emulated/acpi_pm.h"
#include "hv/machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- stopping by the guest ---- */

static void vm_wake(struct vm *vm)
{
	uint64_t one = 1;

	if (write(vm->wake_fd, &one, sizeof one) != (ssize_t)sizeof one)
		log_event(LOG_ERROR, "wake-failed reason=\"%s\"", strerror(errno));
}

static void vm_park_all(struct vm *vm)
{
	for (uint32_t i = 0; i < vm->config.vcpus; i++)
		if (vm->vcpus[i])
			vcpu_request_park(vm->vcpus[i]);
}

/* Any vCPU thread, maybe with a device locked. */
static void vm_stop(struct vm *vm, enum vm_event_kind kind, const char *text)
{
	AUTO_LOCK(&vm->lock);

	if (!vm->stop.set)
		vm->stop = (struct stop){.set = true, .kind = kind, .text = strdup(text)};
	vm_park_all(vm);
	vm_wake(vm);
}

/* Any vCPU thread, no lock held.  A guest has one reason to panic, and a hostile one
 * could keep the owner busy with nothing else. */
static void vm_panic(struct vm *vm, const char *text)
{
	AUTO_LOCK(&vm->lock);

	if (vm->panics == VM_PANICS_MAX)
		return;
	vm->panics++;
	free(vm->panic);
	vm->panic = strdup(text);
	vm_wake(vm);
}

static void stop_clear(struct vm *vm)
{
	free(vm->stop.text);
	vm->stop = (struct stop){0};
}

static bool stop_is_crash(const struct stop *s)
{
	return s->kind == VM_EVENT_TRIPLE_FAULT || s->kind == VM_EVENT_INTERNAL_ERROR;
}

/* One event for the owner, of those that are due; text is given. */
static bool vm_next_event(struct vm *vm, enum vm_event_kind *kind, char **text)
{
	AUTO_LOCK(&vm->lock);

	if (vm->panic) {
		*kind = VM_EVENT_GUEST_PANIC;
		*text = vm->panic;
		vm->panic = NULL;
		return true;
	}
	if (!vm->stop.set)
		return false;
	*kind = vm->stop.kind;
	if (stop_is_crash(&vm->stop)) {
		*text = vm->stop.text ? strdup(vm->stop.text) : NULL;
	} else {
		*text = vm->stop.text;
		vm->stop = (struct stop){0};
	}
	return true;
}

static void on_wake(void *arg, int fd, uint32_t events)
{
	struct vm *vm = arg;
	struct vm_event event;
	uint64_t count;
	char *text = NULL;

	(void)events;
	if (read(fd, &count, sizeof count) < 0 && errno == EAGAIN)
		return;
	/* Paused in the meantime: what waits is told after the resume. */
	if (vm->state != VM_RUNNING || !vm_next_event(vm, &event.kind, &text))
		return;
	if (event.kind == VM_EVENT_GUEST_PANIC)
		vm_wake(vm); /* there may be more */
	else if (vm_pause(vm) != ERR_OK)
		log_event(LOG_ERROR, "pause-failed reason=\"%s\"", err_text());
	event.text = text ? text : "";
	/* The owner may destroy the machine: it is not touched after this. */
	vm->host.event(vm->host.arg, &event);
	free(text);
}

/* ---- life ---- */

static enum err create_wake(struct vm *vm)
{
	vm->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->wake_fd < 0)
		return err_sys(errno, "create the machine's event descriptor");
	return loop_add(vm->host.loop, vm->wake_fd, EPOLLIN, on_wake, vm, &vm->watch);
}

enum err vm_create(const struct vm_config *config, const struct vm_host *host, struct vm **out)
{
	static const struct machine_hooks hooks = {vm_stop, vm_panic};
	struct vm *vm;
	enum err e;

	if ((e = config_check(config)) != ERR_OK)
		return e;
	vm = calloc(1, sizeof *vm);
	if (!vm)
		return err_sys(ENOMEM, "machine");
	vm->config = *config;
	vm->config.cmdline = config->cmdline ? strdup(config->cmdline) : NULL;
	vm->host = *host;
	vm->vm_fd = vm->wake_fd = -1;
	for (unsigned i = 0; i < CONFIG_MAX_DISKS; i++)
		vm->disks[i] = VM_DISK_NONE;
	pthread_mutex_init(&vm->lock, NULL);
	if (config->cmdline && !vm->config.cmdline) {
		e = err_sys(ENOMEM, "machine");
		goto fail;
	}
	if ((e = create_wake(vm)) != ERR_OK)
		goto fail;
	if ((e = machine_create(vm, &hooks)) != ERR_OK)
		goto fail;
	*out = vm;
	return ERR_OK;
fail:
	vm_destroy(vm);
	return e;
}

void vm_destroy(struct vm *vm)
{
	if (!vm)
		return;
	pthread_mutex_lock(&vm->lock);
	vm_park_all(vm);
	pthread_mutex_unlock(&vm->lock);
	for (uint32_t i = 0; i < vm->config.vcpus && vm->vcpus[i]; i++)
		vcpu_wait_parked(vm->vcpus[i]);
	loop_remove(vm->watch);
	machine_destroy(vm);
	machine_disks_destroy(vm);
	if (vm->wake_fd >= 0)
		close(vm->wake_fd);
	stop_clear(vm);
	free(vm->panic);
	config_fini(&vm->config);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

enum vm_state vm_state(const struct vm *vm)
{
	return vm->state;
}

const struct vm_config *vm_config(const struct vm *vm)
{
	return &vm->config;
}

struct memory *vm_memory(struct vm *vm)
{
	return vm->memory;
}

/* ---- start and reset ---- */

static enum err vm_check_new(const struct vm *vm)
{
	if (vm->broken)
		return err_note(ERR_FAILED, 0,
				"an earlier load failed half-way: the machine can only be removed");
	if (vm->state != VM_CREATED)
		return err_note(ERR_BUSY, 0, "the machine has been started already");
	return ERR_OK;
}

/* Kernel into clean RAM, boot processor to its entry; reference time starts at 0. */
static enum err vm_start(struct vm *vm)
{
	const struct boot_request request = {
		.kernel_fd = vm->host.kernel_fd,
		.initrd_fd = vm->host.initrd_fd,
		.cmdline = vm->config.cmdline,
		.rsdp = ACPI_BASE,
	};
	struct boot_entry entry;
	enum err e;

	if ((e = acpi_write(vm->memory, vm->config.vcpus)) != ERR_OK)
		return e;
	if ((e = boot_load(vm->memory, &request, &entry)) != ERR_OK)
		return e;
	if ((e = boot_set_registers(vm->refs[0].fd, &entry)) != ERR_OK)
		return e;
	if ((e = vmgen_write(&vm->vmgen, vm->memory)) != ERR_OK)
		return e;
	hyperv_reset(vm->hyperv, vm->tsc[0]);
	vm->tsc_pending = true;
	return ERR_OK;
}

enum err vm_boot(struct vm *vm)
{
	enum err e;

	if ((e = vm_check_new(vm)) != ERR_OK)
		return e;
	if ((e = machine_disks_check(vm, false)) != ERR_OK)
		return e;
	if ((e = vm_start(vm)) != ERR_OK) {
		vm->broken = true;
		return e;
	}
	vm->state = VM_PAUSED;
	return ERR_OK;
}

enum err vm_reset(struct vm *vm)
{
	enum err e;

	if (vm->state != VM_PAUSED)
		return err_note(ERR_BUSY, 0, "the machine is not paused");
	pthread_mutex_lock(&vm->lock);
	stop_clear(vm);
	vm->panics = 0;
	pthread_mutex_unlock(&vm->lock);
	vm->loaded = false;
	machine_reset_devices(vm);
	vm->broken = true; /* until all of it is done */
	if ((e = memory_clear(vm->memory)) != ERR_OK)
		return err_context(e, "reset");
	if ((e = vm_image_load_power_on(vm)) != ERR_OK)
		return err_context(e, "reset");
	if ((e = vm_start(vm)) != ERR_OK)
		return err_context(e, "reset");
	vm->broken = false;
	vm->resets++;
	return ERR_OK;
}

/* ---- run and pause ---- */

/* What waits for the first moment of running after a start or a load.  The TSC before
 * the clock that is computed from it. */
static enum err vm_before_run(struct vm *vm)
{
	enum err e;

	if (vm->tsc_pending &&
	    (e = vcpu_state_start(vm->plan, vm->refs, vm->config.vcpus, vm->tsc)) != ERR_OK)
		return e;
	vm->tsc_pending = false;
	if (vm->loaded && (e = hyperv_loaded(vm->hyperv)) != ERR_OK)
		return e;
	if (vm->loaded && (e = machine_bus_loaded(vm)) != ERR_OK)
		return e;
	vm->loaded = false;
	return machine_bus_anchor(vm);
}

enum err vm_resume(struct vm *vm)
{
	enum err e;

	if (vm->state == VM_RUNNING)
		return ERR_OK;
	if (vm->state == VM_CREATED)
		return err_note(ERR_FAILED, 0, "the machine has nothing to run yet");
	if (vm->broken)
		return err_note(ERR_FAILED, 0,
				"an earlier reset failed half-way: reset the machine again");
	if ((e = vm_before_run(vm)) != ERR_OK)
		return e;
	machine_resume(vm);
	vm->state = VM_RUNNING;
	AUTO_LOCK(&vm->lock);
	if (vm->stop.set || vm->panic)
		vm_wake(vm); /* it stopped for a reason that nobody was told */
	for (uint32_t i = 0; i < vm->config.vcpus && !vm->stop.set; i++)
		vcpu_unpark(vm->vcpus[i]);
	return ERR_OK;
}

enum err vm_pause(struct vm *vm)
{
	enum err e;

	if (vm->state == VM_CREATED)
		return err_note(ERR_FAILED, 0, "the machine does not run yet");
	if (vm->state == VM_PAUSED)
		return ERR_OK;
	pthread_mutex_lock(&vm->lock);
	vm_park_all(vm);
	pthread_mutex_unlock(&vm->lock);
	for (uint32_t i = 0; i < vm->config.vcpus; i++)
		vcpu_wait_parked(vm->vcpus[i]);
	if ((e = machine_quiesce(vm)) != ERR_OK) {
		AUTO_LOCK(&vm->lock);
		for (uint32_t i = 0; i < vm->config.vcpus && !vm->stop.set; i++)
			vcpu_unpark(vm->vcpus[i]);
		return e;
	}
	vm->state = VM_PAUSED;
	return ERR_OK;
}

enum err vm_power_button(struct vm *vm)
{
	if (vm->state == VM_CREATED)
		return err_note(ERR_FAILED, 0, "the machine does not run yet");
	acpi_pm_raise(vm->devices[DEV_ACPI_PM], ACPI_PM_POWER_BUTTON);
	return ERR_OK;
}

/* ---- save and load ---- */

enum err vm_save(struct vm *vm, struct buf *out)
{
	if (vm->state != VM_PAUSED)
		return err_note(ERR_BUSY, 0, "the machine is not paused");
	return vm_image_save(vm, out);
}

enum err vm_check(struct vm *vm, const void *state, size_t len)
{
	struct state_file *file;
	enum err e;

	if ((e = vm_check_new(vm)) != ERR_OK)
		return e;
	if ((e = machine_disks_check(vm, true)) != ERR_OK)
		return e;
	if ((e = vm_image_open(vm, state, len, &file)) == ERR_OK)
		state_close(file);
	return e;
}

enum err vm_load(struct vm *vm, const void *state, size_t len)
{
	struct state_file *file;
	enum err e;

	if ((e = vm_check_new(vm)) != ERR_OK)
		return e;
	if ((e = machine_disks_check(vm, true)) != ERR_OK)
		return e;
	if ((e = vm_image_open(vm, state, len, &file)) != ERR_OK)
		return e;
	if ((e = vm_image_load(vm, file)) == ERR_OK) {
		vm->loaded = vm->tsc_pending = true;
		vm->state = VM_PAUSED;
	} else {
		vm->broken = true;
	}
	state_close(file);
	return e;
}

void vm_stats(const struct vm *vm, struct vm_stats *out)
{
	*out = (struct vm_stats){.resets = vm->resets};
	bus_stats(vm->bus, &out->unclaimed);
	for (uint32_t i = 0; i < vm->config.vcpus; i++) {
		struct vcpu_stats s;

		vcpu_stats(vm->vcpus[i], &s);
		out->exits += s.exits;
		out->unknown_msrs += s.unknown_msrs;
	}
}
