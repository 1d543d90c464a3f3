/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat archive rm: remove checkpoints.
 *
 * All words are understood, and all pins asked, before the first checkpoint goes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/depot.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/verbs.h"

struct rm {
	struct depot depot;
	const char **words;
	unsigned n_words;
	bool json;
	struct checkpoint_info *list; /* what is to go */
	size_t n, room;
	/* The word that is looked at: NAME@FIRST-LAST. */
	char name[ARCHIVE_NAME_BYTES];
	uint64_t first, last;
};

static enum err option(void *args, int key, char *value)
{
	struct rm *r = args;

	switch (key) {
	case CLI_ARGUMENT: r->words[r->n_words++] = value; return ERR_OK;
	case CLI_KEY_JSON: r->json = true; return ERR_OK;
	default: return depot_option(&r->depot, key, value);
	}
}

static const struct argp_option options[] = {DEPOT_OPTIONS, CLI_OPTION_JSON, CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "archive rm",
	.args_doc = "CHECKPOINT...",
	.doc = "Remove checkpoints: NAME@N, NAME@FIRST-LAST, or the first digits of a digest. "
	       "Nothing is asked. "
	       "Others are complete without them, and their numbers are not used again. If one of "
	       "the words "
	       "names nothing, or a pin holds one of the checkpoints, none is removed. The space "
	       "comes "
	       "back by `lifeboat archive gc'."
	       "\vExample:\n  lifeboat archive rm web@1-7 db@2 --archive /backup",
	.options = options,
	.option = option,
	.min_args = 1,
	.max_args = 1000000,
};

static enum err add(struct rm *r, const struct checkpoint_info *info)
{
	for (size_t i = 0; i < r->n; i++)
		if (r->list[i].number == info->number && strcmp(r->list[i].name, info->name) == 0)
			return ERR_OK; /* named twice */
	if (r->n == r->room) {
		size_t room = 2 * r->room + 16;
		struct checkpoint_info *more = realloc(r->list, room * sizeof(*more));

		if (!more)
			return err_note(ERR_NOMEM, 0, "archive rm");
		r->list = more;
		r->room = room;
	}
	r->list[r->n++] = *info;
	return ERR_OK;
}

static enum err add_listed(void *arg, const struct checkpoint_info *info)
{
	struct rm *r = arg;

	if (strcmp(info->name, r->name) != 0 || info->number < r->first || info->number > r->last)
		return ERR_OK;
	return add(r, info);
}

static bool number(const char **p, uint64_t *n)
{
	char *end;

	if (**p < '1' || **p > '9' || strspn(*p, "0123456789") > 19)
		return false;
	*n = strtoull(*p, &end, 10);
	*p = end;
	return true;
}

/* NAME@N or NAME@FIRST-LAST; damaged checkpoints have no digest to be named by. */
static bool parse(struct rm *r, const char *word)
{
	const char *at = strchr(word, '@'), *p = at ? at + 1 : NULL;

	if (!at || (size_t)(at - word) >= sizeof(r->name) || !number(&p, &r->first))
		return false;
	snprintf(r->name, sizeof(r->name), "%.*s", (int)(at - word), word);
	r->last = r->first;
	if (*p == '-') {
		p++;
		if (!number(&p, &r->last) || r->last < r->first)
			return false;
	}
	return *p == '\0';
}

static enum err find(struct rm *r, const char *word)
{
	struct checkpoint_info info;
	size_t before = r->n;
	enum err e;

	if (parse(r, word)) {
		if ((e = archive_list(r->depot.archive, add_listed, r)) != ERR_OK || r->n > before)
			return e;
		for (size_t i = 0; i < r->n; i++) /* named before: nothing was added */
			if (strcmp(r->list[i].name, r->name) == 0 &&
			    r->list[i].number >= r->first && r->list[i].number <= r->last)
				return ERR_OK;
		return err_note(ERR_NOTFOUND, 0, "no checkpoint %s in the archive", word);
	}
	if (strchr(word, '@') || (e = depot_find(&r->depot, word, &info)) == ERR_USAGE)
		return err_note(ERR_USAGE, 0,
				"\"%s\" names no checkpoints: give NAME@N, NAME@FIRST-LAST or "
				"the first digits of a digest",
				word);
	if (e == ERR_OK && strcmp(word, info.name) == 0)
		return err_note(ERR_USAGE, 0,
				"%s: which of its checkpoints? Give %s@%llu for its newest, or "
				"%s@1-%llu for all",
				word, word, (unsigned long long)info.number, word,
				(unsigned long long)info.number);
	return e == ERR_OK ? add(r, &info) : e;
}

static enum err check_pin(void *arg, const struct archive_pin *pin)
{
	struct rm *r = arg;

	for (size_t i = 0; i < r->n; i++)
		if (!pin->damaged && r->list[i].number == pin->number &&
		    strcmp(r->list[i].name, pin->name) == 0)
			return err_note(
				ERR_BUSY, 0,
				"remove %s@%llu: pin %s of %s holds it: nothing was removed: see "
				"`lifeboat archive pins'",
				pin->name, (unsigned long long)pin->number, pin->id, pin->owner);
	return ERR_OK;
}

static enum err remove_all(struct rm *r, json_t *removed)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct checkpoint_info *c = &r->list[i];
		char ref[ARCHIVE_NAME_BYTES + 24];
		enum err e = cli_check_interrupted();

		if (e == ERR_OK)
			e = archive_remove(r->depot.archive, c);
		if (e != ERR_OK)
			return e;
		snprintf(ref, sizeof(ref), "%s@%llu", c->name, (unsigned long long)c->number);
		json_array_append_new(removed, json_pack("{s:s, s:s, s:I}", "checkpoint", ref, "vm",
							 c->name, "number", jout_int(c->number)));
		if (!r->json)
			cli_print("%s: removed\n", ref);
	}
	return ERR_OK;
}

static enum err run(struct rm *r)
{
	json_t *removed;
	enum err e = depot_open(&r->depot, true);

	for (unsigned i = 0; e == ERR_OK && i < r->n_words; i++)
		e = find(r, r->words[i]);
	if (e == ERR_OK)
		e = archive_pins(r->depot.archive, check_pin, r);
	if (e != ERR_OK)
		return e;
	removed = json_array();
	e = remove_all(r, removed);
	if (e == ERR_OK && r->json)
		e = jout_print(json_pack("{s:O}", "removed", removed));
	else if (e == ERR_OK)
		cli_print("what only %s needed is freed by `lifeboat archive gc'\n",
			  r->n == 1 ? "it" : "they");
	json_decref(removed);
	return e;
}

enum err verb_archive_rm(int argc, char **argv)
{
	struct rm r = {.words = calloc((size_t)argc + 1, sizeof(char *))};
	enum err e =
		r.words ? cli_parse(&verb, argc, argv, &r) : err_note(ERR_NOMEM, 0, "archive rm");

	if (e == ERR_OK)
		e = depot_close(&r.depot, run(&r));
	free(r.words);
	free(r.list);
	return e;
}
