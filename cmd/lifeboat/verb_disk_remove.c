/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat disk remove: take a disk out of a running machine. */
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/disks.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/verbs.h"

struct disk_remove {
	const char *name, *disk;
	uint64_t timeout_ns;
};

static enum err option(void *args, int key, char *value)
{
	struct disk_remove *d = args;

	switch (key) {
	case CLI_ARGUMENT: *(d->name ? &d->disk : &d->name) = value; return ERR_OK;
	case CLI_KEY_TIMEOUT: return cli_timeout(value, &d->timeout_ns);
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {CLI_OPTION_TIMEOUT, CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "disk remove",
	.args_doc = "NAME DISK",
	.doc = "Take a disk (disk1, or 1) out of a running or paused machine, as pulling a cable "
	       "does: "
	       "requests that are under way are finished first, then the guest is told that the "
	       "disk is "
	       "gone. What the guest has not written yet is lost to it, so unmount the disk there "
	       "before. "
	       "The file stays, and is free for another machine."
	       "\vExample:\n  lifeboat disk remove web disk1",
	.options = options,
	.option = option,
	.min_args = 2,
	.max_args = 2,
};

enum err verb_disk_remove(int argc, char **argv)
{
	struct disk_remove d = {0};
	struct home h;
	struct remote *r = NULL;
	unsigned lun = 0;
	enum err e = cli_parse(&verb, argc, argv, &d);

	if (e != ERR_OK || (e = disks_number(d.disk, &lun)) != ERR_OK ||
	    (e = home_open(&h)) != ERR_OK ||
	    (e = home_connect(&h, d.name, d.timeout_ns, &r)) != ERR_OK)
		return e;
	e = remote_disk_remove(r, lun);
	remote_close(r);
	return e == ERR_OK ? e : err_context(e, "disk remove");
}
