/* SPDX-License-Identifier: Apache-2.0 */
/* asked: wait for a guest's answer; see asked.h. */
#include "cmd/lifeboat/asked.h"

#include <poll.h>

#include "base/clock.h"
#include "base/units.h"

#define TURN_MS 10
#define TIMEOUT_NS (10 * NS_PER_SEC)

static enum err ask_and_wait(const struct asked *q, struct remote *r, uint64_t timeout_ns,
			     struct remote_guest *now)
{
	uint64_t until = clock_mono_ns() + timeout_ns;
	struct remote_guest before;
	char time[UNITS_TEXT_BYTES];
	enum err e;

	if ((e = remote_guest(r, &before)) != ERR_OK || (e = q->ask(r)) != ERR_OK)
		return e;

	for (;;) {
		if ((e = cli_check_interrupted()) != ERR_OK || (e = remote_guest(r, now)) != ERR_OK)
			return e;
		if (q->count(now) != q->count(&before))
			return ERR_OK;
		if (clock_mono_ns() >= until)
			return err_note(ERR_GUEST, 0, "the guest did not answer %s within %s", q->what,
					units_format_duration(timeout_ns, time));
		(void)poll(NULL, 0, TURN_MS);
	}
}

enum err asked_verb(const struct cli_verb *verb, const struct asked *q, int argc, char **argv,
		    struct target *t, struct remote_guest *now)
{
	struct remote *r = NULL;
	enum err e;

	*t = (struct target){.timeout_ns = TIMEOUT_NS};
	if ((e = cli_parse(verb, argc, argv, t)) != ERR_OK || (e = target_connect(t, 0, &r)) != ERR_OK)
		return e;
	e = ask_and_wait(q, r, t->timeout_ns, now);
	remote_close(r);
	return e == ERR_OK ? e : err_context(e, "%s %s", verb->name, t->name);
}
