/* SPDX-License-Identifier: Apache-2.0 */
/* vmbus_control: the answers to a guest's control messages; see vmbus.h.
 *
 * States of the bus: DISCONNECTED -[contact]-> CONNECTED -[unload, reset]-> DISCONNECTED
 * A contact while connected (kexec, a crash kernel) is a reset and then a contact.
 * States of a channel are chan.h's; one that is rescinded keeps its relid until the
 * guest has released it, because its late messages still name it.
 *
 * A handler that answers false has changed nothing that a second call would do twice:
 * its message comes again when a provider has finished closing.
 *
 * A malformed message is dropped; where the guest waits for an answer it gets a failure.
 *
 * Source: docs/vmbus.md 9. */
#include <assert.h>
#include <string.h>

#include "base/thread.h"
#include "hv/vmbus/vmbus_parts.h"

/* ---- sending ---- */

static void control_send(struct vmbus *b, const struct buf *m)
{
	enum err e = buf_check(m);

	if (e == ERR_OK)
		e = synic_post(b->host.synic, b->vp, b->sint, SPEC_VMBUS_MESSAGE, m->data, m->len);
	if (e != ERR_OK)
		vmbus_violation(b, "control", NULL);
}

static void control_put(struct buf *m, enum spec_message type)
{
	buf_put_le32(m, type);
	buf_put_le32(m, 0);
}

/* An answer of up to three words after its type; how many is the type's. */
static void control_answer(struct vmbus *b, enum spec_message type, unsigned words, uint32_t w0,
			   uint32_t w1, uint32_t w2)
{
	const uint32_t w[] = {w0, w1, w2};
	AUTO_BUF struct buf m = {0};

	control_put(&m, type);
	for (unsigned i = 0; i < words; i++)
		buf_put_le32(&m, w[i]);
	control_send(b, &m);
}

static void control_send_offer(struct vmbus *b, const struct chan *c)
{
	const struct chan_provider *p = c->provider;
	AUTO_BUF struct buf m = {0};

	control_put(&m, SPEC_OFFER);
	buf_put(&m, p->class_id, SPEC_GUID_BYTES);
	buf_put(&m, p->instance_id, SPEC_GUID_BYTES);
	buf_put_zero(&m, 16);
	buf_put_le16(&m, p->flags);
	buf_put_le16(&m, 0); /* MMIO */
	buf_put_le32(&m, p->pipe_mode);
	buf_put_zero(&m, SPEC_USER_DATA_BYTES - 4);
	buf_put_le16(&m, (uint16_t)c->index);
	buf_put_le16(&m, 0);
	buf_put_le32(&m, c->relid);
	buf_put_le8(&m, 0); /* monitor id, */
	buf_put_le8(&m, 0); /* of which there is none: every signal is a real one */
	buf_put_le16(&m, 1); /* an interrupt of its own */
	buf_put_le32(&m, VMBUS_CONNECTION + c->relid);
	assert(m.failed || m.len == SPEC_OFFER_BYTES);
	control_send(b, &m);
}

/* ---- channels ---- */

static void control_set_state(struct chan *c, enum chan_state state)
{
	AUTO_LOCK(&c->lock);
	c->state = state;
}

static void control_list(struct vmbus *b, uint32_t relid, struct chan *c)
{
	AUTO_LOCK(&b->lock);
	b->by_relid[relid] = c;
}

/* Relids go round, so that a late message to one is not taken for its successor's. */
static uint32_t control_new_relid(struct vmbus *b)
{
	do
		b->last_relid = b->last_relid % SPEC_RELID_MAX + 1;
	while (b->by_relid[b->last_relid]);
	return b->last_relid;
}

static bool control_offer(struct vmbus *b, struct chan *c)
{
	if (chan_state_now(c) != CHAN_IDLE)
		return false;
	c->relid = control_new_relid(b);
	c->rescinded = false;
	control_list(b, c->relid, c);
	control_set_state(c, CHAN_OFFERED);
	control_send_offer(b, c);
	return true;
}

void vmbus_offer_due(struct vmbus *b)
{
	if (!b->connected || !b->offers_wanted)
		return;
	for (unsigned i = 0; i < b->channel_count; i++) {
		struct chan *c = b->channels[i], *primary = c->primary;
		unsigned wanted = __atomic_load_n(&primary->wanted, __ATOMIC_SEQ_CST);

		if (synic_congested(b->host.synic, b->vp, b->sint))
			return; /* it comes here again when there is room */
		if (c == primary && c->present)
			(void)control_offer(b, c);
		else if (c != primary && c->index <= wanted)
			(void)control_offer(b, c);
	}
}

void vmbus_rescind(struct vmbus *b, struct chan *c)
{
	if (chan_state_now(c) == CHAN_IDLE || c->rescinded)
		return;
	c->rescinded = true;
	control_answer(b, SPEC_RESCIND, 1, c->relid, 0, 0);
}

static void control_rescind_subchannels(struct vmbus *b, const struct chan *primary)
{
	for (unsigned i = 0; i < b->channel_count; i++)
		if (b->channels[i]->primary == primary && b->channels[i] != primary)
			vmbus_rescind(b, b->channels[i]);
}

static void control_release(struct vmbus *b, struct chan *c)
{
	gpadl_drop_relid(&b->gpadls, c->relid);
	control_list(b, c->relid, NULL);
	control_set_state(c, CHAN_IDLE);
	c->rescinded = false;
}

/* The channel that a message names at offset 8. */
static struct chan *control_channel(struct vmbus *b, const uint8_t *p)
{
	uint32_t relid = le32_get(p + 8);

	return relid <= SPEC_RELID_MAX ? b->by_relid[relid] : NULL;
}

static bool control_close_all(struct vmbus *b)
{
	bool closed = true;

	for (unsigned i = b->channel_count; i-- > 0;)
		closed = chan_close(b->channels[i]) && closed;
	return closed;
}

void vmbus_disconnected(struct vmbus *b)
{
	for (unsigned i = 0; i < b->channel_count; i++)
		if (chan_state_now(b->channels[i]) != CHAN_IDLE)
			control_release(b, b->channels[i]);
	gpadl_fini(&b->gpadls);
	synic_drop(b->host.synic, b->vp, b->sint);
	b->connected = b->offers_wanted = false;
	b->version = 0;
	b->last_relid = 0;
	b->vp = 0;
	b->sint = SPEC_VMBUS_SINT;
}

/* ---- messages ---- */

static void control_bad(struct vmbus *b, const char *what)
{
	vmbus_violation(b, "control", what);
}

static bool control_version_ok(uint32_t v)
{
	return v == SPEC_VERSION_4_0 || v == SPEC_VERSION_4_1 ||
	       (v >= SPEC_VERSION_5_0 && v <= SPEC_VERSION_5_3);
}

static bool on_contact(struct vmbus *b, const struct vmbus_message *m)
{
	uint32_t version = le32_get(m->p + 8), vp = le32_get(m->p + 12);
	bool new = version >= SPEC_VERSION_5_0, ok = control_version_ok(version);
	uint8_t sint = new ? m->p[16] : SPEC_VMBUS_SINT;

	if (!control_close_all(b))
		return false;
	vmbus_disconnected(b);
	if (vp >= b->host.vcpus || (ok && sint >= SPEC_SINTS)) {
		control_bad(b, "contact for a processor or a source that is not there");
		return true;
	}
	b->vp = vp;
	b->sint = ok ? sint : SPEC_VMBUS_SINT;
	b->connected = ok;
	b->version = ok ? version : 0;
	control_answer(b, SPEC_VERSION_RESPONSE, 2, ok, ok && new ? SPEC_CONNECTION_NEW : 0, 0);
	return true;
}

static bool on_unload(struct vmbus *b, const struct vmbus_message *m)
{
	uint32_t vp = b->vp, sint = b->sint;

	(void)m;
	if (!control_close_all(b))
		return false;
	vmbus_disconnected(b);
	b->vp = vp;
	b->sint = sint;
	control_answer(b, SPEC_UNLOAD_RESPONSE, 0, 0, 0, 0);
	return true;
}

static bool on_request_offers(struct vmbus *b, const struct vmbus_message *m)
{
	(void)m;
	b->offers_wanted = true;
	for (unsigned i = 0; i < b->channel_count; i++)
		if (b->channels[i]->present)
			(void)control_offer(b, b->channels[i]);
	control_answer(b, SPEC_ALL_OFFERS, 0, 0, 0, 0);
	return true;
}

static enum err control_open(struct vmbus *b, struct chan *c, const uint8_t *p)
{
	const struct gpadl *g = gpadl_find(&b->gpadls, le32_get(p + 16));

	if (!c || c->rescinded || chan_state_now(c) != CHAN_OFFERED || !g ||
	    le32_get(p + 20) >= b->host.vcpus)
		return err_note(ERR_GUEST, 0, "open of channel %u", le32_get(p + 8));
	pthread_mutex_lock(&c->lock);
	c->open_id = le32_get(p + 12);
	c->gpadl = g->id;
	c->vp = le32_get(p + 20);
	c->downstream = le32_get(p + 24);
	memcpy(c->user_data, p + 28, SPEC_USER_DATA_BYTES);
	pthread_mutex_unlock(&c->lock);
	return ERR_OK;
}

static bool on_open(struct vmbus *b, const struct vmbus_message *m)
{
	struct chan *c = control_channel(b, m->p);
	uint32_t relid = le32_get(m->p + 8), id = le32_get(m->p + 12);
	enum err e;

	if (c && chan_state_now(c) == CHAN_CLOSING)
		return false;
	if ((e = control_open(b, c, m->p)) == ERR_OK)
		e = chan_open(c, gpadl_find(&b->gpadls, c->gpadl));
	if (e != ERR_OK)
		vmbus_violation(b, "control", NULL);
	control_answer(b, SPEC_OPEN_RESULT, 3, relid, id, e == ERR_OK ? 0 : SPEC_FAILED);
	return true;
}

static bool on_close(struct vmbus *b, const struct vmbus_message *m)
{
	struct chan *c = control_channel(b, m->p);

	if (!c || chan_state_now(c) != CHAN_OPEN) {
		control_bad(b, "close of a channel that is not open");
		return true;
	}
	(void)chan_close(c); /* what needs it closed waits for it */
	if (c == c->primary)
		control_rescind_subchannels(b, c);
	return true;
}

static void control_created(struct vmbus *b, const struct gpadl *g, enum err e, uint32_t relid,
			    uint32_t id)
{
	if (e != ERR_OK)
		vmbus_violation(b, "control", NULL);
	if (e != ERR_OK || gpadl_complete(g))
		control_answer(b, SPEC_GPADL_CREATED, 3, relid, id, e == ERR_OK ? 0 : SPEC_FAILED);
}

static bool on_gpadl_header(struct vmbus *b, const struct vmbus_message *m)
{
	struct gpadl *g = NULL;
	enum err e;

	if (control_channel(b, m->p))
		e = gpadl_begin(&b->gpadls, m->p, m->len, &g);
	else
		e = err_note(ERR_GUEST, 0, "a page list for a channel that is not there");
	control_created(b, g, e, le32_get(m->p + 8), le32_get(m->p + 12));
	return true;
}

static bool on_gpadl_body(struct vmbus *b, const struct vmbus_message *m)
{
	struct gpadl *g = NULL;
	enum err e = gpadl_more(&b->gpadls, m->p, m->len, &g);
	uint32_t relid, id;

	if (!g) {
		control_bad(b, "a part of no page list");
		return true;
	}
	relid = g->relid;
	id = g->id;
	control_created(b, g, e, relid, id);
	if (e != ERR_OK)
		gpadl_drop(&b->gpadls, g);
	return true;
}

/* Memory is only given back when no provider touches it any more. */
static bool on_gpadl_teardown(struct vmbus *b, const struct vmbus_message *m)
{
	uint32_t id = le32_get(m->p + 12);
	struct gpadl *g = gpadl_find(&b->gpadls, id);
	struct chan *c = g ? b->by_relid[g->relid] : NULL;

	if (c && c->gpadl == id && chan_state_now(c) == CHAN_OPEN)
		control_bad(b, "rings taken away from an open channel");
	if (c && c->gpadl == id && !chan_close(c))
		return false;
	if (c && c->gpadl != id && chan_state_now(c) == CHAN_CLOSING)
		return false;
	gpadl_drop(&b->gpadls, g);
	control_answer(b, SPEC_GPADL_TORNDOWN, 1, id, 0, 0);
	return true;
}

static bool on_released(struct vmbus *b, const struct vmbus_message *m)
{
	struct chan *c = control_channel(b, m->p);

	if (!c || !c->rescinded) {
		control_bad(b, "release of a channel that is not rescinded");
		return true;
	}
	if (!chan_close(c))
		return false;
	control_release(b, c);
	return true;
}

static bool on_modify(struct vmbus *b, const struct vmbus_message *m)
{
	struct chan *c = control_channel(b, m->p);
	uint32_t vp = le32_get(m->p + 12);
	bool ok = c && vp < b->host.vcpus;

	if (ok) {
		AUTO_LOCK(&c->lock);
		c->vp = vp;
	} else {
		control_bad(b, "a channel sent to a processor that is not there");
	}
	if (b->version >= SPEC_VERSION_5_3)
		control_answer(b, SPEC_MODIFY_RESPONSE, 2, le32_get(m->p + 8),
			       ok ? 0 : SPEC_FAILED, 0);
	return true;
}

static bool on_ignored(struct vmbus *b, const struct vmbus_message *m)
{
	(void)b, (void)m; /* sockets over the bus: nobody listens, the guest's connect fails */
	return true;
}

static const struct {
	uint32_t type, bytes; /* at least */
	bool any_time;	      /* also while disconnected */
	bool (*run)(struct vmbus *b, const struct vmbus_message *m);
} handlers[] = {
	{SPEC_INITIATE_CONTACT, SPEC_INITIATE_BYTES, true, on_contact},
	{SPEC_UNLOAD, 8, true, on_unload},
	{SPEC_REQUEST_OFFERS, 8, false, on_request_offers},
	{SPEC_OPEN, SPEC_OPEN_BYTES, false, on_open},
	{SPEC_CLOSE, 12, false, on_close},
	{SPEC_GPADL_HEADER, SPEC_GPADL_HEADER_BYTES, false, on_gpadl_header},
	{SPEC_GPADL_BODY, SPEC_GPADL_BODY_BYTES, false, on_gpadl_body},
	{SPEC_GPADL_TEARDOWN, 16, false, on_gpadl_teardown},
	{SPEC_RELID_RELEASED, 12, false, on_released},
	{SPEC_MODIFY, 16, false, on_modify},
	{SPEC_TL_CONNECT, 8, false, on_ignored},
};

bool vmbus_handle(struct vmbus *b, const struct vmbus_message *m)
{
	uint32_t type = m->len >= 8 ? le32_get(m->p) : 0;

	for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
		if (handlers[i].type != type)
			continue;
		if (m->len < handlers[i].bytes) {
			control_bad(b, "a message too short for its type");
			return true;
		}
		/* A driver that unloads releases its channels after it said good-bye. */
		if (!b->connected && !handlers[i].any_time)
			return true;
		return handlers[i].run(b, m);
	}
	control_bad(b, "a message of unknown type");
	return true;
}
