/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat pause: stand a machine still. */
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/verbs.h"

struct pause {
	const char *name;
	uint64_t timeout_ns;
};

static enum err option(void *args, int key, char *value)
{
	struct pause *p = args;

	switch (key) {
	case CLI_ARGUMENT: p->name = value; return ERR_OK;
	case CLI_KEY_TIMEOUT: return cli_timeout(value, &p->timeout_ns);
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {CLI_OPTION_TIMEOUT, CLI_OPTION_END};

static const struct cli_verb verb = {
	.name = "pause",
	.args_doc = "NAME",
	.doc = "Stand a machine still: its virtual CPUs stop, its memory and its devices stay as they "
	       "are, until `lifeboat resume'.\vExample:\n  lifeboat pause web",
	.options = options,
	.option = option,
	.min_args = 1,
	.max_args = 1,
};

enum err verb_pause(int argc, char **argv)
{
	struct pause p = {0};
	struct home h;
	struct remote *r = NULL;
	bool was_running = false;
	enum err e = cli_parse(&verb, argc, argv, &p);

	if (e != ERR_OK || (e = home_open(&h)) != ERR_OK ||
	    (e = home_connect(&h, p.name, p.timeout_ns, &r)) != ERR_OK)
		return e;
	e = remote_pause(r, &was_running);
	remote_close(r);
	if (e != ERR_OK)
		return err_context(e, "pause %s", p.name);
	if (!was_running)
		cli_say("machine %s was paused already", p.name);
	return ERR_OK;
}
