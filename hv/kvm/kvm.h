/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_KVM_KVM_H
#define HV_KVM_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* kvm: the ioctls of /dev/kvm, of a VM and of running a vCPU, each checked and
 * with a sentence of its own when it fails.  Together with kvm_state (registers
 * and everything else that is saved) the only place that names them.
 *
 * Descriptors are the caller's; a created one is given.  Any thread, but calls
 * on a vCPU's descriptor block while that vCPU is inside kvm_run.
 * Errors: err_sys()'s mapping unless said otherwise.
 * Source: Linux Documentation/virt/kvm/api.rst. */

/* Is this a KVM of API version 12 that has all we need?  ERR_UNSUPPORTED names
 * everything that is missing; ERR_USAGE if fd is no KVM at all. */
MUST_USE enum err kvm_check(int kvm_fd);
/* Value of a capability, 0 if there is none. */
int kvm_cap(int fd, unsigned long cap);
/* ERR_UNSUPPORTED if this host has not so many. */
MUST_USE enum err kvm_check_vcpus(int kvm_fd, uint32_t vcpus);

/* ---- VM ---- */

/* A VM with its KVM-private pages placed at `tss` and `identity_map` (needed on
 * Intel), which must lie in no memory slot. */
MUST_USE enum err kvm_vm_create(int kvm_fd, uint64_t tss, uint64_t identity_map, int *vm_fd);
/* PIC, IOAPIC, and a LAPIC for each vCPU created afterwards; PIT with the
 * speaker port. */
MUST_USE enum err kvm_vm_create_chips(int vm_fd);
/* Guest accesses to MSRs [base, base + count) come to user space, and those to
 * MSRs that KVM does not know, too.  count: a multiple of 8. */
MUST_USE enum err kvm_vm_trap_msrs(int vm_fd, uint32_t base, uint32_t count);
/* log: record the pages that the guest writes.  Setting the same slot again may
 * only change `log`. */
MUST_USE enum err kvm_vm_set_slot(int vm_fd, uint32_t slot, uint64_t gpa, uint64_t bytes,
				  uintptr_t host, bool log);
MUST_USE enum err kvm_vm_irq_line(int vm_fd, uint32_t gsi, bool level);
/* An edge-triggered interrupt with a fixed vector for the LAPIC of that id (< 255). */
MUST_USE enum err kvm_vm_signal_msi(int vm_fd, uint32_t apic_id, uint8_t vector);
/* From now on (or no longer) a 32-bit OUT of `value` to `port` writes to the eventfd fd
 * and does not leave KVM. */
MUST_USE enum err kvm_vm_ioeventfd(int vm_fd, uint16_t port, uint32_t value, int fd, bool on);

/* Reading a slot's dirty log does not protect pages again: kvm_vm_clear_dirty does. */
MUST_USE enum err kvm_vm_manual_dirty(int vm_fd);
/* One bit per page of the slot; bits has room for a multiple of 64 pages. */
MUST_USE enum err kvm_vm_get_dirty(int vm_fd, uint32_t slot, uint64_t *bits);
/* Clear (and protect again) those pages of [first, first + count) whose bit is
 * set; bit 0 of bits is page `first`.  first: a multiple of 64; count too, unless
 * the range ends at the end of the slot. */
MUST_USE enum err kvm_vm_clear_dirty(int vm_fd, uint32_t slot, uint64_t first, uint32_t count,
				     const uint64_t *bits);

/* ---- vCPU ---- */

/* Its descriptor and its shared structure (mapped, given; kvm_vcpu_close). */
MUST_USE enum err kvm_vcpu_create(int kvm_fd, int vm_fd, uint32_t index, int *vcpu_fd,
				  struct kvm_run **run, size_t *run_bytes);
void kvm_vcpu_close(int vcpu_fd, struct kvm_run *run, size_t run_bytes); /* -1, NULL allowed */
/* Enter the guest.  0: run->exit_reason says why it came back; else the errno
 * (EINTR: asked to leave, EAGAIN: try again, others: KVM gave up). */
int kvm_run(int vcpu_fd);
/* Linear to physical by the vCPU's page tables; false if it is not mapped. */
bool kvm_vcpu_translate(int vcpu_fd, uint64_t linear, uint64_t *physical);

#endif
