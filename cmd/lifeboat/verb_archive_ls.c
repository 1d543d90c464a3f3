/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat archive ls: the checkpoints in an archive, and their streams. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/depot.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/table.h"
#include "cmd/lifeboat/verbs.h"

enum { KEY_STREAMS = 'l' };

struct ls {
	struct depot depot;
	const char *what; /* a name or a checkpoint; NULL: all */
	bool json, streams;
	struct table *table;
	json_t *list;
	uint64_t found, damaged;
};

static enum err option(void *args, int key, char *value)
{
	struct ls *l = args;

	switch (key) {
	case CLI_ARGUMENT:
		if (depot_is_path(value))
			return depot_name(&l->depot, value);
		if (l->what)
			return err_note(ERR_USAGE, 0, "archive ls: too many words, at %s", value);
		l->what = value;
		return ERR_OK;
	case KEY_STREAMS: l->streams = true; return ERR_OK;
	case CLI_KEY_JSON: l->json = true; return ERR_OK;
	default: return depot_option(&l->depot, key, value);
	}
}

static const struct argp_option options[] = {
	DEPOT_OPTIONS,
	{.name = "streams", .key = KEY_STREAMS, .doc = "Also the streams of each checkpoint"},
	CLI_OPTION_JSON,
	CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "archive ls",
	.args_doc = "[PATH] [NAME|CHECKPOINT]",
	.doc = "List the checkpoints in an archive: all, those of one name, or one. A word with a "
	       "slash "
	       "in it is the archive's path."
	       "\vExample:\n  lifeboat archive ls /backup\n  lifeboat archive ls web@3 --streams",
	.options = options,
	.option = option,
	.max_args = 2,
};

static void add_row(struct ls *l, const struct checkpoint_info *i)
{
	char size[UNITS_TEXT_BYTES], stored[UNITS_TEXT_BYTES], time[21];

	table_cell(l->table, "%s@%llu", i->name, (unsigned long long)i->number);
	if (jout_damaged(i)) {
		for (int c = 0; c < 4; c++)
			table_cell(l->table, "-");
		table_cell(l->table, "DAMAGED: see `lifeboat archive verify'");
		return;
	}
	clock_rfc3339(i->created_ns, time);
	table_cell(l->table, "%s", time);
	table_cell(l->table, "%s", units_format_size(i->logical_bytes, size));
	table_cell(l->table, "%s", units_format_size(i->stored_bytes, stored));
	table_cell(l->table, "%u", i->streams);
	table_cell(l->table, "%s", i->label);
}

static void add_stream(struct ls *l, const struct archive_stream_info *s, json_t *list)
{
	char size[UNITS_TEXT_BYTES];

	table_cell(l->table, "  %s", s->name);
	table_cell(l->table, "%s", "");
	table_cell(l->table, "%s", units_format_size(s->length, size));
	for (int c = 0; c < 3; c++)
		table_cell(l->table, "%s", "");
	json_array_append_new(list, json_pack("{s:s, s:I}", "name", s->name, "length_bytes",
					      jout_int(s->length)));
}

static enum err add_streams(struct ls *l, const struct checkpoint_info *info, json_t *d)
{
	struct archive_reader *r;
	json_t *list = json_array();
	enum err e = archive_read_open(l->depot.archive, info, &r);

	if (e != ERR_OK) {
		json_decref(list);
		return e;
	}
	for (unsigned i = 0; i < archive_read_streams(r); i++)
		add_stream(l, archive_read_stream(r, i), list);
	archive_read_close(r);
	json_object_set_new(d, "streams", list);
	return ERR_OK;
}

static enum err add(void *arg, const struct checkpoint_info *info)
{
	struct ls *l = arg;
	json_t *d;
	enum err e = ERR_OK;

	if (l->what && strcmp(l->what, info->name) != 0)
		return cli_check_interrupted();
	l->found++;
	l->damaged += jout_damaged(info);
	add_row(l, info);
	d = jout_checkpoint(info);
	if (l->streams && !jout_damaged(info))
		e = add_streams(l, info, d);
	json_array_append_new(l->list, d);
	return e == ERR_OK ? cli_check_interrupted() : e;
}

/* One checkpoint; a damaged one is an error of its own. */
static enum err one(struct ls *l)
{
	struct checkpoint_info info;
	enum err e = depot_find(&l->depot, l->what, &info);

	l->what = NULL;
	return e == ERR_OK ? add(l, &info) : e;
}

static bool is_name(const char *word)
{
	return !strchr(word, '@');
}

static enum err list(struct ls *l)
{
	enum err e = depot_open(&l->depot, false);
	const char *what = l->what;

	if (e != ERR_OK)
		return e;
	if (!what || is_name(what))
		e = archive_list(l->depot.archive, add, l);
	if (e == ERR_OK && what && !l->found) /* NAME@N, or the digits of a digest */
		e = one(l);
	if (e == ERR_OK)
		e = l->json ? jout_print(json_pack("{s:O}", "checkpoints", l->list))
			    : table_print(l->table);
	if (e == ERR_OK && l->damaged)
		e = err_note(ERR_CORRUPT, 0,
			     "archive %s: damaged checkpoints: %llu: see `lifeboat archive verify'",
			     l->depot.path, (unsigned long long)l->damaged);
	return e;
}

enum err verb_archive_ls(int argc, char **argv)
{
	static const char *const columns[] = {"CHECKPOINT", "CREATED", ">SIZE", ">STORED",
					      ">STREAMS",   "LABEL",   NULL};
	struct ls l = {.json = false};
	enum err e = cli_parse(&verb, argc, argv, &l);

	if (e != ERR_OK)
		return e;
	l.list = json_array();
	if ((e = table_create(columns, &l.table)) == ERR_OK)
		e = depot_close(&l.depot, list(&l));
	table_destroy(l.table);
	json_decref(l.list);
	return e;
}
