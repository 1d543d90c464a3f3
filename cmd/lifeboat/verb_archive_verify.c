/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat archive verify: read an archive back and check it, or a part of it. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/depot.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/meter.h"
#include "cmd/lifeboat/verbs.h"

#define MILLION 1000000

enum { KEY_SAMPLE = 0x3000, KEY_SEED };

struct verify {
	struct depot depot;
	const char *ref;
	bool json, quiet, seeded;
	struct archive_verify_options what;
	json_t *damages;
};

/* "5%", "0.01%", "5": of a hundred. */
static enum err parse_sample(const char *text, uint32_t *millionths)
{
	char *end;
	double percent = strtod(text, &end);

	if (end == text || (*end && strcmp(end, "%") != 0) || !(percent > 0 && percent <= 100) ||
	    strpbrk(text, "xXnN"))
		return err_note(ERR_USAGE, 0, "\"%s\" is no share: give a percentage, as 5%%",
				text);
	*millionths = (uint32_t)(percent * MILLION / 100);
	if (*millionths == 0)
		*millionths = 1;
	if (*millionths == MILLION)
		*millionths = 0; /* everything */
	return ERR_OK;
}

static enum err option(void *args, int key, char *value)
{
	struct verify *v = args;

	switch (key) {
	case CLI_ARGUMENT:
		if (depot_is_path(value))
			return depot_name(&v->depot, value);
		if (v->ref)
			return err_note(ERR_USAGE, 0, "archive verify: too many words, at %s",
					value);
		v->ref = value;
		return ERR_OK;
	case KEY_SAMPLE: return parse_sample(value, &v->what.sample_millionths);
	case KEY_SEED:
		v->seeded = true;
		return units_number(value, "a seed", 0, UINT64_MAX, &v->what.seed);
	case CLI_KEY_JSON: v->json = true; return ERR_OK;
	case CLI_KEY_QUIET: v->quiet = true; return ERR_OK;
	default: return depot_option(&v->depot, key, value);
	}
}

static const struct argp_option options[] = {
	DEPOT_OPTIONS,
	{.name = "sample",
	 .key = KEY_SAMPLE,
	 .arg = "PERCENT",
	 .doc = "Of the pages, read only so many, chosen by chance; of all else, everything"},
	{.name = "seed",
	 .key = KEY_SEED,
	 .arg = "NUMBER",
	 .doc = "Choose the same sample as the run that printed this number"},
	CLI_OPTION_QUIET,
	CLI_OPTION_JSON,
	CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "archive verify",
	.args_doc = "[PATH] [CHECKPOINT]",
	.doc = "Read everything in an archive back, or all that one checkpoint needs, and check "
	       "it. Each "
	       "damage is one line: what it hits (checkpoint, stream, offset), and where it is. "
	       "Exit code "
	       "5 if there is any. A word with a slash in it is the archive's path."
	       "\vExample:\n  lifeboat archive verify /backup --json\n"
	       "  lifeboat archive verify web@3 --sample 5%",
	.options = options,
	.option = option,
	.max_args = 2,
};

static void note_damage(void *arg, const struct archive_damage *d)
{
	struct verify *v = arg;

	if (v->json) {
		json_array_append_new(v->damages,
				      json_pack("{s:o, s:o, s:I, s:I, s:o}", "checkpoint",
						jout_text(d->checkpoint), "stream",
						jout_text(d->stream), "offset_bytes",
						jout_int(d->offset), "length_bytes",
						jout_int(d->length), "what", jout_text(d->what)));
		return;
	}
	if (d->stream[0])
		cli_print("damaged: %s %s offset %llu length %llu: %s\n", d->checkpoint, d->stream,
			  (unsigned long long)d->offset, (unsigned long long)d->length, d->what);
	else
		cli_print("damaged: %s%s%s\n", d->checkpoint, d->checkpoint[0] ? ": " : "",
			  d->what);
}

static enum err report_json(struct verify *v, const struct archive_verify_result *r, bool sound)
{
	json_t *d = json_pack("{s:b, s:I, s:I, s:I, s:I, s:O}", "sound", sound ? 1 : 0,
			      "checkpoints", jout_int(r->checkpoints), "packs", jout_int(r->packs),
			      "pages", jout_int(r->pages), "read_bytes", jout_int(r->bytes_read),
			      "damages", v->damages);

	if (d && v->what.sample_millionths) {
		json_object_set_new(d, "sample_millionths",
				    json_integer(v->what.sample_millionths));
		json_object_set_new(d, "seed",
				    json_sprintf("%llu", (unsigned long long)v->what.seed));
	}
	return jout_print(d);
}

static enum err report(struct verify *v, const struct archive_verify_result *r, enum err verdict)
{
	char size[UNITS_TEXT_BYTES];
	enum err e = ERR_OK;

	if (v->json)
		e = report_json(v, r, verdict == ERR_OK);
	else if (verdict == ERR_OK)
		cli_print("sound: checkpoints: %llu, packs: %llu, pages: %llu, read: %s\n",
			  (unsigned long long)r->checkpoints, (unsigned long long)r->packs,
			  (unsigned long long)r->pages, units_format_size(r->bytes_read, size));
	if (!v->json && v->what.sample_millionths)
		cli_print("a sample: seed %llu\n", (unsigned long long)v->what.seed);
	if (e != ERR_OK || verdict == ERR_OK)
		return e;
	return err_note(ERR_CORRUPT, 0, "archive %s: it is damaged in %llu place%s", v->depot.path,
			(unsigned long long)r->damages, r->damages == 1 ? "" : "s");
}

static enum err choose(struct verify *v, struct checkpoint_info *only)
{
	if (v->what.sample_millionths && !v->seeded &&
	    getrandom(&v->what.seed, sizeof(v->what.seed), 0) != (ssize_t)sizeof(v->what.seed))
		return err_note(ERR_FAILED, 0, "archive verify: no random numbers");
	if (!v->ref)
		return ERR_OK;
	v->what.only = only;
	return depot_find(&v->depot, v->ref, only);
}

static enum err verify(struct verify *v)
{
	struct archive_verify_result result = {0};
	struct checkpoint_info only;
	struct progress progress = {0};
	struct meter *meter = NULL;
	enum err e;

	if ((e = depot_open(&v->depot, false)) != ERR_OK || (e = choose(v, &only)) != ERR_OK ||
	    (e = meter_start("verify", &progress, v->json || v->quiet, &meter)) != ERR_OK)
		return e;
	e = archive_verify(v->depot.archive, &v->what, &progress, note_damage, v, &result);
	meter_stop(meter);
	if (e == ERR_OK || (e == ERR_CORRUPT && result.damages))
		e = report(v, &result, e);
	return e;
}

enum err verb_archive_verify(int argc, char **argv)
{
	struct verify v = {.json = false};
	enum err e = cli_parse(&verb, argc, argv, &v);

	if (e != ERR_OK)
		return e;
	if (v.seeded && !v.what.sample_millionths)
		return err_note(ERR_USAGE, 0, "archive verify: --seed goes with --sample only");
	v.damages = json_array();
	e = depot_close(&v.depot, verify(&v));
	json_decref(v.damages);
	return e;
}
