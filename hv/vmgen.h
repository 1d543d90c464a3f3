/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VMGEN_H
#define HV_VMGEN_H

#include <stdint.h>

#include "base/err.h"
#include "hv/memory.h"
#include "hv/state.h"

/* vmgen: the VM Generation ID: 16 random bytes in reserved guest memory, which change
 * when a machine goes on from an image, so that its system knows that this instant may
 * be lived more than once and does not give the same random numbers twice.
 *
 * The ACPI device that tells where they are is in hv/acpi/dsdt.asl; its notification is
 * acpi_pm's.  A reset of the same machine keeps the id.
 * Threads: the machine's loop thread.
 * Source: Microsoft, Virtual Machine Generation ID; docs/vmbus.md 17. */

#define VMGEN_ADDRESS 0xFF000u
#define VMGEN_BYTES 16u

struct vmgen {
	uint8_t id[VMGEN_BYTES];
};

extern const struct state_kind vmgen_state_kind; /* section "vmgen".0 */

MUST_USE enum err vmgen_init(struct vmgen *g);
MUST_USE enum err vmgen_renew(struct vmgen *g); /* another one */
/* Into guest memory: before the guest begins, and after vmgen_renew. */
MUST_USE enum err vmgen_write(const struct vmgen *g, struct memory *m);
/* Begun and ended here. */
void vmgen_save(const struct vmgen *g, struct state_out *out);
MUST_USE enum err vmgen_load(struct vmgen *g, struct state_file *file);

#endif
