/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat disk ls: the disks of a running machine. */
#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/table.h"
#include "cmd/lifeboat/verbs.h"
#include "hv/config.h"

struct disk_ls {
	const char *name;
	bool json;
};

static enum err option(void *args, int key, char *value)
{
	struct disk_ls *d = args;

	switch (key) {
	case CLI_ARGUMENT: d->name = value; return ERR_OK;
	case CLI_KEY_JSON: d->json = true; return ERR_OK;
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {CLI_OPTION_JSON, CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "disk ls",
	.args_doc = "NAME",
	.doc = "List the disks that a machine has now, with the serial numbers by which its guest "
	       "knows "
	       "them.\vExample:\n  lifeboat disk ls web",
	.options = options,
	.option = option,
	.min_args = 1,
	.max_args = 1,
};

static void serial_of(const struct config_disk *d, char out[2 * CONFIG_DISK_ID_BYTES + 1])
{
	bytes_hex(d->id, CONFIG_DISK_ID_BYTES, out);
}

static enum err print_json(const struct vm_config *c)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < c->disk_count; i++) {
		const struct config_disk *d = &c->disks[i];
		char serial[2 * CONFIG_DISK_ID_BYTES + 1];

		serial_of(d, serial);
		json_array_append_new(
			list, json_pack("{s:o, s:i, s:I, s:b, s:s, s:s, s:s}", "disk",
					json_sprintf("disk%u", d->lun), "lun", (int)d->lun, "bytes",
					jout_int(d->bytes), "read_only", d->read_only ? 1 : 0,
					"cache", config_cache_name(d->cache), "on_error",
					config_on_error_name(d->on_error), "serial", serial));
	}
	return jout_print(json_pack("{s:s, s:o}", "name", c->name, "disks", list));
}

static enum err print_text(const struct vm_config *c)
{
	static const char *const columns[] = {"DISK",	  ">SIZE",  "MODE", "CACHE",
					      "ON ERROR", "SERIAL", NULL};
	struct table *t;
	enum err e = table_create(columns, &t);

	for (uint32_t i = 0; i < c->disk_count && e == ERR_OK; i++) {
		const struct config_disk *d = &c->disks[i];
		char serial[2 * CONFIG_DISK_ID_BYTES + 1], size[UNITS_TEXT_BYTES];

		serial_of(d, serial);
		table_cell(t, "disk%u", d->lun);
		table_cell(t, "%s", units_format_size(d->bytes, size));
		table_cell(t, "%s", d->read_only ? "read-only" : "writable");
		table_cell(t, "%s", config_cache_name(d->cache));
		table_cell(t, "%s", config_on_error_name(d->on_error));
		table_cell(t, "%s", serial);
	}
	if (e == ERR_OK)
		e = table_print(t);
	table_destroy(t);
	return e;
}

enum err verb_disk_ls(int argc, char **argv)
{
	struct disk_ls d = {0};
	AUTO_BUF struct buf json = {0};
	struct vm_config c;
	struct remote *r = NULL;
	struct home h;
	enum err e = cli_parse(&verb, argc, argv, &d);

	if (e != ERR_OK || (e = home_open(&h)) != ERR_OK ||
	    (e = home_connect(&h, d.name, 0, &r)) != ERR_OK)
		return e;
	if ((e = remote_config(r, &json)) == ERR_OK)
		e = config_from_json(json.data, json.len, &c);
	remote_close(r);
	if (e != ERR_OK)
		return err_context(e, "disk ls %s", d.name);
	e = d.json ? print_json(&c) : print_text(&c);
	config_fini(&c);
	return e;
}
