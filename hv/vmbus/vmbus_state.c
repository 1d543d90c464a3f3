/* SPDX-License-Identifier: Apache-2.0 */
/* vmbus_state: what of the bus is in an image, so that the guest sees no rescind.
 *
 * Sections: "vmbus".0 (connection, page lists, posts that nobody has looked at yet), one
 * "vmbus_channel".N for each place for a channel, and one for each provider that has a
 * state.  Rings, message and event pages lie in RAM; of the rings the indices that we
 * trust are saved here, because RAM may be filled after the load.  Not saved: signals
 * (every open channel is looked at after the load), connection ids (from the relid), and
 * event descriptors.
 *
 * Loading checks everything of the bus before it changes any; a provider's section is
 * checked by the provider, and a machine whose load failed half-way only ends.
 *
 * Source: docs/vmbus.md 19. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "hv/vmbus/vmbus_parts.h"

enum {
	TAG_CONNECTED = 1,
	TAG_VERSION,
	TAG_TARGET_VP,
	TAG_SINT,
	TAG_OFFERS_WANTED,
	TAG_LAST_RELID,
	TAG_GPADLS,
	TAG_POSTS,
};

static const struct state_field vmbus_fields[] = {
	{TAG_CONNECTED, STATE_U8, false, "connected"},
	{TAG_VERSION, STATE_U32, false, "version"},
	{TAG_TARGET_VP, STATE_U32, false, "target_vp"},
	{TAG_SINT, STATE_U8, false, "sint"},
	{TAG_OFFERS_WANTED, STATE_U8, false, "offers_wanted"},
	{TAG_LAST_RELID, STATE_U32, false, "last_relid"},
	{TAG_GPADLS, STATE_U64S, false, "page_lists"},
	{TAG_POSTS, STATE_BYTES, false, "posted_messages"}, /* { length u32, message } */
};

const struct state_kind vmbus_state_kind = {
	.kind = "vmbus", .version = 1, .fields = vmbus_fields,
	.count = sizeof(vmbus_fields) / sizeof(vmbus_fields[0])};

enum {
	TAG_IDENTITY = 1,
	TAG_STATE,
	TAG_RESCINDED,
	TAG_BROKEN,
	TAG_PRESENT,
	TAG_WANTED,
	TAG_RELID,
	TAG_VP,
	TAG_OPEN_ID,
	TAG_GPADL,
	TAG_DOWNSTREAM,
	TAG_USER_DATA,
	TAG_READ_INDEX,
	TAG_WRITE_INDEX,
	TAG_BACKLOG,
};

static const struct state_field channel_fields[] = {
	{TAG_IDENTITY, STATE_BYTES, false, "class_and_instance"},
	{TAG_STATE, STATE_U8, false, "state"}, /* 0 idle, 1 offered, 2 open */
	{TAG_RESCINDED, STATE_U8, false, "rescinded"},
	{TAG_BROKEN, STATE_U8, false, "broken"},
	{TAG_PRESENT, STATE_U8, false, "present"},
	{TAG_WANTED, STATE_U32, false, "subchannels_wanted"},
	{TAG_RELID, STATE_U32, false, "relid"},
	{TAG_VP, STATE_U32, false, "target_vp"},
	{TAG_OPEN_ID, STATE_U32, false, "open_id"},
	{TAG_GPADL, STATE_U32, false, "ring_page_list"},
	{TAG_DOWNSTREAM, STATE_U32, false, "downstream_pages"},
	{TAG_USER_DATA, STATE_BYTES, false, "user_data"},
	{TAG_READ_INDEX, STATE_U32, false, "read_index"},
	{TAG_WRITE_INDEX, STATE_U32, false, "write_index"},
	{TAG_BACKLOG, STATE_BYTES, false, "waiting_packets"}, /* { length u32, packet } */
};

const struct state_kind vmbus_channel_state_kind = {
	.kind = "vmbus_channel", .version = 1, .fields = channel_fields,
	.count = sizeof(channel_fields) / sizeof(channel_fields[0])};

size_t vmbus_sections(const struct vmbus *b, struct compat_section *out)
{
	size_t n = 0;

	out[n++] = (struct compat_section){&vmbus_state_kind, 0};
	for (uint32_t i = 0; i < b->channel_count; i++)
		out[n++] = (struct compat_section){&vmbus_channel_state_kind, i};
	for (unsigned i = 0; i < b->provider_count; i++) {
		const struct chan_provider *p = b->providers[i];

		if (p->kind)
			out[n++] = (struct compat_section){p->kind, p->state_instance};
	}
	return n;
}

/* ---- saving ---- */

static void save_bus(struct vmbus *b, struct state_out *out)
{
	AUTO_BUF struct buf lists = {0}, posts = {0};

	gpadl_save(&b->gpadls, &lists);
	AUTO_LOCK(&b->lock);
	for (unsigned i = 0; i < b->post_count; i++) {
		const struct vmbus_message *m = &b->posts[(b->first_post + i) % VMBUS_POSTS_MAX];

		buf_put_le32(&posts, m->len);
		buf_put(&posts, m->p, m->len);
	}
	state_begin(out, &vmbus_state_kind, 0);
	state_put_u8(out, TAG_CONNECTED, b->connected);
	state_put_u32(out, TAG_VERSION, b->version);
	state_put_u32(out, TAG_TARGET_VP, b->vp);
	state_put_u8(out, TAG_SINT, (uint8_t)b->sint);
	state_put_u8(out, TAG_OFFERS_WANTED, b->offers_wanted);
	state_put_u32(out, TAG_LAST_RELID, b->last_relid);
	state_put_bytes(out, TAG_GPADLS, lists.data, lists.len);
	state_put_bytes(out, TAG_POSTS, posts.data, posts.len);
	state_end(out);
}

static void channel_identity(const struct chan *c, uint8_t out[2 * SPEC_GUID_BYTES])
{
	memcpy(out, c->provider->class_id, SPEC_GUID_BYTES);
	memcpy(out + SPEC_GUID_BYTES, c->provider->instance_id, SPEC_GUID_BYTES);
}

static void save_channel(struct chan *c, struct state_out *out)
{
	uint8_t identity[2 * SPEC_GUID_BYTES];

	channel_identity(c, identity);
	AUTO_LOCK(&c->lock);
	bool open = c->state == CHAN_OPEN;

	assert(c->state != CHAN_CLOSING);
	state_begin(out, &vmbus_channel_state_kind, c->slot);
	state_put_bytes(out, TAG_IDENTITY, identity, sizeof(identity));
	state_put_u8(out, TAG_STATE, (uint8_t)c->state);
	state_put_u8(out, TAG_RESCINDED, c->rescinded);
	state_put_u8(out, TAG_BROKEN, c->broken);
	state_put_u8(out, TAG_PRESENT, c->present);
	state_put_u32(out, TAG_WANTED, __atomic_load_n(&c->wanted, __ATOMIC_SEQ_CST));
	state_put_u32(out, TAG_RELID, c->relid);
	state_put_u32(out, TAG_VP, c->vp);
	state_put_u32(out, TAG_OPEN_ID, c->open_id);
	state_put_u32(out, TAG_GPADL, c->gpadl);
	state_put_u32(out, TAG_DOWNSTREAM, c->downstream);
	state_put_bytes(out, TAG_USER_DATA, c->user_data, SPEC_USER_DATA_BYTES);
	state_put_u32(out, TAG_READ_INDEX, open ? c->in.index : 0);
	state_put_u32(out, TAG_WRITE_INDEX, open ? c->out.index : 0);
	state_put_bytes(out, TAG_BACKLOG, c->backlog.data ? c->backlog.data + c->backlog_at : NULL,
			c->backlog.len - c->backlog_at);
	state_end(out);
}

enum err vmbus_save(struct vmbus *b, struct state_out *out)
{
	assert(b->quiet);
	save_bus(b, out);
	for (unsigned i = 0; i < b->channel_count; i++)
		save_channel(b->channels[i], out);
	for (unsigned i = 0; i < b->provider_count; i++) {
		const struct chan_provider *p = b->providers[i];
		enum err e;

		if (!p->kind)
			continue;
		state_begin(out, p->kind, p->state_instance);
		e = p->save(p->self, out);
		state_end(out);
		if (e != ERR_OK)
			return err_context(e, "save %s", p->name);
	}
	return ERR_OK;
}

/* ---- loading ---- */

struct channel_image { /* one section, checked by itself */
	uint8_t state, rescinded, broken, present;
	uint32_t wanted, relid, vp, open_id, gpadl, downstream, in, out;
	uint8_t user_data[SPEC_USER_DATA_BYTES];
	const uint8_t *backlog;
	size_t backlog_bytes;
};

struct image {
	uint8_t connected, sint, offers_wanted;
	uint32_t version, vp, last_relid;
	struct gpadl_table gpadls;
	struct vmbus_message posts[VMBUS_POSTS_MAX];
	unsigned post_count;
	struct channel_image channels[VMBUS_CHANNELS_MAX];
};

static enum err state_bad(const char *what)
{
	return err_note(ERR_CORRUPT, 0, "state of vmbus: %s", what);
}

static enum err parse_posts(struct image *m, const uint8_t *p, size_t len)
{
	struct rd in = rd_make(p, len);

	while (rd_left(&in) > 0) {
		uint32_t bytes = rd_le32(&in);
		const uint8_t *message;

		if (bytes > SPEC_MESSAGE_BYTES || m->post_count == VMBUS_POSTS_MAX)
			return state_bad("posted messages that it cannot hold");
		message = rd_bytes(&in, bytes);
		if (in.overrun)
			return state_bad("a posted message is cut off");
		m->posts[m->post_count].len = bytes;
		memcpy(m->posts[m->post_count++].p, message, bytes);
	}
	return ERR_OK;
}

static enum err parse_bus(struct vmbus *b, struct state_file *file, struct image *m)
{
	const uint8_t *lists = NULL, *posts = NULL;
	size_t lists_bytes = 0, posts_bytes = 0;
	struct state_in *in;
	enum err e;

	if ((e = state_find(file, &vmbus_state_kind, 0, &in)) != ERR_OK ||
	    (e = state_get_u8(in, TAG_CONNECTED, &m->connected)) != ERR_OK ||
	    (e = state_get_u32(in, TAG_VERSION, &m->version)) != ERR_OK ||
	    (e = state_get_u32(in, TAG_TARGET_VP, &m->vp)) != ERR_OK ||
	    (e = state_get_u8(in, TAG_SINT, &m->sint)) != ERR_OK ||
	    (e = state_get_u8(in, TAG_OFFERS_WANTED, &m->offers_wanted)) != ERR_OK ||
	    (e = state_get_u32(in, TAG_LAST_RELID, &m->last_relid)) != ERR_OK ||
	    (e = state_get_bytes(in, TAG_GPADLS, &lists, &lists_bytes)) != ERR_OK ||
	    (e = state_get_bytes(in, TAG_POSTS, &posts, &posts_bytes)) != ERR_OK)
		return e;
	if (m->connected > 1 || m->offers_wanted > 1 || m->vp >= b->host.vcpus ||
	    m->sint >= SPEC_SINTS || m->last_relid > SPEC_RELID_MAX)
		return state_bad("a connection that cannot be");
	if ((e = gpadl_load(&m->gpadls, lists, lists_bytes)) != ERR_OK)
		return e;
	return parse_posts(m, posts, posts_bytes);
}

static enum err parse_backlog(const struct channel_image *m)
{
	struct rd in = rd_make(m->backlog, m->backlog_bytes);

	while (rd_left(&in) > 0) {
		uint32_t len = rd_le32(&in);

		if (len < SPEC_DESCRIPTOR_BYTES || len > 8u * UINT16_MAX || !rd_bytes(&in, len))
			return state_bad("malformed waiting packets");
	}
	return ERR_OK;
}

static enum err parse_fields(const struct chan *c, struct state_in *in, struct channel_image *m)
{
	uint8_t identity[2 * SPEC_GUID_BYTES], ours[2 * SPEC_GUID_BYTES];
	enum err e;

	if ((e = state_get_exact(in, TAG_IDENTITY, identity, sizeof(identity))) != ERR_OK ||
	    (e = state_get_u8(in, TAG_STATE, &m->state)) != ERR_OK ||
	    (e = state_get_u8(in, TAG_RESCINDED, &m->rescinded)) != ERR_OK ||
	    (e = state_get_u8(in, TAG_BROKEN, &m->broken)) != ERR_OK ||
	    (e = state_get_u8(in, TAG_PRESENT, &m->present)) != ERR_OK ||
	    (e = state_get_u32(in, TAG_WANTED, &m->wanted)) != ERR_OK ||
	    (e = state_get_u32(in, TAG_RELID, &m->relid)) != ERR_OK ||
	    (e = state_get_u32(in, TAG_VP, &m->vp)) != ERR_OK ||
	    (e = state_get_u32(in, TAG_OPEN_ID, &m->open_id)) != ERR_OK ||
	    (e = state_get_u32(in, TAG_GPADL, &m->gpadl)) != ERR_OK ||
	    (e = state_get_u32(in, TAG_DOWNSTREAM, &m->downstream)) != ERR_OK ||
	    (e = state_get_exact(in, TAG_USER_DATA, m->user_data, SPEC_USER_DATA_BYTES)) != ERR_OK ||
	    (e = state_get_u32(in, TAG_READ_INDEX, &m->in)) != ERR_OK ||
	    (e = state_get_u32(in, TAG_WRITE_INDEX, &m->out)) != ERR_OK ||
	    (e = state_get_bytes(in, TAG_BACKLOG, &m->backlog, &m->backlog_bytes)) != ERR_OK)
		return e;
	channel_identity(c, ours);
	if (memcmp(ours, identity, sizeof(ours)) != 0)
		return err_note(ERR_VERSION, 0, "vmbus channel %u of the image is another device "
				"than this machine's %s", c->slot, c->provider->name);
	return ERR_OK;
}

static enum err parse_channel(struct vmbus *b, struct chan *c, struct state_file *file,
			      struct image *image)
{
	struct channel_image *m = &image->channels[c->slot];
	struct state_in *in;
	enum err e;

	if ((e = state_find(file, &vmbus_channel_state_kind, c->slot, &in)) != ERR_OK ||
	    (e = parse_fields(c, in, m)) != ERR_OK || (e = parse_backlog(m)) != ERR_OK)
		return e;
	if (m->state > CHAN_OPEN || m->rescinded > 1 || m->broken > 1 || m->present > 1 ||
	    m->wanted > c->provider->subchannels || m->vp >= b->host.vcpus)
		return state_bad("a channel that cannot be");
	if (m->state == CHAN_IDLE)
		return ERR_OK;
	if (!image->connected || m->relid == 0 || m->relid > SPEC_RELID_MAX)
		return state_bad("a channel without connection or number");
	for (unsigned i = 0; i < c->slot; i++)
		if (image->channels[i].state != CHAN_IDLE && image->channels[i].relid == m->relid)
			return state_bad("two channels of one number");
	return ERR_OK;
}

/* Fill in the channel; its rings are checked on the way. */
static enum err commit_channel(struct vmbus *b, struct chan *c, const struct channel_image *m)
{
	const struct gpadl *g = gpadl_find(&b->gpadls, m->gpadl);
	enum err e;

	AUTO_LOCK(&c->lock);
	c->present = m->present;
	c->rescinded = m->rescinded;
	c->broken = m->broken;
	__atomic_store_n(&c->wanted, m->wanted, __ATOMIC_SEQ_CST);
	c->relid = m->relid;
	c->vp = m->vp;
	c->open_id = m->open_id;
	c->gpadl = m->gpadl;
	c->downstream = m->downstream;
	memcpy(c->user_data, m->user_data, SPEC_USER_DATA_BYTES);
	buf_clear(&c->backlog);
	c->backlog_at = 0;
	if (m->state == CHAN_OPEN) {
		if (!g || (e = chan_restore_rings(c, g, m->in, m->out)) != ERR_OK)
			return state_bad("an open channel without rings");
		buf_put(&c->backlog, m->backlog, m->backlog_bytes);
	}
	c->state = (enum chan_state)m->state;
	return buf_check(&c->backlog);
}

static enum err commit(struct vmbus *b, struct image *m)
{
	enum err e = ERR_OK;

	gpadl_fini(&b->gpadls);
	b->gpadls = m->gpadls;
	m->gpadls = (struct gpadl_table){0};
	b->connected = m->connected;
	b->version = m->version;
	b->vp = m->vp;
	b->sint = m->sint;
	b->offers_wanted = m->offers_wanted;
	b->last_relid = m->last_relid;
	memcpy(b->posts, m->posts, sizeof(b->posts));
	b->first_post = 0;
	b->post_count = m->post_count;
	for (unsigned i = 0; i < b->channel_count && e == ERR_OK; i++) {
		struct chan *c = b->channels[i];

		e = commit_channel(b, c, &m->channels[i]);
		if (e != ERR_OK || c->state == CHAN_IDLE)
			continue;
		b->by_relid[c->relid] = c;
		b->open[c->relid] = c->state == CHAN_OPEN;
		if (c->state == CHAN_OPEN)
			e = b->host.ioevent(b->host.arg, VMBUS_CONNECTION + c->relid, c->kick_fd,
					    true);
	}
	return e;
}

static enum err load_providers(struct vmbus *b, struct state_file *file)
{
	for (unsigned i = 0; i < b->provider_count; i++) {
		const struct chan_provider *p = b->providers[i];
		struct state_in *in;
		enum err e;

		if (!p->kind)
			continue;
		e = state_find(file, p->kind, p->state_instance, &in);
		if (e == ERR_OK)
			e = p->load(p->self, in);
		if (e != ERR_OK)
			return err_context(e, "load %s", p->name);
	}
	return ERR_OK;
}

enum err vmbus_load(struct vmbus *b, struct state_file *file)
{
	struct image *m = calloc(1, sizeof(*m));
	enum err e;

	assert(b->quiet && !b->connected);
	if (!m)
		return err_note(ERR_NOMEM, 0, "load vmbus: out of memory");
	gpadl_init(&m->gpadls, b->host.memory);
	e = parse_bus(b, file, m);
	for (unsigned i = 0; i < b->channel_count && e == ERR_OK; i++)
		e = parse_channel(b, b->channels[i], file, m);
	if (e == ERR_OK)
		e = commit(b, m);
	gpadl_fini(&m->gpadls);
	free(m);
	return e == ERR_OK ? load_providers(b, file) : e;
}
