/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat stop: ask a machine to switch itself off, and if it does not, force it.
 *
 * A machine that had to be forced may have lost what it had not yet written, so
 * that is told by the exit code 7 ("the guest did not do it") as well. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/verbs.h"

#define GONE_NS (10 * NS_PER_SEC)
#define TURN_NS (100 * NS_PER_MS)

struct stop {
	const char *name;
	uint64_t timeout_ns;
	bool no_force;
};

static enum err option(void *args, int key, char *value)
{
	struct stop *s = args;

	switch (key) {
	case CLI_ARGUMENT: s->name = value; return ERR_OK;
	case CLI_KEY_NO_FORCE: s->no_force = true; return ERR_OK;
	case CLI_KEY_TIMEOUT: return units_duration(value, &s->timeout_ns);
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {
	{.name = "timeout", .key = CLI_KEY_TIMEOUT, .arg = "TIME",
	 .doc = "How long to wait for the guest (default: 60s)"},
	{.name = "no-force", .key = CLI_KEY_NO_FORCE,
	 .doc = "Leave it running if it does not switch itself off"},
	CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "stop",
	.args_doc = "NAME",
	.doc = "Ask a machine to switch itself off, by its guest's shutdown service or, where it has "
	       "none, by its power button, and wait until it has; if it does not in time, end it by "
	       "force, which is told by exit code 7."
	       "\vExample:\n  lifeboat stop web --timeout 5m --no-force",
	.options = options,
	.option = option,
	.min_args = 1,
	.max_args = 1,
};

/* By its shutdown service; where there is none, by the power button. */
static enum err ask(struct remote *r)
{
	enum err e = remote_guest_shutdown(r, false);

	if (e != ERR_GUEST && e != ERR_BUSY)
		return e;
	err_clear();
	return remote_power_button(r);
}

/* True when the worker has closed the connection: the machine has ended. */
static enum err wait_end(struct remote *r, uint64_t timeout_ns, bool *ended)
{
	uint64_t until = clock_mono_ns() + timeout_ns;

	*ended = false;
	for (;;) {
		struct remote_event event = {0};
		uint64_t now = clock_mono_ns();
		enum err e = cli_check_interrupted();

		if (e != ERR_OK || now >= until)
			return e;
		e = remote_next_event(r, until - now < TURN_NS ? until - now : TURN_NS, &event);
		free(event.text);
		if (e == ERR_OK && strcmp(event.kind, "shutdown-refused") == 0)
			e = remote_power_button(r);
		if (e == ERR_PEER && remote_gone(r)) {
			err_clear();
			*ended = true;
			return ERR_OK;
		}
		if (e != ERR_OK)
			return e;
	}
}

static enum err force(const struct stop *s, const struct home *h, struct remote *r)
{
	char time[UNITS_TEXT_BYTES];
	const char *within = units_format_duration(s->timeout_ns, time);

	if (s->no_force)
		return err_note(ERR_GUEST, 0,
				"machine %s: it did not switch itself off within %s, and still runs",
				s->name, within);
	enum err e = home_end(h, s->name, r);
	if (e != ERR_OK)
		return err_context(e, "machine %s: force it off", s->name);
	return err_note(ERR_GUEST, 0,
			"machine %s: it did not switch itself off within %s: it was forced off", s->name,
			within);
}

static enum err stop(const struct stop *s, const struct home *h, struct remote *r)
{
	struct remote_status status;
	bool ended;
	enum err e = remote_status(r, &status);

	if (e != ERR_OK)
		return err_context(e, "stop %s", s->name);
	/* One that a checkpoint holds will run on and hear it then; so will one that only
	 * takes breath before it reboots. */
	if (strcmp(status.state, "running") != 0 && !status.held &&
	    strcmp(status.stop_reason, "reboot-delay") != 0)
		return err_note(ERR_BUSY, 0,
				"machine %s: it is %s and cannot hear its power button: `lifeboat resume' "
				"it first, or `lifeboat kill' it", s->name, status.state);
	if ((e = ask(r)) != ERR_OK ||
	    (e = wait_end(r, s->timeout_ns, &ended)) != ERR_OK)
		return err_context(e, "stop %s", s->name);
	return ended ? ERR_OK : force(s, h, r);
}

enum err verb_stop(int argc, char **argv)
{
	struct stop s = {.timeout_ns = 60 * NS_PER_SEC};
	struct home h;
	struct remote *r = NULL;
	enum err e = cli_parse(&verb, argc, argv, &s);

	if (e != ERR_OK || (e = home_open(&h)) != ERR_OK ||
	    (e = home_connect(&h, s.name, 0, &r)) != ERR_OK)
		return e;
	e = stop(&s, &h, r);
	remote_close(r);
	if (e == ERR_OK)
		return home_wait_gone(&h, s.name, GONE_NS);
	/* A forced one is gone too when this returns; the sentence stays. */
	if (e == ERR_GUEST && !s.no_force) {
		char note[ERR_NOTE_BYTES];

		strncpy(note, err_text(), sizeof(note) - 1);
		note[sizeof(note) - 1] = '\0';
		enum err gone = home_wait_gone(&h, s.name, GONE_NS);
		return gone == ERR_OK ? err_note(ERR_GUEST, 0, "%s", note) : gone;
	}
	return e;
}
