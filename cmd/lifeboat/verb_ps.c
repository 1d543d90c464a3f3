/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat ps: the running machines of this user.
 *
 * Each is given little time to answer, since a worker that hangs must not hang the
 * list in which one looks for it. */
#include "base/clock.h"
#include "base/fs.h"
#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/table.h"
#include "cmd/lifeboat/verbs.h"

#include <stdio.h>

#define ANSWER_NS (2 * NS_PER_SEC)

struct ps {
	bool json;
	struct table *table;
	json_t *list;
};

static enum err option(void *args, int key, char *value)
{
	struct ps *ps = args;

	(void)value;
	if (key != CLI_KEY_JSON)
		return cli_unknown_key(key);
	ps->json = true;
	return ERR_OK;
}

static const struct argp_option options[] = {CLI_OPTION_JSON, CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "ps",
	.doc = "List running machines.\vExample:\n  lifeboat ps --json",
	.options = options,
	.option = option,
};

/* One that does not answer is listed all the same: that is when one looks. */
static void add_silent(struct ps *ps, const struct home *h, const char *name)
{
	int monitor, worker;

	home_pids(h, name, &monitor, &worker);
	table_cell(ps->table, "%s", name);
	table_cell(ps->table, "no answer");
	table_cell(ps->table, "%d", worker);
	for (int i = 0; i < 3; i++)
		table_cell(ps->table, "-");
	json_array_append_new(ps->list, json_pack("{s:s, s:s, s:i}", "name", name, "state",
						  "no-answer", "pid", worker));
}

static void add(struct ps *ps, const char *name, pid_t pid, const struct remote_status *s)
{
	char size[UNITS_TEXT_BYTES], time[UNITS_TEXT_BYTES];

	table_cell(ps->table, "%s", name);
	const char *why = s->held ? "held by a job" : s->stop_reason;
	char resets[40] = "";
	if (s->resets > 0)
		snprintf(resets, sizeof(resets), ", %llu reset%s", (unsigned long long)s->resets,
			 s->resets > 1 ? "s" : "");
	table_cell(ps->table, "%s%s%s%s%s", s->state, *why ? " (" : "", why, *why ? ")" : "", resets);
	table_cell(ps->table, "%d", (int)pid);
	table_cell(ps->table, "%u", s->vcpus);
	table_cell(ps->table, "%s", units_format_size(s->memory_bytes, size));
	table_cell(ps->table, "%s", units_format_duration(s->uptime_ns, time));
	json_array_append_new(
		ps->list,
		json_pack("{s:s, s:s, s:s, s:b, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "name", name,
			  "state", s->state, "stop_reason", s->stop_reason, "held", s->held ? 1 : 0,
			  "pid", (int)pid, "vcpus", (json_int_t)s->vcpus, "memory_bytes",
			  jout_int(s->memory_bytes), "disks", (json_int_t)s->disks, "disk_bytes",
			  jout_int(s->disk_bytes), "uptime_ns", jout_int(s->uptime_ns), "exits",
			  jout_int(s->exits), "unclaimed_accesses", jout_int(s->unclaimed_accesses),
			  "resets", jout_int(s->resets)));
}

static enum err look(struct ps *ps, const struct home *h, const char *name)
{
	struct remote_status status;
	struct remote *r = NULL;
	enum err e = home_connect(h, name, ANSWER_NS, &r);

	if (e == ERR_OK && (e = remote_status(r, &status)) == ERR_OK)
		add(ps, name, remote_pid(r), &status);
	remote_close(r);
	if (e == ERR_OK || e == ERR_CANCELLED)
		return e;
	err_clear();
	if (home_running(h, name)) /* not just ended */
		add_silent(ps, h, name);
	return ERR_OK;
}

static enum err list(struct ps *ps)
{
	struct home h;
	char **names = NULL;
	size_t count = 0;
	enum err e = home_open(&h);

	if (e == ERR_OK)
		e = home_list(&h, &names, &count);
	if (e != ERR_OK)
		return e;
	for (size_t i = 0; i < count && e == ERR_OK; i++)
		e = look(ps, &h, names[i]);
	fs_names_free(names, count);
	if (e != ERR_OK)
		return e;
	if (!ps->json)
		return table_print(ps->table);
	return jout_print(json_pack("{s:O}", "machines", ps->list));
}

enum err verb_ps(int argc, char **argv)
{
	static const char *const columns[] = {"NAME", "STATE", ">PID", ">CPUS", ">MEMORY",
					      ">UPTIME", NULL};
	struct ps ps = {0};
	enum err e = cli_parse(&verb, argc, argv, &ps);

	if (e != ERR_OK)
		return e;
	ps.list = json_array();
	if ((e = table_create(columns, &ps.table)) == ERR_OK)
		e = list(&ps);
	table_destroy(ps.table);
	json_decref(ps.list);
	return e;
}
