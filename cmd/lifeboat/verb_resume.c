/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat resume: let a paused machine run on. */
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/verbs.h"

struct resume {
	const char *name;
	uint64_t timeout_ns;
};

static enum err option(void *args, int key, char *value)
{
	struct resume *p = args;

	switch (key) {
	case CLI_ARGUMENT: p->name = value; return ERR_OK;
	case CLI_KEY_TIMEOUT: return cli_timeout(value, &p->timeout_ns);
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {CLI_OPTION_TIMEOUT, CLI_OPTION_END};

static const struct cli_verb verb = {
	.name = "resume",
	.args_doc = "NAME",
	.doc = "Let a paused machine run on.\vExample:\n  lifeboat resume web",
	.options = options,
	.option = option,
	.min_args = 1,
	.max_args = 1,
};

enum err verb_resume(int argc, char **argv)
{
	struct resume p = {0};
	struct home h;
	struct remote *r = NULL;
	enum err e = cli_parse(&verb, argc, argv, &p);

	if (e != ERR_OK || (e = home_open(&h)) != ERR_OK ||
	    (e = home_connect(&h, p.name, p.timeout_ns, &r)) != ERR_OK)
		return e;
	e = remote_resume(r);
	remote_close(r);
	return e == ERR_OK ? e : err_context(e, "resume %s", p.name);
}
