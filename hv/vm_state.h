/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VM_STATE_H
#define HV_VM_STATE_H

#include "base/err.h"
#include "hv/state.h"

/* vm_state: the interrupt controllers and the timer that KVM keeps per VM:
 * sections "pic".0 (master), "pic".1 (slave), "ioapic".0, "pit".0.
 *
 * Order: save before the vCPUs, load after them.  An edge of the PIT that falls
 * between two reads is then seen twice at worst, never lost; a pending line is
 * delivered to LAPICs that are already loaded; and the PIT starts last. */

extern const struct state_kind vm_state_pic_kind, vm_state_ioapic_kind, vm_state_pit_kind;

/* Once, after the chips were created: KVM's PIT keeps no backlog of ticks, which no
 * state could hold. */
MUST_USE enum err vm_state_prepare(int vm_fd);
MUST_USE enum err vm_state_save(int vm_fd, struct state_out *out);
/* Checks all before it changes any. */
MUST_USE enum err vm_state_load(int vm_fd, struct state_file *in);

#endif
