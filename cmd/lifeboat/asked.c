/* SPDX-License-Identifier: Apache-2.0 */
/* asked: wait for a guest's answer; see asked.h. */
#include "cmd/lifeboat/asked.h"

#include <poll.h>

#include "base/clock.h"
#include "base/units.h"
#include "cmd/lifeboat/cli.h"

#define TURN_MS 10

enum err asked_wait(struct remote *r, const struct remote_guest *before,
		    uint64_t (*count)(const struct remote_guest *g), uint64_t timeout_ns,
		    const char *what, struct remote_guest *now)
{
	uint64_t until = clock_mono_ns() + timeout_ns;
	char time[UNITS_TEXT_BYTES];
	enum err e;

	for (;;) {
		if ((e = cli_check_interrupted()) != ERR_OK || (e = remote_guest(r, now)) != ERR_OK)
			return e;
		if (count(now) != count(before))
			return ERR_OK;
		if (clock_mono_ns() >= until)
			return err_note(ERR_GUEST, 0, "the guest did not answer %s within %s", what,
					units_format_duration(timeout_ns, time));
		(void)poll(NULL, 0, TURN_MS);
	}
}
