/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VMBUS_VMBUS_PARTS_H
#define HV_VMBUS_VMBUS_PARTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/loop.h"
#include "hv/vmbus/chan.h"
#include "hv/vmbus/gpadl.h"
#include "hv/vmbus/ring.h"
#include "hv/vmbus/vmbus.h"

/* vmbus_parts: what bus and channels know of each other; private to hv/vmbus/.
 *
 * Order of locks: chan.run, chan.lock, then vmbus.lock, then synic's own. */

enum chan_state { CHAN_IDLE, CHAN_OFFERED, CHAN_OPEN, CHAN_CLOSING };

#define CHAN_BATCH 64u	     /* packets before others have their turn */
#define CHAN_BACKLOG_MAX (4u << 20) /* bytes of packets that wait for room */

struct chan {
	struct vmbus *bus;
	const struct chan_provider *provider;
	struct chan *primary; /* itself, if it is one */
	unsigned slot, index;
	struct loop *loop;
	struct loop_watch *watch;
	int kick_fd;

	/* Loop thread. */
	bool present;	/* a primary: plugged in */
	bool rescinded; /* and not released yet */
	unsigned wanted; /* a primary: sub-channels still to be offered (atomic: any thread) */

	pthread_mutex_t run; /* held while packets are handed out, and by who stops that */
	uint8_t *packet;     /* of provider->packet_bytes; with run */

	pthread_mutex_t lock; /* guards the rest */
	enum chan_state state;
	bool stopped, broken;
	uint32_t relid, vp, open_id, gpadl, downstream;
	uint8_t user_data[SPEC_USER_DATA_BYTES];
	struct ring in, out;
	uint64_t *pages; /* of both rings */
	uint32_t page_count;
	struct buf backlog; /* { length u32, packet without its padding to 8 } ... */
	size_t backlog_at;
};

struct vmbus_message {
	uint32_t len;
	uint8_t p[SPEC_MESSAGE_BYTES];
};

#define VMBUS_POSTS_MAX 64u
#define VMBUS_CONNECTION 0x2000u /* connection id of relid 0 */

struct vmbus {
	struct vmbus_host host;
	int wake_fd;
	struct loop_watch *watch;
	struct log_limit log;

	pthread_mutex_t lock; /* guards posts and open */
	struct vmbus_message posts[VMBUS_POSTS_MAX];
	unsigned first_post, post_count;
	bool open[SPEC_RELID_MAX + 1]; /* signals are for somebody */

	/* Loop thread. */
	bool quiet, connected, offers_wanted;
	uint32_t version, vp, sint, last_relid;
	struct gpadl_table gpadls;
	struct chan *by_relid[SPEC_RELID_MAX + 1];
	struct chan *channels[VMBUS_CHANNELS_MAX];
	unsigned channel_count;
	const struct chan_provider *providers[VMBUS_PROVIDERS_MAX];
	unsigned provider_count;
	_Atomic uint64_t post_total, violations;
};

/* ---- vmbus.c ---- */
void vmbus_wake(struct vmbus *b);
/* The guest did something that it may not: counted, and logged within limits.  why NULL:
 * what the note of this thread says. */
void vmbus_violation(struct vmbus *b, const char *where, const char *why);

/* ---- vmbus_control.c; loop thread ---- */
/* False: not yet; the message is to be shown again. */
bool vmbus_handle(struct vmbus *b, const struct vmbus_message *m);
/* Offer what is wanted and can be. */
void vmbus_offer_due(struct vmbus *b);
void vmbus_rescind(struct vmbus *b, struct chan *c);
/* Back to "not connected", all channels closed already. */
void vmbus_disconnected(struct vmbus *b);

/* ---- chan.c; loop thread ---- */
MUST_USE enum err chan_create(struct vmbus *b, const struct chan_provider *p, unsigned index,
			      struct chan **out);
void chan_destroy(struct chan *c); /* NULL allowed */
/* Rings in place, provider told.  ERR_GUEST: the guest's rings are none. */
MUST_USE enum err chan_open(struct chan *c, const struct gpadl *g);
/* Begin to close; true when it is closed. */
bool chan_close(struct chan *c);
/* Forget everything of an open channel, whose provider is quiet. */
void chan_forget(struct chan *c);
void chan_stop(struct chan *c, bool stopped);
/* Run it if it was kicked; that is, what its loop does. */
bool chan_poll(struct chan *c);
enum chan_state chan_state_now(struct chan *c);
/* Rings of a channel that was open, from saved indices. */
MUST_USE enum err chan_restore_rings(struct chan *c, const struct gpadl *g, uint32_t in,
				     uint32_t out);

#endif
