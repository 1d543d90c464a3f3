/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat resume: let a paused machine run on. */
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/target.h"
#include "cmd/lifeboat/verbs.h"

static const struct argp_option options[] = {CLI_OPTION_TIMEOUT, CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "resume",
	.args_doc = "NAME",
	.doc = "Let a paused machine run on.\vExample:\n  lifeboat resume web",
	.options = options,
	.option = target_option,
	.min_args = 1,
	.max_args = 1,
};

enum err verb_resume(int argc, char **argv)
{
	struct target t = {0};
	struct remote *r = NULL;
	enum err e = cli_parse(&verb, argc, argv, &t);

	if (e == ERR_OK)
		e = target_connect(&t, t.timeout_ns, &r);
	if (e != ERR_OK)
		return e;
	e = remote_resume(r);
	remote_close(r);
	return e == ERR_OK ? e : err_context(e, "resume %s", t.name);
}
