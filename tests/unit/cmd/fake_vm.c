/* SPDX-License-Identifier: Apache-2.0 */
/* fake_vm: vm.h without KVM; see fake_worker.h. */
#include "hv/vm_disks.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/unit/cmd/fake_worker.h"

#define FAKE_MAGIC "FAKESTATE"

struct vm {
	const struct vm_config *config;
	struct vm_host host;
	struct memory *memory;
	struct loop_timer *tick, *stop;
	enum vm_state state;
	enum vm_event_kind stop_kind;
	uint64_t count, resets, pings;
};

static void on_tick(void *arg)
{
	struct vm *vm = arg;
	uint8_t le[8];

	if (vm->state != VM_RUNNING)
		return;
	le64_put(le, ++vm->count);
	if (memory_write(vm->memory, gpa(0), le, sizeof(le)) != ERR_OK)
		abort();
	loop_timer_set(vm->tick, NS_PER_MS);
}

static void on_stop(void *arg)
{
	struct vm *vm = arg;
	struct vm_event event = {.kind = vm->stop_kind, .text = ""};

	vm->state = VM_PAUSED;
	vm->host.event(vm->host.arg, &event);
}

enum err vm_create(const struct vm_config *config, const struct vm_host *host, struct vm **out)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		abort();
	vm->config = config;
	vm->host = *host;
	if (memory_create(config->memory_bytes, &vm->memory) != ERR_OK ||
	    loop_timer_create(host->loop, on_tick, vm, &vm->tick) != ERR_OK ||
	    loop_timer_create(host->loop, on_stop, vm, &vm->stop) != ERR_OK)
		abort();
	*out = vm;
	return ERR_OK;
}

void vm_destroy(struct vm *vm)
{
	if (!vm)
		return;
	loop_timer_destroy(vm->tick);
	loop_timer_destroy(vm->stop);
	memory_destroy(vm->memory);
	free(vm);
}

enum vm_state vm_state(const struct vm *vm)
{
	return vm->state;
}

enum err vm_boot(struct vm *vm)
{
	vm->state = VM_PAUSED;
	return ERR_OK;
}

enum err vm_resume(struct vm *vm)
{
	vm->state = VM_RUNNING;
	loop_timer_set(vm->tick, 1);
	return ERR_OK;
}

enum err vm_pause(struct vm *vm)
{
	vm->state = VM_PAUSED;
	loop_timer_set(vm->tick, 0);
	if (strcmp(vm->config->name, "resets") == 0) {
		vm->stop_kind = VM_EVENT_RESET;
		loop_timer_set(vm->stop, 1);
	}
	return ERR_OK;
}

enum err vm_reset(struct vm *vm)
{
	vm->count = 0;
	vm->resets++;
	return memory_clear(vm->memory);
}

enum err vm_power_button(struct vm *vm)
{
	vm->stop_kind = VM_EVENT_POWER_OFF;
	loop_timer_set(vm->stop, 1);
	return ERR_OK;
}

enum err vm_save(struct vm *vm, struct buf *out)
{
	buf_put_str(out, FAKE_MAGIC);
	buf_put_le64(out, vm->count);
	return ERR_OK;
}

enum err vm_check(struct vm *vm, const void *state, size_t len)
{
	(void)vm;
	if (len != sizeof(FAKE_MAGIC) - 1 + 8 || memcmp(state, FAKE_MAGIC, sizeof(FAKE_MAGIC) - 1))
		return err_note(ERR_VERSION, 0, "state: not of a fake machine");
	return ERR_OK;
}

enum err vm_load(struct vm *vm, const void *state, size_t len)
{
	enum err e = vm_check(vm, state, len);

	if (e != ERR_OK)
		return e;
	vm->count = le64_get((const uint8_t *)state + sizeof(FAKE_MAGIC) - 1);
	vm->state = VM_PAUSED;
	return ERR_OK;
}

struct memory *vm_memory(struct vm *vm)
{
	return vm->memory;
}

void vm_guest_info(const struct vm *vm, struct vm_guest *out)
{
	*out = (struct vm_guest){
		.bus = {.connected = true, .version = 5 << 16 | 3, .offered = 3, .open = 3},
		.heartbeat = {.ready = true, .healthy = true, .answers = vm->pings},
		.timesync = {.ready = true, .answers = 1, .syncs = 1},
	};
}

enum err vm_guest_ping(struct vm *vm)
{
	vm->pings++;
	return ERR_OK;
}

enum err vm_guest_time(struct vm *vm)
{
	(void)vm;
	return ERR_OK;
}

enum err vm_guest_shutdown(struct vm *vm, bool restart)
{
	if (restart)
		return err_note(ERR_GUEST, 0, "the guest has no shutdown service");
	return vm_power_button(vm);
}

const struct vm_config *vm_config(const struct vm *vm)
{
	return vm->config;
}

enum err vm_disks_add(struct vm *vm, const struct vm_disk *content, struct config_disk *c)
{
	(void)vm, (void)content, (void)c;
	return err_note(ERR_USAGE, 0, "has no disk controller");
}

enum err vm_disks_remove(struct vm *vm, unsigned lun)
{
	(void)vm;
	return err_note(ERR_NOTFOUND, 0, "has no disk%u", lun);
}

enum err vm_disks_resize(struct vm *vm, unsigned lun, uint64_t bytes)
{
	(void)bytes;
	return vm_disks_remove(vm, lun);
}

int vm_disks_fd(const struct vm *vm, unsigned lun)
{
	(void)vm, (void)lun;
	return -1;
}

void vm_stats(const struct vm *vm, struct vm_stats *out)
{
	*out = (struct vm_stats){.exits = vm->count, .resets = vm->resets};
}
