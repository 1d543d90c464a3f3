/* SPDX-License-Identifier: Apache-2.0 */
/* vm_disks: changes of a started machine's disks; see vm_disks.h.
 *
 * Identities: who starts a machine, or adds a disk, derives a disk's from the machine's
 * name and the place, so that a guest finds it again after the next start.  Where an
 * earlier disk of this machine's life had the place, that would be a lie: then it is made
 * by chance. */
#include "hv/vm_disks.h"

#include <stdio.h>
#include <sys/random.h>

#include "hv/machine.h"

/* ---- standing still ---- */

static enum err begin(struct vm *vm, bool *was_running)
{
	*was_running = vm->state == VM_RUNNING;
	if (vm->state == VM_CREATED)
		return err_note(ERR_BUSY, 0, "was not started yet");
	if (!vm->storage)
		return err_note(ERR_USAGE, 0,
				"has no disk controller: it was started without a disk");
	return *was_running ? vm_pause(vm) : ERR_OK;
}

/* e: of the change. */
static enum err end(struct vm *vm, bool was_running, enum err e)
{
	char note[ERR_NOTE_BYTES];
	enum err resumed;

	if (!was_running)
		return e;
	(void)snprintf(note, sizeof(note), "%s", err_text());
	resumed = vm_resume(vm);
	if (resumed != ERR_OK)
		return resumed;
	return e == ERR_OK ? e : err_note(e, 0, "%s", note);
}

/* ---- changes ---- */

static enum err check_place(const struct vm *vm, unsigned lun)
{
	struct block_info info;

	if (lun >= CONFIG_MAX_DISKS)
		return err_note(ERR_USAGE, 0, "there is no place %u for a disk", lun);
	if (storage_has(vm->storage, lun, &info))
		return err_note(ERR_BUSY, 0, "has a disk%u already: try again", lun);
	return ERR_OK;
}

static enum err identify(const struct vm *vm, struct config_disk *c)
{
	if (!(vm->places_used >> c->lun & 1))
		return ERR_OK;
	if (getrandom(c->id, sizeof(c->id), 0) != (ssize_t)sizeof(c->id))
		return err_note(ERR_FAILED, 0, "a disk's identity: no random numbers");
	return ERR_OK;
}

enum err vm_disks_add(struct vm *vm, const struct vm_disk *content, struct config_disk *c)
{
	bool was_running;
	enum err e = begin(vm, &was_running);

	if (e != ERR_OK)
		return e;
	if ((e = check_place(vm, c->lun)) == ERR_OK && (e = identify(vm, c)) == ERR_OK &&
	    (e = machine_disks_add(vm, content, c)) == ERR_OK)
		config_disk_insert(&vm->config, c);
	return end(vm, was_running, e);
}

static enum err need_disk(struct vm *vm, unsigned lun)
{
	if (config_disk_find(&vm->config, lun))
		return ERR_OK;
	return err_note(ERR_NOTFOUND, 0, "has no disk%u", lun);
}

enum err vm_disks_remove(struct vm *vm, unsigned lun)
{
	bool was_running;
	enum err e = begin(vm, &was_running);

	if (e != ERR_OK)
		return e;
	if ((e = need_disk(vm, lun)) == ERR_OK) {
		machine_disks_remove(vm, lun);
		config_disk_remove(&vm->config, lun);
		vm->config.scsi = true; /* the controller stays */
	}
	return end(vm, was_running, e);
}

enum err vm_disks_resize(struct vm *vm, unsigned lun, uint64_t bytes)
{
	bool was_running;
	enum err e = begin(vm, &was_running);

	if (e != ERR_OK)
		return e;
	if ((e = need_disk(vm, lun)) == ERR_OK &&
	    (e = storage_resize(vm->storage, lun, bytes)) == ERR_OK)
		config_disk_find(&vm->config, lun)->bytes = bytes;
	return end(vm, was_running, e == ERR_OK ? e : err_context(e, "disk%u", lun));
}

int vm_disks_fd(const struct vm *vm, unsigned lun)
{
	return lun < CONFIG_MAX_DISKS ? vm->disks[lun].fd : -1;
}
