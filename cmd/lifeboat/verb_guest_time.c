/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat guest time: set a guest's clock to the host's. */
#include "base/units.h"
#include "cmd/lifeboat/asked.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/verbs.h"

struct guest_time {
	const char *name;
	uint64_t timeout_ns;
	bool json;
};

static enum err option(void *args, int key, char *value)
{
	struct guest_time *g = args;

	switch (key) {
	case CLI_ARGUMENT: g->name = value; return ERR_OK;
	case CLI_KEY_JSON: g->json = true; return ERR_OK;
	case CLI_KEY_TIMEOUT: return units_duration(value, &g->timeout_ns);
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {
	{.name = "timeout", .key = CLI_KEY_TIMEOUT, .arg = "TIME",
	 .doc = "How long to wait for the guest (default: 10s)"},
	CLI_OPTION_JSON, CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "guest time",
	.args_doc = "NAME",
	.doc = "Set the clock of a machine's guest to this host's, by its time service. That happens by "
	       "itself when the service starts and after a restore. Exit code 7 if the guest does not take "
	       "it in time, or has no such service."
	       "\vExample:\n  lifeboat guest time web",
	.options = options,
	.option = option,
	.min_args = 1,
	.max_args = 1,
};

static uint64_t count(const struct remote_guest *g)
{
	return g->syncs;
}

static enum err ask(struct remote *r, const struct guest_time *g, struct remote_guest *now)
{
	struct remote_guest before;
	enum err e = remote_guest(r, &before);

	if (e == ERR_OK)
		e = remote_guest_time(r);
	return e == ERR_OK ? asked_wait(r, &before, count, g->timeout_ns, "the new time", now) : e;
}

enum err verb_guest_time(int argc, char **argv)
{
	struct guest_time g = {.timeout_ns = ASKED_TIMEOUT_NS};
	struct remote_guest now;
	struct remote *r = NULL;
	struct home h;
	enum err e = cli_parse(&verb, argc, argv, &g);

	if (e != ERR_OK || (e = home_open(&h)) != ERR_OK ||
	    (e = home_connect(&h, g.name, 0, &r)) != ERR_OK)
		return e;
	e = ask(r, &g, &now);
	remote_close(r);
	if (e != ERR_OK)
		return err_context(e, "guest time %s", g.name);
	if (g.json)
		return jout_print(json_pack("{s:o, s:I}", "name", jout_text(g.name), "time_syncs",
					    jout_int(now.syncs)));
	return ERR_OK;
}
