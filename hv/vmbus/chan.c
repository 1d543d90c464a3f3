/* SPDX-License-Identifier: Apache-2.0 */
/* chan: rings of an open channel, and handing out its packets; see chan.h.
 *
 * A kick (the guest's signal, or our own) makes the channel's loop run chan_run: first
 * what waits for room in the guest's ring is sent; if all of it went, packets are handed
 * out with the guest's signals masked, at most CHAN_BATCH before others on that loop
 * have their turn; then signals are allowed again and the ring is looked at once more.
 *
 * Closing: state CLOSING is set under `run`, so that after that no packet is handed
 * out; then the provider is told, and the bus goes on when it has said chan_closed.
 *
 * Source: docs/vmbus.md 11, 12. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/thread.h"
#include "hv/vmbus/vmbus_parts.h"

/* ---- with c->lock ---- */

/* why NULL: the note of this thread says it. */
static void chan_violated(struct chan *c, const char *why)
{
	c->broken = true;
	vmbus_violation(c->bus, c->provider->name, why);
}

static void chan_interrupt(struct chan *c)
{
	synic_signal(c->bus->host.synic, c->vp, SPEC_VMBUS_SINT, c->relid);
}

static bool chan_usable(const struct chan *c)
{
	return c->state == CHAN_OPEN && !c->broken;
}

/* Write one packet, if it fits. */
static bool chan_write(struct chan *c, const struct ring_piece *pieces, unsigned count)
{
	bool written, signal;
	enum err e = ring_write(&c->out, pieces, count, &written, &signal);

	if (e != ERR_OK) {
		chan_violated(c, NULL); /* or a packet that can never fit into so small a ring */
		return true;
	}
	if (signal)
		chan_interrupt(c);
	return written;
}

/* Send what waits; true if nothing waits any more. */
static bool chan_flush(struct chan *c)
{
	while (c->backlog_at < c->backlog.len) {
		const uint8_t *p = c->backlog.data + c->backlog_at;
		struct ring_piece piece = {p + 4, le32_get(p)};

		if (!chan_write(c, &piece, 1))
			return false;
		c->backlog_at += 4 + piece.len;
	}
	buf_clear(&c->backlog);
	c->backlog_at = 0;
	return true;
}

static void chan_wait(struct chan *c, const struct ring_piece *pieces, unsigned count)
{
	size_t len = 0;

	for (unsigned i = 0; i < count; i++)
		len += pieces[i].len;
	if (c->backlog.len - c->backlog_at + len > CHAN_BACKLOG_MAX) {
		chan_violated(c, "the guest does not read its answers");
		return;
	}
	buf_put_le32(&c->backlog, (uint32_t)len);
	for (unsigned i = 0; i < count; i++)
		buf_put(&c->backlog, pieces[i].p, pieces[i].len);
	if (buf_check(&c->backlog) != ERR_OK)
		chan_violated(c, NULL);
}

/* ---- sending ---- */

void chan_send(struct chan *c, const struct chan_out *packet)
{
	size_t header = SPEC_DESCRIPTOR_BYTES + packet->header_bytes;
	size_t len = (header + packet->bytes + 7) / 8;
	uint8_t descriptor[SPEC_DESCRIPTOR_BYTES];
	const struct ring_piece pieces[] = {
		{descriptor, sizeof(descriptor)},
		{packet->header, packet->header_bytes},
		{packet->data, packet->bytes},
	};

	assert(packet->header_bytes % 8 == 0 && len <= UINT16_MAX);
	le16_put(descriptor, packet->type);
	le16_put(descriptor + 2, (uint16_t)(header / 8));
	le16_put(descriptor + 4, (uint16_t)len);
	le16_put(descriptor + 6, packet->flags);
	le64_put(descriptor + 8, packet->transaction);
	AUTO_LOCK(&c->lock);
	if (!chan_usable(c))
		return;
	if (c->backlog.len > c->backlog_at || !chan_write(c, pieces, 3))
		chan_wait(c, pieces, 3);
}

void chan_complete(struct chan *c, uint64_t transaction, const void *data, size_t bytes)
{
	chan_send(c, &(struct chan_out){.type = SPEC_PACKET_COMPLETION, .transaction = transaction,
					.data = data, .bytes = bytes});
}

void chan_break(struct chan *c, const char *why)
{
	AUTO_LOCK(&c->lock);
	if (chan_usable(c))
		chan_violated(c, why);
}

/* ---- packets ---- */

void chan_kick(struct chan *c)
{
	uint64_t one = 1;
	ssize_t n = write(c->kick_fd, &one, sizeof(one));

	(void)n; /* EAGAIN: it has been kicked already */
}

/* May packets be handed out now?  Then the guest's signals are off. */
static bool chan_begin(struct chan *c)
{
	AUTO_LOCK(&c->lock);
	if (!chan_usable(c) || c->stopped || !chan_flush(c) || !chan_usable(c))
		return false;
	if (ring_mask(&c->in, true) != ERR_OK)
		chan_violated(c, NULL);
	return !c->broken;
}

static bool chan_fetch(struct chan *c, struct packet *p)
{
	bool signal = false;
	size_t len = 0;
	enum err e;

	AUTO_LOCK(&c->lock);
	if (!chan_usable(c) || c->backlog.len > c->backlog_at)
		return false;
	e = ring_read(&c->in, c->packet, c->provider->packet_bytes, &len, &signal);
	if (e == ERR_OK && len > 0)
		e = packet_parse(c->packet, len, p);
	if (e != ERR_OK)
		chan_violated(c, NULL);
	else if (signal)
		chan_interrupt(c);
	return e == ERR_OK && len > 0;
}

/* The guest's signals on again; true if something came in between. */
static bool chan_end(struct chan *c)
{
	bool more = false;
	enum err e;

	AUTO_LOCK(&c->lock);
	if (!chan_usable(c) || c->backlog.len > c->backlog_at)
		return false; /* the guest will signal that there is room */
	if ((e = ring_mask(&c->in, false)) == ERR_OK)
		e = ring_pending(&c->in, &more);
	if (e != ERR_OK)
		chan_violated(c, NULL);
	return e == ERR_OK && more;
}

static void chan_run(struct chan *c)
{
	const struct chan_provider *p = c->provider;
	bool wants = true, any = true;
	struct packet packet;

	AUTO_LOCK(&c->run);
	if (!chan_begin(c))
		return;
	for (unsigned i = 0; wants && any && i < CHAN_BATCH; i++) {
		any = chan_fetch(c, &packet);
		if (any)
			wants = p->packet(p->self, c, &packet);
	}
	if (p->batch_end)
		p->batch_end(p->self, c);
	/* Signals stay off while the provider wants no more, or after a full batch. */
	if (wants && (any || chan_end(c)))
		chan_kick(c);
}

bool chan_poll(struct chan *c)
{
	uint64_t n;

	if (read(c->kick_fd, &n, sizeof(n)) != sizeof(n))
		return false;
	chan_run(c);
	return true;
}

static void on_kick(void *arg, int fd, uint32_t events)
{
	(void)fd, (void)events;
	(void)chan_poll(arg);
}

/* ---- questions ---- */

unsigned chan_index(const struct chan *c)
{
	return c->index;
}

bool chan_is_open(struct chan *c)
{
	AUTO_LOCK(&c->lock);
	return chan_usable(c);
}

enum chan_state chan_state_now(struct chan *c)
{
	AUTO_LOCK(&c->lock);
	return c->state;
}

uint32_t chan_target(struct chan *c)
{
	AUTO_LOCK(&c->lock);
	return c->vp;
}

struct memory *chan_memory(const struct chan *c)
{
	return c->bus->host.memory;
}

void chan_offer_more(struct chan *primary, unsigned n)
{
	assert(primary->index == 0);
	if (n > primary->provider->subchannels)
		n = primary->provider->subchannels;
	__atomic_store_n(&primary->wanted, n, __ATOMIC_SEQ_CST);
	vmbus_wake(primary->bus);
}

/* ---- opening and closing; loop thread ---- */

static enum err chan_take_pages(struct chan *c, const struct gpadl *g)
{
	if (!gpadl_complete(g) || g->relid != c->relid || g->offset != 0 ||
	    g->bytes % SPEC_PAGE || c->downstream < 2 || g->pages < 4 ||
	    c->downstream > g->pages - 2)
		return err_note(ERR_GUEST, 0, "%s: page list 0x%x holds no rings", c->provider->name,
				g->id);
	free(c->pages);
	c->page_count = g->pages;
	c->pages = malloc(g->pages * sizeof(*c->pages));
	if (!c->pages)
		return err_note(ERR_NOMEM, 0, "%s: out of memory", c->provider->name);
	memcpy(c->pages, g->page, g->pages * sizeof(*c->pages));
	return ERR_OK;
}

enum err chan_restore_rings(struct chan *c, const struct gpadl *g, uint32_t in, uint32_t out)
{
	struct memory *m = c->bus->host.memory;
	enum err e = chan_take_pages(c, g);

	if (e == ERR_OK)
		e = ring_restore(&c->in, m, c->pages, c->downstream, true, in);
	if (e == ERR_OK)
		e = ring_restore(&c->out, m, c->pages + c->downstream,
				 c->page_count - c->downstream, false, out);
	return e;
}

static void chan_listed(struct chan *c, bool open)
{
	AUTO_LOCK(&c->bus->lock);
	c->bus->open[c->relid] = open;
}

static enum err chan_open_locked(struct chan *c, const struct gpadl *g)
{
	struct vmbus_host *h = &c->bus->host;
	enum err e;

	AUTO_LOCK(&c->lock);
	if ((e = chan_take_pages(c, g)) != ERR_OK)
		return e;
	e = ring_attach(&c->in, h->memory, c->pages, c->downstream, true);
	if (e == ERR_OK)
		e = ring_attach(&c->out, h->memory, c->pages + c->downstream,
				c->page_count - c->downstream, false);
	if (e == ERR_OK)
		e = h->ioevent(h->arg, VMBUS_CONNECTION + c->relid, c->kick_fd, true);
	if (e != ERR_OK)
		return e;
	c->state = CHAN_OPEN;
	c->broken = false;
	return ERR_OK;
}

enum err chan_open(struct chan *c, const struct gpadl *g)
{
	enum err e;

	AUTO_LOCK(&c->run); /* no packet before the provider knows of it */
	if ((e = chan_open_locked(c, g)) != ERR_OK)
		return e;
	chan_listed(c, true);
	c->provider->opened(c->provider->self, c, c->user_data);
	chan_kick(c);
	return ERR_OK;
}

/* With c->lock. */
static void chan_clear(struct chan *c)
{
	c->state = CHAN_OFFERED;
	c->broken = false;
	free(c->pages);
	c->pages = NULL;
	c->page_count = 0;
	buf_fini(&c->backlog);
	c->backlog_at = 0;
}

static void chan_unlisten(struct chan *c)
{
	struct vmbus_host *h = &c->bus->host;

	chan_listed(c, false);
	if (h->ioevent(h->arg, VMBUS_CONNECTION + c->relid, c->kick_fd, false) != ERR_OK)
		vmbus_violation(c->bus, c->provider->name, NULL);
}

bool chan_close(struct chan *c)
{
	bool open;

	pthread_mutex_lock(&c->run);
	pthread_mutex_lock(&c->lock);
	open = c->state == CHAN_OPEN;
	if (open)
		c->state = CHAN_CLOSING;
	pthread_mutex_unlock(&c->lock);
	if (open) {
		chan_unlisten(c);
		__atomic_store_n(&c->wanted, 0, __ATOMIC_SEQ_CST);
		c->provider->closed(c->provider->self, c);
	}
	pthread_mutex_unlock(&c->run);
	return chan_state_now(c) != CHAN_CLOSING;
}

void chan_closed(struct chan *c)
{
	pthread_mutex_lock(&c->lock);
	if (c->state == CHAN_CLOSING)
		chan_clear(c);
	pthread_mutex_unlock(&c->lock);
	vmbus_wake(c->bus);
}

void chan_forget(struct chan *c)
{
	bool open = chan_state_now(c) == CHAN_OPEN;

	if (open)
		chan_unlisten(c);
	AUTO_LOCK(&c->lock);
	chan_clear(c);
	__atomic_store_n(&c->wanted, 0, __ATOMIC_SEQ_CST);
}

void chan_stop(struct chan *c, bool stopped)
{
	AUTO_LOCK(&c->run);
	AUTO_LOCK(&c->lock);
	c->stopped = stopped;
}

/* ---- life ---- */

enum err chan_create(struct vmbus *b, const struct chan_provider *p, unsigned index,
		     struct chan **out)
{
	struct chan *c = calloc(1, sizeof(*c));
	enum err e = ERR_OK;

	if (!c)
		return err_note(ERR_NOMEM, 0, "%s: out of memory", p->name);
	c->bus = b;
	c->provider = p;
	c->index = index;
	c->loop = p->loop_count ? p->loops[index % p->loop_count] : b->host.loop;
	c->stopped = true;
	c->present = index == 0;
	pthread_mutex_init(&c->run, NULL);
	pthread_mutex_init(&c->lock, NULL);
	c->packet = malloc(p->packet_bytes);
	c->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->kick_fd < 0)
		e = err_sys(errno, "%s: create its event descriptor", p->name);
	else if (!c->packet)
		e = err_note(ERR_NOMEM, 0, "%s: out of memory", p->name);
	else if (c->loop)
		e = loop_add(c->loop, c->kick_fd, EPOLLIN, on_kick, c, &c->watch);
	if (e != ERR_OK)
		chan_destroy(c);
	else
		*out = c;
	return e;
}

void chan_destroy(struct chan *c)
{
	if (!c)
		return;
	loop_remove(c->watch);
	if (c->kick_fd >= 0)
		close(c->kick_fd);
	pthread_mutex_destroy(&c->run);
	pthread_mutex_destroy(&c->lock);
	buf_fini(&c->backlog);
	free(c->pages);
	free(c->packet);
	free(c);
}
