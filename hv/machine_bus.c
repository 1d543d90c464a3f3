/* SPDX-License-Identifier: Apache-2.0 */
/* machine_bus: the synthetic half of a machine: SynIC, VMBus, integration services and
 * the generation id, put together; see machine.h.
 *
 * Order: SynIC exists before Hyper-V's MSRs, which pass some on to it; the bus after it;
 * then the providers, in the order of their offers. */
#include "hv/machine.h"

#include "base/clock.h"
#include "hv/emulated/acpi_pm.h"
#include "hv/kvm/kvm.h"
#include "hv/kvm/kvm_state.h"

#define MSR_TSC 0x10u

/* ---- what the bus asks for ---- */

static void on_inject(void *arg, uint32_t vp, uint8_t vector)
{
	struct vm *vm = arg;

	irq_message(vm->irq, vp, vector); /* a vCPU's APIC id is its number */
}

static enum err on_ioevent(void *arg, uint32_t connection, int fd, bool on)
{
	struct vm *vm = arg;

	return kvm_vm_ioeventfd(vm->vm_fd, HYPERCALL_PORT_SIGNAL, connection, fd, on);
}

static enum err on_post(void *arg, uint32_t connection, uint32_t type, const uint8_t *p, size_t len)
{
	struct vm *vm = arg;

	return vmbus_post(vm->vmbus, connection, type, p, len);
}

static enum err on_signal(void *arg, uint32_t connection)
{
	struct vm *vm = arg;

	return vmbus_signal(vm->vmbus, connection);
}

struct hypercall_host machine_bus_calls(struct vm *vm)
{
	return (struct hypercall_host){.post = on_post, .signal = on_signal, .arg = vm};
}

/* ---- what services tell and ask ---- */

static void on_heartbeat(void *arg, bool healthy)
{
	struct vm *vm = arg;
	struct vm_event event = {VM_EVENT_HEARTBEAT, healthy ? "healthy" : "lost"};

	vm->host.event(vm->host.arg, &event);
}

static void on_refused(void *arg, uint32_t status)
{
	struct vm *vm = arg;
	struct vm_event event = {VM_EVENT_SHUTDOWN_REFUSED, ""};

	(void)status; /* Linux has but one: failed */
	vm->host.event(vm->host.arg, &event);
}

static uint64_t host_tsc(void)
{
	return __builtin_ia32_rdtsc();
}

static void on_now(void *arg, uint64_t *real_ns, uint64_t *reference)
{
	struct vm *vm = arg;

	*real_ns = clock_real_ns();
	*reference = hyperv_time_at(vm->hyperv, host_tsc());
}

enum err machine_bus_anchor(struct vm *vm)
{
	uint64_t guest, hz = vcpu_plan_tsc_khz(vm->plan);
	enum err e = kvm_state_get_msr(vm->refs[0].fd, MSR_TSC, &guest);

	if (e == ERR_OK)
		hyperv_anchor(vm->hyperv, guest, host_tsc(), vcpu_plan_guest_tsc_khz(vm->plan), hz);
	return e;
}

/* ---- life ---- */

static enum err create_services(struct vm *vm)
{
	const struct timesync_host clock = {.loop = vm->host.loop, .now = on_now, .arg = vm};
	enum err e;

	e = shutdown_create(vm->vmbus, on_refused, vm, &vm->shutdown);
	if (e == ERR_OK)
		e = timesync_create(vm->vmbus, &clock, &vm->timesync);
	if (e == ERR_OK)
		e = heartbeat_create(vm->vmbus, vm->host.loop, on_heartbeat, vm, &vm->heartbeat);
	return e;
}

enum err machine_bus_create(struct vm *vm)
{
	const struct synic_host synic = {
		.memory = vm->memory, .vcpus = vm->config.vcpus, .inject = on_inject, .arg = vm};
	struct vmbus_host bus = {
		.memory = vm->memory, .loop = vm->host.loop, .vcpus = vm->config.vcpus,
		.ioevent = on_ioevent, .arg = vm};
	enum err e;

	if ((e = synic_create(&synic, &vm->synic)) != ERR_OK)
		return e;
	bus.synic = vm->synic;
	if ((e = vmbus_create(&bus, &vm->vmbus)) != ERR_OK)
		return e;
	if ((e = vmgen_init(&vm->vmgen)) != ERR_OK)
		return e;
	if ((e = create_services(vm)) != ERR_OK)
		return e;
	return machine_disks_create(vm);
}

void machine_bus_destroy(struct vm *vm)
{
	storage_stop(vm->storage);
	vmbus_destroy(vm->vmbus);
	storage_destroy(vm->storage);
	heartbeat_destroy(vm->heartbeat);
	timesync_destroy(vm->timesync);
	shutdown_destroy(vm->shutdown);
	synic_destroy(vm->synic);
}

/* ---- state ---- */

enum err machine_bus_save(struct vm *vm, struct state_out *out)
{
	vmgen_save(&vm->vmgen, out);
	return vmbus_save(vm->vmbus, out);
}

enum err machine_bus_load(struct vm *vm, struct state_file *file)
{
	enum err e = vmgen_load(&vm->vmgen, file);

	return e == ERR_OK ? vmbus_load(vm->vmbus, file) : e;
}

enum err machine_bus_loaded(struct vm *vm)
{
	struct timesync_info clock;
	enum err e;

	if ((e = vmgen_renew(&vm->vmgen)) != ERR_OK)
		return e;
	if ((e = vmgen_write(&vm->vmgen, vm->memory)) != ERR_OK)
		return e;
	acpi_pm_raise(vm->devices[DEV_ACPI_PM], ACPI_PM_GENERATION);
	timesync_info(vm->timesync, &clock);
	return clock.ready ? timesync_set(vm->timesync) : ERR_OK;
}

/* ---- the guest, from outside ---- */

static enum err guest_check(const struct vm *vm)
{
	if (vm->state != VM_RUNNING)
		return err_note(ERR_GUEST, 0, "the machine does not run: resume it first");
	return ERR_OK;
}

void vm_guest_info(const struct vm *vm, struct vm_guest *out)
{
	vmbus_info(vm->vmbus, &out->bus);
	heartbeat_info(vm->heartbeat, &out->heartbeat);
	shutdown_info(vm->shutdown, &out->shutdown);
	timesync_info(vm->timesync, &out->timesync);
}

enum err vm_guest_ping(struct vm *vm)
{
	enum err e = guest_check(vm);

	return e == ERR_OK ? heartbeat_ping(vm->heartbeat) : e;
}

enum err vm_guest_time(struct vm *vm)
{
	enum err e = guest_check(vm);

	return e == ERR_OK ? timesync_set(vm->timesync) : e;
}

enum err vm_guest_shutdown(struct vm *vm, bool restart)
{
	enum err e = guest_check(vm);

	return e == ERR_OK ? shutdown_request(vm->shutdown, restart) : e;
}
