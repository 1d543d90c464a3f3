/* SPDX-License-Identifier: Apache-2.0 */
/* machine_disks: the disks of a machine: content, controller, bus; see machine.h.
 *
 * All are LUNs of one controller, in the order of the configuration: disk0 is LUN 0.  A
 * machine without disks has no controller either, and is what it was before there were
 * any. */
#include "hv/machine.h"

#include <stdio.h>
#include <string.h>

#define DIRECT_ALIGN 4096u

/* On a disk's thread: the machine stops, until somebody has cured it and resumes. */
static void on_held(void *arg, unsigned lun, const char *reason)
{
	struct vm *vm = arg;
	char text[160];

	(void)snprintf(text, sizeof(text), "disk%u: %s", lun, reason);
	vm->hooks->stop(vm, VM_EVENT_DISK_ERROR, text);
}

static enum err create_disk(struct vm *vm, uint32_t i)
{
	const struct config_disk *c = &vm->config.disks[i];
	const struct vm_disk *given = &vm->host.disks[i];
	struct block_raw raw = {.fd = given->fd, .direct_fd = given->direct_fd,
				.direct_align = DIRECT_ALIGN, .read_only = c->read_only};
	struct block_info info;
	struct block *block;
	char name[16];
	enum err e;

	(void)snprintf(name, sizeof(name), "disk%u", i);
	raw.name = name;
	memcpy(raw.id, c->id, BLOCK_ID_BYTES);
	if ((e = block_raw_create(&raw, &block)) != ERR_OK)
		return e;
	block_info(block, &info);
	if (info.bytes != c->bytes) {
		block_destroy(block);
		return err_note(ERR_USAGE, 0, "%s: it has %llu bytes, the configuration says %llu",
				name, (unsigned long long)info.bytes, (unsigned long long)c->bytes);
	}
	storage_attach(vm->storage, i, block, c->on_error == CONFIG_ERROR_PAUSE);
	return ERR_OK;
}

enum err machine_disks_create(struct vm *vm)
{
	const struct storage_host host = {
		.memory = vm->memory, .vcpus = vm->config.vcpus, .held = on_held, .arg = vm};
	enum err e;

	_Static_assert(CONFIG_MAX_DISKS == SCSI_LUNS, "every disk is a LUN");
	_Static_assert(CONFIG_DISK_ID_BYTES == BLOCK_ID_BYTES, "one identity");
	if (vm->config.disk_count == 0)
		return ERR_OK;
	if ((e = storage_create(&host, 0, &vm->storage)) != ERR_OK)
		return e;
	for (uint32_t i = 0; i < vm->config.disk_count; i++)
		if ((e = create_disk(vm, i)) != ERR_OK)
			return e;
	return storage_start(vm->storage, vm->vmbus);
}

enum err machine_disks_check(const struct vm *vm, bool load)
{
	if (vm->config.disk_count == 0 || load == vm->host.disks_from_image)
		return ERR_OK;
	return err_note(ERR_VERSION, 0, load ? "its disks do not hold what the image's held: an image "
			"is loaded with disks that were made from it" :
			"its disks were made for an image that has to be loaded");
}
