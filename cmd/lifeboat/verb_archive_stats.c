/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat archive stats: what an archive holds, what it takes, and who needs it. */
#include <stdio.h>

#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/depot.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/meter.h"
#include "cmd/lifeboat/table.h"
#include "cmd/lifeboat/verbs.h"

struct stats {
	struct depot depot;
	bool json, quiet;
	struct table *names, *checkpoints;
	json_t *names_json, *checkpoints_json;
	uint64_t damaged, nonzero_bytes;
};

static enum err option(void *args, int key, char *value)
{
	struct stats *s = args;

	switch (key) {
	case CLI_ARGUMENT: return depot_name(&s->depot, value);
	case CLI_KEY_JSON: s->json = true; return ERR_OK;
	case CLI_KEY_QUIET: s->quiet = true; return ERR_OK;
	default: return depot_option(&s->depot, key, value);
	}
}

static const struct argp_option options[] = {DEPOT_OPTIONS, CLI_OPTION_QUIET, CLI_OPTION_JSON,
					     CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "archive stats",
	.args_doc = "[PATH]",
	.doc = "Show what an archive holds and what it takes: in all, by machine and by "
	       "checkpoint. "
	       "EXCLUSIVE is what nothing else needs: removing that machine's checkpoints, or that "
	       "one, "
	       "frees so much."
	       "\vExample:\n  lifeboat archive stats /backup --json",
	.options = options,
	.option = option,
	.max_args = 1,
};

static json_t *share_json(const struct archive_share *h)
{
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:b}", "vm", h->name, "logical_bytes",
			 jout_int(h->logical_bytes), "nonzero_bytes", jout_int(h->nonzero_bytes),
			 "added_bytes", jout_int(h->added_bytes), "referenced_bytes",
			 jout_int(h->referenced_bytes), "exclusive_bytes",
			 jout_int(h->exclusive_bytes), "damaged", h->damaged ? 1 : 0);
}

static void share_cells(struct table *t, const struct archive_share *h)
{
	const uint64_t sizes[] = {h->logical_bytes, h->nonzero_bytes, h->added_bytes,
				  h->referenced_bytes, h->exclusive_bytes};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char text[UNITS_TEXT_BYTES];

		table_cell(t, "%s", units_format_size(sizes[i], text));
	}
	table_cell(t, "%s", h->damaged ? "DAMAGED: see `lifeboat archive verify'" : "");
}

static enum err add(void *arg, const struct archive_share *h)
{
	struct stats *s = arg;
	json_t *d = share_json(h);

	if (h->number) {
		char ref[96];

		snprintf(ref, sizeof(ref), "%s@%llu", h->name, (unsigned long long)h->number);
		table_cell(s->checkpoints, "%s", ref);
		share_cells(s->checkpoints, h);
		json_object_set_new(d, "checkpoint", json_string(ref));
		json_object_set_new(d, "number", json_integer(jout_int(h->number)));
		json_array_append_new(s->checkpoints_json, d);
		s->damaged += h->damaged;
		s->nonzero_bytes += h->nonzero_bytes;
	} else {
		table_cell(s->names, "%s", h->name);
		table_cell(s->names, "%llu", (unsigned long long)h->checkpoints);
		share_cells(s->names, h);
		json_object_set_new(d, "checkpoints", json_integer(jout_int(h->checkpoints)));
		json_array_append_new(s->names_json, d);
	}
	return cli_check_interrupted();
}

/* How many times smaller what is stored is than what is in it. */
static double ratio(uint64_t held, const struct archive_stats *t)
{
	uint64_t stored = t->pack_bytes + t->manifest_bytes;

	return stored ? (double)held / (double)stored : 0;
}

static enum err print_json(const struct stats *s, const struct archive_stats *t)
{
	return jout_print(json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:O, s:O}", "checkpoints",
		jout_int(t->checkpoints), "packs", jout_int(t->packs), "logical_bytes",
		jout_int(t->logical_bytes), "nonzero_bytes", jout_int(s->nonzero_bytes),
		"unique_pages", jout_int(t->unique_pages), "unique_bytes",
		jout_int(t->unique_pages * ARCHIVE_PAGE_BYTES), "pack_bytes",
		jout_int(t->pack_bytes), "manifest_bytes", jout_int(t->manifest_bytes),
		"index_bytes", jout_int(t->index_bytes), "ratio_logical",
		ratio(t->logical_bytes, t), "ratio_nonzero", ratio(s->nonzero_bytes, t), "machines",
		s->names_json, "by_checkpoint", s->checkpoints_json));
}

static void line(const char *what, uint64_t bytes, const char *remark)
{
	char size[UNITS_TEXT_BYTES];

	cli_print("%-12s %10s  %s\n", what, units_format_size(bytes, size), remark);
}

static enum err print(const struct stats *s, const struct archive_stats *t)
{
	char packs[64], ratios[96];
	enum err e;

	if (s->json)
		return print_json(s, t);
	snprintf(packs, sizeof(packs), "in %llu pack%s", (unsigned long long)t->packs,
		 t->packs == 1 ? "" : "s");
	snprintf(ratios, sizeof(ratios), "of manifests");
	if (t->checkpoints > 0)
		snprintf(ratios, sizeof(ratios),
			 "of manifests; 1/%.1f of what is not zero, 1/%.1f of all",
			 ratio(s->nonzero_bytes, t), ratio(t->logical_bytes, t));
	line("logical", t->logical_bytes, "in all checkpoints");
	line("not zero", s->nonzero_bytes, "of that");
	line("unique", t->unique_pages * ARCHIVE_PAGE_BYTES, "each page once");
	line("stored", t->pack_bytes, packs);
	line("", t->manifest_bytes, ratios);
	line("index", t->index_bytes, "a cache");
	cli_print("\n");
	if ((e = table_print(s->names)) != ERR_OK)
		return e;
	cli_print("\n");
	return table_print(s->checkpoints);
}

static enum err stats(struct stats *s)
{
	struct archive_stats totals;
	struct progress progress = {0};
	struct meter *meter = NULL;
	enum err e = depot_open(&s->depot, false);

	if (e != ERR_OK || (e = archive_stats(s->depot.archive, &totals)) != ERR_OK ||
	    (e = meter_start("stats", &progress, true, &meter)) != ERR_OK)
		return e;
	e = archive_shares(s->depot.archive, &progress, add, s);
	meter_stop(meter);
	if (e == ERR_OK)
		e = print(s, &totals);
	if (e == ERR_OK && s->damaged)
		e = err_note(ERR_CORRUPT, 0,
			     "archive %s: damaged checkpoints: %llu: see `lifeboat archive verify'",
			     s->depot.path, (unsigned long long)s->damaged);
	return e;
}

enum err verb_archive_stats(int argc, char **argv)
{
	static const char *const names[] = {"MACHINE", ">CHECKPOINTS", ">SIZE",	     ">NOT ZERO",
					    ">ADDED",  ">NEEDED",      ">EXCLUSIVE", "",
					    NULL};
	static const char *const checkpoints[] = {"CHECKPOINT", ">SIZE",      ">NOT ZERO", ">ADDED",
						  ">NEEDED",	">EXCLUSIVE", "",	   NULL};
	struct stats s = {.json = false};
	enum err e = cli_parse(&verb, argc, argv, &s);

	if (e != ERR_OK)
		return e;
	s.names_json = json_array();
	s.checkpoints_json = json_array();
	if ((e = table_create(names, &s.names)) == ERR_OK &&
	    (e = table_create(checkpoints, &s.checkpoints)) == ERR_OK)
		e = depot_close(&s.depot, stats(&s));
	table_destroy(s.names);
	table_destroy(s.checkpoints);
	json_decref(s.names_json);
	json_decref(s.checkpoints_json);
	return e;
}
