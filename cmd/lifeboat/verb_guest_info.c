/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat guest info: what a machine's guest says of itself over Hyper-V's bus. */
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/target.h"
#include "cmd/lifeboat/verbs.h"

static const struct argp_option options[] = {CLI_OPTION_JSON, CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "guest info",
	.args_doc = "NAME",
	.doc = "Show what a machine's guest says of itself over Hyper-V's bus: which services it has, "
	       "and whether it answers.\vExample:\n  lifeboat guest info web",
	.options = options,
	.option = target_option,
	.min_args = 1,
	.max_args = 1,
};

static json_t *service_json(const struct remote_service *s)
{
	return json_pack("{s:b, s:o}", "ready", s->ready, "version", jout_text(s->version));
}

static enum err print_json(const char *name, const struct remote_guest *g)
{
	return jout_print(json_pack(
		"{s:o, s:b, s:o, s:I, s:I, s:I, s:o, s:b, s:I, s:I, s:o, s:o, s:I, s:I}",
		"name", jout_text(name), "connected", g->connected, "bus_version",
		jout_text(g->version), "channels_offered", jout_int(g->channels_offered),
		"channels_open", jout_int(g->channels_open), "violations", jout_int(g->violations),
		"heartbeat", service_json(&g->heartbeat), "healthy", g->healthy,
		"heartbeats", jout_int(g->beats), "round_trip_ns", jout_int(g->round_trip_ns),
		"shutdown", service_json(&g->shutdown), "time", service_json(&g->time),
		"time_messages", jout_int(g->times), "time_syncs", jout_int(g->syncs)));
}

static void print_service(const char *what, const struct remote_service *s, const char *more)
{
	if (s->ready)
		cli_print("%-14s version %s%s\n", what, s->version, more);
	else
		cli_print("%-14s none\n", what);
}

static void print_text(const struct remote_guest *g)
{
	if (!g->connected) {
		cli_print("bus            not connected: the guest has no driver for it, or has not "
			  "loaded it yet\n");
		return;
	}
	cli_print("bus            version %s, %llu of %llu channels open\n", g->version,
		  (unsigned long long)g->channels_open, (unsigned long long)g->channels_offered);
	print_service("heartbeat", &g->heartbeat, g->healthy ? ", healthy" : ", no answer");
	print_service("shutdown", &g->shutdown, "");
	print_service("time", &g->time, "");
}

enum err verb_guest_info(int argc, char **argv)
{
	struct target t = {0};
	struct remote_guest guest;
	struct remote *r = NULL;
	enum err e = cli_parse(&verb, argc, argv, &t);

	if (e != ERR_OK || (e = target_connect(&t, 0, &r)) != ERR_OK)
		return e;
	e = remote_guest(r, &guest);
	remote_close(r);
	if (e != ERR_OK)
		return err_context(e, "guest info %s", t.name);
	if (t.json)
		return print_json(t.name, &guest);
	print_text(&guest);
	return ERR_OK;
}
