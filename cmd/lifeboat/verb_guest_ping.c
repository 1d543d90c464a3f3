/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat guest ping: ask a guest for a sign of life. */
#include "base/units.h"
#include "cmd/lifeboat/asked.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/verbs.h"

struct guest_ping {
	const char *name;
	uint64_t timeout_ns;
	bool json;
};

static enum err option(void *args, int key, char *value)
{
	struct guest_ping *g = args;

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
	.name = "guest ping",
	.args_doc = "NAME",
	.doc = "Ask a machine's guest for a sign of life, by its heartbeat service, and tell how long the "
	       "answer took. Exit code 7 if there is none in time, or no such service."
	       "\vExample:\n  lifeboat guest ping web --timeout 2s",
	.options = options,
	.option = option,
	.min_args = 1,
	.max_args = 1,
};

static uint64_t count(const struct remote_guest *g)
{
	return g->beats;
}

static enum err ask(struct remote *r, const struct guest_ping *g, struct remote_guest *now)
{
	struct remote_guest before;
	enum err e = remote_guest(r, &before);

	if (e == ERR_OK)
		e = remote_guest_ping(r);
	return e == ERR_OK ? asked_wait(r, &before, count, g->timeout_ns, "its heartbeat", now) : e;
}

enum err verb_guest_ping(int argc, char **argv)
{
	struct guest_ping g = {.timeout_ns = ASKED_TIMEOUT_NS};
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
		return err_context(e, "guest ping %s", g.name);
	if (g.json)
		return jout_print(json_pack("{s:o, s:I}", "name", jout_text(g.name), "round_trip_ns",
					    jout_int(now.round_trip_ns)));
	cli_print("answer after %.3f ms\n", (double)now.round_trip_ns / 1e6);
	return ERR_OK;
}
