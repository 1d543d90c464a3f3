/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat archive ls: the machines in an archive, and what it takes. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/table.h"
#include "cmd/lifeboat/verbs.h"
#include "store/archive.h"

struct machine_sum {
	char name[ARCHIVE_NAME_BYTES];
	uint64_t checkpoints, damaged, newest, created_ns, logical_bytes, stored_bytes;
};

struct ls {
	const char *path;
	bool json;
	struct table *table;
	json_t *list;
	struct machine_sum now; /* of the machine whose checkpoints are being listed */
	uint64_t damaged;
};

static enum err option(void *args, int key, char *value)
{
	struct ls *l = args;

	switch (key) {
	case CLI_KEY_JSON: l->json = true; return ERR_OK;
	case CLI_KEY_ARCHIVE:
	case CLI_ARGUMENT: l->path = value; return ERR_OK;
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {CLI_OPTION_ARCHIVE, CLI_OPTION_JSON, CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "archive ls",
	.args_doc = "[PATH]",
	.doc = "Show which machines an archive has checkpoints of, and what it takes on disk."
	       "\vExample:\n  lifeboat archive ls /backup --json",
	.options = options,
	.option = option,
	.max_args = 1,
};

static void flush(struct ls *l)
{
	const struct machine_sum *m = &l->now;
	char size[UNITS_TEXT_BYTES], stored[UNITS_TEXT_BYTES], time[21] = "-";

	if (!m->name[0])
		return;
	if (m->created_ns)
		clock_rfc3339(m->created_ns, time);
	table_cell(l->table, "%s", m->name);
	table_cell(l->table, "%llu", (unsigned long long)m->checkpoints);
	table_cell(l->table, "%s@%llu", m->name, (unsigned long long)m->newest);
	table_cell(l->table, "%s", time);
	table_cell(l->table, "%s", units_format_size(m->logical_bytes, size));
	table_cell(l->table, "%s", units_format_size(m->stored_bytes, stored));
	table_cell(l->table, "%llu", (unsigned long long)m->damaged);
	json_array_append_new(
		l->list, json_pack("{s:s, s:I, s:I, s:s, s:I, s:I, s:I}", "vm", m->name, "checkpoints",
				   jout_int(m->checkpoints), "newest_number", jout_int(m->newest),
				   "newest_created", time, "logical_bytes", jout_int(m->logical_bytes),
				   "stored_bytes", jout_int(m->stored_bytes), "damaged_checkpoints",
				   jout_int(m->damaged)));
	l->now = (struct machine_sum){0};
}

static enum err add(void *arg, const struct checkpoint_info *info)
{
	struct ls *l = arg;

	if (strcmp(l->now.name, info->name) != 0)
		flush(l);
	snprintf(l->now.name, sizeof(l->now.name), "%s", info->name);
	l->now.checkpoints++;
	l->now.newest = info->number;
	if (jout_damaged(info)) {
		l->now.damaged++;
		l->damaged++;
	} else {
		l->now.created_ns = info->created_ns;
		l->now.logical_bytes += info->logical_bytes;
		l->now.stored_bytes += info->stored_bytes;
	}
	return cli_check_interrupted();
}

static enum err print(struct ls *l, const struct archive_stats *s)
{
	char logical[UNITS_TEXT_BYTES], packs[UNITS_TEXT_BYTES], manifests[UNITS_TEXT_BYTES],
		index[UNITS_TEXT_BYTES];

	if (l->json)
		return jout_print(json_pack(
			"{s:O, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "machines", l->list, "checkpoints",
			jout_int(s->checkpoints), "packs", jout_int(s->packs), "logical_bytes",
			jout_int(s->logical_bytes), "unique_pages", jout_int(s->unique_pages),
			"pack_bytes", jout_int(s->pack_bytes), "manifest_bytes",
			jout_int(s->manifest_bytes), "index_bytes", jout_int(s->index_bytes)));
	enum err e = table_print(l->table);
	cli_print("\ncheckpoints: %llu, of %s in all; on disk: %s in packs (%llu), %s of manifests, %s "
		  "of index\n",
		  (unsigned long long)s->checkpoints, units_format_size(s->logical_bytes, logical),
		  units_format_size(s->pack_bytes, packs), (unsigned long long)s->packs,
		  units_format_size(s->manifest_bytes, manifests),
		  units_format_size(s->index_bytes, index));
	return e;
}

static enum err list(struct ls *l, const char *path)
{
	struct archive_options read_only = {.writable = false};
	struct archive_stats stats = {0};
	struct archive *a = NULL;
	enum err e = archive_open(path, &read_only, &a);

	if (e != ERR_OK)
		return e;
	if ((e = archive_list(a, add, l)) == ERR_OK && (e = archive_stats(a, &stats)) == ERR_OK) {
		flush(l);
		e = print(l, &stats);
	}
	cli_keep_note(e);
	archive_close(a);
	if (e == ERR_OK && l->damaged)
		return err_note(ERR_CORRUPT, 0,
				"archive %s: damaged checkpoints: %llu: see `lifeboat archive verify'",
				path, (unsigned long long)l->damaged);
	return cli_kept_note(e);
}

enum err verb_archive_ls(int argc, char **argv)
{
	static const char *const columns[] = {"MACHINE", ">CHECKPOINTS", "NEWEST", "CREATED",
					      ">SIZE", ">STORED", ">DAMAGED", NULL};
	struct ls l = {0};
	const char *path;
	enum err e = cli_parse(&verb, argc, argv, &l);

	if (e != ERR_OK || (e = cli_archive_path(l.path, &path)) != ERR_OK)
		return e;
	l.list = json_array();
	if ((e = table_create(columns, &l.table)) == ERR_OK)
		e = list(&l, path);
	table_destroy(l.table);
	json_decref(l.list);
	return e;
}
