/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_HYPERCALL_H
#define HV_HYPERCALL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/memory.h"

/* hypercall: HvPostMessage and HvSignalEvent, and the code that a guest calls for them.
 *
 * The page is of our own making: its code leaves the guest by OUTs to two ports that no
 * hardware has, so that it works on every KVM.
 * Threads: any.
 * Source: docs/vmbus.md 6. */

/* A hypercall; and a fast HvSignalEvent, for which an ioeventfd waits at each connection. */
#define HYPERCALL_PORT_CALL 0xE4u
#define HYPERCALL_PORT_SIGNAL 0xE8u

struct hypercall_host {
	/* ERR_OK, ERR_NOTFOUND (no such connection), ERR_BUSY (not now), ERR_USAGE.  On
	 * the thread of a vCPU, with no lock held. */
	enum err (*post)(void *arg, uint32_t connection, uint32_t type, const uint8_t *p,
			 size_t len);
	enum err (*signal)(void *arg, uint32_t connection);
	void *arg;
};

/* Fill the guest's hypercall page. */
MUST_USE enum err hypercall_write_page(struct memory *m, struct gpa page);
/* RCX and RDX of the caller; returns its RAX. */
MUST_USE uint64_t hypercall_run(const struct hypercall_host *h, const struct memory *m,
				uint64_t control, uint64_t input);
/* What the OUT to HYPERCALL_PORT_SIGNAL means; the status, for RCX. */
MUST_USE uint64_t hypercall_signal(const struct hypercall_host *h, uint32_t connection);

#endif
