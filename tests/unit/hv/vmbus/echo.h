/* SPDX-License-Identifier: Apache-2.0 */
/* echo: a provider that completes each packet with its own payload; it can be told to
 * take no more, or to keep I/O in flight. */
#ifndef TESTS_UNIT_HV_VMBUS_ECHO_H
#define TESTS_UNIT_HV_VMBUS_ECHO_H

#include "tests/unit/hv/vmbus/bed.h"

struct echo {
	struct chan_provider provider;
	struct chan *primary, *closing, *last;
	unsigned opened, closed, packets, batches, resumes, resets;
	bool refuse, linger, hurry, quiesce_fails;
};

static void echo_opened(void *self, struct chan *c, const uint8_t *user_data)
{
	struct echo *x = self;

	assert_non_null(user_data);
	x->last = c;
	x->opened++;
}

static void echo_closed(void *self, struct chan *c)
{
	struct echo *x = self;

	x->closed++;
	x->closing = c;
	if (!x->linger)
		chan_closed(c);
}

static bool echo_packet(void *self, struct chan *c, const struct packet *p)
{
	struct echo *x = self;

	x->packets++;
	x->last = c;
	if (p->flags & 1)
		chan_complete(c, p->transaction, p->data, p->bytes);
	return !x->refuse;
}

static void echo_batch_end(void *self, struct chan *c)
{
	(void)c;
	((struct echo *)self)->batches++;
}

static enum err echo_quiesce(void *self)
{
	struct echo *x = self;

	if (x->quiesce_fails)
		return err_note(ERR_BUSY, 0, "echo: still busy");
	if (x->linger && x->closing)
		chan_closed(x->closing);
	return ERR_OK;
}

static void echo_resume(void *self)
{
	((struct echo *)self)->resumes++;
}

static void echo_reset(void *self)
{
	((struct echo *)self)->resets++;
}

static const struct chan_provider echo_provider = {
	.name = "echo",
	.class_id = SPEC_SCSI,
	.instance_id = {1, 2, 3, 4},
	.flags = SPEC_OFFER_ENUMERATE,
	.packet_bytes = 4096,
	.opened = echo_opened,
	.closed = echo_closed,
	.packet = echo_packet,
	.batch_end = echo_batch_end,
	.quiesce = echo_quiesce,
	.resume = echo_resume,
	.reset = echo_reset,
};

static inline void echo_add(struct bed *t, struct echo *x, uint8_t number, unsigned subchannels)
{
	*x = (struct echo){.provider = echo_provider};
	x->provider.instance_id[0] = number;
	x->provider.subchannels = subchannels;
	x->provider.self = x;
	assert_ok(vmbus_add(t->bus, &x->provider, &x->primary));
}

#endif
