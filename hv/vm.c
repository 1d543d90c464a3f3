/* SPDX-License-Identifier: Apache-2.0 */
/* vm: puts the machine together, and moves all of it between its states; see vm.h.
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

#include "hv/acpi.h"
#include "hv/boot.h"
#include "hv/compat.h"
#include "hv/cpuid.h"
#include "hv/dirty.h"
#include "hv/emulated/acpi_pm.h"
#include "hv/emulated/i8042.h"
#include "hv/emulated/rtc.h"
#include "hv/emulated/uart.h"
#include "hv/hyperv.h"
#include "hv/irq.h"
#include "hv/kvm/kvm.h"
#include "hv/kvm/kvm_state.h"
#include "hv/state.h"
#include "hv/vcpu.h"
#include "hv/vcpu_state.h"
#include "hv/vm_state.h"

#include "base/log.h"
#include "base/thread.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TSS_ADDRESS 0xfffbd000ull
#define IDENTITY_MAP_ADDRESS 0xfffbc000ull
#define MSR_TSC 0x10u
#define COM1_BASE 0x3f8u
#define COM1_GSI 4u
#define COM2_BASE 0x2f8u
#define COM2_GSI 3u
#define STOP_TEXT_BYTES 4096u

enum { DEV_ACPI_PM, DEV_I8042, DEV_RTC, DEV_COM1, DEV_COM2, DEVICES };

struct stop { /* why the guest does not run on */
	bool set;
	enum vm_event_kind kind;
	char *text; /* owned, NULL: none */
};

struct vm {
	struct vm_config config; /* a copy */
	struct vm_host host;
	enum vm_state state;
	bool broken; /* a load failed half-way */
	int vm_fd;
	struct memory *memory;
	struct dirty *dirty;
	struct bus *bus;
	struct irq *irq;
	struct hyperv *hyperv;
	struct cpuid_table *cpuid;
	struct vcpu_plan *plan;
	struct device *devices[DEVICES];
	struct vcpu_env env;
	struct vcpu *vcpus[CONFIG_MAX_VCPUS];
	struct vcpu_ref refs[CONFIG_MAX_VCPUS];
	struct buf power_on;		/* KVM's part of the state before anything ran */
	uint64_t tsc[CONFIG_MAX_VCPUS]; /* to be set on the next resume ... */
	bool tsc_pending;		/* ... if this is */
	bool loaded;			/* hyperv_loaded is due on the next resume */
	uint64_t resets;
	int wake_fd; /* eventfd: stop or panic is set */
	struct loop_watch *watch;
	pthread_mutex_t lock;
	struct stop stop;
	char *panic; /* owned */
};

/* ---- devices ---- */

static void vm_stop(struct vm *vm, enum vm_event_kind kind, const char *text);

static void on_power_off(void *arg)
{
	vm_stop(arg, VM_EVENT_POWER_OFF, "");
}

static void on_reset(void *arg)
{
	vm_stop(arg, VM_EVENT_RESET, "");
}

static enum err create_acpi_pm(struct vm *vm, struct device **out)
{
	static const struct acpi_pm_callbacks callbacks = {on_power_off, on_reset};

	return acpi_pm_create(vm->irq, &callbacks, vm, out);
}

static enum err create_i8042(struct vm *vm, struct device **out)
{
	return i8042_create(on_reset, vm, out);
}

static enum err create_rtc(struct vm *vm, struct device **out)
{
	(void)vm;
	return rtc_create(out);
}

static enum err create_com1(struct vm *vm, struct device **out)
{
	return uart_create(vm->irq, COM1_GSI, vm->host.console[0], 0, out);
}

static enum err create_com2(struct vm *vm, struct device **out)
{
	return uart_create(vm->irq, COM2_GSI, vm->host.console[1], 1, out);
}

/* Every device of the machine, dependencies first. */
static const struct vm_device {
	enum err (*create)(struct vm *vm, struct device **out);
	uint64_t port, ports;
	const struct state_kind *kind;
	uint32_t instance;
} vm_devices[DEVICES] = {
	[DEV_ACPI_PM] = {create_acpi_pm, ACPI_PM_BASE, ACPI_PM_PORTS, &acpi_pm_state_kind, 0},
	[DEV_I8042] = {create_i8042, I8042_BASE, I8042_PORTS, &i8042_state_kind, 0},
	[DEV_RTC] = {create_rtc, RTC_BASE, RTC_PORTS, &rtc_state_kind, 0},
	[DEV_COM1] = {create_com1, COM1_BASE, UART_PORTS, &uart_state_kind, 0},
	[DEV_COM2] = {create_com2, COM2_BASE, UART_PORTS, &uart_state_kind, 1},
};

static void devices_resume(struct vm *vm, unsigned first)
{
	for (unsigned i = first; i < DEVICES; i++) {
		struct device *d = vm->devices[i];

		AUTO_LOCK(&d->lock);
		d->ops->resume(d->self);
	}
}

/* All quiet, or after an error all as before. */
static enum err devices_quiesce(struct vm *vm)
{
	for (unsigned i = DEVICES; i-- > 0;) {
		struct device *d = vm->devices[i];
		enum err e;

		pthread_mutex_lock(&d->lock);
		e = d->ops->quiesce(d->self);
		pthread_mutex_unlock(&d->lock);
		if (e != ERR_OK) {
			devices_resume(vm, i + 1);
			return err_context(e, "quiesce %s.%u", d->ops->kind, d->instance);
		}
	}
	return ERR_OK;
}

static void devices_reset(struct vm *vm)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		struct device *d = vm->devices[i];

		AUTO_LOCK(&d->lock);
		d->ops->reset(d->self);
	}
}

static enum err devices_create(struct vm *vm)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		const struct vm_device *t = &vm_devices[i];
		enum err e;

		if ((e = t->create(vm, &vm->devices[i])) != ERR_OK)
			return e;
		e = bus_claim(vm->bus, BUS_PORT, t->port, t->ports, vm->devices[i]);
		if (e != ERR_OK)
			return e;
	}
	devices_reset(vm);
	return devices_quiesce(vm); /* CREATED is quiet */
}

static enum err devices_save(struct vm *vm, struct state_out *out)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		struct device *d = vm->devices[i];
		enum err e;

		state_begin(out, vm_devices[i].kind, vm_devices[i].instance);
		pthread_mutex_lock(&d->lock);
		e = d->ops->save(d->self, out);
		pthread_mutex_unlock(&d->lock);
		state_end(out);
		if (e != ERR_OK)
			return err_context(e, "save %s.%u", d->ops->kind, d->instance);
	}
	return ERR_OK;
}

static enum err devices_load(struct vm *vm, struct state_file *file)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		struct device *d = vm->devices[i];
		struct state_in *in;
		enum err e;

		e = state_find(file, vm_devices[i].kind, vm_devices[i].instance, &in);
		if (e != ERR_OK)
			return e;
		AUTO_LOCK(&d->lock);
		if ((e = d->ops->load(d->self, in)) != ERR_OK)
			return err_context(e, "load %s.%u", d->ops->kind, d->instance);
	}
	return ERR_OK;
}

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

static void on_fault(void *arg, uint32_t index, enum vcpu_fault fault, const char *text)
{
	(void)index;
	vm_stop(arg,
		fault == VCPU_TRIPLE_FAULT ? VM_EVENT_TRIPLE_FAULT : VM_EVENT_INTERNAL_ERROR,
		text);
}

static void on_panic(void *arg, uint32_t vp, const char *text)
{
	struct vm *vm = arg;
	AUTO_LOCK(&vm->lock);

	(void)vp;
	free(vm->panic);
	vm->panic = strdup(text);
	vm_wake(vm);
}

static bool on_guest_tsc(void *arg, uint32_t vp, uint64_t *tsc)
{
	struct vm *vm = arg;

	return kvm_state_get_msr(vcpu_fd(vm->vcpus[vp]), MSR_TSC, tsc) == ERR_OK;
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

static enum err create_platform(struct vm *vm)
{
	int kvm_fd = vm->host.kvm_fd;
	enum err e;

	if ((e = kvm_check(kvm_fd)) != ERR_OK)
		return e;
	if ((e = kvm_check_vcpus(kvm_fd, vm->config.vcpus)) != ERR_OK)
		return e;
	e = cpuid_build(kvm_fd, vm->config.cpu, vm->config.vcpus, &vm->cpuid);
	if (e != ERR_OK)
		return e;
	if ((e = kvm_vm_create(kvm_fd, TSS_ADDRESS, IDENTITY_MAP_ADDRESS, &vm->vm_fd)) != ERR_OK)
		return e;
	if ((e = kvm_vm_create_chips(vm->vm_fd)) != ERR_OK)
		return e;
	if ((e = kvm_vm_trap_msrs(vm->vm_fd, HYPERV_MSR_FIRST, HYPERV_MSR_COUNT)) != ERR_OK)
		return e;
	if ((e = memory_create(vm->config.memory_bytes, &vm->memory)) != ERR_OK)
		return e;
	if ((e = dirty_create(vm->memory, vm->vm_fd, &vm->dirty)) != ERR_OK)
		return e;
	if ((e = irq_create(vm->vm_fd, &vm->irq)) != ERR_OK)
		return e;
	return bus_create(&vm->bus);
}

static enum err create_vcpus(struct vm *vm)
{
	enum err e;

	vm->env = (struct vcpu_env){
		.kvm_fd = vm->host.kvm_fd,
		.vm_fd = vm->vm_fd,
		.memory = vm->memory,
		.bus = vm->bus,
		.fault = on_fault,
		.arg = vm,
	};
	if ((e = vcpu_install_kick()) != ERR_OK)
		return e;
	for (uint32_t i = 0; i < vm->config.vcpus; i++) {
		if ((e = vcpu_create(&vm->env, i, vm->cpuid, &vm->vcpus[i])) != ERR_OK)
			return e;
		vm->refs[i] = (struct vcpu_ref){vcpu_fd(vm->vcpus[i]), vcpu_run(vm->vcpus[i])};
	}
	return vcpu_plan_create(vm->host.kvm_fd, vm->vm_fd, vm->refs[0].fd, &vm->plan);
}

static enum err create_hyperv(struct vm *vm)
{
	struct hyperv_host host = {
		.memory = vm->memory,
		.vcpus = vm->config.vcpus,
		.tsc_hz = vcpu_plan_tsc_khz(vm->plan) * 1000ull,
		.guest_tsc = on_guest_tsc,
		.panic = on_panic,
		.arg = vm,
	};
	enum err e = hyperv_create(&host, &vm->hyperv);

	vm->env.hyperv = vm->hyperv;
	return e;
}

static enum err create_wake(struct vm *vm)
{
	vm->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->wake_fd < 0)
		return err_sys(errno, "create the machine's event descriptor");
	return loop_add(vm->host.loop, vm->wake_fd, EPOLLIN, on_wake, vm, &vm->watch);
}

enum err vm_create(const struct vm_config *config, const struct vm_host *host, struct vm **out)
{
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
	pthread_mutex_init(&vm->lock, NULL);
	if (config->cmdline && !vm->config.cmdline) {
		e = err_sys(ENOMEM, "machine");
		goto fail;
	}
	if ((e = create_wake(vm)) != ERR_OK || (e = create_platform(vm)) != ERR_OK ||
	    (e = devices_create(vm)) != ERR_OK || (e = create_vcpus(vm)) != ERR_OK ||
	    (e = create_hyperv(vm)) != ERR_OK)
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
	for (uint32_t i = 0; i < vm->config.vcpus; i++)
		vcpu_destroy(vm->vcpus[i]);
	loop_remove(vm->watch);
	for (unsigned i = DEVICES; i-- > 0;)
		device_destroy(vm->devices[i]);
	vcpu_plan_destroy(vm->plan);
	cpuid_destroy(vm->cpuid);
	hyperv_destroy(vm->hyperv);
	bus_destroy(vm->bus);
	irq_destroy(vm->irq);
	dirty_destroy(vm->dirty);
	if (vm->vm_fd >= 0)
		close(vm->vm_fd);
	memory_destroy(vm->memory);
	if (vm->wake_fd >= 0)
		close(vm->wake_fd);
	buf_fini(&vm->power_on);
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

/* Remember what KVM's part looks like before anything has run. */
static enum err vm_save_power_on(struct vm *vm)
{
	struct state_out *out = NULL;
	const uint8_t *p;
	size_t len;
	enum err e;

	if ((e = state_out_create(&out)) != ERR_OK)
		return e;
	e = vm_state_save(vm->vm_fd, out);
	if (e == ERR_OK)
		e = vcpu_state_save(vm->plan, vm->refs, vm->config.vcpus, out, vm->tsc);
	if (e == ERR_OK)
		e = state_out_finish(out, &p, &len);
	if (e == ERR_OK) {
		buf_clear(&vm->power_on);
		buf_put(&vm->power_on, p, len);
		e = buf_check(&vm->power_on);
	}
	state_out_destroy(out);
	return e;
}

static enum err vm_load_power_on(struct vm *vm)
{
	struct state_file *file = NULL;
	enum err e;

	if ((e = state_open(vm->power_on.data, vm->power_on.len, &file)) != ERR_OK)
		return e;
	e = vm_state_load(vm->vm_fd, file);
	if (e == ERR_OK)
		e = vcpu_state_load(vm->plan, vm->refs, vm->config.vcpus, file, vm->tsc);
	state_close(file);
	return e;
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
	hyperv_reset(vm->hyperv, vm->tsc[0]);
	vm->tsc_pending = true;
	return ERR_OK;
}

enum err vm_boot(struct vm *vm)
{
	enum err e;

	if ((e = vm_check_new(vm)) != ERR_OK)
		return e;
	if ((e = vm_save_power_on(vm)) != ERR_OK)
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
	pthread_mutex_unlock(&vm->lock);
	vm->loaded = false;
	devices_reset(vm);
	if ((e = memory_clear(vm->memory)) != ERR_OK)
		return e;
	if ((e = vm_load_power_on(vm)) != ERR_OK)
		return err_context(e, "reset");
	if ((e = vm_start(vm)) != ERR_OK)
		return err_context(e, "reset");
	vm->resets++;
	return ERR_OK;
}

/* ---- run and pause ---- */

/* What waits for the first moment of running after a start or a load. */
static enum err vm_before_run(struct vm *vm)
{
	enum err e;

	if (vm->loaded && (e = hyperv_loaded(vm->hyperv)) != ERR_OK)
		return e;
	vm->loaded = false;
	if (!vm->tsc_pending)
		return ERR_OK;
	if ((e = vcpu_state_set_tsc(vm->refs, vm->config.vcpus, vm->tsc)) != ERR_OK)
		return e;
	vm->tsc_pending = false;
	return ERR_OK;
}

enum err vm_resume(struct vm *vm)
{
	enum err e;

	if (vm->state == VM_RUNNING)
		return ERR_OK;
	if (vm->state == VM_CREATED)
		return err_note(ERR_FAILED, 0, "the machine has nothing to run yet");
	if ((e = vm_before_run(vm)) != ERR_OK)
		return e;
	devices_resume(vm, 0);
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
	if ((e = devices_quiesce(vm)) != ERR_OK) {
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
	acpi_pm_power_button(vm->devices[DEV_ACPI_PM]);
	return ERR_OK;
}

/* ---- save and load ---- */

enum { TAG_STOP = 1, TAG_STOP_TEXT };

static const struct state_field vm_fields[] = {
	{TAG_STOP, STATE_U8, false, "stop"}, /* 0, or 1 + enum vm_event_kind */
	{TAG_STOP_TEXT, STATE_TEXT, true, "stop_text"},
};
static const struct state_kind vm_state_kind = {
	.kind = "vm", .version = 1, .fields = vm_fields, .count = 2};

static void vm_save_stop(struct vm *vm, struct state_out *out)
{
	AUTO_LOCK(&vm->lock);
	const struct stop *s = &vm->stop;

	state_begin(out, &vm_state_kind, 0);
	state_put_u8(out, TAG_STOP, s->set ? (uint8_t)(1 + s->kind) : 0);
	if (s->set && s->text)
		state_put_bytes(out, TAG_STOP_TEXT, s->text, strlen(s->text));
	state_end(out);
}

static enum err vm_load_stop(struct vm *vm, struct state_file *file)
{
	const uint8_t *text = NULL;
	struct state_in *in;
	uint8_t stop = 0;
	size_t len = 0;
	enum err e;

	if ((e = state_find(file, &vm_state_kind, 0, &in)) != ERR_OK)
		return e;
	if ((e = state_get_u8(in, TAG_STOP, &stop)) != ERR_OK)
		return e;
	if ((e = state_get_bytes(in, TAG_STOP_TEXT, &text, &len)) != ERR_OK)
		return e;
	if (stop > 1 + VM_EVENT_INTERNAL_ERROR || len > STOP_TEXT_BYTES)
		return err_note(ERR_CORRUPT, 0, "state of vm: stop %u is not known", stop);
	if (stop)
		vm->stop = (struct stop){.set = true,
					 .kind = (enum vm_event_kind)(stop - 1),
					 .text = text ? strndup((const char *)text, len) : NULL};
	return ERR_OK;
}

/* What compat.h has to know; sections has room for DEVICES + 1. */
static struct compat_machine vm_compat(const struct vm *vm, struct compat_section *sections)
{
	for (unsigned i = 0; i < DEVICES; i++)
		sections[i] = (struct compat_section){vm_devices[i].kind, vm_devices[i].instance};
	sections[DEVICES] = (struct compat_section){&vm_state_kind, 0};
	return (struct compat_machine){
		.config = &vm->config,
		.cpuid = vm->cpuid,
		.plan = vm->plan,
		.sections = sections,
		.section_count = DEVICES + 1,
	};
}

static enum err vm_save_sections(struct vm *vm, struct state_out *out)
{
	struct compat_section sections[DEVICES + 1];
	struct compat_machine machine = vm_compat(vm, sections);
	uint64_t tsc[CONFIG_MAX_VCPUS];
	enum err e;

	/* Loaded or started, but never run: its time has not gone on. */
	if (vm->tsc_pending &&
	    (e = vcpu_state_set_tsc(vm->refs, vm->config.vcpus, vm->tsc)) != ERR_OK)
		return e;
	compat_save(&machine, out);
	cpuid_save(vm->cpuid, out);
	if ((e = vm_state_save(vm->vm_fd, out)) != ERR_OK)
		return e;
	if ((e = vcpu_state_save(vm->plan, vm->refs, vm->config.vcpus, out, tsc)) != ERR_OK)
		return e;
	hyperv_save(vm->hyperv, tsc[0], out);
	if ((e = devices_save(vm, out)) != ERR_OK)
		return e;
	vm_save_stop(vm, out);
	return ERR_OK;
}

enum err vm_save(struct vm *vm, struct buf *out)
{
	struct state_out *o = NULL;
	const uint8_t *p;
	size_t len;
	enum err e;

	if (vm->state != VM_PAUSED)
		return err_note(ERR_BUSY, 0, "the machine is not paused");
	if ((e = state_out_create(&o)) != ERR_OK)
		return e;
	e = vm_save_sections(vm, o);
	if (e == ERR_OK)
		e = state_out_finish(o, &p, &len);
	if (e == ERR_OK) {
		buf_put(out, p, len);
		e = buf_check(out);
	}
	state_out_destroy(o);
	return e;
}

/* The processors become those of the image: the guest has seen their features. */
static enum err vm_load_cpuid(struct vm *vm, struct state_file *file)
{
	struct cpuid_table *table = NULL;
	struct vcpu_plan *plan = NULL;
	enum err e;

	if ((e = cpuid_from_state(file, &table)) != ERR_OK)
		return e;
	cpuid_destroy(vm->cpuid);
	vm->cpuid = table;
	for (uint32_t i = 0; i < vm->config.vcpus; i++)
		if ((e = cpuid_apply(table, vm->refs[i].fd, i)) != ERR_OK)
			return e;
	e = vcpu_plan_create(vm->host.kvm_fd, vm->vm_fd, vm->refs[0].fd, &plan);
	if (e != ERR_OK)
		return e;
	vcpu_plan_destroy(vm->plan);
	vm->plan = plan;
	return ERR_OK;
}

/* The order, and why:
 * 1. CPUID: what registers and MSRs may hold depends on it.
 * 2. the state to reset to, while nothing else has been loaded.
 * 3. interrupt controllers and PIT before the vCPUs (vm_state.h): what they deliver
 *    in between is overwritten by the vCPUs' own LAPIC state.
 * 4. vCPUs (vcpu_state.c has the order within one).
 * 5. Hyper-V after the vCPUs' TSC, which its clock refers to.
 * 6. devices last: their lines go to chips that are in place. */
static enum err vm_load_sections(struct vm *vm, struct state_file *file)
{
	enum err e;

	if ((e = vm_load_cpuid(vm, file)) != ERR_OK)
		return e;
	if ((e = vm_save_power_on(vm)) != ERR_OK)
		return e;
	if ((e = vm_state_load(vm->vm_fd, file)) != ERR_OK)
		return e;
	e = vcpu_state_load(vm->plan, vm->refs, vm->config.vcpus, file, vm->tsc);
	if (e != ERR_OK)
		return e;
	if ((e = hyperv_load(vm->hyperv, file)) != ERR_OK)
		return e;
	if ((e = devices_load(vm, file)) != ERR_OK)
		return e;
	return vm_load_stop(vm, file);
}

/* The checked, indexed state (given), if it fits this machine. */
static enum err vm_open_state(struct vm *vm, const void *state, size_t len,
			      struct state_file **out)
{
	struct compat_section sections[DEVICES + 1];
	struct compat_machine machine = vm_compat(vm, sections);
	AUTO_BUF struct buf report = {0};
	enum err e;

	if ((e = vm_check_new(vm)) != ERR_OK)
		return e;
	if ((e = state_open(state, len, out)) != ERR_OK)
		return e;
	if ((e = compat_check(&machine, *out, &report)) != ERR_OK) {
		state_close(*out);
		return e;
	}
	if (report.len)
		log_event(LOG_INFO, "state-remarks text=\"%s\"", buf_str(&report));
	return ERR_OK;
}

enum err vm_check(struct vm *vm, const void *state, size_t len)
{
	struct state_file *file;
	enum err e = vm_open_state(vm, state, len, &file);

	if (e == ERR_OK)
		state_close(file);
	return e;
}

enum err vm_load(struct vm *vm, const void *state, size_t len)
{
	struct state_file *file;
	enum err e;

	if ((e = vm_open_state(vm, state, len, &file)) != ERR_OK)
		return e;
	if ((e = vm_load_sections(vm, file)) == ERR_OK) {
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
