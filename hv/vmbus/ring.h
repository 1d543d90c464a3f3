/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VMBUS_RING_H
#define HV_VMBUS_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/memory.h"

/* ring: one direction of a channel, in guest memory: a control page and data pages.
 *
 * Everything in it is the guest's to change at any time.  A packet is copied out once
 * and checked; what we trust of the indices is our own (`index`), which the control
 * page only gets copies of.  Any violation is ERR_GUEST, and the ring is then of no
 * more use until the guest opens the channel anew.
 *
 * Interrupt suppression and flow control, both ways, are docs/vmbus.md 11:
 * reader: ring_mask(on) -> ring_read until it is empty -> ring_mask(off) -> once more
 *   if ring_pending; writer: ring_write says if the other side has to be signalled, and
 *   a packet that does not fit leaves its size in the control page, so that the guest
 *   signals when there is room.
 * Threads: one at a time on each object. */

struct ring {
	struct memory *memory;	/* borrowed */
	const uint64_t *pages;	/* addresses: control page, then data; borrowed */
	uint32_t bytes;		/* of data */
	uint32_t index;		/* read index of the reader, write index of the writer */
	bool reader;
};

/* A ring of `count` pages (at least 2), whose index is what the control page says. */
MUST_USE enum err ring_attach(struct ring *r, struct memory *m, const uint64_t *pages,
			      uint32_t count, bool reader);
/* The same, with an index from a saved state; touches no memory. */
MUST_USE enum err ring_restore(struct ring *r, struct memory *m, const uint64_t *pages,
			       uint32_t count, bool reader, uint32_t index);

/* ---- reader ---- */

/* The guest need not signal while this is on. */
MUST_USE enum err ring_mask(struct ring *r, bool on);
/* Is there something to read? */
MUST_USE enum err ring_pending(const struct ring *r, bool *yes);
/* Copy the next packet (descriptor, header, payload; no trailer) to buf and consume
 * it; *len 0: there is none.  Its len8 and offset8 are checked.  A packet longer than
 * `room` is a violation.  *signal: the guest waits for the room that this made. */
MUST_USE enum err ring_read(struct ring *r, uint8_t *buf, size_t room, size_t *len, bool *signal);

/* ---- writer ---- */

struct ring_piece {
	const void *p;
	size_t len;
};
/* One packet, from pieces; padded to 8 bytes, with its trailer.  The first piece is
 * its descriptor, whose lengths are the caller's.  *written false: it does not fit
 * now.  *signal: the guest has to be told.  ERR_USAGE: it never fits. */
MUST_USE enum err ring_write(struct ring *r, const struct ring_piece *pieces, unsigned count,
			     bool *written, bool *signal);

#endif
