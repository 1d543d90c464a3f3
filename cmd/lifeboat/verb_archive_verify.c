/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat archive verify: read an archive back and check all of it. */
#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/meter.h"
#include "cmd/lifeboat/verbs.h"
#include "store/archive.h"

struct verify {
	const char *path;
	bool json, quiet;
	json_t *damages;
};

static enum err option(void *args, int key, char *value)
{
	struct verify *v = args;

	switch (key) {
	case CLI_KEY_JSON: v->json = true; return ERR_OK;
	case CLI_KEY_QUIET: v->quiet = true; return ERR_OK;
	case CLI_KEY_ARCHIVE:
	case CLI_ARGUMENT: v->path = value; return ERR_OK;
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {CLI_OPTION_ARCHIVE, CLI_OPTION_QUIET, CLI_OPTION_JSON,
					     CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "archive verify",
	.args_doc = "[PATH]",
	.doc = "Read everything in an archive back and check it. Each damage is one line: what it hits "
	       "(checkpoint, stream, offset), and where it is. Exit code 5 if there is any."
	       "\vExample:\n  lifeboat archive verify /backup --json",
	.options = options,
	.option = option,
	.max_args = 1,
};

static void note_damage(void *arg, const struct archive_damage *d)
{
	struct verify *v = arg;

	if (v->json) {
		json_array_append_new(
			v->damages, json_pack("{s:o, s:o, s:I, s:I, s:o}", "checkpoint",
					      jout_text(d->checkpoint), "stream", jout_text(d->stream),
					      "offset_bytes", jout_int(d->offset), "length_bytes",
					      jout_int(d->length), "what", jout_text(d->what)));
		return;
	}
	if (d->stream[0])
		cli_print("damaged: %s %s offset %llu length %llu: %s\n", d->checkpoint, d->stream,
			  (unsigned long long)d->offset, (unsigned long long)d->length, d->what);
	else
		cli_print("damaged: %s%s%s\n", d->checkpoint, d->checkpoint[0] ? ": " : "", d->what);
}

static enum err report(struct verify *v, const char *path,
		       const struct archive_verify_result *r, enum err verdict)
{
	char size[UNITS_TEXT_BYTES];
	enum err e = ERR_OK;

	if (v->json)
		e = jout_print(json_pack("{s:b, s:I, s:I, s:I, s:I, s:O}", "sound",
					 verdict == ERR_OK ? 1 : 0, "checkpoints",
					 jout_int(r->checkpoints), "packs", jout_int(r->packs), "pages",
					 jout_int(r->pages), "read_bytes", jout_int(r->bytes_read),
					 "damages", v->damages));
	else if (verdict == ERR_OK)
		cli_print("sound: checkpoints: %llu, packs: %llu, pages: %llu, read: %s\n",
			  (unsigned long long)r->checkpoints, (unsigned long long)r->packs,
			  (unsigned long long)r->pages, units_format_size(r->bytes_read, size));
	if (e != ERR_OK || verdict == ERR_OK)
		return e;
	return err_note(ERR_CORRUPT, 0, "archive %s: it is damaged in %llu place%s", path,
			(unsigned long long)r->damages, r->damages == 1 ? "" : "s");
}

static enum err verify(struct verify *v, const char *path)
{
	struct archive_options read_only = {.writable = false};
	struct archive_verify_result result = {0};
	struct progress progress = {0};
	struct archive *a = NULL;
	struct meter *meter = NULL;
	enum err e = archive_open(path, &read_only, &a);

	if (e != ERR_OK)
		return e;
	e = meter_start("verify", &progress, v->json || v->quiet, &meter);
	if (e == ERR_OK) {
		e = archive_verify(a, &progress, note_damage, v, &result);
		meter_stop(meter);
		if (e == ERR_OK || (e == ERR_CORRUPT && result.damages))
			e = report(v, path, &result, e);
	}
	cli_keep_note(e);
	archive_close(a);
	return cli_kept_note(e);
}

enum err verb_archive_verify(int argc, char **argv)
{
	struct verify v = {0};
	const char *path;
	enum err e = cli_parse(&verb, argc, argv, &v);

	if (e != ERR_OK || (e = cli_archive_path(v.path, &path)) != ERR_OK)
		return e;
	v.damages = json_array();
	e = verify(&v, path);
	json_decref(v.damages);
	return e;
}
