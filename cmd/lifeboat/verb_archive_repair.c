/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat archive repair: heal what is damaged, and name what cannot be.
 *
 * After the repair the archive is opened again and verified, so that what this verb says of its
 * state is what is on disk. */
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/depot.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/meter.h"
#include "cmd/lifeboat/verbs.h"

enum { KEY_FROM = 0x3000, KEY_FROM_FILE };

struct repair {
	struct depot depot, from;
	const char **files;
	unsigned n_files;
	bool json, quiet;
	json_t *done, *lost;
	struct archive_repair_result result;
	struct archive_verify_result state;
};

static enum err option(void *args, int key, char *value)
{
	struct repair *r = args;

	switch (key) {
	case CLI_ARGUMENT: return depot_name(&r->depot, value);
	case KEY_FROM: return depot_name(&r->from, value);
	case KEY_FROM_FILE: r->files[r->n_files++] = value; return ERR_OK;
	case CLI_KEY_JSON: r->json = true; return ERR_OK;
	case CLI_KEY_QUIET: r->quiet = true; return ERR_OK;
	default:
		return depot_is_second(key) ? depot_second_option(&r->from, key, value)
					    : depot_option(&r->depot, key, value);
	}
}

static const struct argp_option options[] = {
	DEPOT_OPTIONS,
	{.name = "from",
	 .key = KEY_FROM,
	 .arg = "PATH",
	 .doc = "Another archive: a copy of this one, or one with the same pages"},
	DEPOT_SECOND("from-"),
	{.name = "from-file",
	 .key = KEY_FROM_FILE,
	 .arg = "FILE",
	 .doc = "A disk or an image that may still have the lost pages; may be given again"},
	CLI_OPTION_QUIET,
	CLI_OPTION_JSON,
	CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "archive repair",
	.args_doc = "[PATH]",
	.doc = "Heal what is damaged in an archive: from what is stored twice in it, from another "
	       "archive, or from live data that still has the same pages. Then verify all of it: "
	       "what "
	       "could not be healed is named as verify does, with exit code 5."
	       "\vExample:\n  lifeboat archive repair /backup --from /mnt/usb/backup\n"
	       "  lifeboat archive repair /backup --from-file /srv/images/db.raw",
	.options = options,
	.option = option,
	.max_args = 1,
};

static void note_done(void *arg, const char *what)
{
	struct repair *r = arg;

	json_array_append_new(r->done, jout_text(what));
	if (!r->json)
		cli_print("%s\n", what);
}

static void note_damage(void *arg, const struct archive_damage *d)
{
	struct repair *r = arg;

	json_array_append_new(r->lost,
			      json_pack("{s:o, s:o, s:I, s:I, s:o}", "checkpoint",
					jout_text(d->checkpoint), "stream", jout_text(d->stream),
					"offset_bytes", jout_int(d->offset), "length_bytes",
					jout_int(d->length), "what", jout_text(d->what)));
	if (r->json)
		return;
	if (d->stream[0])
		cli_print("lost: %s %s offset %llu length %llu: %s\n", d->checkpoint, d->stream,
			  (unsigned long long)d->offset, (unsigned long long)d->length, d->what);
	else
		cli_print("damaged: %s%s%s\n", d->checkpoint, d->checkpoint[0] ? ": " : "",
			  d->what);
}

static enum err report(struct repair *r, enum err verdict)
{
	const char *path = r->depot.path;
	enum err e = ERR_OK;

	if (r->json)
		e = jout_print(json_pack(
			"{s:b, s:I, s:I, s:O, s:O}", "sound", verdict == ERR_OK ? 1 : 0, "healed",
			jout_int(r->result.healed), "pages_lost", jout_int(r->result.pages_lost),
			"done", r->done, "damages", r->lost));
	else if (verdict == ERR_OK)
		cli_print("sound: healed: %llu, checkpoints: %llu, packs: %llu, pages: %llu\n",
			  (unsigned long long)r->result.healed,
			  (unsigned long long)r->state.checkpoints,
			  (unsigned long long)r->state.packs, (unsigned long long)r->state.pages);
	if (e != ERR_OK || verdict == ERR_OK)
		return e;
	return err_note(ERR_CORRUPT, 0, "archive %s: %llu damage%s could not be healed", path,
			(unsigned long long)r->state.damages, r->state.damages == 1 ? "" : "s");
}

/* An archive whose configuration or keys are lost does not open; a copy of it has these.  One whose
 * directories are lost, because something copied it that leaves out empty ones, needs no copy. */
static enum err open_lost(struct repair *r, enum err why)
{
	const char *path;
	bool healed;
	enum err e;

	if (why != ERR_CORRUPT && why != ERR_NOTFOUND)
		return why;
	cli_keep_note(why);
	if ((e = cli_archive_path(r->depot.given, &path)) == ERR_OK)
		e = archive_repair_config(path, r->from.given, &healed);
	if (!r->from.given && (e != ERR_OK || !healed))
		return err_context(cli_kept_note(why), "open it for repair");
	if (e != ERR_OK)
		return e;
	if (healed)
		note_done(r, "archive: what was missing to open it is there again");
	return depot_open(&r->depot, true);
}

static enum err heal(struct repair *r)
{
	struct archive_repair_options opt = {.files = r->files, .n_files = r->n_files};
	struct progress progress = {0};
	struct meter *meter = NULL;
	enum err e = depot_open(&r->depot, true);

	if (e != ERR_OK && (e = open_lost(r, e)) != ERR_OK)
		return e;
	if (r->from.given && (e = depot_open(&r->from, false)) != ERR_OK)
		return e;
	opt.from = r->from.archive;
	if ((e = meter_start("repair", &progress, r->json || r->quiet, &meter)) != ERR_OK)
		return e;
	e = archive_repair(r->depot.archive, &opt, &progress, note_done, r, &r->result);
	meter_stop(meter);
	return e;
}

static enum err check(struct repair *r)
{
	struct progress progress = {0};
	struct meter *meter = NULL;
	enum err e;

	if ((e = depot_open(&r->depot, false)) != ERR_OK ||
	    (e = meter_start("verify", &progress, r->json || r->quiet, &meter)) != ERR_OK)
		return e;
	e = archive_verify(r->depot.archive, NULL, &progress, note_damage, r, &r->state);
	meter_stop(meter);
	if (e == ERR_OK || (e == ERR_CORRUPT && r->state.damages))
		e = report(r, e);
	return e;
}

enum err verb_archive_repair(int argc, char **argv)
{
	struct repair r = {.from = {.second = true},
			   .files = calloc((size_t)argc + 1, sizeof(char *))};
	enum err e = r.files ? cli_parse(&verb, argc, argv, &r)
			     : err_note(ERR_NOMEM, 0, "archive repair");

	if (e == ERR_OK) {
		r.done = json_array();
		r.lost = json_array();
		e = depot_close(&r.depot, heal(&r));
		e = depot_close(&r.from, e);
		if (e == ERR_OK)
			e = depot_close(&r.depot, check(&r));
		json_decref(r.done);
		json_decref(r.lost);
	}
	free(r.files);
	return e;
}
