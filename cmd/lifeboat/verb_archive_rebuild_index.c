/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat archive rebuild-index: make the index again from the packs. */
#include "base/clock.h"
#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/depot.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/meter.h"
#include "cmd/lifeboat/verbs.h"

struct rebuild {
	struct depot depot;
	bool json, quiet;
};

static enum err option(void *args, int key, char *value)
{
	struct rebuild *r = args;

	switch (key) {
	case CLI_ARGUMENT: return depot_name(&r->depot, value);
	case CLI_KEY_JSON: r->json = true; return ERR_OK;
	case CLI_KEY_QUIET: r->quiet = true; return ERR_OK;
	default: return depot_option(&r->depot, key, value);
	}
}

static const struct argp_option options[] = {DEPOT_OPTIONS, CLI_OPTION_QUIET, CLI_OPTION_JSON,
					     CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "archive rebuild-index",
	.args_doc = "[PATH]",
	.doc = "Drop the index of an archive and make it again from the packs. The index only "
	       "finds what "
	       "is stored already; no checkpoint depends on it, and a damaged one is rebuilt by "
	       "itself. "
	       "Nobody may write to the archive meanwhile."
	       "\vExample:\n  lifeboat archive rebuild-index /backup",
	.options = options,
	.option = option,
	.max_args = 1,
};

static enum err rebuild(struct rebuild *r)
{
	struct progress progress = {0};
	struct archive_stats stats;
	struct meter *meter = NULL;
	char took[UNITS_TEXT_BYTES], size[UNITS_TEXT_BYTES];
	uint64_t begin = clock_mono_ns();
	enum err e = depot_open(&r->depot, true);

	if (e != ERR_OK ||
	    (e = meter_start("rebuild index", &progress, r->json || r->quiet, &meter)))
		return e;
	e = archive_rebuild_index(r->depot.archive, &progress);
	meter_stop(meter);
	if (e != ERR_OK || (e = archive_stats(r->depot.archive, &stats)) != ERR_OK)
		return e;
	uint64_t ns = clock_mono_ns() - begin;
	if (r->json)
		return jout_print(json_pack("{s:I, s:I, s:I, s:I}", "packs", jout_int(stats.packs),
					    "pages", jout_int(stats.unique_pages), "index_bytes",
					    jout_int(stats.index_bytes), "total_ns", jout_int(ns)));
	cli_print("index: %s for %llu pages in %llu packs, made in %s\n",
		  units_format_size(stats.index_bytes, size),
		  (unsigned long long)stats.unique_pages, (unsigned long long)stats.packs,
		  units_format_duration(ns, took));
	return ERR_OK;
}

enum err verb_archive_rebuild_index(int argc, char **argv)
{
	struct rebuild r = {.json = false};
	enum err e = cli_parse(&verb, argc, argv, &r);

	return e == ERR_OK ? depot_close(&r.depot, rebuild(&r)) : e;
}
