/* SPDX-License-Identifier: Apache-2.0 */
/* heartbeat: asks the guest for a sign of life; see heartbeat.h.
 *
 * Data: sequence u64 and 32 bytes of zero; the guest answers with the sequence plus one.
 * The ic's sequence is the last one sent, its flag is set while the guest is healthy;
 * misses are not state: after a restore the guest gets its full time again.
 *
 * Source: docs/vmbus.md 14. */
#include "hv/vsp/heartbeat.h"

#include <stdlib.h>

#include "base/clock.h"
#include "hv/vsp/ic.h"

enum { DATA_BYTES = 40 };

struct heartbeat {
	struct ic ic;
	struct loop_timer *timer;
	void (*changed)(void *arg, bool healthy);
	void *arg;
	unsigned misses;
	bool running;
	uint64_t sent_ns, answers, round_trip_ns;
};

static void heartbeat_ask(struct heartbeat *h)
{
	uint8_t data[DATA_BYTES] = {0};

	le64_put(data, h->ic.sequence + 2);
	if (!ic_request(&h->ic, data, sizeof(data)))
		return;
	h->ic.sequence += 2;
	h->sent_ns = clock_mono_ns();
}

static void heartbeat_arm(struct heartbeat *h)
{
	bool on = h->running && h->ic.phase == IC_READY;

	if (h->timer)
		loop_timer_set(h->timer, on ? HEARTBEAT_MS * NS_PER_MS : 0);
}

static void heartbeat_set(struct heartbeat *h, bool healthy)
{
	if (h->ic.flag == healthy)
		return;
	h->ic.flag = healthy;
	h->changed(h->arg, healthy);
}

void heartbeat_beat(struct heartbeat *h)
{
	if (h->ic.busy && ++h->misses == HEARTBEAT_MISSES)
		heartbeat_set(h, false);
	heartbeat_ask(h);
	heartbeat_arm(h);
}

static void on_timer(void *arg)
{
	heartbeat_beat(arg);
}

static void on_ready(void *self)
{
	struct heartbeat *h = self;

	h->misses = 0;
	heartbeat_ask(h);
	heartbeat_arm(h);
}

static void on_answer(void *self, uint32_t status, const uint8_t *data, size_t len)
{
	struct heartbeat *h = self;

	if (status != 0 || len < 8 || le64_get(data) != h->ic.sequence + 1)
		return;
	h->misses = 0;
	h->answers++;
	h->round_trip_ns = h->sent_ns ? clock_mono_ns() - h->sent_ns : 0;
	heartbeat_set(h, true);
}

static void on_closed(void *self)
{
	heartbeat_arm(self);
}

static void on_quiet(void *self)
{
	struct heartbeat *h = self;

	h->running = false;
	heartbeat_arm(h);
}

static void on_resume(void *self)
{
	struct heartbeat *h = self;

	h->running = true;
	h->misses = 0;
	h->sent_ns = 0; /* the guest stood still: no measure of anything */
	heartbeat_arm(h);
}

static const struct ic_service heartbeat_service = {
	.name = "heartbeat",
	.class_id = SPEC_HEARTBEAT,
	.instance_id = SPEC_HEARTBEAT_INSTANCE,
	.type = 1,
	.versions = {IC_VERSION(3, 0), IC_VERSION(1, 0)},
	.state_instance = 0,
	.ready = on_ready,
	.answer = on_answer,
	.closed = on_closed,
	.quiet = on_quiet,
	.resume = on_resume,
};

enum err heartbeat_create(struct vmbus *bus, struct loop *loop,
			  void (*changed)(void *arg, bool healthy), void *arg,
			  struct heartbeat **out)
{
	struct heartbeat *h = calloc(1, sizeof(*h));
	enum err e = ERR_OK;

	if (!h)
		return err_note(ERR_NOMEM, 0, "heartbeat: out of memory");
	h->changed = changed;
	h->arg = arg;
	if (loop)
		e = loop_timer_create(loop, on_timer, h, &h->timer);
	if (e == ERR_OK)
		e = ic_init(&h->ic, &heartbeat_service, h, bus);
	if (e != ERR_OK)
		heartbeat_destroy(h);
	else
		*out = h;
	return e;
}

void heartbeat_destroy(struct heartbeat *h)
{
	if (!h)
		return;
	loop_timer_destroy(h->timer);
	free(h);
}

enum err heartbeat_ping(struct heartbeat *h)
{
	if (h->ic.phase != IC_READY)
		return err_note(ERR_GUEST, 0, "the guest has no heartbeat service: its driver "
				"(Linux: hv_utils) is not loaded");
	heartbeat_ask(h); /* or the answer to the one that is out is the sign */
	return ERR_OK;
}

void heartbeat_info(const struct heartbeat *h, struct heartbeat_info *out)
{
	*out = (struct heartbeat_info){
		.ready = h->ic.phase == IC_READY,
		.healthy = h->ic.flag,
		.version = h->ic.version,
		.answers = h->answers,
		.round_trip_ns = h->round_trip_ns,
	};
}
