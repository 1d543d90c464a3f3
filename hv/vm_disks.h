/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VM_DISKS_H
#define HV_VM_DISKS_H

#include "hv/vm.h"

/* vm_disks: disks of a machine that was started come, go and change their sizes.
 *
 * The machine stands still for it, as briefly as its I/O in flight takes (and goes on as
 * it was; a paused one stays paused), so that each change is between two instants of the
 * guest, and an image has the disks as they were at its own.  The guest's driver is told.
 *
 * Errors: ERR_BUSY: it was not started, or its I/O does not end: nothing has changed.
 * ERR_USAGE: it has no disk controller, no place, or what is asked is not possible.
 * ERR_NOTFOUND: no such disk.  After any other error than these of the change itself the
 * machine stands, and cannot go on (vm_resume's errors).
 * Threads: the loop thread. */

/* One more: c without bytes, which are found (the file's size) and put there; its identity is
 * made anew where another disk had its place before.  content is taken if it went well. */
MUST_USE enum err vm_disks_add(struct vm *vm, const struct vm_disk *content, struct config_disk *c);
/* Its descriptors are closed, and with them its lock. */
MUST_USE enum err vm_disks_remove(struct vm *vm, unsigned lun);
/* A file becomes as long as that; a block device has to be at least that long already. */
MUST_USE enum err vm_disks_resize(struct vm *vm, unsigned lun, uint64_t bytes);
/* Borrowed: its content, through the host's cache; -1: there is no such disk. */
int vm_disks_fd(const struct vm *vm, unsigned lun);

#endif
