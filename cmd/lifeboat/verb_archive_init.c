/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat archive init: make an empty archive. */
#include "base/netfs.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/verbs.h"
#include "store/archive.h"

enum { KEY_NETWORK = 0x3300 };

struct init {
	bool network;
	const char *path;
};

static enum err option(void *args, int key, char *value)
{
	struct init *i = args;

	if (key == KEY_NETWORK) {
		i->network = true;
		return ERR_OK;
	}
	if (key != CLI_ARGUMENT && key != CLI_KEY_ARCHIVE)
		return cli_unknown_key(key);
	if (i->path)
		return err_note(ERR_USAGE, 0, "archive init: it was named twice: %s and %s",
				i->path, value);
	i->path = value;
	return ERR_OK;
}

static const struct argp_option options[] = {
	CLI_OPTION_ARCHIVE,
	{.name = "allow-network-fs",
	 .key = KEY_NETWORK,
	 .doc = "On a network file system as well: only if its locks work, and one host uses it"},
	CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "archive init",
	.args_doc = "[PATH]",
	.doc = "Make an empty archive in a directory that is empty or does not exist yet."
	       "\vExample:\n  lifeboat archive init /backup",
	.options = options,
	.option = option,
	.max_args = 1,
};

/* Numbers, leases and collections rely on locks that end with their process and that all users
 * see at once, and on syncs of directories: network file systems promise that in some
 * configurations only, and what went wrong would be noticed when something is missing. */
static enum err local_only(const char *path)
{
	const char *name;
	enum err e = netfs_of(path, &name);

	if (e != ERR_OK || !name)
		return e;
	return err_note(
		ERR_UNSUPPORTED, 0,
		"make an archive in %s: it is on %s, where locks and syncs may not hold: choose a "
		"local file system, or say --allow-network-fs if only this host will use it",
		path, name);
}

enum err verb_archive_init(int argc, char **argv)
{
	struct init i = {0};
	const char *path;
	enum err e = cli_parse(&verb, argc, argv, &i);

	if (e != ERR_OK || (e = cli_archive_path(i.path, &path)) != ERR_OK)
		return e;
	if (!i.network && (e = local_only(path)) != ERR_OK)
		return e;
	return archive_init(path);
}
