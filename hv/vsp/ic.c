/* SPDX-License-Identifier: Apache-2.0 */
/* ic: negotiation and requests of the integration services; see ic.h.
 *
 * Payload of a packet: pipe header { 1 u32, length of the rest u32 }, IC header { framework
 * major u16, minor u16, message type u16, message version major u16, minor u16, size of
 * the data u16, status u32, transaction u8, flags u8, 0 u16 }, data.  A request has flags 3; an
 * answer has bit 2 set and comes with the ring transaction id of its request.
 * Negotiation (type 0) data: counts of framework and message versions u16 u16, 0 u32, the
 * versions { major u16, minor u16 }; the guest answers with counts 1 1 and its choices, or
 * with 0 0.
 *
 * Source: docs/vmbus.md 14. */
#include "hv/vsp/ic.h"

#include <string.h>

enum {
	PIPE_BYTES = 8,
	HEADER_BYTES = 20,
	AT_TYPE = PIPE_BYTES + 4,
	AT_SIZE = PIPE_BYTES + 10,
	AT_STATUS = PIPE_BYTES + 12,
	AT_FLAGS = PIPE_BYTES + 17,
	AT_DATA = PIPE_BYTES + HEADER_BYTES,
	TYPE_NEGOTIATE = 0,
	FLAGS_REQUEST = 3,
	FLAG_RESPONSE = 4,
	CHOICES_BYTES = 16, /* of an answered negotiation */
};

static const uint32_t frameworks[] = {IC_VERSION(3, 0), IC_VERSION(1, 0)};

static void put_version(struct buf *b, uint32_t v)
{
	buf_put_le16(b, (uint16_t)(v >> 16));
	buf_put_le16(b, (uint16_t)v);
}

static uint32_t get_version(const uint8_t *p)
{
	return IC_VERSION(le16_get(p), le16_get(p + 2));
}

static void ic_send(struct ic *ic, uint16_t type, const void *data, size_t len)
{
	AUTO_BUF struct buf b = {0};

	buf_put_le32(&b, 1);
	buf_put_le32(&b, (uint32_t)(HEADER_BYTES + len));
	put_version(&b, ic->framework);
	buf_put_le16(&b, type);
	put_version(&b, ic->version);
	buf_put_le16(&b, (uint16_t)len);
	buf_put_le32(&b, 0); /* status */
	buf_put_le8(&b, 0);
	buf_put_le8(&b, FLAGS_REQUEST);
	buf_put_le16(&b, 0);
	buf_put(&b, data, len);
	if (buf_check(&b) == ERR_OK)
		chan_send(ic->chan, &(struct chan_out){.type = SPEC_PACKET_INBAND,
						       .transaction = ic->transaction,
						       .data = b.data, .bytes = b.len});
}

bool ic_request(struct ic *ic, const void *data, size_t len)
{
	if (ic->phase != IC_READY || ic->busy || len > IC_DATA_MAX)
		return false;
	ic->transaction++;
	ic->busy = true;
	ic_send(ic, ic->service->type, data, len);
	return true;
}

static void ic_negotiate(struct ic *ic)
{
	const uint16_t offered = sizeof(frameworks) / sizeof(frameworks[0]);
	AUTO_BUF struct buf b = {0};
	uint16_t n = 0;

	while (n < IC_VERSIONS_MAX && ic->service->versions[n])
		n++;
	buf_put_le16(&b, offered);
	buf_put_le16(&b, n);
	buf_put_le32(&b, 0);
	for (unsigned i = 0; i < offered; i++)
		put_version(&b, frameworks[i]);
	for (unsigned i = 0; i < n; i++)
		put_version(&b, ic->service->versions[i]);
	if (buf_check(&b) == ERR_OK)
		ic_send(ic, TYPE_NEGOTIATE, b.data, b.len);
}

/* ---- from the guest ---- */

static void ic_chosen(struct ic *ic, const uint8_t *data, size_t len)
{
	bool known = false;

	ic->phase = IC_UNFIT;
	if (len < CHOICES_BYTES || le16_get(data) == 0 || le16_get(data + 2) == 0)
		return;
	ic->framework = get_version(data + 8);
	ic->version = get_version(data + 12);
	for (unsigned i = 0; i < IC_VERSIONS_MAX; i++)
		known = known || (ic->version && ic->service->versions[i] == ic->version);
	if (!known || (ic->framework != frameworks[0] && ic->framework != frameworks[1]))
		return;
	ic->phase = IC_READY;
	if (ic->service->ready)
		ic->service->ready(ic->self);
}

static bool ic_packet(void *self, struct chan *c, const struct packet *p)
{
	struct ic *ic = self;
	size_t size;

	(void)c;
	if (p->type != SPEC_PACKET_INBAND || p->bytes < AT_DATA ||
	    !(p->data[AT_FLAGS] & FLAG_RESPONSE) || p->transaction != ic->transaction)
		return true; /* an answer to nothing */
	size = le16_get(p->data + AT_SIZE);
	if (size > p->bytes - AT_DATA)
		return true;
	if (ic->phase == IC_NEGOTIATING && le16_get(p->data + AT_TYPE) == TYPE_NEGOTIATE) {
		ic_chosen(ic, p->data + AT_DATA, size);
	} else if (ic->phase == IC_READY && ic->busy &&
		   le16_get(p->data + AT_TYPE) == ic->service->type) {
		ic->busy = false;
		if (ic->service->answer)
			ic->service->answer(ic->self, le32_get(p->data + AT_STATUS),
					    p->data + AT_DATA, size);
	}
	return true;
}

static void ic_clear(struct ic *ic)
{
	ic->phase = IC_CLOSED;
	ic->busy = false;
	ic->framework = ic->version = 0;
	ic->transaction = ic->sequence = 0;
	ic->flag = 0;
}

static void ic_opened(void *self, struct chan *c, const uint8_t *user_data)
{
	struct ic *ic = self;

	(void)c, (void)user_data;
	ic_clear(ic);
	ic->phase = IC_NEGOTIATING;
	ic_negotiate(ic);
}

static void ic_gone(struct ic *ic)
{
	ic_clear(ic);
	if (ic->service->closed)
		ic->service->closed(ic->self);
}

static void ic_closed(void *self, struct chan *c)
{
	ic_gone(self);
	chan_closed(c);
}

/* ---- rest and state ---- */

static enum err ic_quiesce(void *self)
{
	struct ic *ic = self;

	if (ic->service->quiet)
		ic->service->quiet(ic->self);
	return ERR_OK;
}

static void ic_resume(void *self)
{
	struct ic *ic = self;

	if (ic->service->resume)
		ic->service->resume(ic->self);
}

static void ic_reset(void *self)
{
	ic_gone(self);
}

enum { TAG_PHASE = 1, TAG_BUSY, TAG_FRAMEWORK, TAG_VERSION, TAG_TRANSACTION, TAG_SEQUENCE, TAG_FLAG };

static const struct state_field ic_fields[] = {
	{TAG_PHASE, STATE_U8, false, "phase"}, /* 0 closed, 1 negotiating, 2 ready, 3 unfit */
	{TAG_BUSY, STATE_U8, false, "request_out"},
	{TAG_FRAMEWORK, STATE_U32, false, "framework_version"},
	{TAG_VERSION, STATE_U32, false, "message_version"},
	{TAG_TRANSACTION, STATE_U64, false, "transaction"},
	{TAG_SEQUENCE, STATE_U64, false, "sequence"},
	{TAG_FLAG, STATE_U8, false, "flag"},
};

const struct state_kind ic_state_kind = {
	.kind = "ic", .version = 1, .fields = ic_fields,
	.count = sizeof(ic_fields) / sizeof(ic_fields[0])};

static enum err ic_save(const void *self, struct state_out *out)
{
	const struct ic *ic = self;

	state_put_u8(out, TAG_PHASE, (uint8_t)ic->phase);
	state_put_u8(out, TAG_BUSY, ic->busy);
	state_put_u32(out, TAG_FRAMEWORK, ic->framework);
	state_put_u32(out, TAG_VERSION, ic->version);
	state_put_u64(out, TAG_TRANSACTION, ic->transaction);
	state_put_u64(out, TAG_SEQUENCE, ic->sequence);
	state_put_u8(out, TAG_FLAG, ic->flag);
	return ERR_OK;
}

static enum err ic_load(void *self, struct state_in *in)
{
	struct ic *ic = self, new = {0};
	uint8_t phase = 0, busy = 0;
	enum err e;

	if ((e = state_get_u8(in, TAG_PHASE, &phase)) != ERR_OK ||
	    (e = state_get_u8(in, TAG_BUSY, &busy)) != ERR_OK ||
	    (e = state_get_u32(in, TAG_FRAMEWORK, &new.framework)) != ERR_OK ||
	    (e = state_get_u32(in, TAG_VERSION, &new.version)) != ERR_OK ||
	    (e = state_get_u64(in, TAG_TRANSACTION, &new.transaction)) != ERR_OK ||
	    (e = state_get_u64(in, TAG_SEQUENCE, &new.sequence)) != ERR_OK ||
	    (e = state_get_u8(in, TAG_FLAG, &new.flag)) != ERR_OK)
		return e;
	if (phase > IC_UNFIT || busy > 1 || new.flag > 1)
		return err_note(ERR_CORRUPT, 0, "state of ic %s: phase %u, request %u, flag %u",
				ic->service->name, phase, busy, new.flag);
	ic->phase = (enum ic_phase)phase;
	ic->busy = busy;
	ic->framework = new.framework;
	ic->version = new.version;
	ic->transaction = new.transaction;
	ic->sequence = new.sequence;
	ic->flag = new.flag;
	return ERR_OK;
}

enum err ic_init(struct ic *ic, const struct ic_service *service, void *self, struct vmbus *bus)
{
	*ic = (struct ic){.service = service, .self = self};
	ic->provider = (struct chan_provider){
		.name = service->name,
		.flags = SPEC_OFFER_ENUMERATE | SPEC_OFFER_NAMED_PIPE,
		.pipe_mode = SPEC_PIPE_MESSAGES,
		.packet_bytes = SPEC_DESCRIPTOR_BYTES + AT_DATA + IC_DATA_MAX,
		.kind = &ic_state_kind,
		.state_instance = service->state_instance,
		.self = ic,
		.opened = ic_opened,
		.closed = ic_closed,
		.packet = ic_packet,
		.quiesce = ic_quiesce,
		.resume = ic_resume,
		.reset = ic_reset,
		.save = ic_save,
		.load = ic_load,
	};
	memcpy(ic->provider.class_id, service->class_id, SPEC_GUID_BYTES);
	memcpy(ic->provider.instance_id, service->instance_id, SPEC_GUID_BYTES);
	return vmbus_add(bus, &ic->provider, &ic->chan);
}
