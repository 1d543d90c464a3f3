/* SPDX-License-Identifier: Apache-2.0 */
/* vmbus: the bus's life, what is posted to it, and its rest; see vmbus.h.
 *
 * Posts.  vCPUs put messages into a queue of VMBUS_POSTS_MAX; the loop takes them in
 * order.  A message whose answer has to wait (for a provider that still has I/O in
 * flight) stays at the head, and is looked at again when something has changed.  Nothing
 * is taken while too many answers wait for the guest, so that the queue fills up and the
 * guest is told to try again.  Contact and unload make everything before them moot.
 *
 * Quiet.  First no channel hands out packets any more, then each provider finishes what
 * it has in flight (answers go to the rings or wait in the channel), last one added
 * first, then the bus itself rests: posts that nobody has looked at are state.
 *
 * Source: docs/vmbus.md 9, 19, 21. */
#include "hv/vmbus/vmbus.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/thread.h"
#include "hv/vmbus/vmbus_parts.h"

void vmbus_wake(struct vmbus *b)
{
	uint64_t one = 1;
	ssize_t n = write(b->wake_fd, &one, sizeof(one));

	(void)n; /* EAGAIN: a wake-up is pending already */
}

void vmbus_violation(struct vmbus *b, const char *where, const char *why)
{
	atomic_fetch_add_explicit(&b->violations, 1, memory_order_relaxed);
	AUTO_LOCK(&b->lock);
	log_limited(&b->log, LOG_WARN, "vmbus-violation at=\"%s\" reason=\"%s\"", where,
		    why ? why : err_text());
}

/* ---- from vCPUs ---- */

static bool vmbus_is_new_start(const uint8_t *p, size_t len)
{
	uint32_t type = len >= 4 ? le32_get(p) : 0;

	return type == SPEC_INITIATE_CONTACT || type == SPEC_UNLOAD;
}

enum err vmbus_post(struct vmbus *b, uint32_t connection, uint32_t type, const uint8_t *p,
		    size_t len)
{
	if (connection != SPEC_CONNECTION_OLD && connection != SPEC_CONNECTION_NEW)
		return err_note(ERR_NOTFOUND, 0, "no connection %u", connection);
	if (type != SPEC_VMBUS_MESSAGE || len > SPEC_MESSAGE_BYTES)
		return err_note(ERR_USAGE, 0, "a message of type %u, %zu bytes", type, len);
	pthread_mutex_lock(&b->lock);
	if (vmbus_is_new_start(p, len))
		b->post_count = 0;
	if (b->post_count == VMBUS_POSTS_MAX) {
		pthread_mutex_unlock(&b->lock);
		return err_note(ERR_BUSY, 0, "the bus is busy");
	}
	struct vmbus_message *m =
		&b->posts[(b->first_post + b->post_count++) % VMBUS_POSTS_MAX];

	m->len = (uint32_t)len;
	memcpy(m->p, p, len);
	pthread_mutex_unlock(&b->lock);
	atomic_fetch_add_explicit(&b->post_total, 1, memory_order_relaxed);
	vmbus_wake(b);
	return ERR_OK;
}

enum err vmbus_signal(struct vmbus *b, uint32_t connection)
{
	uint32_t relid = connection - VMBUS_CONNECTION;
	struct chan *c = NULL;

	AUTO_LOCK(&b->lock);
	if (relid <= SPEC_RELID_MAX && b->open[relid])
		c = b->by_relid[relid];
	if (!c)
		return err_note(ERR_NOTFOUND, 0, "no connection %u", connection);
	chan_kick(c);
	return ERR_OK;
}

/* ---- the loop ---- */

static bool vmbus_head(struct vmbus *b, struct vmbus_message *m)
{
	AUTO_LOCK(&b->lock);
	if (b->post_count == 0)
		return false;
	*m = b->posts[b->first_post];
	return true;
}

/* The head was dealt with, unless a new start has thrown it out meanwhile. */
static void vmbus_next(struct vmbus *b, const struct vmbus_message *m)
{
	const struct vmbus_message *head;

	AUTO_LOCK(&b->lock);
	head = &b->posts[b->first_post];
	if (b->post_count == 0 || head->len != m->len || memcmp(head->p, m->p, m->len) != 0)
		return;
	b->first_post = (b->first_post + 1) % VMBUS_POSTS_MAX;
	b->post_count--;
}

static void vmbus_turn(struct vmbus *b)
{
	struct vmbus_message m = {0};

	while (!b->quiet && vmbus_head(b, &m)) {
		if (!vmbus_is_new_start(m.p, m.len) &&
		    synic_congested(b->host.synic, b->vp, b->sint))
			break;
		if (!vmbus_handle(b, &m))
			break;
		vmbus_next(b, &m);
	}
	if (!b->quiet)
		vmbus_offer_due(b);
}

static void vmbus_poll_channels(struct vmbus *b)
{
	bool any;

	do {
		any = false;
		for (unsigned i = 0; i < b->channel_count; i++)
			any = (!b->channels[i]->loop && chan_poll(b->channels[i])) || any;
	} while (any);
}

void vmbus_work(struct vmbus *b)
{
	vmbus_turn(b);
	if (!b->host.loop)
		vmbus_poll_channels(b);
}

static void on_wake(void *arg, int fd, uint32_t events)
{
	uint64_t n;

	(void)events;
	if (read(fd, &n, sizeof(n)) == sizeof(n))
		vmbus_turn(arg);
}

static void on_room(void *arg)
{
	vmbus_wake(arg);
}

void vmbus_withdraw(struct chan *primary)
{
	assert(primary->index == 0);
	primary->present = false;
	vmbus_rescind(primary->bus, primary);
}

void vmbus_offer(struct chan *primary)
{
	assert(primary->index == 0);
	primary->present = true;
	vmbus_wake(primary->bus);
}

void vmbus_info(struct vmbus *b, struct vmbus_info *out)
{
	*out = (struct vmbus_info){
		.connected = b->connected,
		.version = b->version,
		.posts = atomic_load_explicit(&b->post_total, memory_order_relaxed),
		.violations = atomic_load_explicit(&b->violations, memory_order_relaxed),
	};
	for (unsigned i = 0; i < b->channel_count; i++) {
		enum chan_state s = chan_state_now(b->channels[i]);

		out->offered += s != CHAN_IDLE;
		out->open += s == CHAN_OPEN;
	}
}

/* ---- rest ---- */

static void vmbus_stop_channels(struct vmbus *b, bool stop)
{
	for (unsigned i = 0; i < b->channel_count; i++)
		chan_stop(b->channels[i], stop);
}

static void vmbus_resume_from(struct vmbus *b, unsigned first)
{
	b->quiet = false;
	vmbus_stop_channels(b, false);
	for (unsigned i = first; i < b->provider_count; i++)
		b->providers[i]->resume(b->providers[i]->self);
	for (unsigned i = 0; i < b->channel_count; i++)
		if (chan_state_now(b->channels[i]) == CHAN_OPEN)
			chan_kick(b->channels[i]);
	vmbus_wake(b);
}

enum err vmbus_quiesce(struct vmbus *b)
{
	if (b->quiet)
		return ERR_OK;
	vmbus_turn(b);
	vmbus_stop_channels(b, true);
	for (unsigned i = b->provider_count; i-- > 0;) {
		const struct chan_provider *p = b->providers[i];
		enum err e = p->quiesce(p->self);

		if (e != ERR_OK) {
			vmbus_resume_from(b, i + 1);
			return err_context(e, "quiesce %s", p->name);
		}
	}
	for (unsigned i = 0; i < b->channel_count; i++)
		assert(chan_state_now(b->channels[i]) != CHAN_CLOSING);
	b->quiet = true;
	return ERR_OK;
}

void vmbus_resume(struct vmbus *b)
{
	if (b->quiet)
		vmbus_resume_from(b, 0);
}

void vmbus_reset(struct vmbus *b)
{
	assert(b->quiet);
	for (unsigned i = 0; i < b->channel_count; i++)
		chan_forget(b->channels[i]);
	vmbus_disconnected(b);
	pthread_mutex_lock(&b->lock);
	b->post_count = 0;
	pthread_mutex_unlock(&b->lock);
	for (unsigned i = 0; i < b->provider_count; i++)
		b->providers[i]->reset(b->providers[i]->self);
}

/* ---- life ---- */

enum err vmbus_create(const struct vmbus_host *host, struct vmbus **out)
{
	struct vmbus *b = calloc(1, sizeof(*b));
	enum err e = ERR_OK;

	if (!b)
		return err_note(ERR_NOMEM, 0, "VMBus: out of memory");
	b->host = *host;
	b->quiet = true;
	b->sint = SPEC_VMBUS_SINT;
	b->log = (struct log_limit)LOG_LIMIT(8, 10000);
	pthread_mutex_init(&b->lock, NULL);
	gpadl_init(&b->gpadls, host->memory);
	b->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->wake_fd < 0)
		e = err_sys(errno, "VMBus: create its event descriptor");
	else if (host->loop)
		e = loop_add(host->loop, b->wake_fd, EPOLLIN, on_wake, b, &b->watch);
	if (e != ERR_OK) {
		vmbus_destroy(b);
		return e;
	}
	synic_set_room(host->synic, on_room, b);
	*out = b;
	return ERR_OK;
}

void vmbus_destroy(struct vmbus *b)
{
	if (!b)
		return;
	loop_remove(b->watch);
	for (unsigned i = 0; i < b->channel_count; i++)
		chan_destroy(b->channels[i]);
	gpadl_fini(&b->gpadls);
	if (b->wake_fd >= 0)
		close(b->wake_fd);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

enum err vmbus_add(struct vmbus *b, const struct chan_provider *p, struct chan **primary)
{
	unsigned first = b->channel_count;
	enum err e;

	assert(b->quiet && !b->connected && p->packet_bytes >= SPEC_DESCRIPTOR_BYTES);
	if (b->provider_count == VMBUS_PROVIDERS_MAX ||
	    first + 1 + p->subchannels > VMBUS_CHANNELS_MAX)
		return err_note(ERR_FAILED, 0, "%s: the bus has no room for another device",
				p->name);
	for (unsigned i = 0; i <= p->subchannels; i++) {
		struct chan **at = &b->channels[b->channel_count];

		if ((e = chan_create(b, p, i, at)) != ERR_OK)
			return e;
		(*at)->slot = b->channel_count++;
		(*at)->primary = b->channels[first];
	}
	b->providers[b->provider_count++] = p;
	if (primary)
		*primary = b->channels[first];
	return ERR_OK;
}
