/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat archive copy: checkpoints of one archive become checkpoints of another. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/depot.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/level.h"
#include "cmd/lifeboat/meter.h"
#include "cmd/lifeboat/verbs.h"

#define CHECKPOINTS_MAX 65536u

enum { KEY_TO = 0x3000, KEY_AS, KEY_ALL };

struct copy {
	struct depot depot, to;
	char **refs;
	unsigned n_refs;
	struct checkpoint_info *chosen;
	size_t n_chosen, room;
	const char *as, *level;
	bool all, json, quiet, rehash_told;
	json_t *list;
};

static enum err option(void *args, int key, char *value)
{
	struct copy *c = args;

	switch (key) {
	case CLI_ARGUMENT: c->refs[c->n_refs++] = value; return ERR_OK;
	case KEY_TO: return depot_name(&c->to, value);
	case KEY_AS: c->as = value; return ERR_OK;
	case LEVEL_KEY: c->level = value; return ERR_OK;
	case KEY_ALL: c->all = true; return ERR_OK;
	case CLI_KEY_JSON: c->json = true; return ERR_OK;
	case CLI_KEY_QUIET: c->quiet = true; return ERR_OK;
	default:
		return depot_is_second(key) ? depot_second_option(&c->to, key, value)
					    : depot_option(&c->depot, key, value);
	}
}

static const struct argp_option options[] = {
	DEPOT_OPTIONS,
	{.name = "to", .key = KEY_TO, .arg = "PATH", .doc = "The archive that gets the copies"},
	DEPOT_SECOND("to-"),
	{.name = "as",
	 .key = KEY_AS,
	 .arg = "NAME",
	 .doc = "Name of the copies (default: the same)"},
	{.name = "all",
	 .key = KEY_ALL,
	 .doc = "Every checkpoint of the archive, or of each NAME that was given"},
	LEVEL_OPTION("the other archive's own"),
	CLI_OPTION_QUIET,
	CLI_OPTION_JSON,
	CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "archive copy",
	.args_doc = "[CHECKPOINT...]",
	.doc = "Copy checkpoints into another archive and print the copies' names. What the other "
	       "archive has is not stored again, and a checkpoint that was copied before is not "
	       "copied "
	       "twice. A copy has a number of its own, and the label and time of what it is a copy "
	       "of."
	       "\vExample:\n  lifeboat archive copy web@3 db --to /mnt/usb/archive\n"
	       "  lifeboat archive copy --all --archive /backup --to /mnt/usb/archive",
	.options = options,
	.option = option,
	.max_args = CHECKPOINTS_MAX,
};

/* ---- which ---- */

static enum err choose(struct copy *c, const struct checkpoint_info *info)
{
	if (c->n_chosen == c->room) {
		size_t room = 2 * c->room + 16;
		struct checkpoint_info *more = realloc(c->chosen, room * sizeof(*more));

		if (!more)
			return err_note(ERR_NOMEM, 0, "archive copy");
		c->chosen = more;
		c->room = room;
	}
	c->chosen[c->n_chosen++] = *info;
	return ERR_OK;
}

struct choosing {
	struct copy *c;
	const char *name; /* NULL: all */
	unsigned found;
};

static enum err choose_listed(void *arg, const struct checkpoint_info *info)
{
	struct choosing *g = arg;

	if (g->name && strcmp(g->name, info->name) != 0)
		return ERR_OK;
	g->found++;
	if (jout_damaged(info))
		return err_note(ERR_CORRUPT, 0,
				"%s@%llu is damaged: repair the archive, or name the others",
				info->name, (unsigned long long)info->number);
	return choose(g->c, info);
}

static enum err choose_all(struct copy *c, const char *name)
{
	struct choosing g = {.c = c, .name = name};
	enum err e = archive_list(c->depot.archive, choose_listed, &g);

	if (e == ERR_OK && name && !g.found)
		e = err_note(ERR_NOTFOUND, 0, "no checkpoint of %s in the archive", name);
	return e;
}

static enum err choose_refs(struct copy *c)
{
	enum err e = c->n_refs ? ERR_OK : choose_all(c, NULL);

	for (unsigned i = 0; e == ERR_OK && i < c->n_refs; i++) {
		struct checkpoint_info info;

		if (c->all && !strchr(c->refs[i], '@')) {
			e = choose_all(c, c->refs[i]);
			continue;
		}
		e = depot_find(&c->depot, c->refs[i], &info);
		if (e == ERR_OK)
			e = choose(c, &info);
	}
	return e;
}

/* ---- the job ---- */

static void tell_rehash(struct copy *c)
{
	if (!c->rehash_told && !c->quiet)
		cli_say("the archives know pages by different keys: everything is read and hashed "
			"again");
	c->rehash_told = true;
}

static enum err report(struct copy *c, const char *ref, const struct archive_copy_result *r)
{
	char size[UNITS_TEXT_BYTES], stored[UNITS_TEXT_BYTES];

	if (c->json) {
		json_t *d = jout_checkpoint(&r->info);

		json_object_set_new(d, "source", json_string(ref));
		json_object_set_new(d, "existed", json_boolean(r->existed));
		json_object_set_new(d, "pages_known", json_integer(jout_int(r->pages_known)));
		json_array_append_new(c->list, d);
		return ERR_OK;
	}
	cli_print("%s@%llu\n", r->info.name, (unsigned long long)r->info.number);
	if (r->existed && !c->quiet)
		cli_say("%s is there already, as %s@%llu", ref, r->info.name,
			(unsigned long long)r->info.number);
	else if (!c->quiet)
		cli_say("%s: %s, %s newly stored", ref,
			units_format_size(r->info.logical_bytes, size),
			units_format_size(r->info.stored_bytes, stored));
	return cli_finish_output();
}

static enum err copy_one(struct copy *c, const struct checkpoint_info *info)
{
	struct archive_copy_options opt = {.name = c->as};
	struct progress progress = {.total_bytes = info->logical_bytes};
	struct archive_copy_result result;
	struct meter *meter = NULL;
	char ref[96], title[128];
	enum err e;

	snprintf(ref, sizeof(ref), "%s@%llu", info->name, (unsigned long long)info->number);
	snprintf(title, sizeof(title), "copy %s", ref);
	if ((e = meter_start(title, &progress, c->json || c->quiet, &meter)) != ERR_OK)
		return e;
	e = archive_copy(c->depot.archive, info, c->to.archive, &opt, &progress, &result);
	meter_stop(meter);
	if (e != ERR_OK)
		return err_context(e, "copy %s", ref);
	if (result.rehashed)
		tell_rehash(c);
	return report(c, ref, &result);
}

static enum err copy_all(struct copy *c)
{
	enum err e;

	if ((e = depot_open(&c->depot, false)) != ERR_OK || (e = choose_refs(c)) != ERR_OK ||
	    (e = depot_open(&c->to, true)) != ERR_OK ||
	    (e = level_apply(c->level, c->to.archive)) != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < c->n_chosen; i++) {
		e = cli_check_interrupted();
		if (e == ERR_OK)
			e = copy_one(c, &c->chosen[i]);
	}
	if (e == ERR_OK && c->json)
		e = jout_print(json_pack("{s:O}", "copies", c->list));
	return e;
}

enum err verb_archive_copy(int argc, char **argv)
{
	struct copy c = {.to = {.second = true}, .refs = calloc((size_t)argc + 1, sizeof(char *))};
	enum err e =
		c.refs ? cli_parse(&verb, argc, argv, &c) : err_note(ERR_NOMEM, 0, "archive copy");

	if (e == ERR_OK && !c.to.given)
		e = err_note(ERR_USAGE, 0, "archive copy: where to: give --to PATH");
	if (e == ERR_OK && !c.n_refs && !c.all)
		e = err_note(ERR_USAGE, 0, "archive copy: name checkpoints, or give --all");
	if (e == ERR_OK) {
		c.list = json_array();
		e = copy_all(&c);
		e = depot_close(&c.to, e);
		e = depot_close(&c.depot, e);
		json_decref(c.list);
	}
	free(c.chosen);
	free(c.refs);
	return e;
}
