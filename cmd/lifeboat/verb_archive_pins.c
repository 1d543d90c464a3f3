/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat archive pins: which checkpoints must not be removed, and who says so. */
#include <string.h>

#include "base/clock.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/depot.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/table.h"
#include "cmd/lifeboat/verbs.h"

enum { KEY_OWNER = 0x3200 };

struct pins {
	struct depot depot;
	const char *what, *object, *owner; /* add or rm or ls; of what; for whom */
	bool json;
	struct table *table;
	json_t *list;
};

static enum err option(void *args, int key, char *value)
{
	struct pins *p = args;

	switch (key) {
	case CLI_ARGUMENT: *(p->what ? &p->object : &p->what) = value; return ERR_OK;
	case KEY_OWNER: p->owner = value; return ERR_OK;
	case CLI_KEY_JSON: p->json = true; return ERR_OK;
	default: return depot_option(&p->depot, key, value);
	}
}

static const struct argp_option options[] = {
	DEPOT_OPTIONS,
	{.name = "owner",
	 .key = KEY_OWNER,
	 .arg = "TEXT",
	 .doc = "With add: who needs it, in words (default: the command line)"},
	CLI_OPTION_JSON,
	CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "archive pins",
	.args_doc = "[ls | add CHECKPOINT | rm PIN]",
	.doc = "Show the pins of an archive, add one, or take one away. A pinned checkpoint cannot "
	       "be removed. "
	       "Jobs that outlive a process (the source of a restore that is still going on, the "
	       "parent of "
	       "the next increment) pin what they need, and take the pin away themselves; a pin "
	       "whose owner "
	       "is gone is taken away by hand."
	       "\vExample:\n  lifeboat archive pins add web@3 --owner \"year's end\" --archive "
	       "/backup\n"
	       "  lifeboat archive pins rm 0123456789abcdef --archive /backup",
	.options = options,
	.option = option,
	.max_args = 2,
};

static enum err show(void *arg, const struct archive_pin *pin)
{
	struct pins *p = arg;
	char time[21] = "-";

	if (pin->created_ns)
		clock_rfc3339(pin->created_ns, time);
	table_cell(p->table, "%s", pin->id);
	if (pin->damaged)
		table_cell(p->table, "(damaged: holds all)");
	else
		table_cell(p->table, "%s@%llu", pin->name, (unsigned long long)pin->number);
	table_cell(p->table, "%s", time);
	table_cell(p->table, "%s", pin->owner);
	json_array_append_new(p->list,
			      json_pack("{s:s, s:s, s:I, s:s, s:o, s:b}", "pin", pin->id, "vm",
					pin->name, "number", jout_int(pin->number), "created", time,
					"owner", jout_text(pin->owner), "damaged", pin->damaged));
	return cli_check_interrupted();
}

static enum err list(struct pins *p)
{
	static const char *const columns[] = {"PIN", "CHECKPOINT", "CREATED", "OWNER", NULL};
	enum err e = table_create(columns, &p->table);

	if (e != ERR_OK)
		return e;
	p->list = json_array();
	e = archive_pins(p->depot.archive, show, p);
	if (e == ERR_OK)
		e = p->json ? jout_print(json_pack("{s:O}", "pins", p->list))
			    : table_print(p->table);
	json_decref(p->list);
	table_destroy(p->table);
	return e;
}

static enum err add(struct pins *p)
{
	struct checkpoint_info info;
	struct archive_pin pin;
	enum err e = depot_find(&p->depot, p->object, &info);

	if (e == ERR_OK)
		e = archive_pin(p->depot.archive, &info, p->owner ? p->owner : "the command line",
				&pin);
	if (e != ERR_OK)
		return e;
	if (p->json)
		return jout_print(json_pack("{s:s, s:s, s:I}", "pin", pin.id, "vm", pin.name,
					    "number", jout_int(pin.number)));
	cli_print("%s\n", pin.id);
	return ERR_OK;
}

static enum err take_away(struct pins *p)
{
	enum err e = archive_unpin(p->depot.archive, p->object);

	return e == ERR_OK && p->json ? jout_print(json_pack("{s:s}", "removed", p->object)) : e;
}

static enum err run(struct pins *p)
{
	bool adds = p->what && strcmp(p->what, "add") == 0;
	bool removes = p->what && strcmp(p->what, "rm") == 0;
	enum err e;

	if (p->what && !adds && !removes && strcmp(p->what, "ls") != 0)
		return err_note(ERR_USAGE, 0, "archive pins %s: it is ls, add or rm", p->what);
	if ((adds || removes) != (p->object != NULL) || (p->owner && !adds))
		return err_note(ERR_USAGE, 0,
				"archive pins: give add CHECKPOINT [--owner TEXT], rm PIN or ls");
	if ((e = depot_open(&p->depot, adds || removes)) != ERR_OK)
		return e;
	return adds ? add(p) : removes ? take_away(p) : list(p);
}

enum err verb_archive_pins(int argc, char **argv)
{
	struct pins p = {.what = NULL};
	enum err e = cli_parse(&verb, argc, argv, &p);

	return e == ERR_OK ? depot_close(&p.depot, run(&p)) : e;
}
