/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat disk resize: another size for a disk of a running machine. */
#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/disks.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/verbs.h"

enum { KEY_SHRINK = 0x3000 };

struct disk_resize {
	const char *words[3]; /* name, disk, size */
	unsigned count;
	uint64_t timeout_ns;
	bool shrink;
};

static enum err option(void *args, int key, char *value)
{
	struct disk_resize *d = args;

	switch (key) {
	case CLI_ARGUMENT: d->words[d->count++] = value; return ERR_OK;
	case CLI_KEY_TIMEOUT: return cli_timeout(value, &d->timeout_ns);
	case KEY_SHRINK: d->shrink = true; return ERR_OK;
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {
	{.name = "shrink",
	 .key = KEY_SHRINK,
	 .doc = "A smaller size is meant: what lies beyond it is gone at once and for good"},
	CLI_OPTION_TIMEOUT,
	CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "disk resize",
	.args_doc = "NAME DISK SIZE",
	.doc = "Give a disk (disk1, or 1) of a running or paused machine another size. The guest's "
	       "driver "
	       "is told; partitions and file systems on it are the guest's matter (growpart, "
	       "resize2fs). A file becomes as long as that; a block device has to be enlarged "
	       "before."
	       "\vExample:\n  lifeboat disk resize web disk0 20G",
	.options = options,
	.option = option,
	.min_args = 3,
	.max_args = 3,
};

static enum err check_size(struct remote *r, const struct disk_resize *d, unsigned lun,
			   uint64_t bytes)
{
	AUTO_BUF struct buf json = {0};
	struct vm_config c;
	const struct config_disk *disk;
	enum err e = remote_config(r, &json);

	if (e == ERR_OK)
		e = config_from_json(json.data, json.len, &c);
	if (e != ERR_OK)
		return e;
	disk = config_disk_find(&c, lun);
	if (disk && bytes < disk->bytes && !d->shrink)
		e = err_note(ERR_USAGE, 0,
			     "disk%u has %llu bytes, more than that: --shrink if what "
			     "lies beyond the new end is to be lost",
			     lun, (unsigned long long)disk->bytes);
	config_fini(&c);
	return e;
}

enum err verb_disk_resize(int argc, char **argv)
{
	struct disk_resize d = {0};
	struct home h;
	struct remote *r = NULL;
	unsigned lun = 0;
	uint64_t bytes = 0;
	enum err e = cli_parse(&verb, argc, argv, &d);

	if (e != ERR_OK || (e = disks_number(d.words[1], &lun)) != ERR_OK ||
	    (e = units_size(d.words[2], &bytes)) != ERR_OK || (e = home_open(&h)) != ERR_OK ||
	    (e = home_connect(&h, d.words[0], d.timeout_ns, &r)) != ERR_OK)
		return e;
	e = check_size(r, &d, lun, bytes);
	if (e == ERR_OK)
		e = remote_disk_resize(r, lun, bytes);
	remote_close(r);
	return e == ERR_OK ? e : err_context(e, "disk resize");
}
