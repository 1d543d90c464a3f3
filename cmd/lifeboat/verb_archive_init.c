/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat archive init: make an empty archive. */
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/verbs.h"
#include "store/archive.h"

struct init {
	const char *path;
};

static enum err option(void *args, int key, char *value)
{
	struct init *i = args;

	if (key != CLI_ARGUMENT && key != CLI_KEY_ARCHIVE)
		return cli_unknown_key(key);
	if (i->path)
		return err_note(ERR_USAGE, 0, "archive init: it was named twice: %s and %s", i->path,
				value);
	i->path = value;
	return ERR_OK;
}

static const struct argp_option options[] = {CLI_OPTION_ARCHIVE, CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "archive init",
	.args_doc = "[PATH]",
	.doc = "Make an empty archive in a directory that is empty or does not exist yet."
	       "\vExample:\n  lifeboat archive init /backup",
	.options = options,
	.option = option,
	.max_args = 1,
};

enum err verb_archive_init(int argc, char **argv)
{
	struct init i = {0};
	const char *path;
	enum err e = cli_parse(&verb, argc, argv, &i);

	if (e != ERR_OK || (e = cli_archive_path(i.path, &path)) != ERR_OK)
		return e;
	return archive_init(path);
}
