/* SPDX-License-Identifier: Apache-2.0 */
/* machine: what a VM consists of, in one visible place; see machine.h. */
#include "hv/machine.h"

#include "base/thread.h"
#include "hv/emulated/acpi_pm.h"
#include "hv/emulated/i8042.h"
#include "hv/emulated/pci.h"
#include "hv/emulated/rtc.h"
#include "hv/emulated/uart.h"
#include "hv/kvm/kvm.h"
#include "hv/kvm/kvm_state.h"
#include "hv/vm_state.h"

#include <unistd.h>

#define TSS_ADDRESS 0xfffbd000ull
#define IDENTITY_MAP_ADDRESS 0xfffbc000ull
#define MSR_TSC 0x10u
#define COM1_BASE 0x3f8u
#define COM1_GSI 4u
#define COM2_BASE 0x2f8u
#define COM2_GSI 3u

/* ---- devices ---- */

static void on_power_off(void *arg)
{
	struct vm *vm = arg;

	vm->hooks->stop(vm, VM_EVENT_POWER_OFF, "");
}

static void on_reset(void *arg)
{
	struct vm *vm = arg;

	vm->hooks->stop(vm, VM_EVENT_RESET, "");
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

static enum err create_pci(struct vm *vm, struct device **out)
{
	return pci_create(on_reset, vm, out);
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
	[DEV_PCI] = {create_pci, PCI_BASE, PCI_PORTS, &pci_state_kind, 0},
	[DEV_RTC] = {create_rtc, RTC_BASE, RTC_PORTS, &rtc_state_kind, 0},
	[DEV_COM1] = {create_com1, COM1_BASE, UART_PORTS, &uart_state_kind, 0},
	[DEV_COM2] = {create_com2, COM2_BASE, UART_PORTS, &uart_state_kind, 1},
};

static void resume_from(struct vm *vm, unsigned first)
{
	for (unsigned i = first; i < DEVICES; i++) {
		struct device *d = vm->devices[i];

		AUTO_LOCK(&d->lock);
		d->ops->resume(d->self);
	}
}

void machine_resume(struct vm *vm)
{
	resume_from(vm, 0);
	vmbus_resume(vm->vmbus);
}

/* Providers of the bus before the emulated devices: they raise interrupts and events by
 * them. */
enum err machine_quiesce(struct vm *vm)
{
	enum err failed = vmbus_quiesce(vm->vmbus);

	if (failed != ERR_OK)
		return failed;
	for (unsigned i = DEVICES; i-- > 0;) {
		struct device *d = vm->devices[i];
		enum err e;

		pthread_mutex_lock(&d->lock);
		e = d->ops->quiesce(d->self);
		pthread_mutex_unlock(&d->lock);
		if (e != ERR_OK) {
			resume_from(vm, i + 1);
			vmbus_resume(vm->vmbus);
			return err_context(e, "quiesce %s.%u", d->ops->kind, d->instance);
		}
	}
	return ERR_OK;
}

void machine_reset_devices(struct vm *vm)
{
	vmbus_reset(vm->vmbus);
	for (unsigned i = 0; i < DEVICES; i++) {
		struct device *d = vm->devices[i];

		AUTO_LOCK(&d->lock);
		d->ops->reset(d->self);
	}
}

static enum err create_devices(struct vm *vm)
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
	machine_reset_devices(vm);
	return machine_quiesce(vm); /* CREATED is quiet */
}

enum err machine_save_devices(struct vm *vm, struct state_out *out)
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
	return machine_bus_save(vm, out);
}

enum err machine_load_devices(struct vm *vm, struct state_file *file)
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
	return machine_bus_load(vm, file);
}

size_t machine_sections(const struct vm *vm, struct compat_section *out)
{
	for (unsigned i = 0; i < DEVICES; i++)
		out[i] = (struct compat_section){vm_devices[i].kind, vm_devices[i].instance};
	out[DEVICES] = (struct compat_section){&vmgen_state_kind, 0};
	return DEVICES + 1 + vmbus_sections(vm->vmbus, out + DEVICES + 1);
}

/* ---- what vCPUs and Hyper-V tell ---- */

static void on_fault(void *arg, uint32_t index, enum vcpu_fault fault, const char *text)
{
	struct vm *vm = arg;

	(void)index;
	vm->hooks->stop(vm,
			fault == VCPU_TRIPLE_FAULT ? VM_EVENT_TRIPLE_FAULT
						   : VM_EVENT_INTERNAL_ERROR,
			text);
}

static void on_panic(void *arg, uint32_t vp, const char *text)
{
	struct vm *vm = arg;

	(void)vp;
	vm->hooks->panic(vm, text);
}

static bool on_guest_tsc(void *arg, uint32_t vp, uint64_t *tsc)
{
	struct vm *vm = arg;

	return kvm_state_get_msr(vcpu_fd(vm->vcpus[vp]), MSR_TSC, tsc) == ERR_OK;
}

/* ---- all parts ---- */

/* Chips last: after them, setting the MSR filter or a slot waits for a slow grace
 * period in the kernel (15 ms and 6 ms measured), before them for a quick one. */
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
	if ((e = kvm_vm_trap_msrs(vm->vm_fd, HYPERV_MSR_FIRST, HYPERV_MSR_COUNT)) != ERR_OK)
		return e;
	if ((e = memory_create(vm->config.memory_bytes, &vm->memory)) != ERR_OK)
		return e;
	if ((e = dirty_create(vm->memory, vm->vm_fd, &vm->dirty)) != ERR_OK)
		return e;
	if ((e = kvm_vm_create_chips(vm->vm_fd)) != ERR_OK)
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
		.synic = vm->synic,
		.calls = machine_bus_calls(vm),
		.arg = vm,
	};
	enum err e = hyperv_create(&host, &vm->hyperv);

	vm->env.hyperv = vm->hyperv;
	return e;
}

/* Taking KVM's PIT its backlog waits for a grace period in the kernel, some 15 ms,
 * which is half of the time to a tiny guest's first word.  So it runs beside the
 * start: the guest may have its first ticks with the backlog on, which no state can
 * show before machine_ready. */
static void pit_main(void *arg)
{
	struct vm *vm = arg;

	vm->pit_error = vm_state_prepare(vm->vm_fd);
}

enum err machine_ready(struct vm *vm)
{
	thread_join(&vm->pit_thread);
	if (vm->pit_error != ERR_OK)
		return err_note(vm->pit_error, 0, "KVM does not take the PIT's backlog away");
	return ERR_OK;
}

enum err machine_create(struct vm *vm, const struct machine_hooks *hooks)
{
	enum err e;

	vm->hooks = hooks;
	if ((e = create_platform(vm)) != ERR_OK)
		return e;
	if ((e = machine_bus_create(vm)) != ERR_OK)
		return e;
	if ((e = create_devices(vm)) != ERR_OK)
		return e;
	if ((e = create_vcpus(vm)) != ERR_OK)
		return e;
	if ((e = create_hyperv(vm)) != ERR_OK)
		return e;
	if ((e = vm_image_save_power_on(vm)) != ERR_OK) /* waits for the PIT, so before it */
		return e;
	return thread_start(&vm->pit_thread, "pit", pit_main, vm);
}

void machine_destroy(struct vm *vm)
{
	thread_join(&vm->pit_thread);
	for (uint32_t i = 0; i < vm->config.vcpus; i++)
		vcpu_destroy(vm->vcpus[i]);
	for (unsigned i = DEVICES; i-- > 0;)
		device_destroy(vm->devices[i]);
	vcpu_plan_destroy(vm->plan);
	cpuid_destroy(vm->cpuid);
	machine_bus_destroy(vm);
	hyperv_destroy(vm->hyperv);
	bus_destroy(vm->bus);
	irq_destroy(vm->irq);
	dirty_destroy(vm->dirty);
	if (vm->vm_fd >= 0)
		close(vm->vm_fd);
	memory_destroy(vm->memory);
	buf_fini(&vm->power_on);
}
