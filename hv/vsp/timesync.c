/* SPDX-License-Identifier: Apache-2.0 */
/* timesync: the host's clock for the guest; see timesync.h.
 *
 * Data, version 4: host time u64 (100 ns since 1601), reference time u64 at the same
 * instant, flags u8 (1 sync, 2 sample), leap u8, stratum u8, 5 reserved.
 * Versions 1 and 3: host time u64, guest time u64, round trip u64, flags u8, 3 reserved.
 * The ic's flag is set while a sync is due that could not be sent yet.
 *
 * Source: docs/vmbus.md 14. */
#include "hv/vsp/timesync.h"

#include <stdlib.h>

#include "base/clock.h"
#include "hv/vsp/ic.h"

enum { DATA_BYTES_4 = 24, DATA_BYTES_OLD = 28, FLAG_SYNC = 1, FLAG_SAMPLE = 2 };
#define EPOCH_1601 116444736000000000ull /* 1970, in 100 ns since 1601 */

struct timesync {
	struct ic ic;
	struct timesync_host host;
	struct loop_timer *timer;
	bool running, sync_out; /* what is out is a sync */
	uint64_t answers, syncs;
};

static void timesync_send(struct timesync *t, bool sync)
{
	uint8_t data[DATA_BYTES_OLD] = {0};
	uint64_t real_ns, reference;
	bool new = t->ic.version >= IC_VERSION(4, 0);

	t->host.now(t->host.arg, &real_ns, &reference);
	le64_put(data, real_ns / 100 + EPOCH_1601);
	le64_put(data + 8, new ? reference : 0);
	data[new ? 16 : 24] = sync ? FLAG_SYNC : FLAG_SAMPLE;
	if (ic_request(&t->ic, data, new ? DATA_BYTES_4 : DATA_BYTES_OLD))
		t->sync_out = sync;
	else if (sync)
		t->ic.flag = 1;
}

static void timesync_arm(struct timesync *t)
{
	bool on = t->running && t->ic.phase == IC_READY;

	if (t->timer)
		loop_timer_set(t->timer, on ? TIMESYNC_MS * NS_PER_MS : 0);
}

/* A sync that is due, if it can be sent. */
static void timesync_due(struct timesync *t)
{
	if (!t->ic.flag || !t->running || t->ic.phase != IC_READY || t->ic.busy)
		return;
	t->ic.flag = 0;
	timesync_send(t, true);
}

static void on_timer(void *arg)
{
	struct timesync *t = arg;

	if (!t->ic.busy)
		timesync_send(t, false);
	timesync_arm(t);
}

static void on_ready(void *self)
{
	struct timesync *t = self;

	t->ic.flag = 1;
	timesync_due(t);
	timesync_arm(t);
}

static void on_answer(void *self, uint32_t status, const uint8_t *data, size_t len)
{
	struct timesync *t = self;

	(void)data, (void)len;
	if (status == 0) {
		t->answers++;
		t->syncs += t->sync_out;
	}
	t->sync_out = false;
	timesync_due(t);
}

static void on_closed(void *self)
{
	timesync_arm(self);
}

static void on_quiet(void *self)
{
	struct timesync *t = self;

	t->running = false;
	timesync_arm(t);
}

static void on_resume(void *self)
{
	struct timesync *t = self;

	t->running = true;
	timesync_due(t);
	timesync_arm(t);
}

static const struct ic_service timesync_service = {
	.name = "timesync",
	.class_id = SPEC_TIMESYNC,
	.instance_id = SPEC_TIMESYNC_INSTANCE,
	.type = 4,
	.versions = {IC_VERSION(4, 0), IC_VERSION(3, 0), IC_VERSION(1, 0)},
	.state_instance = 2,
	.ready = on_ready,
	.answer = on_answer,
	.closed = on_closed,
	.quiet = on_quiet,
	.resume = on_resume,
};

enum err timesync_create(struct vmbus *bus, const struct timesync_host *host,
			 struct timesync **out)
{
	struct timesync *t = calloc(1, sizeof(*t));
	enum err e = ERR_OK;

	if (!t)
		return err_note(ERR_NOMEM, 0, "time synchronisation: out of memory");
	t->host = *host;
	if (host->loop)
		e = loop_timer_create(host->loop, on_timer, t, &t->timer);
	if (e == ERR_OK)
		e = ic_init(&t->ic, &timesync_service, t, bus);
	if (e != ERR_OK)
		timesync_destroy(t);
	else
		*out = t;
	return e;
}

void timesync_destroy(struct timesync *t)
{
	if (!t)
		return;
	loop_timer_destroy(t->timer);
	free(t);
}

enum err timesync_set(struct timesync *t)
{
	if (t->ic.phase != IC_READY)
		return err_note(ERR_GUEST, 0, "the guest has no time synchronisation: its driver "
				"(Linux: hv_utils) is not loaded");
	t->ic.flag = 1;
	timesync_due(t);
	return ERR_OK;
}

void timesync_info(const struct timesync *t, struct timesync_info *out)
{
	*out = (struct timesync_info){
		.ready = t->ic.phase == IC_READY,
		.version = t->ic.version,
		.answers = t->answers,
		.syncs = t->syncs,
	};
}
