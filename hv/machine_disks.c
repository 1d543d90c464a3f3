/* SPDX-License-Identifier: Apache-2.0 */
/* machine_disks: the disks of a machine: content, controller, bus; see machine.h.
 *
 * All are LUNs of one controller: disk0 is LUN 0.  A machine that was made without disks
 * has no controller either, and cannot get any: threads and rings are made before the
 * sandbox closes. */
#include "hv/machine.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DIRECT_ALIGN 4096u

/* On a disk's thread: the machine stops, until somebody has cured it and resumes. */
static void on_held(void *arg, unsigned lun, const char *reason)
{
	struct vm *vm = arg;
	char text[160];

	(void)snprintf(text, sizeof(text), "disk%u: %s", lun, reason);
	vm->hooks->stop(vm, VM_EVENT_DISK_ERROR, text);
}

/* Its content as a block, and the descriptors where they belong to the machine. */
static enum err open_disk(struct vm *vm, const struct vm_disk *given, const struct config_disk *c,
			  struct block **out)
{
	struct block_raw raw = {.fd = given->fd,
				.direct_fd = given->direct_fd,
				.direct_align = DIRECT_ALIGN,
				.read_only = c->read_only};
	char name[16];
	enum err e;

	(void)snprintf(name, sizeof(name), "disk%u", c->lun);
	raw.name = name;
	memcpy(raw.id, c->id, BLOCK_ID_BYTES);
	if ((e = block_raw_create(&raw, out)) != ERR_OK)
		return e;
	vm->disks[c->lun] = *given;
	vm->places_used |= 1ull << c->lun;
	return ERR_OK;
}

static enum err create_disk(struct vm *vm, const struct vm_disk *given, const struct config_disk *c)
{
	struct block_info info;
	struct block *block;
	enum err e = open_disk(vm, given, c, &block);

	if (e != ERR_OK)
		return e;
	storage_attach(vm->storage, c->lun, block, c->on_error == CONFIG_ERROR_PAUSE);
	block_info(block, &info);
	if (info.bytes != c->bytes)
		return err_note(ERR_USAGE, 0,
				"disk%u: it has %llu bytes, the configuration says %llu", c->lun,
				(unsigned long long)info.bytes, (unsigned long long)c->bytes);
	return ERR_OK;
}

enum err machine_disks_create(struct vm *vm)
{
	const struct storage_host host = {
		.memory = vm->memory, .vcpus = vm->config.vcpus, .held = on_held, .arg = vm};
	enum err e;

	_Static_assert(CONFIG_MAX_DISKS == SCSI_LUNS, "every disk is a LUN");
	_Static_assert(CONFIG_DISK_ID_BYTES == BLOCK_ID_BYTES, "one identity");
	if (!config_has_scsi(&vm->config))
		return ERR_OK;
	if ((e = storage_create(&host, 0, &vm->storage)) != ERR_OK)
		return e;
	for (uint32_t i = 0; i < vm->config.disk_count; i++)
		if ((e = create_disk(vm, &vm->host.disks[i], &vm->config.disks[i])) != ERR_OK)
			return e;
	return storage_start(vm->storage, vm->vmbus);
}

static void close_disk(struct vm_disk *d)
{
	if (d->fd >= 0)
		close(d->fd);
	if (d->direct_fd >= 0)
		close(d->direct_fd);
	*d = VM_DISK_NONE;
}

void machine_disks_destroy(struct vm *vm)
{
	for (unsigned i = 0; i < CONFIG_MAX_DISKS; i++)
		close_disk(&vm->disks[i]);
}

enum err machine_disks_add(struct vm *vm, const struct vm_disk *given, struct config_disk *c)
{
	struct block_info info;
	struct block *block;
	enum err e = open_disk(vm, given, c, &block);

	if (e != ERR_OK)
		return e;
	block_info(block, &info);
	c->bytes = info.bytes;
	storage_add(vm->storage, c->lun, block, c->on_error == CONFIG_ERROR_PAUSE);
	return ERR_OK;
}

void machine_disks_remove(struct vm *vm, unsigned lun)
{
	storage_remove(vm->storage, lun);
	close_disk(&vm->disks[lun]);
}

enum err machine_disks_check(const struct vm *vm, bool load)
{
	if (vm->config.disk_count == 0 || load == vm->host.disks_from_image)
		return ERR_OK;
	return err_note(ERR_VERSION, 0,
			load ? "its disks do not hold what the image's held: an image "
			       "is loaded with disks that were made from it"
			     : "its disks were made for an image that has to be loaded");
}
