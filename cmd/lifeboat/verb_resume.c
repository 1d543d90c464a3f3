/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat resume: let a paused machine run on. */
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
	.name = "resume",
	.args_doc = "NAME",
	.doc = "Let a paused machine run on.\vExample:\n  lifeboat resume web",
	.option = option,
	.min_args = 1,
	.max_args = 1,
};

enum err verb_resume(int argc, char **argv)
{
	const char *name = NULL;
	struct home h;
	struct remote *r = NULL;
	enum err e = cli_parse(&verb, argc, argv, &name);

	if (e != ERR_OK || (e = home_open(&h)) != ERR_OK ||
	    (e = home_connect(&h, name, &r)) != ERR_OK)
		return e;
	e = remote_resume(r);
	remote_close(r);
	return e == ERR_OK ? e : err_context(e, "resume %s", name);
}
