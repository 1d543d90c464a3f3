/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat disk add: give a running machine one more disk. */
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/disks.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/verbs.h"

struct disk_add {
	const char *name, *words;
	uint64_t timeout_ns;
	bool json;
	struct machine files; /* of one disk */
};

static enum err option(void *args, int key, char *value)
{
	struct disk_add *a = args;

	switch (key) {
	case CLI_ARGUMENT: *(a->name ? &a->words : &a->name) = value; return ERR_OK;
	case CLI_KEY_TIMEOUT: return cli_timeout(value, &a->timeout_ns);
	case CLI_KEY_JSON: a->json = true; return ERR_OK;
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {CLI_OPTION_TIMEOUT, CLI_OPTION_JSON, CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "disk add",
	.args_doc = "NAME FILE[,ro][,cache=C][,on-error=E]",
	.doc = "Give a running or paused machine one more disk, in the first free place, and print "
	       "which "
	       "it is. The words are those of `lifeboat run --disk'. The guest's driver is told "
	       "and finds "
	       "it by itself; the next checkpoint contains it. The machine stands still for it "
	       "until "
	       "its I/O in flight is done."
	       "\vExample:\n  lifeboat disk add web /srv/data.raw,cache=direct",
	.options = options,
	.option = option,
	.min_args = 2,
	.max_args = 2,
};

/* Its place, and from that its identity. */
static enum err place(struct remote *r, struct config_disk *d)
{
	AUTO_BUF struct buf json = {0};
	struct vm_config c;
	enum err e = remote_config(r, &json);

	if (e == ERR_OK)
		e = config_from_json(json.data, json.len, &c);
	if (e != ERR_OK)
		return e;
	if (!config_disk_place(&c, &d->lun))
		e = err_note(ERR_USAGE, 0, "machine %s: has %u disks: more are not possible",
			     c.name, CONFIG_MAX_DISKS);
	else
		disks_identify_one(d, c.name);
	config_fini(&c);
	return e;
}

static enum err add(struct disk_add *a)
{
	struct home h;
	struct remote *r = NULL;
	struct config_disk *d = &a->files.config.disks[0];
	const struct machine_disk *file = &a->files.disks[0];
	enum err e = disks_parse(&a->files, a->words, NULL);

	if (e != ERR_OK || (e = home_open(&h)) != ERR_OK ||
	    (e = home_connect(&h, a->name, a->timeout_ns, &r)) != ERR_OK)
		return e;
	e = disks_open(&a->files);
	if (e == ERR_OK)
		e = place(r, d);
	if (e == ERR_OK)
		e = remote_disk_add(r, d, file->fd, file->direct_fd);
	remote_close(r);
	if (e != ERR_OK)
		return err_context(e, "disk add");
	if (a->json)
		return jout_print(json_pack("{s:o, s:o, s:i, s:I}", "name", jout_text(a->name),
					    "disk", json_sprintf("disk%u", d->lun), "lun",
					    (int)d->lun, "bytes", jout_int(d->bytes)));
	cli_print("disk%u\n", d->lun);
	return ERR_OK;
}

enum err verb_disk_add(int argc, char **argv)
{
	struct disk_add a = {0};
	enum err e;

	machine_init(&a.files);
	e = cli_parse(&verb, argc, argv, &a);
	if (e == ERR_OK)
		e = add(&a);
	cli_keep_note(e);
	machine_fini(&a.files);
	return cli_kept_note(e);
}
