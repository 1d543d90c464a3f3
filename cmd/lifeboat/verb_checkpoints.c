/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat checkpoints: list the checkpoints of an archive. */
#include <string.h>

#include "base/clock.h"
#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/table.h"
#include "cmd/lifeboat/verbs.h"
#include "hv/config.h"

struct listing {
	const char *name, *archive;
	bool json;
	struct table *table;
	json_t *list;
	unsigned found, damaged;
};

static enum err option(void *args, int key, char *value)
{
	struct listing *l = args;

	switch (key) {
	case CLI_ARGUMENT: l->name = value; return ERR_OK;
	case CLI_KEY_ARCHIVE: l->archive = value; return ERR_OK;
	case CLI_KEY_JSON: l->json = true; return ERR_OK;
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {CLI_OPTION_ARCHIVE, CLI_OPTION_JSON, CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "checkpoints",
	.args_doc = "[NAME]",
	.doc = "List the checkpoints of an archive, of all machines or of one."
	       "\vExample:\n  lifeboat checkpoints web --archive /backup",
	.options = options,
	.option = option,
	.max_args = 1,
};

static void add_row(struct table *t, const struct checkpoint_info *i)
{
	char size[UNITS_TEXT_BYTES], stored[UNITS_TEXT_BYTES], time[21], hex[13];

	table_cell(t, "%s@%llu", i->name, (unsigned long long)i->number);
	if (jout_damaged(i)) {
		for (int c = 0; c < 4; c++)
			table_cell(t, "-");
		table_cell(t, "DAMAGED: see `lifeboat archive verify'");
		return;
	}
	clock_rfc3339(i->created_ns, time);
	bytes_hex(i->digest.b, 6, hex);
	table_cell(t, "%s", time);
	table_cell(t, "%s", units_format_size(i->logical_bytes, size));
	table_cell(t, "%s", units_format_size(i->stored_bytes, stored));
	table_cell(t, "%s", hex);
	table_cell(t, "%s", i->label);
}

static enum err add(void *arg, const struct checkpoint_info *info)
{
	struct listing *l = arg;

	if (l->name && strcmp(l->name, info->name) != 0)
		return cli_check_interrupted();
	l->found++;
	l->damaged += jout_damaged(info);
	add_row(l->table, info);
	json_array_append_new(l->list, jout_checkpoint(info));
	return cli_check_interrupted();
}

static enum err list(struct listing *l)
{
	struct archive *a = NULL;
	const char *path;
	enum err e = cli_archive_path(l->archive, &path);

	if (e != ERR_OK || (e = keys_open(path, false, &a)) != ERR_OK)
		return e;
	e = archive_list(a, add, l);
	cli_keep_note(e);
	archive_close(a);
	if (e != ERR_OK)
		return cli_kept_note(e);
	e = l->json ? jout_print(json_pack("{s:O}", "checkpoints", l->list)) : table_print(l->table);
	if (e != ERR_OK)
		return e;
	if (l->name && !l->found)
		return err_note(ERR_NOTFOUND, 0, "archive %s: it has no checkpoint of %s", path, l->name);
	if (l->damaged)
		return err_note(ERR_CORRUPT, 0,
				"archive %s: damaged checkpoints: %u: see `lifeboat archive verify'",
				path, l->damaged);
	return ERR_OK;
}

enum err verb_checkpoints(int argc, char **argv)
{
	static const char *const columns[] = {"CHECKPOINT", "CREATED", ">SIZE", ">STORED", "DIGEST",
					      "LABEL", NULL};
	struct listing l = {0};
	enum err e = cli_parse(&verb, argc, argv, &l);

	if (e != ERR_OK)
		return e;
	if (l.name && !config_name_ok(l.name))
		return err_note(ERR_USAGE, 0, "checkpoints: \"%s\" is no machine's name", l.name);
	l.list = json_array();
	if ((e = table_create(columns, &l.table)) == ERR_OK)
		e = list(&l);
	table_destroy(l.table);
	json_decref(l.list);
	return e;
}
