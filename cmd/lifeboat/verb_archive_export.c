/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat archive export: streams of a checkpoint become files.
 *
 * A whole checkpoint becomes a directory, made under a temporary name.  Sound streams are read on
 * all cores; where that meets damage, the rest is read piece by piece, so that every loss is
 * named, and with --partial everything else is given out. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/depot.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/meter.h"
#include "cmd/lifeboat/outlet.h"
#include "cmd/lifeboat/verbs.h"

enum { KEY_OUTPUT = 0x3000, KEY_RANGE, KEY_FORCE, KEY_PARTIAL };

struct export
{
	struct depot depot;
	const char *ref, *stream, *output, *range;
	bool json, quiet, force, partial;
	struct checkpoint_info info;
	struct archive_reader *reader;
	struct progress progress;
	json_t *files, *lost;
	unsigned losses;
	uint64_t lost_bytes;

	/* the stream that is on its way */
	struct outlet *out; /* NULL: only look for what is lost */
	const char *name;
	uint64_t from, to; /* bytes of it */
	uint64_t done;	   /* all before was given out */
};

static enum err option(void *args, int key, char *value)
{
	struct export *x = args;

	switch (key) {
	case CLI_ARGUMENT: *(x->ref ? &x->stream : &x->ref) = value; return ERR_OK;
	case KEY_OUTPUT: x->output = value; return ERR_OK;
	case KEY_RANGE: x->range = value; return ERR_OK;
	case KEY_FORCE: x->force = true; return ERR_OK;
	case KEY_PARTIAL: x->partial = true; return ERR_OK;
	case CLI_KEY_JSON: x->json = true; return ERR_OK;
	case CLI_KEY_QUIET: x->quiet = true; return ERR_OK;
	default: return depot_option(&x->depot, key, value);
	}
}

static const struct argp_option options[] = {
	DEPOT_OPTIONS,
	{.name = "output",
	 .key = KEY_OUTPUT,
	 .arg = "FILE",
	 .doc = "Where to: of a stream, a file, or - for standard output (the default); of a whole "
		"checkpoint, a directory (default: its name)"},
	{.name = "range",
	 .key = KEY_RANGE,
	 .arg = "OFFSET+LENGTH",
	 .doc = "Only these bytes of the stream, as 1G+64M; without LENGTH, to its end"},
	{.name = "force", .key = KEY_FORCE, .doc = "Replace what is there, or write to a device"},
	{.name = "partial",
	 .key = KEY_PARTIAL,
	 .doc = "From a damaged archive, give out what is undamaged and leave zeros for the rest"},
	CLI_OPTION_QUIET,
	CLI_OPTION_JSON,
	CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "archive export",
	.args_doc = "CHECKPOINT [STREAM]",
	.doc = "Write a stream of a checkpoint to a file or to standard output, or all its streams "
	       "to a "
	       "new directory. Zeros become holes. A file has its name only when it is complete. "
	       "What is "
	       "damaged is named on standard error, with exit code 5."
	       "\vExample:\n  lifeboat archive export web@3 disk-raw --output disk.raw\n"
	       "  lifeboat archive export web@3 ram --range 1M+64K | hexdump -C",
	.options = options,
	.option = option,
	.min_args = 1,
	.max_args = 2,
};

/* ---- one stream ---- */

/* Part of an extent that is within the range, to its place in the output. */
static enum err give(void *arg, uint64_t offset, const void *data, size_t len)
{
	struct export *x = arg;
	uint64_t from = offset > x->from ? offset : x->from;
	uint64_t to = offset + len < x->to ? offset + len : x->to;

	if (!x->out || from >= to)
		return ERR_OK;
	enum err e = outlet_put(x->out, from - x->from, (const uint8_t *)data + (from - offset),
				(size_t)(to - from));
	if (e == ERR_OK)
		x->done = to;
	return e;
}

static void lose(void *arg, uint64_t offset, uint64_t length, const char *why)
{
	struct export *x = arg;

	x->losses++;
	x->lost_bytes += length;
	cli_say("lost: %s@%llu %s offset %llu length %llu: %s", x->info.name,
		(unsigned long long)x->info.number, x->name, (unsigned long long)offset,
		(unsigned long long)length, why);
	json_array_append_new(x->lost, json_pack("{s:s, s:I, s:I, s:o}", "stream", x->name,
						 "offset_bytes", jout_int(offset), "length_bytes",
						 jout_int(length), "what", jout_text(why)));
}

/* What lies between done and the end, whatever state it is in. */
static enum err rescue(struct export *x, unsigned index)
{
	uint64_t from = x->done > x->from ? x->done : x->from;

	return archive_salvage(x->reader, index, from, x->to - from, &x->progress, give, lose, x);
}

static bool is_damage(const struct export *x, enum err e)
{
	return !x->out->failed && (e == ERR_CORRUPT || e == ERR_IO || e == ERR_VERSION);
}

static enum err send(struct export *x, unsigned index, struct outlet *out)
{
	const struct archive_stream_info *s = archive_read_stream(x->reader, index);
	unsigned before = x->losses;
	enum err e;

	x->out = out;
	x->name = s->name;
	x->done = x->from;
	if (x->range) {
		e = rescue(x, index);
	} else {
		e = archive_read_all(x->reader, index, &x->progress, give, x);
		if (is_damage(x, e)) {
			x->out = x->partial ? out : NULL; /* then it is only to be named */
			e = rescue(x, index);
		}
	}
	if (e == ERR_OK && x->losses > before && !x->partial)
		return err_note(ERR_CORRUPT, 0,
				"stream %s is damaged: repair the archive, or use --partial to get "
				"everything but what was named",
				x->name);
	return e == ERR_OK ? outlet_finish(out, x->to - x->from) : e;
}

static enum err one_stream(struct export *x, unsigned index, const char *path, bool force)
{
	const struct archive_stream_info *s = archive_read_stream(x->reader, index);
	struct outlet out;
	enum err e = outlet_open(path, force, &out);

	if (e != ERR_OK)
		return e;
	if (!x->range) {
		x->from = 0;
		x->to = s->length;
	}
	e = send(x, index, &out);
	outlet_abort(&out);
	if (e != ERR_OK)
		return e;
	json_array_append_new(x->files,
			      json_pack("{s:s, s:I, s:o}", "stream", s->name, "length_bytes",
					jout_int(x->to - x->from), "file", jout_text(path)));
	return ERR_OK;
}

/* "OFFSET+LENGTH" or "OFFSET+" of a stream of `length` bytes. */
static enum err parse_range(struct export *x, uint64_t length)
{
	char *text = strdup(x->range), *plus = text ? strchr(text, '+') : NULL;
	uint64_t count = 0;
	enum err e;

	if (!text)
		return err_note(ERR_NOMEM, 0, "archive export");
	if (!plus) {
		e = err_note(ERR_USAGE, 0, "\"%s\" is no range: give OFFSET+LENGTH, as 1G+64M",
			     text);
	} else {
		*plus++ = '\0';
		e = units_size(text, &x->from);
		if (e == ERR_OK && *plus)
			e = units_size(plus, &count);
		else
			count = x->from < length ? length - x->from : 0;
	}
	if (e == ERR_OK && (x->from > length || count > length - x->from))
		e = err_note(ERR_USAGE, 0, "stream %s has only %llu bytes", x->stream,
			     (unsigned long long)length);
	free(text);
	x->to = x->from + count;
	return e == ERR_OK ? e : err_context(e, "--range");
}

static enum err export_stream(struct export *x)
{
	const char *path = x->output ? x->output : "-";
	unsigned index;
	enum err e = archive_read_find(x->reader, x->stream, &index);

	if (e == ERR_OK && x->range)
		e = parse_range(x, archive_read_stream(x->reader, index)->length);
	if (e != ERR_OK)
		return e;
	x->progress.total_bytes =
		x->range ? x->to - x->from : archive_read_stream(x->reader, index)->length;
	return one_stream(x, index, path, x->force);
}

/* ---- all streams ---- */

static enum err fill_directory(struct export *x, const char *dir, bool force)
{
	for (unsigned i = 0; i < archive_read_streams(x->reader); i++) {
		char *path;
		enum err e;

		if (asprintf(&path, "%s/%s", dir, archive_read_stream(x->reader, i)->name) < 0)
			return err_note(ERR_NOMEM, 0, "archive export");
		e = one_stream(x, i, path, force);
		free(path);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

/* What was made in a directory of ours, and itself. */
static void remove_directory(const struct export *x, const char *dir)
{
	for (unsigned i = 0; i < archive_read_streams(x->reader); i++) {
		char *path;

		if (asprintf(&path, "%s/%s", dir, archive_read_stream(x->reader, i)->name) < 0)
			continue;
		(void)unlink(path);
		free(path);
	}
	(void)rmdir(dir);
}

static enum err new_directory(struct export *x, const char *path)
{
	char *temp = outlet_temporary(path);
	enum err e;

	if (!temp)
		return err_note(ERR_NOMEM, 0, "archive export");
	e = fs_mkdir(AT_FDCWD, temp, 0700);
	if (e == ERR_OK) {
		e = fill_directory(x, temp, false);
		if (e == ERR_OK)
			e = outlet_sync_parent(temp);
		if (e == ERR_OK)
			e = fs_rename_new(AT_FDCWD, temp, path);
		if (e != ERR_OK)
			remove_directory(x, temp);
		else
			e = outlet_sync_parent(path);
	}
	free(temp);
	return e;
}

static enum err export_all(struct export *x)
{
	char *own = NULL, *path;
	struct stat st;
	enum err e;

	if (x->output && strcmp(x->output, "-") == 0)
		return err_note(ERR_USAGE, 0,
				"a whole checkpoint goes into a directory: name one stream "
				"for standard output");
	if (!x->output &&
	    asprintf(&own, "%s@%llu", x->info.name, (unsigned long long)x->info.number) < 0)
		return err_note(ERR_NOMEM, 0, "archive export");
	path = x->output ? strdup(x->output) : own;
	if (!path)
		return err_note(ERR_NOMEM, 0, "archive export");
	for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
		path[n - 1] = '\0';
	x->progress.total_bytes = x->info.logical_bytes;
	if (stat(path, &st) != 0)
		e = errno == ENOENT ? new_directory(x, path) : err_sys(errno, "look at %s", path);
	else if (!S_ISDIR(st.st_mode))
		e = err_note(ERR_BUSY, 0, "%s exists already, and is no directory", path);
	else if (!x->force)
		e = err_note(ERR_BUSY, 0,
			     "%s exists already: use --force to replace the files in it", path);
	else
		e = fill_directory(x, path, true);
	free(path);
	return e;
}

/* ---- the verb ---- */

static enum err report(struct export *x)
{
	if (x->json) {
		json_t *d = jout_checkpoint(&x->info);

		if (!d || json_object_set(d, "files", x->files) != 0 ||
		    json_object_set(d, "lost", x->lost) != 0) {
			json_decref(d);
			d = NULL;
		}
		return jout_print(d);
	}
	if (!x->quiet)
		cli_say("%s@%llu: streams written: %zu", x->info.name,
			(unsigned long long)x->info.number, json_array_size(x->files));
	return ERR_OK;
}

static enum err run(struct export *x)
{
	struct meter *meter = NULL;
	char title[128];
	enum err e;

	if ((e = depot_open(&x->depot, false)) != ERR_OK ||
	    (e = depot_find(&x->depot, x->ref, &x->info)) != ERR_OK ||
	    (e = archive_read_open(x->depot.archive, &x->info, &x->reader)) != ERR_OK)
		return e;
	snprintf(title, sizeof(title), "export %s", x->ref);
	e = meter_start(title, &x->progress, x->json || x->quiet, &meter);
	if (e == ERR_OK)
		e = x->stream ? export_stream(x) : export_all(x);
	meter_stop(meter);
	if (e == ERR_OK)
		e = report(x);
	if (e == ERR_OK && x->losses)
		e = err_note(ERR_CORRUPT, 0,
			     "the archive is damaged: %llu bytes in %u place%s were lost and are "
			     "zeros in "
			     "what was written",
			     (unsigned long long)x->lost_bytes, x->losses,
			     x->losses == 1 ? "" : "s");
	return e == ERR_OK ? e : err_context(e, "export %s", x->ref);
}

enum err verb_archive_export(int argc, char **argv)
{
	struct export x = {0};
	enum err e = cli_parse(&verb, argc, argv, &x);

	if (e != ERR_OK)
		return e;
	if (x.range && !x.stream)
		return err_note(ERR_USAGE, 0, "archive export: --range is of one stream: name it");
	if (x.json && x.stream && (!x.output || strcmp(x.output, "-") == 0))
		return err_note(ERR_USAGE, 0,
				"archive export: --json and the stream cannot both go to "
				"standard output: use --output FILE");
	x.files = json_array();
	x.lost = json_array();
	e = run(&x);
	cli_keep_note(e);
	archive_read_close(x.reader);
	e = depot_close(&x.depot, cli_kept_note(e));
	json_decref(x.files);
	json_decref(x.lost);
	return e;
}
