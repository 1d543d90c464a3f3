/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat guest time: set a guest's clock to the host's. */
#include "cmd/lifeboat/asked.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/verbs.h"

static const struct argp_option options[] = {ASKED_OPTIONS};
static const struct cli_verb verb = {
	.name = "guest time",
	.args_doc = "NAME",
	.doc = "Set the clock of a machine's guest to this host's, by its time service. That happens by "
	       "itself when the service starts and after a restore. Exit code 7 if the guest does not take "
	       "it in time, or has no such service."
	       "\vExample:\n  lifeboat guest time web",
	.options = options,
	.option = target_option,
	.min_args = 1,
	.max_args = 1,
};

static uint64_t count(const struct remote_guest *g)
{
	return g->syncs;
}

static const struct asked question = {.ask = remote_guest_time, .count = count,
				       .what = "the new time"};

enum err verb_guest_time(int argc, char **argv)
{
	struct target t;
	struct remote_guest now;
	enum err e = asked_verb(&verb, &question, argc, argv, &t, &now);

	if (e != ERR_OK)
		return e;
	if (t.json)
		return jout_print(json_pack("{s:o, s:I}", "name", jout_text(t.name), "time_syncs",
					    jout_int(now.syncs)));
	return ERR_OK;
}
