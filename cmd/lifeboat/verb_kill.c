/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat kill: end a machine at once, also one whose worker answers nobody. */
#include "base/clock.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/verbs.h"

#define GONE_NS (10 * NS_PER_SEC)

static enum err option(void *args, int key, char *value)
{
	const char **name = args;

	if (key != CLI_ARGUMENT)
		return cli_unknown_key(key);
	*name = value;
	return ERR_OK;
}

static const struct cli_verb verb = {
	.name = "kill",
	.args_doc = "NAME",
	.doc = "End a machine at once, as if its power had been cut.\vExample:\n  lifeboat kill web",
	.option = option,
	.min_args = 1,
	.max_args = 1,
};

enum err verb_kill(int argc, char **argv)
{
	const char *name = NULL;
	struct home h;
	enum err e = cli_parse(&verb, argc, argv, &name);

	if (e != ERR_OK || (e = home_open(&h)) != ERR_OK)
		return e;
	if (!home_running(&h, name))
		return home_missing(name);
	if ((e = home_kill(&h, name)) != ERR_OK)
		return e;
	return home_wait_gone(&h, name, GONE_NS);
}
