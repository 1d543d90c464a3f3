/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat pause: stand a machine still. */
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/verbs.h"

static enum err option(void *args, int key, char *value)
{
	const char **name = args;

	if (key != CLI_ARGUMENT)
		return cli_unknown_key(key);
	*name = value;
	return ERR_OK;
}

static const struct cli_verb verb = {
	.name = "pause",
	.args_doc = "NAME",
	.doc = "Stand a machine still: its virtual CPUs stop, its memory and its devices stay as they "
	       "are, until `lifeboat resume'.\vExample:\n  lifeboat pause web",
	.option = option,
	.min_args = 1,
	.max_args = 1,
};

enum err verb_pause(int argc, char **argv)
{
	const char *name = NULL;
	struct home h;
	struct remote *r = NULL;
	bool was_running = false;
	enum err e = cli_parse(&verb, argc, argv, &name);

	if (e != ERR_OK || (e = home_open(&h)) != ERR_OK ||
	    (e = home_connect(&h, name, &r)) != ERR_OK)
		return e;
	e = remote_pause(r, &was_running);
	remote_close(r);
	if (e != ERR_OK)
		return err_context(e, "pause %s", name);
	if (!was_running)
		cli_say("machine %s was paused already", name);
	return ERR_OK;
}
