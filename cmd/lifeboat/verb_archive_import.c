/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat archive import: files become a checkpoint.
 *
 * Everything is opened and named before the archive is touched, so that what can be refused is
 * refused at once; nothing is in the archive before all of it is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/depot.h"
#include "cmd/lifeboat/feed.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/level.h"
#include "cmd/lifeboat/meter.h"
#include "cmd/lifeboat/verbs.h"

#define STREAMS_MAX 4096u

enum { KEY_STREAM_NAME = 0x3000, KEY_PARENT };

struct import {
	struct depot depot;
	const char *name, *label, *parent, *level;
	bool json, quiet;
	struct feed *feeds;
	char **names; /* --stream-name, in order */
	unsigned n_feeds, n_names;
};

static enum err option(void *args, int key, char *value)
{
	struct import *i = args;

	switch (key) {
	case CLI_ARGUMENT:
		if (!i->name)
			i->name = value;
		else
			i->feeds[i->n_feeds++].file = value;
		return ERR_OK;
	case KEY_STREAM_NAME:
		if (i->n_names == STREAMS_MAX)
			return err_note(ERR_USAGE, 0, "too many names");
		i->names[i->n_names++] = value;
		return ERR_OK;
	case KEY_PARENT: i->parent = value; return ERR_OK;
	case LEVEL_KEY: i->level = value; return ERR_OK;
	case CLI_KEY_LABEL: i->label = value; return ERR_OK;
	case CLI_KEY_JSON: i->json = true; return ERR_OK;
	case CLI_KEY_QUIET: i->quiet = true; return ERR_OK;
	default: return depot_option(&i->depot, key, value);
	}
}

static const struct argp_option options[] = {
	DEPOT_OPTIONS,
	{.name = "label", .key = CLI_KEY_LABEL, .arg = "TEXT", .doc = "A remark to keep with it"},
	{.name = "stream-name",
	 .key = KEY_STREAM_NAME,
	 .arg = "NAME",
	 .doc = "Name of the stream that a file becomes; may be given again for the next file"},
	{.name = "parent",
	 .key = KEY_PARENT,
	 .arg = "CHECKPOINT",
	 .doc = "What the files are a later state of, so that what did not change is found by its "
		"place (default: the newest of NAME; none: nothing)"},
	LEVEL_OPTION("the archive's own"),
	CLI_OPTION_QUIET,
	CLI_OPTION_JSON,
	CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "archive import",
	.args_doc = "NAME FILE...",
	.doc = "Put files (disk images, devices, pipes; - is standard input) into an archive, as "
	       "one "
	       "checkpoint of NAME with a stream for each, and print its name. Holes and zeros "
	       "take no "
	       "room, and what the archive has already is not stored again."
	       "\vExample:\n  lifeboat archive import web disk.raw --label 'before the move'\n"
	       "  zcat dump.gz | lifeboat archive import web - --stream-name dump",
	.options = options,
	.option = option,
	.min_args = 2,
	.max_args = 1 + STREAMS_MAX,
};

/* ---- before ---- */

static enum err name_stream(const struct import *in, unsigned i)
{
	struct feed *f = &in->feeds[i];
	const char *given = i < in->n_names ? in->names[i] : NULL;

	if (!feed_stream_name(given ? given : f->file, f->stream) ||
	    (given && strcmp(f->stream, given) != 0))
		return err_note(
			ERR_USAGE, 0,
			"\"%s\" makes no name for a stream: use --stream-name with 1 to 63 of "
			"a-z, 0-9 and -, not beginning with -",
			given ? given : f->file);
	for (unsigned k = 0; k < i; k++)
		if (strcmp(in->feeds[k].stream, f->stream) == 0)
			return err_note(ERR_USAGE, 0,
					"%s and %s would both be stream %s: name them with "
					"--stream-name, once for each file",
					in->feeds[k].file, f->file, f->stream);
	return ERR_OK;
}

static enum err open_feeds(struct import *in)
{
	unsigned standard = 0;

	if (in->n_names > in->n_feeds)
		return err_note(ERR_USAGE, 0, "archive import: %u names for %u file%s", in->n_names,
				in->n_feeds, in->n_feeds == 1 ? "" : "s");
	for (unsigned i = 0; i < in->n_feeds; i++) {
		enum err e = name_stream(in, i);

		standard += strcmp(in->feeds[i].file, "-") == 0;
		if (e == ERR_OK && standard > 1)
			e = err_note(ERR_USAGE, 0,
				     "archive import: standard input can be read once");
		if (e == ERR_OK)
			e = feed_open(&in->feeds[i]);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

/* 0 if a pipe is among them: nobody knows then. */
static uint64_t total(const struct import *in)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < in->n_feeds; i++) {
		if (in->feeds[i].endless)
			return 0;
		sum += in->feeds[i].bytes;
	}
	return sum;
}

/* ---- the job ---- */

static enum err put_all(struct import *in, struct archive_writer *w, struct progress *progress)
{
	for (unsigned i = 0; i < in->n_feeds; i++) {
		bool touched;
		enum err e = feed_put(&in->feeds[i], w, progress, &touched);

		if (e != ERR_OK)
			return e;
		if (touched)
			cli_say("warning: %s was written to while it was read: the checkpoint may "
				"hold "
				"a mixture of old and new",
				in->feeds[i].file);
	}
	return ERR_OK;
}

/* With the parent that was named, or with the newest of the name if it can be one. */
static enum err begin(struct import *in, struct progress *progress, struct archive_writer **w)
{
	struct archive *a = in->depot.archive;
	struct checkpoint_info parent;
	const char *ref = in->parent ? in->parent : in->name;
	enum err e;

	if (strcmp(ref, "none") == 0 && in->parent)
		return archive_begin(a, in->name, progress, w);
	e = archive_find(a, ref, &parent);
	if (e == ERR_OK)
		e = archive_begin_from(a, in->name, &parent, progress, w);
	if (in->parent)
		return e == ERR_OK ? e : err_context(e, "--parent %s", in->parent);
	if (e == ERR_NOTFOUND || e == ERR_CORRUPT || e == ERR_USAGE || e == ERR_VERSION) {
		err_clear();
		e = archive_begin(a, in->name, progress, w);
	}
	return e;
}

static enum err commit(struct import *in, struct progress *progress, struct checkpoint_info *info)
{
	struct archive_writer *w;
	enum err e = begin(in, progress, &w);

	if (e != ERR_OK)
		return e;
	if ((e = put_all(in, w, progress)) != ERR_OK) {
		archive_abort(w);
		return e;
	}
	return archive_commit(w, in->label, info);
}

static enum err report(const struct import *in, const struct checkpoint_info *info)
{
	char size[UNITS_TEXT_BYTES], full[UNITS_TEXT_BYTES], stored[UNITS_TEXT_BYTES];

	if (in->json)
		return jout_print(jout_checkpoint(info));
	cli_print("%s@%llu\n", info->name, (unsigned long long)info->number);
	if (!in->quiet)
		cli_say("%s, %s of it not zero, %s newly stored",
			units_format_size(info->logical_bytes, size),
			units_format_size(info->nonzero_bytes, full),
			units_format_size(info->stored_bytes, stored));
	return ERR_OK;
}

static enum err import(struct import *in)
{
	struct progress progress = {.total_bytes = total(in)};
	struct checkpoint_info info;
	struct meter *meter = NULL;
	char title[128];
	enum err e = depot_open(&in->depot, true);

	if (e == ERR_OK)
		e = level_apply(in->level, in->depot.archive);
	if (e != ERR_OK)
		return e;
	snprintf(title, sizeof(title), "import %s", in->name);
	e = meter_start(title, &progress, in->json || in->quiet, &meter);
	if (e == ERR_OK)
		e = commit(in, &progress, &info);
	meter_stop(meter);
	return e == ERR_OK ? report(in, &info) : err_context(e, "import %s", in->name);
}

enum err verb_archive_import(int argc, char **argv)
{
	struct import in = {.feeds = calloc((size_t)argc + 1, sizeof(*in.feeds)),
			    .names = calloc(STREAMS_MAX, sizeof(*in.names))};
	enum err e;

	for (int i = 0; in.feeds && i <= argc; i++)
		in.feeds[i].fd = -1;
	if (!in.feeds || !in.names)
		e = err_note(ERR_NOMEM, 0, "archive import");
	else if ((e = cli_parse(&verb, argc, argv, &in)) == ERR_OK &&
		 (e = open_feeds(&in)) == ERR_OK)
		e = depot_close(&in.depot, import(&in));
	for (unsigned i = 0; i < in.n_feeds; i++)
		feed_close(&in.feeds[i]);
	free(in.feeds);
	free(in.names);
	return e;
}
