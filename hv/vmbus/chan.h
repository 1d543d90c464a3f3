/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VMBUS_CHAN_H
#define HV_VMBUS_CHAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "hv/state.h"
#include "hv/vmbus/packet.h"
#include "hv/vmbus/spec.h"

/* chan: a channel of the bus, as its provider sees it.
 *
 * A provider (hv/vsp/) describes itself by a struct chan_provider and gives it to
 * vmbus_add, which makes its primary channel and places for sub-channels.  From then on
 * the bus offers, opens and closes; the provider answers packets.
 *
 * States: IDLE -[offer]-> OFFERED -[guest opens]-> OPEN -[guest closes, reset]-> CLOSING
 *         CLOSING -[chan_closed]-> OFFERED;  OFFERED -[rescind, release]-> IDLE
 *
 * Threads.  `opened`, `closed`, `quiesce`, `resume`, `reset`, `save`, `load`: the machine's
 * loop thread.  `packet`, `batch_end`: the thread of the loop that the provider gave for
 * that channel, one at a time for each channel, never while opened or closed run for it,
 * never between quiesce and resume.  chan_send, chan_kick, chan_closed, chan_offer_more
 * and the small questions: any thread; a provider may call them from its callbacks.
 *
 * Packets that do not fit into the guest's ring wait in the channel, in order, and are
 * part of its state; while any waits, no further packet is read.  So a provider need not
 * mind a full ring; what it has in flight is the bound of what waits.
 *
 * A guest that violates the protocol gets its channel broken: nothing is read or written
 * any more until it closes and opens it again. */

struct chan;
struct vmbus;

struct chan_provider {
	const char *name; /* for logs: "storage 0" */
	uint8_t class_id[SPEC_GUID_BYTES], instance_id[SPEC_GUID_BYTES];
	uint16_t flags;	    /* SPEC_OFFER_... */
	uint32_t pipe_mode; /* 0: no pipe */
	unsigned subchannels; /* at most so many */
	size_t packet_bytes;  /* the longest packet that it takes, descriptor included */
	/* Channel i runs on loops[i % loop_count]; none: all on the machine's loop. */
	struct loop *const *loops;
	unsigned loop_count;
	const struct state_kind *kind; /* of its section; NULL: it has none */
	uint32_t state_instance;
	void *self;

	/* The guest opened c: user_data has SPEC_USER_DATA_BYTES, borrowed. */
	void (*opened)(void *self, struct chan *c, const uint8_t *user_data);
	/* The guest closed c, or was reset.  Nothing is read any more and what is sent is
	 * dropped.  When no I/O of c touches guest memory any more: chan_closed(c), in here
	 * or later. */
	void (*closed)(void *self, struct chan *c);
	/* One packet; borrowed during the call.  False: no more for now (too much in
	 * flight); the provider says chan_kick when it can go on. */
	bool (*packet)(void *self, struct chan *c, const struct packet *p);
	/* Optional: after some packets, none left or no more wanted. */
	void (*batch_end)(void *self, struct chan *c);
	/* Finish all I/O, arm no timer, touch no guest memory afterwards.  ERR_...: it
	 * could not within its time; the machine goes on. */
	enum err (*quiesce)(void *self);
	void (*resume)(void *self);
	/* Power-on; quiet, its channels are closed already. */
	void (*reset)(void *self);
	/* Fields of its section, begun and ended by the caller; with kind only. */
	enum err (*save)(const void *self, struct state_out *out);
	/* Checks all before it changes any.  Channels are loaded before providers. */
	enum err (*load)(void *self, struct state_in *in);
};

struct chan_out { /* a packet to send; all borrowed during the call */
	uint16_t type, flags;
	uint64_t transaction;
	const void *header; /* between descriptor and payload, a multiple of 8 bytes */
	size_t header_bytes;
	const void *data;
	size_t bytes;
};

/* Send, or let it wait for room.  Dropped if the channel is not open. */
void chan_send(struct chan *c, const struct chan_out *packet);
/* The completion of a packet. */
void chan_complete(struct chan *c, uint64_t transaction, const void *data, size_t bytes);
/* Run c's packets again, soon, on its loop. */
void chan_kick(struct chan *c);
/* The provider is done with a channel that was closed. */
void chan_closed(struct chan *c);
/* Offer n sub-channels more of this primary, as places allow. */
void chan_offer_more(struct chan *primary, unsigned n);
/* The guest broke the provider's own protocol: no more of this channel. */
void chan_break(struct chan *c, const char *why);

/* 0: the primary; n: its n-th sub-channel. */
unsigned chan_index(const struct chan *c);
bool chan_is_open(struct chan *c);
/* The vCPU that the guest wants to be interrupted. */
uint32_t chan_target(struct chan *c);
struct memory *chan_memory(const struct chan *c); /* borrowed */

#endif
