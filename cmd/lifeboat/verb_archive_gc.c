/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat archive gc: free the space of what no checkpoint needs. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/depot.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/meter.h"
#include "cmd/lifeboat/verbs.h"

enum { KEY_DRY_RUN = 0x3100, KEY_THRESHOLD };

struct collect {
	struct depot depot;
	struct archive_gc_options opt;
	bool json, quiet;
	json_t *holders;
	struct archive_gc_result r;
};

static enum err threshold(struct collect *c, const char *value)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (end == value || strcmp(end, "%") * strcmp(end, "") != 0 || n > 100 || value[0] == '-')
		return err_note(ERR_USAGE, 0, "--threshold %s: give a part in a hundred, 0 to 100",
				value);
	c->opt.threshold_percent = (unsigned)n;
	return ERR_OK;
}

static enum err option(void *args, int key, char *value)
{
	struct collect *c = args;

	switch (key) {
	case CLI_ARGUMENT: return depot_name(&c->depot, value);
	case CLI_KEY_JSON: c->json = true; return ERR_OK;
	case CLI_KEY_QUIET: c->quiet = true; return ERR_OK;
	case KEY_DRY_RUN: c->opt.dry_run = true; return ERR_OK;
	case KEY_THRESHOLD: return threshold(c, value);
	default: return depot_option(&c->depot, key, value);
	}
}

static const struct argp_option options[] = {
	DEPOT_OPTIONS,
	{.name = "dry-run", .key = KEY_DRY_RUN, .doc = "Only say what there is to do"},
	{.name = "threshold",
	 .key = KEY_THRESHOLD,
	 .arg = "PERCENT",
	 .doc = "Rewrite packs of which less than so much is needed (default: 50; 0: none)"},
	CLI_OPTION_QUIET,
	CLI_OPTION_JSON,
	CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "archive gc",
	.args_doc = "[PATH]",
	.doc = "Free the space of what no checkpoint needs: packs of which nothing is needed are "
	       "deleted, and "
	       "packs of which little is needed are rewritten. What somebody may still need who is "
	       "just reading "
	       "or writing stays, and is named; the next gc deletes it. It may be interrupted at "
	       "any time."
	       "\vExample:\n  lifeboat archive gc /backup --dry-run",
	.options = options,
	.option = option,
	.max_args = 1,
};

static void note_holder(void *arg, const struct archive_holder *h)
{
	struct collect *c = arg;
	char since[21] = "";

	if (h->since_ns)
		clock_rfc3339(h->since_ns, since);
	json_array_append_new(c->holders, json_pack("{s:I, s:s, s:o}", "pid", jout_int(h->pid),
						    "since", since, "what", jout_text(h->what)));
	if (c->json)
		return;
	if (h->pid)
		cli_print("waits for: process %lu, since %s: %s\n", (unsigned long)h->pid, since,
			  h->what);
	else
		cli_print("waits for: %s\n", h->what);
}

static void print(const struct collect *c)
{
	const struct archive_gc_result *r = &c->r;
	char freed[UNITS_TEXT_BYTES], made[UNITS_TEXT_BYTES], wait[UNITS_TEXT_BYTES];
	uint64_t net = r->removed_bytes > r->made_bytes ? r->removed_bytes - r->made_bytes : 0;

	cli_print("%s: %s; packs deleted: %llu, rewritten: %llu%s%s\n",
		  c->opt.dry_run ? "would free" : "freed", units_format_size(net, freed),
		  (unsigned long long)r->packs_removed, (unsigned long long)r->packs_rewritten,
		  r->packs_rewritten ? ", written: " : "",
		  r->packs_rewritten ? units_format_size(r->made_bytes, made) : "");
	if (r->packs_waiting)
		cli_print("kept for those who may need them: packs: %llu (%s)\n",
			  (unsigned long long)r->packs_waiting,
			  units_format_size(r->waiting_bytes, wait));
	if (r->packs_unmoved)
		cli_print("not rewritten, for damage or want of space: packs: %llu\n",
			  (unsigned long long)r->packs_unmoved);
}

static enum err report(const struct collect *c)
{
	const struct archive_gc_result *r = &c->r;

	if (!c->json) {
		print(c);
		return ERR_OK;
	}
	return jout_print(json_pack(
		"{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O}",
		"dry_run", c->opt.dry_run, "checkpoints", jout_int(r->checkpoints), "packs",
		jout_int(r->packs), "pages", jout_int(r->pages), "live_pages",
		jout_int(r->live_pages), "packs_removed", jout_int(r->packs_removed),
		"packs_rewritten", jout_int(r->packs_rewritten), "packs_made",
		jout_int(r->packs_made), "forwards_removed", jout_int(r->forwards_removed),
		"removed_bytes", jout_int(r->removed_bytes), "made_bytes", jout_int(r->made_bytes),
		"packs_waiting", jout_int(r->packs_waiting), "waiting_bytes",
		jout_int(r->waiting_bytes), "packs_unmoved", jout_int(r->packs_unmoved), "holders",
		c->holders));
}

static enum err run(struct collect *c)
{
	struct progress progress = {0};
	struct meter *meter = NULL;
	enum err e = depot_open(&c->depot, !c->opt.dry_run);

	if (e != ERR_OK ||
	    (e = meter_start("gc", &progress, c->json || c->quiet, &meter)) != ERR_OK)
		return e;
	e = archive_gc(c->depot.archive, &c->opt, &progress, note_holder, c, &c->r);
	meter_stop(meter);
	return e == ERR_OK ? report(c) : e;
}

enum err verb_archive_gc(int argc, char **argv)
{
	struct collect c = {.opt = {.threshold_percent = ARCHIVE_GC_THRESHOLD}};
	enum err e = cli_parse(&verb, argc, argv, &c);

	if (e != ERR_OK)
		return e;
	c.holders = json_array();
	e = depot_close(&c.depot, run(&c));
	json_decref(c.holders);
	return e;
}
