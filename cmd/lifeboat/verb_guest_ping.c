/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat guest ping: ask a guest for a sign of life. */
#include "cmd/lifeboat/asked.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/verbs.h"

static const struct argp_option options[] = {ASKED_OPTIONS};
static const struct cli_verb verb = {
	.name = "guest ping",
	.args_doc = "NAME",
	.doc = "Ask a machine's guest for a sign of life, by its heartbeat service, and tell how long the "
	       "answer took. Exit code 7 if there is none in time, or no such service."
	       "\vExample:\n  lifeboat guest ping web --timeout 2s",
	.options = options,
	.option = target_option,
	.min_args = 1,
	.max_args = 1,
};

static uint64_t count(const struct remote_guest *g)
{
	return g->beats;
}

static const struct asked question = {.ask = remote_guest_ping, .count = count,
				       .what = "its heartbeat"};

enum err verb_guest_ping(int argc, char **argv)
{
	struct target t;
	struct remote_guest now;
	enum err e = asked_verb(&verb, &question, argc, argv, &t, &now);

	if (e != ERR_OK)
		return e;
	if (t.json)
		return jout_print(json_pack("{s:o, s:I}", "name", jout_text(t.name), "round_trip_ns",
					    jout_int(now.round_trip_ns)));
	cli_print("answer after %.3f ms\n", (double)now.round_trip_ns / 1e6);
	return ERR_OK;
}
