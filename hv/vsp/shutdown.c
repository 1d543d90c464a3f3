/* SPDX-License-Identifier: Apache-2.0 */
/* shutdown: power-off and restart from outside; see shutdown.h.
 *
 * Data: reason u32, timeout in seconds u32, flags u32 (0 power off, 2 restart), 2048 bytes
 * of text: all of it, or Linux does not take the message.
 *
 * Source: docs/vmbus.md 14. */
#include "hv/vsp/shutdown.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "hv/vsp/ic.h"

enum { DATA_BYTES = 2060, FLAG_RESTART = 2 };
#define REASON_PLANNED 0x80000000u

struct shutdown {
	struct ic ic;
	void (*refused)(void *arg, uint32_t status);
	void *arg;
};

static void on_answer(void *self, uint32_t status, const uint8_t *data, size_t len)
{
	struct shutdown *s = self;

	(void)data, (void)len;
	if (status != 0)
		s->refused(s->arg, status);
}

static const struct ic_service shutdown_service = {
	.name = "shutdown",
	.class_id = SPEC_SHUTDOWN,
	.instance_id = SPEC_SHUTDOWN_INSTANCE,
	.type = 3,
	.versions = {IC_VERSION(3, 2), IC_VERSION(3, 1), IC_VERSION(3, 0), IC_VERSION(1, 0)},
	.state_instance = 1,
	.answer = on_answer,
};

enum err shutdown_create(struct vmbus *bus, void (*refused)(void *arg, uint32_t status), void *arg,
			 struct shutdown **out)
{
	struct shutdown *s = calloc(1, sizeof(*s));
	enum err e;

	if (!s)
		return err_note(ERR_NOMEM, 0, "shutdown service: out of memory");
	s->refused = refused;
	s->arg = arg;
	if ((e = ic_init(&s->ic, &shutdown_service, s, bus)) != ERR_OK)
		shutdown_destroy(s);
	else
		*out = s;
	return e;
}

void shutdown_destroy(struct shutdown *s)
{
	free(s);
}

enum err shutdown_request(struct shutdown *s, bool restart)
{
	uint8_t data[DATA_BYTES] = {0};

	if (s->ic.phase != IC_READY)
		return err_note(ERR_GUEST, 0, "the guest has no shutdown service: its driver "
				"(Linux: hv_utils) is not loaded");
	le32_put(data, REASON_PLANNED);
	le32_put(data + 8, restart ? FLAG_RESTART : 0);
	if (!ic_request(&s->ic, data, sizeof(data)))
		return err_note(ERR_BUSY, 0, "the guest has not answered the last request yet");
	return ERR_OK;
}

void shutdown_info(const struct shutdown *s, struct shutdown_info *out)
{
	*out = (struct shutdown_info){.ready = s->ic.phase == IC_READY, .version = s->ic.version};
}
