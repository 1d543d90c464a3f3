/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VMBUS_SYNIC_H
#define HV_VMBUS_SYNIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/memory.h"
#include "hv/state.h"
#include "hv/vmbus/spec.h"

/* synic: the synthetic interrupt controller of every vCPU: messages and event flags
 * in pages of guest memory, announced by ordinary LAPIC vectors.
 *
 * Each vCPU has 16 sources (SINTs) with one message slot each; what does not fit waits
 * here, in order, until the guest has emptied the slot and said so (EOM).
 * Threads: msr_read and msr_write on the vCPU's own thread, post, signal, drop and
 * congested on any; the rest while vCPUs are parked and providers quiet.
 * Source: docs/vmbus.md 5, 7. */

struct synic;

struct synic_host {
	struct memory *memory; /* borrowed */
	uint32_t vcpus;
	/* Raise an edge-triggered interrupt of that vCPU.  Any thread. */
	void (*inject)(void *arg, uint32_t vp, uint8_t vector);
	void *arg;
};

#define SYNIC_QUEUE_MAX 1024u /* messages that wait for one SINT ... */
#define SYNIC_QUEUE_HIGH 256u /* ... and so many are a reason to answer no more */

extern const struct state_kind synic_state_kind; /* sections "synic".N */

MUST_USE enum err synic_create(const struct synic_host *host, struct synic **out);
void synic_destroy(struct synic *s); /* NULL allowed */
void synic_reset(struct synic *s);
/* Called, on a vCPU's thread, when a queue is no longer congested.  Before vCPUs run. */
void synic_set_room(struct synic *s, void (*fn)(void *arg), void *arg);

/* MSRs 0x40000080..0x4000009f.  False: #GP. */
MUST_USE bool synic_msr_read(struct synic *s, uint32_t vp, uint32_t msr, uint64_t *value);
MUST_USE bool synic_msr_write(struct synic *s, uint32_t vp, uint32_t msr, uint64_t value);

/* A message for that SINT, delivered now or when there is room.  ERR_BUSY: too many
 * wait already. */
MUST_USE enum err synic_post(struct synic *s, uint32_t vp, unsigned sint, uint32_t type,
			     const void *payload, size_t len);
bool synic_congested(struct synic *s, uint32_t vp, unsigned sint);
/* Forget what waits for that SINT. */
void synic_drop(struct synic *s, uint32_t vp, unsigned sint);
/* Set an event flag; interrupt the guest if it was clear. */
void synic_signal(struct synic *s, uint32_t vp, unsigned sint, unsigned flag);

/* Sections synic.0..n-1, begun and ended here. */
void synic_save(struct synic *s, struct state_out *out);
/* Checks all before it changes any. */
MUST_USE enum err synic_load(struct synic *s, struct state_file *in);

#endif
