/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VMBUS_VMBUS_H
#define HV_VMBUS_VMBUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "hv/compat.h"
#include "hv/memory.h"
#include "hv/state.h"
#include "hv/vmbus/chan.h"
#include "hv/vmbus/synic.h"

/* vmbus: Hyper-V's bus: version, offers, page lists, channels.
 *
 * A guest posts messages (hypercall HvPostMessage) and signals channels (HvSignalEvent,
 * mostly by an ioeventfd, without leaving KVM).  Messages wait in a bounded queue and
 * are answered on the machine's loop thread; a guest that posts faster than it reads its
 * answers is told to try again later.
 *
 * Life: create -> add providers -> (load | -) -> resume -> ... quiesce -> save -> ...
 * Threads: create, add and everything not said otherwise: the loop thread; post and signal:
 * vCPU threads.
 * Source: docs/vmbus.md 9 to 12, 19, 21. */

#define VMBUS_CHANNELS_MAX 256u
#define VMBUS_PROVIDERS_MAX 32u
#define VMBUS_SECTIONS_MAX (1u + VMBUS_CHANNELS_MAX + VMBUS_PROVIDERS_MAX)

struct vmbus_host {
	struct memory *memory; /* borrowed, as the next two */
	struct synic *synic;
	struct loop *loop; /* NULL: nothing runs by itself, see vmbus_work (tests) */
	uint32_t vcpus;
	/* From now on (or no longer) fd is written when the guest signals `connection`. */
	enum err (*ioevent)(void *arg, uint32_t connection, int fd, bool on);
	void *arg;
};

MUST_USE enum err vmbus_create(const struct vmbus_host *host, struct vmbus **out);
/* After the threads of the providers' loops have ended, before those loops are destroyed;
 * providers stay.  NULL allowed. */
void vmbus_destroy(struct vmbus *b);
/* p is borrowed until vmbus_destroy.  Before the machine runs (descriptors are made
 * here).  *primary may be NULL: not wanted. */
MUST_USE enum err vmbus_add(struct vmbus *b, const struct chan_provider *p, struct chan **primary);

/* ---- from vCPUs ---- */

/* ERR_OK; ERR_BUSY: try again later; ERR_NOTFOUND: no such connection; ERR_USAGE. */
MUST_USE enum err vmbus_post(struct vmbus *b, uint32_t connection, uint32_t type,
			     const uint8_t *p, size_t len);
/* A signal that no ioeventfd caught.  ERR_NOTFOUND. */
MUST_USE enum err vmbus_signal(struct vmbus *b, uint32_t connection);

/* ---- the loop ---- */

/* Answer what was posted, as far as can be.  Runs by itself where there is a loop; where
 * there is none, this also does what the channels' loops would do. */
void vmbus_work(struct vmbus *b);
/* Hot removal and addition of a device. */
void vmbus_withdraw(struct chan *primary);
void vmbus_offer(struct chan *primary);

/* Providers stop fetching and finish what is in flight, then the bus is quiet.  After
 * an error all is as before. */
MUST_USE enum err vmbus_quiesce(struct vmbus *b);
/* Every open channel is looked at once: signals are not part of the state. */
void vmbus_resume(struct vmbus *b);
void vmbus_reset(struct vmbus *b); /* quiet */

struct vmbus_info {
	bool connected;
	uint32_t version;
	unsigned offered, open; /* channels */
	uint64_t posts, violations;
};
void vmbus_info(struct vmbus *b, struct vmbus_info *out);

/* ---- state ---- */

extern const struct state_kind vmbus_state_kind;	 /* section "vmbus".0 */
extern const struct state_kind vmbus_channel_state_kind; /* sections "vmbus_channel".N */

/* All sections of bus, channels and providers; out has room for VMBUS_SECTIONS_MAX. */
size_t vmbus_sections(const struct vmbus *b, struct compat_section *out);
MUST_USE enum err vmbus_save(struct vmbus *b, struct state_out *out); /* quiet */
/* Quiet, nothing connected.  Touches no guest memory: RAM may be filled later. */
MUST_USE enum err vmbus_load(struct vmbus *b, struct state_file *file);

#endif
