/* SPDX-License-Identifier: Apache-2.0 */
/* storage: Hyper-V's synthetic SCSI controller; see storage.h.
 *
 * States of the controller, as the guest's driver moves it on the primary channel:
 *   CLOSED -[open]-> OPEN -[begin]-> BEGUN -[end]-> READY -[close, reset]-> CLOSED
 * Commands are taken in READY only.  Version and properties are asked in BEGUN; more
 * channels in READY; these are forgotten when the primary closes (the bus takes the
 * sub-channels away then), so that a driver that is loaded again gets them anew.
 *
 * Locks: `lock` is held for counting and never around a call to bus or disks.
 * Source: docs/vmbus.md 15; packets of a real guest: tests/unit/hv/vmbus/vectors.txt. */
#include "hv/vsp/storage_parts.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"

enum {
	OP_RESET_LUN = 4,
	OP_RESET_ADAPTER = 5,
	OP_RESET_BUS = 6,
	OP_BEGIN = 7,
	OP_END = 8,
	OP_VERSION = 9,
	OP_PROPERTIES = 10,
	OP_EXECUTE = 3,
	OP_SUBCHANNELS = 13
};

#define MULTI_CHANNEL 1u
/* The longest packet: descriptor, one range of all pages, the vstor packet. */
#define PACKET_BYTES (16u + 8u + 8u + 8u * STORAGE_PIECES + 64u)
#define STORAGE_PIECES_SPARE 8u

/* ---- requests ---- */

static struct storage_request *new_request(struct lane *lane)
{
	struct storage_request *r;

	pthread_mutex_lock(&lane->storage->lock);
	r = lane->idle;
	if (r)
		lane->idle = r->next;
	pthread_mutex_unlock(&lane->storage->lock);
	return r ? r : calloc(1, sizeof(*r));
}

void storage_began(struct storage *s)
{
	AUTO_LOCK(&s->lock);
	s->in_flight++;
}

/* With lock: resets whose time has come, since only resets are in flight. */
static struct storage_request *take_resets(struct storage *s)
{
	struct storage_request *r = NULL;

	if (s->in_flight == s->reset_count) {
		r = s->resets;
		s->resets = NULL;
		s->reset_count = 0;
	}
	return r;
}

static void complete_resets(struct storage *s, struct storage_request *r)
{
	unsigned n = 0;

	for (; r; n++) {
		struct storage_request *next = r->next;

		storage_io_complete(r, VSTOR_OK, 0);
		r = next;
	}
	AUTO_LOCK(&s->lock);
	s->in_flight -= n;
	if (s->in_flight == 0)
		pthread_cond_broadcast(&s->drained);
}

void storage_ended(struct storage *s)
{
	struct storage_request *resets;

	pthread_mutex_lock(&s->lock);
	s->in_flight--;
	resets = take_resets(s);
	pthread_mutex_unlock(&s->lock);
	complete_resets(s, resets);
}

void storage_release(struct storage_request *r)
{
	struct storage *s = r->lane->storage;
	struct chan *c = r->chan;
	unsigned i = chan_index(c);
	bool kick = false, closed = false;

	pthread_mutex_lock(&s->lock);
	s->commands++;
	r->next = r->lane->idle;
	r->lane->idle = r;
	s->channels[i].busy--;
	if (s->channels[i].full && s->channels[i].busy < STORAGE_COMMANDS / 2) {
		s->channels[i].full = false;
		kick = true;
	}
	if (s->channels[i].closing && s->channels[i].busy == 0) {
		s->channels[i].closing = false;
		closed = true;
	}
	pthread_mutex_unlock(&s->lock);
	if (closed)
		chan_closed(c);
	else if (kick)
		chan_kick(c);
}

/* ---- the driver sets itself up ---- */

static bool answer_version(struct storage *s, uint8_t *p)
{
	uint16_t version = le16_get(p + VSTOR_BODY);

	if (version != 0x0602 && version != 0x0600)
		return false;
	s->version = version;
	return true;
}

static void answer_properties(const struct storage *s, uint8_t *p)
{
	uint8_t *b = p + VSTOR_BODY;

	memset(b, 0, VSTOR_BYTES - VSTOR_BODY);
	le16_put(b + 4, (uint16_t)s->provider.subchannels);
	le32_put(b + 8, s->provider.subchannels ? MULTI_CHANNEL : 0);
	le32_put(b + 12, SCSI_TRANSFER_BYTES);
}

/* With lock; the status of a request that is answered at once. */
static uint32_t set_up(struct storage *s, uint32_t operation, uint8_t *p)
{
	switch (operation) {
	case OP_BEGIN:
		if (s->phase == STORAGE_CLOSED)
			return VSTOR_FAILED;
		s->phase = STORAGE_BEGUN;
		s->version = s->subchannels = 0;
		return VSTOR_OK;
	case OP_VERSION:
		if (s->phase != STORAGE_BEGUN)
			return VSTOR_FAILED;
		return answer_version(s, p) ? VSTOR_OK : VSTOR_REVISION_MISMATCH;
	case OP_PROPERTIES:
		if (s->phase != STORAGE_BEGUN || !s->version)
			return VSTOR_FAILED;
		answer_properties(s, p);
		return VSTOR_OK;
	case OP_END:
		if (s->phase != STORAGE_BEGUN || !s->version)
			return VSTOR_FAILED;
		s->phase = STORAGE_READY;
		s->announce = 0;
		return VSTOR_OK;
	case OP_SUBCHANNELS:
		if (s->phase != STORAGE_READY || s->subchannels ||
		    le16_get(p + VSTOR_BODY) > s->provider.subchannels)
			return VSTOR_FAILED;
		s->subchannels = le16_get(p + VSTOR_BODY);
		return VSTOR_OK;
	default: return VSTOR_FAILED;
	}
}

static void handle_set_up(struct storage_request *r, uint32_t operation)
{
	struct storage *s = r->lane->storage;
	struct chan *c = r->chan;
	uint32_t status = VSTOR_FAILED, more;

	pthread_mutex_lock(&s->lock);
	if (c == s->primary)
		status = set_up(s, operation, r->packet);
	more = s->subchannels;
	pthread_mutex_unlock(&s->lock);
	storage_io_complete(r, status, 0); /* before the offers */
	if (operation == OP_SUBCHANNELS && status == VSTOR_OK && more > 0)
		chan_offer_more(c, more);
}

/* Answered when nothing else is in flight any more. */
static void handle_reset(struct storage_request *r)
{
	struct storage *s = r->lane->storage;
	struct storage_request *now;

	pthread_mutex_lock(&s->lock);
	r->next = s->resets;
	s->resets = r;
	s->reset_count++;
	s->in_flight++;
	now = take_resets(s);
	pthread_mutex_unlock(&s->lock);
	complete_resets(s, now);
}

/* ---- the provider's callbacks ---- */

static struct lane *lane_of(struct storage *s, const struct chan *c)
{
	return &s->lanes[chan_index(c) % s->lane_count];
}

static void on_opened(void *self, struct chan *c, const uint8_t *user_data)
{
	struct storage *s = self;
	unsigned i = chan_index(c);

	(void)user_data; /* Linux says nothing of interest there */
	AUTO_LOCK(&s->lock);
	s->channels[i].full = s->channels[i].closing = false;
	if (i == 0)
		s->phase = STORAGE_OPEN;
}

/* With lock: the held commands of c, which nobody waits for any more. */
static struct storage_request *take_held(struct storage *s, const struct chan *c)
{
	struct storage_request *mine = NULL, **p = &s->held;

	while (*p) {
		struct storage_request *r = *p;

		if (r->chan != c) {
			p = &r->next;
			continue;
		}
		*p = r->next;
		r->next = mine;
		mine = r;
		s->channels[chan_index(c)].busy--;
	}
	return mine;
}

static void free_list(struct storage_request *r)
{
	while (r) {
		struct storage_request *next = r->next;

		free(r); /* not the lane's thread: not back to its list */
		r = next;
	}
}

static void on_closed(void *self, struct chan *c)
{
	struct storage *s = self;
	unsigned i = chan_index(c);
	struct storage_request *gone;
	bool closed;

	pthread_mutex_lock(&s->lock);
	if (i == 0) {
		s->phase = STORAGE_CLOSED;
		s->version = s->subchannels = 0;
		s->announce = 0;
	}
	gone = take_held(s, c);
	closed = s->channels[i].busy == 0;
	s->channels[i].closing = !closed;
	pthread_mutex_unlock(&s->lock);
	free_list(gone);
	if (closed)
		chan_closed(c);
}

/* May that packet be taken?  Counts it. */
static bool admit(struct storage *s, unsigned channel, uint32_t operation, bool *more)
{
	AUTO_LOCK(&s->lock);
	s->channels[channel].busy++;
	*more = s->channels[channel].busy < STORAGE_COMMANDS;
	s->channels[channel].full = !*more;
	return operation != OP_EXECUTE || s->phase == STORAGE_READY;
}

static bool on_packet(void *self, struct chan *c, const struct packet *p)
{
	struct storage *s = self;
	struct lane *lane = lane_of(s, c);
	struct storage_request *r;
	uint32_t operation;
	bool more, ready;

	if (p->bytes < VSTOR_BYTES || !(p->flags & SPEC_PACKET_WANTS_COMPLETION) ||
	    (p->type != SPEC_PACKET_INBAND && p->type != SPEC_PACKET_GPA_DIRECT)) {
		chan_break(c, "a packet that is no request");
		return true;
	}
	r = new_request(lane);
	if (!r) {
		chan_break(c, "out of memory");
		return true;
	}
	r->lane = lane;
	r->chan = c;
	r->transaction = p->transaction;
	memcpy(r->packet, p->data, VSTOR_BYTES);
	operation = le32_get(r->packet + VSTOR_OPERATION);
	ready = admit(s, chan_index(c), operation, &more);
	if (!ready)
		storage_io_complete(r, VSTOR_FAILED, SRB_INVALID_REQUEST);
	else if (operation == OP_EXECUTE)
		storage_io_begin(r, p);
	else if (operation >= OP_RESET_LUN && operation <= OP_RESET_BUS)
		handle_reset(r);
	else
		handle_set_up(r, operation);
	return more;
}

static void on_batch_end(void *self, struct chan *c)
{
	block_queue_kick(lane_of(self, c)->queue);
}

static enum err on_quiesce(void *self)
{
	struct storage *s = self;
	struct timespec until;
	uint64_t ns = clock_real_ns() + STORAGE_DRAIN_MS * NS_PER_MS;
	int r = 0;

	until.tv_sec = (time_t)(ns / NS_PER_SEC);
	until.tv_nsec = (long)(ns % NS_PER_SEC);
	AUTO_LOCK(&s->lock);
	s->quiet = true;
	while (s->in_flight > 0 && r == 0)
		r = pthread_cond_timedwait(&s->drained, &s->lock, &until);
	if (s->in_flight == 0)
		return ERR_OK;
	s->quiet = false;
	return err_note(ERR_BUSY, 0,
			"disks: %u requests were not done within %u s: the host's "
			"storage is too slow or hangs",
			s->in_flight, STORAGE_DRAIN_MS / 1000);
}

static void on_resume(void *self)
{
	struct storage *s = self;

	pthread_mutex_lock(&s->lock);
	s->quiet = false;
	pthread_mutex_unlock(&s->lock);
	for (unsigned i = 0; i < s->lane_count; i++)
		loop_wake(s->lanes[i].loop);
}

/* Its channels are gone without having been closed; nothing is in flight. */
static void on_reset(void *self)
{
	struct storage *s = self;
	struct storage_request *held;

	pthread_mutex_lock(&s->lock);
	assert(s->in_flight == 0);
	held = s->held;
	s->held = NULL;
	s->phase = STORAGE_CLOSED;
	s->version = s->subchannels = 0;
	memset(s->channels, 0, sizeof(s->channels));
	for (unsigned i = 0; i < SCSI_LUNS; i++)
		s->disks[i].attentions = 0;
	s->announce = 0;
	pthread_mutex_unlock(&s->lock);
	free_list(held);
}

/* ---- life ---- */

static void on_lane_wake(void *arg)
{
	struct lane *lane = arg;

	storage_io_retry(lane);
	if (lane == &lane->storage->lanes[0]) /* the primary's */
		storage_tell(lane->storage);
}

static enum err lane_create(struct storage *s, struct lane *lane)
{
	enum err e = ERR_OK;

	lane->storage = s;
	lane->own_loop = !s->host.loop;
	lane->loop = s->host.loop;
	if (lane->own_loop)
		e = loop_create(&lane->loop);
	if (e == ERR_OK)
		e = block_queue_create(lane->loop, STORAGE_QUEUE, &lane->queue);
	if (e != ERR_OK)
		return e;
	loop_set_wake(lane->loop, on_lane_wake, lane);
	s->loops[s->lane_count++] = lane->loop;
	return ERR_OK;
}

static void lane_destroy(struct lane *lane)
{
	free_list(lane->idle);
	block_queue_destroy(lane->queue);
	if (lane->own_loop)
		loop_destroy(lane->loop);
}

static unsigned lanes_for(uint32_t vcpus)
{
	unsigned n = thread_cpus();

	if (n > vcpus)
		n = vcpus;
	return n < STORAGE_LANES_MAX ? n : STORAGE_LANES_MAX;
}

static void describe(struct storage *s)
{
	const uint8_t class_id[] = SPEC_SCSI;
	unsigned more = s->host.vcpus - 1;

	(void)snprintf(s->name, sizeof(s->name), "storage.%u", s->instance);
	s->provider = (struct chan_provider){
		.name = s->name,
		.flags = SPEC_OFFER_ENUMERATE,
		.subchannels = more < STORAGE_CHANNELS_MAX ? more : STORAGE_CHANNELS_MAX - 1,
		.packet_bytes = PACKET_BYTES + STORAGE_PIECES_SPARE,
		.loops = s->loops,
		.kind = &storage_state_kind,
		.state_instance = s->instance,
		.self = s,
		.opened = on_opened,
		.closed = on_closed,
		.packet = on_packet,
		.batch_end = on_batch_end,
		.quiesce = on_quiesce,
		.resume = on_resume,
		.reset = on_reset,
		.save = storage_save,
		.load = storage_load,
	};
	memcpy(s->provider.class_id, class_id, sizeof(class_id));
	/* The same for this place in every machine: only guests inside one see it. */
	memcpy(s->provider.instance_id, "lifeboat-storage", SPEC_GUID_BYTES);
	s->provider.instance_id[15] = (uint8_t)s->instance;
}

enum err storage_create(const struct storage_host *host, uint32_t instance, struct storage **out)
{
	struct storage *s = calloc(1, sizeof(*s));
	unsigned lanes = host->loop ? 1 : lanes_for(host->vcpus);
	enum err e = ERR_OK;

	if (!s)
		return err_note(ERR_NOMEM, 0, "disks: out of memory");
	s->host = *host;
	s->instance = instance;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->drained, NULL);
	describe(s);
	for (unsigned i = 0; i < lanes && e == ERR_OK; i++)
		e = lane_create(s, &s->lanes[i]);
	if (e != ERR_OK) {
		storage_destroy(s);
		return e;
	}
	s->provider.loop_count = host->loop ? 0 : s->lane_count;
	*out = s;
	return ERR_OK;
}

void storage_attach(struct storage *s, unsigned lun, struct block *block, bool hold_errors)
{
	assert(lun < SCSI_LUNS && !s->disks[lun].block);
	s->disks[lun] = (struct disk){.block = block, .hold_errors = hold_errors};
}

static void lane_main(void *arg)
{
	struct lane *lane = arg;

	if (loop_run(lane->loop) != ERR_OK)
		log_event(LOG_ERROR, "disk thread ends reason=\"%s\"", err_text());
}

enum err storage_start(struct storage *s, struct vmbus *bus)
{
	enum err e = vmbus_add(bus, &s->provider, &s->primary);

	for (unsigned i = 0; i < s->lane_count && e == ERR_OK && !s->host.loop; i++)
		e = thread_start(&s->lanes[i].thread, "disk", lane_main, &s->lanes[i]);
	return e;
}

void storage_stop(struct storage *s)
{
	for (unsigned i = 0; s && i < s->lane_count; i++) {
		if (s->lanes[i].thread.started)
			loop_stop(s->lanes[i].loop);
		thread_join(&s->lanes[i].thread);
	}
}

void storage_destroy(struct storage *s)
{
	if (!s)
		return;
	storage_stop(s);
	free_list(s->held);
	for (unsigned i = 0; i < STORAGE_LANES_MAX; i++)
		if (s->lanes[i].storage)
			lane_destroy(&s->lanes[i]);
	for (unsigned i = 0; i < SCSI_LUNS; i++)
		block_destroy(s->disks[i].block);
	pthread_cond_destroy(&s->drained);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void storage_info(struct storage *s, struct storage_info *out)
{
	AUTO_LOCK(&s->lock);
	*out = (struct storage_info){.commands = s->commands, .errors = s->errors};
	for (const struct storage_request *r = s->held; r; r = r->next)
		out->held++;
}
