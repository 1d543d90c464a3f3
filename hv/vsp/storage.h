/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_STORAGE_H
#define HV_VSP_STORAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/block/block.h"
#include "hv/memory.h"
#include "hv/state.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vsp/scsi.h"

/* storage: a SCSI controller on the bus, with up to SCSI_LUNS disks.
 *
 * Lanes: threads with a loop and a queue of hv/block each.  The n-th channel of the
 * controller belongs to lane n modulo their number: its packets, its I/O and the
 * completions of it run there, so that nothing but counters is shared.
 *
 * Life of a command: packet -> checked and decoded (scsi) -> refused or answered at once,
 * or handed to hv/block -> done -> data marked as landed in RAM -> completion packet, on
 * the channel it came from.
 *
 * Quiet: the bus hands out no packet any more; then everything in flight is waited for
 * (at most STORAGE_DRAIN_MS, or the pause fails and the machine goes on).  Afterwards no
 * I/O touches RAM or a disk, every command that was fetched has its completion in the
 * ring or in the channel's backlog, and those that were not fetched are still in the
 * ring: none is lost, none is done twice.  So commands are no part of the state, except
 * that a failed one may be held back (below): such a machine cannot be saved.
 *
 * Errors of the host are answered with sense data, or, for a disk that says so, the
 * command is held back and the owner is told, who pauses the machine; when it is resumed
 * the command is tried again.
 *
 * Threads: create, attach, start, stop, destroy: the machine's loop thread; the
 * provider's callbacks as in hv/vmbus/chan.h.
 * Source: docs/vmbus.md 15. */

#define STORAGE_LANES_MAX 4u
#define STORAGE_QUEUE 128u	 /* requests of one lane in the kernel */
#define STORAGE_COMMANDS 256u	 /* of one channel, not completed */
#define STORAGE_CHANNELS_MAX 16u /* the primary and its sub-channels */
#define STORAGE_DRAIN_MS 30000u

struct storage;

struct storage_host {
	struct memory *memory; /* borrowed */
	uint32_t vcpus;
	/* Where there are no lanes (tests): everything on this loop.  NULL: lanes. */
	struct loop *loop;
	/* A command of that LUN failed and is held back; on a lane's thread. */
	void (*held)(void *arg, unsigned lun, const char *reason);
	void *arg;
};

extern const struct state_kind storage_state_kind; /* sections "storage".N */

/* A controller without disks; instance: of its state section, and of its identity. */
MUST_USE enum err storage_create(const struct storage_host *host, uint32_t instance,
				 struct storage **out);
/* block is taken.  Before storage_start. */
void storage_attach(struct storage *s, unsigned lun, struct block *block, bool hold_errors);
/* The same later, while the bus is quiet: the guest's driver is told when it runs again.
 * Commands that are held back at a disk that is removed fail then.  Loop thread. */
void storage_add(struct storage *s, unsigned lun, struct block *block, bool hold_errors);
void storage_remove(struct storage *s, unsigned lun); /* its block is destroyed */
/* As block_resize. */
MUST_USE enum err storage_resize(struct storage *s, unsigned lun, uint64_t bytes);
/* false: no such disk. */
bool storage_has(struct storage *s, unsigned lun, struct block_info *out);
/* Offer it on the bus, and start the lanes. */
MUST_USE enum err storage_start(struct storage *s, struct vmbus *bus);
/* End the lanes; before vmbus_destroy.  Nothing runs any more. */
void storage_stop(struct storage *s);
void storage_destroy(struct storage *s); /* after vmbus_destroy; NULL allowed */

struct storage_info {
	uint64_t commands, errors; /* completed; of them with an error of the host */
	unsigned held;		   /* commands that wait for a resume */
};
void storage_info(struct storage *s, struct storage_info *out);

#endif
