/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat pause: stand a machine still. */
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/target.h"
#include "cmd/lifeboat/verbs.h"

static const struct argp_option options[] = {CLI_OPTION_TIMEOUT, CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "pause",
	.args_doc = "NAME",
	.doc = "Stand a machine still: its virtual CPUs stop, its memory and its devices stay as they "
	       "are, until `lifeboat resume'.\vExample:\n  lifeboat pause web",
	.options = options,
	.option = target_option,
	.min_args = 1,
	.max_args = 1,
};

enum err verb_pause(int argc, char **argv)
{
	struct target t = {0};
	struct remote *r = NULL;
	bool was_running = false;
	enum err e = cli_parse(&verb, argc, argv, &t);

	if (e != ERR_OK || (e = target_connect(&t, t.timeout_ns, &r)) != ERR_OK)
		return e;
	e = remote_pause(r, &was_running);
	remote_close(r);
	if (e != ERR_OK)
		return err_context(e, "pause %s", t.name);
	if (!was_running)
		cli_say("machine %s was paused already", t.name);
	return ERR_OK;
}
