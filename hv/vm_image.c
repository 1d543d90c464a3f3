/* SPDX-License-Identifier: Apache-2.0 */
/* vm_image: the machine state of a checkpoint, section by section; see machine.h.
 *
 * Section "vm".0 keeps why the guest stopped, and the last words of one that panicked,
 * where nobody has been told yet. */
#include "hv/machine.h"

#include "base/log.h"
#include "base/thread.h"
#include "hv/kvm/kvm_state.h"
#include "hv/vm_state.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES 4096u

enum err vm_image_save_power_on(struct vm *vm)
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

enum err vm_image_load_power_on(struct vm *vm)
{
	struct state_file *file = NULL;
	enum err e;

	if ((e = machine_ready(vm)) != ERR_OK)
		return e;
	if ((e = state_open(vm->power_on.data, vm->power_on.len, &file)) != ERR_OK)
		return e;
	e = vcpu_state_load(vm->plan, vm->refs, vm->config.vcpus, file, vm->tsc);
	if (e == ERR_OK)
		e = vm_state_load(vm->vm_fd, file);
	state_close(file);
	return e;
}

enum { TAG_STOP = 1, TAG_STOP_TEXT, TAG_PANICS, TAG_PANIC_TEXT };

static const struct state_field vm_fields[] = {
	{TAG_STOP, STATE_U8, false, "stop"}, /* 0, or 1 + enum vm_event_kind */
	{TAG_STOP_TEXT, STATE_TEXT, true, "stop_text"},
	{TAG_PANICS, STATE_U8, false, "panics"}, /* told of or to be told, since the start */
	{TAG_PANIC_TEXT, STATE_TEXT, true, "panic_text"}, /* to be told */
};
const struct state_kind vm_section_kind = {
	.kind = "vm", .version = 1, .fields = vm_fields,
	.count = sizeof(vm_fields) / sizeof(vm_fields[0])};

static void save_stop(struct vm *vm, struct state_out *out)
{
	AUTO_LOCK(&vm->lock);
	const struct stop *s = &vm->stop;

	state_begin(out, &vm_section_kind, 0);
	state_put_u8(out, TAG_STOP, s->set ? (uint8_t)(1 + s->kind) : 0);
	if (s->set && s->text)
		state_put_bytes(out, TAG_STOP_TEXT, s->text, strlen(s->text));
	state_put_u8(out, TAG_PANICS, (uint8_t)vm->panics);
	if (vm->panic)
		state_put_bytes(out, TAG_PANIC_TEXT, vm->panic, strlen(vm->panic));
	state_end(out);
}

static enum err load_panic(struct vm *vm, struct state_in *in)
{
	const uint8_t *text = NULL;
	uint8_t panics = 0;
	size_t len = 0;
	enum err e;

	if ((e = state_get_u8(in, TAG_PANICS, &panics)) != ERR_OK ||
	    (e = state_get_bytes(in, TAG_PANIC_TEXT, &text, &len)) != ERR_OK)
		return e;
	if (panics > VM_PANICS_MAX || len > TEXT_BYTES)
		return err_note(ERR_CORRUPT, 0, "state of vm: %u panics, the last of %zu bytes",
				panics, len);
	vm->panics = panics;
	if (text)
		vm->panic = strndup((const char *)text, len);
	return ERR_OK;
}

static enum err load_stop(struct vm *vm, struct state_file *file)
{
	const uint8_t *text = NULL;
	struct state_in *in;
	uint8_t stop = 0;
	size_t len = 0;
	enum err e;

	if ((e = state_find(file, &vm_section_kind, 0, &in)) != ERR_OK)
		return e;
	if ((e = state_get_u8(in, TAG_STOP, &stop)) != ERR_OK)
		return e;
	if ((e = state_get_bytes(in, TAG_STOP_TEXT, &text, &len)) != ERR_OK)
		return e;
	if (stop > 1 + VM_EVENT_INTERNAL_ERROR || len > TEXT_BYTES)
		return err_note(ERR_CORRUPT, 0, "state of vm: stop %u is not known", stop);
	if (stop)
		vm->stop = (struct stop){.set = true,
					 .kind = (enum vm_event_kind)(stop - 1),
					 .text = text ? strndup((const char *)text, len) : NULL};
	return load_panic(vm, in);
}

/* What compat.h has to know; sections has room for IMAGE_SECTIONS_MAX. */
#define IMAGE_SECTIONS_MAX (MACHINE_SECTIONS_MAX + 1)
static struct compat_machine image_compat(const struct vm *vm, struct compat_section *sections)
{
	size_t n = machine_sections(vm, sections);

	sections[n++] = (struct compat_section){&vm_section_kind, 0};
	return (struct compat_machine){
		.config = &vm->config,
		.cpuid = vm->cpuid,
		.plan = vm->plan,
		.sections = sections,
		.section_count = n,
	};
}

static enum err save_sections(struct vm *vm, struct state_out *out)
{
	struct compat_section sections[IMAGE_SECTIONS_MAX];
	struct compat_machine machine = image_compat(vm, sections);
	uint64_t tsc[CONFIG_MAX_VCPUS];
	enum err e;

	/* Loaded or started, but never run: its time has not gone on. */
	if (vm->tsc_pending &&
	    (e = vcpu_state_start(vm->plan, vm->refs, vm->config.vcpus, vm->tsc)) != ERR_OK)
		return e;
	compat_save(&machine, out);
	cpuid_save(vm->cpuid, out);
	if ((e = vm_state_save(vm->vm_fd, out)) != ERR_OK)
		return e;
	if ((e = vcpu_state_save(vm->plan, vm->refs, vm->config.vcpus, out, tsc)) != ERR_OK)
		return e;
	hyperv_save(vm->hyperv, tsc[0], out);
	if ((e = machine_save_devices(vm, out)) != ERR_OK)
		return e;
	save_stop(vm, out);
	return ERR_OK;
}

enum err vm_image_save(struct vm *vm, struct buf *out)
{
	struct state_out *o = NULL;
	const uint8_t *p;
	size_t len;
	enum err e;

	if ((e = machine_ready(vm)) != ERR_OK)
		return e;
	if ((e = state_out_create(&o)) != ERR_OK)
		return e;
	e = save_sections(vm, o);
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
static enum err load_cpuid(struct vm *vm, struct state_file *file)
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
 * 3. vCPUs (vcpu_state.c has the order within one).
 * 4. interrupt controllers and PIT after the vCPUs (vm_state.h): a pending line is
 *    delivered to a LAPIC that is in place.
 * 5. Hyper-V after the vCPUs' TSC, which its clock refers to.
 * 6. devices last: their lines go to chips that are in place; the bus after Hyper-V's
 *    interrupt controller, by which it speaks. */
enum err vm_image_load(struct vm *vm, struct state_file *file)
{
	uint32_t khz;
	enum err e;

	if ((e = machine_ready(vm)) != ERR_OK)
		return e;
	if ((e = load_cpuid(vm, file)) != ERR_OK)
		return e;
	if ((e = vm_image_save_power_on(vm)) != ERR_OK)
		return e;
	e = vcpu_state_load(vm->plan, vm->refs, vm->config.vcpus, file, vm->tsc);
	if (e != ERR_OK)
		return e;
	if ((e = vm_state_load(vm->vm_fd, file)) != ERR_OK)
		return e;
	if ((e = kvm_state_get_tsc_khz(vm->refs[0].fd, &khz)) != ERR_OK)
		return e;
	if ((e = hyperv_load(vm->hyperv, file, khz * 1000ull)) != ERR_OK)
		return e;
	if ((e = machine_load_devices(vm, file)) != ERR_OK)
		return e;
	return load_stop(vm, file);
}

enum err vm_image_open(struct vm *vm, const void *state, size_t len,
			   struct state_file **out)
{
	struct compat_section sections[IMAGE_SECTIONS_MAX];
	struct compat_machine machine = image_compat(vm, sections);
	AUTO_BUF struct buf report = {0};
	enum err e;

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
