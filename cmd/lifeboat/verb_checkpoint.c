/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat checkpoint: put an image of a machine into an archive. */
#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/units.h"
#include "capture/capture.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/home.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/level.h"
#include "cmd/lifeboat/meter.h"
#include "cmd/lifeboat/verbs.h"

#define TURN_NS (100 * NS_PER_MS)

struct checkpoint_args {
	const char *name, *archive, *label, *level;
	uint64_t timeout_ns;
	bool json, quiet;
};

static enum err option(void *args, int key, char *value)
{
	struct checkpoint_args *c = args;

	switch (key) {
	case CLI_ARGUMENT: c->name = value; return ERR_OK;
	case CLI_KEY_ARCHIVE: c->archive = value; return ERR_OK;
	case LEVEL_KEY: c->level = value; return ERR_OK;
	case CLI_KEY_LABEL: c->label = value; return ERR_OK;
	case CLI_KEY_TIMEOUT: return cli_timeout(value, &c->timeout_ns);
	case CLI_KEY_JSON: c->json = true; return ERR_OK;
	case CLI_KEY_QUIET: c->quiet = true; return ERR_OK;
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {
	CLI_OPTION_ARCHIVE,
	{.name = "label", .key = CLI_KEY_LABEL, .arg = "TEXT", .doc = "A remark to keep with it"},
	LEVEL_OPTION("the archive's own"),
	CLI_OPTION_TIMEOUT,
	CLI_OPTION_QUIET,
	CLI_OPTION_JSON,
	CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "checkpoint",
	.args_doc = "NAME",
	.doc = "Put an image of a machine (memory, virtual CPUs, devices) into an archive and print the "
	       "checkpoint's name. The machine goes on afterwards as it did before, also when "
	       "the checkpoint fails or is interrupted; then the archive does not have it."
	       "\vExample:\n  lifeboat checkpoint web --archive /backup --label 'before the upgrade'",
	.options = options,
	.option = option,
	.min_args = 1,
	.max_args = 1,
};

static enum err report(const struct checkpoint_args *args, const struct checkpoint_info *info,
		       const struct capture_report *r)
{
	char pause[UNITS_TEXT_BYTES], total[UNITS_TEXT_BYTES], ram[UNITS_TEXT_BYTES],
		stored[UNITS_TEXT_BYTES];

	if (args->json) {
		json_t *d = jout_checkpoint(info);
		json_t *more = json_pack(
			"{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "was_running",
			r->was_running ? 1 : 0, "pause_ns", jout_int(r->pause_ns), "park_ns",
			jout_int(r->park_ns), "state_ns", jout_int(r->state_ns), "memory_ns",
			jout_int(r->memory_ns), "total_ns", jout_int(r->total_ns), "state_bytes",
			jout_int(r->state_bytes), "ram_bytes", jout_int(r->ram_bytes), "read_bytes",
			jout_int(r->read_bytes), "disks_ns", jout_int(r->disks_ns), "disk_bytes",
			jout_int(r->disk_bytes), "disk_read_bytes", jout_int(r->disk_read_bytes));
		int failed = json_object_update(d, more);

		json_decref(more);
		if (failed) {
			json_decref(d);
			d = NULL;
		}
		return jout_print(d);
	}
	cli_print("%s@%llu\n", info->name, (unsigned long long)info->number);
	if (!args->quiet)
		cli_say("%s of memory, %s newly stored, in %s; the machine stood still for %s",
			units_format_size(r->ram_bytes, ram),
			units_format_size(r->stored_bytes, stored),
			units_format_duration(r->total_ns, total),
			units_format_duration(r->pause_ns, pause));
	return ERR_OK;
}

static enum err capture(const struct checkpoint_args *args, struct remote *r, struct archive *a)
{
	char title[128];
	struct progress progress = {0};
	struct checkpoint_info info;
	struct capture_report figures = {0};
	struct meter *meter = NULL;
	struct sink *sink = NULL;
	enum err e = sink_archive_open(a, args->name, &progress, &sink);

	if (e != ERR_OK)
		return e;
	snprintf(title, sizeof(title), "checkpoint %s", args->name);
	if ((e = meter_start(title, &progress, args->json || args->quiet, &meter)) != ERR_OK) {
		sink->ops->abort(sink);
		return e;
	}
	/* Ctrl-Z would stand the machine still for as long as we are stopped. */
	signal(SIGTSTP, SIG_IGN);
	e = capture_run(r, sink, args->label ? args->label : "", &progress, &info, &figures);
	meter_stop(meter);
	return e == ERR_OK ? report(args, &info, &figures) : e;
}

/* Until nobody else holds the machine. */
static enum err await_turn(const struct checkpoint_args *args, struct remote *r)
{
	struct remote_status status;
	enum err e;

	for (bool told = false;; told = true) {
		if ((e = remote_status(r, &status)) != ERR_OK || !status.held)
			return e;
		if (!told && !args->quiet)
			cli_say("machine %s: another checkpoint of it is being taken: waiting for "
				"its end", args->name);
		cli_sleep(TURN_NS);
	}
}

/* Two checkpoints of a machine at a time follow one another; who comes second may find
 * the machine held only when it tries to hold it itself. */
static enum err capture_in_turn(const struct checkpoint_args *args, struct remote *r,
				struct archive *a)
{
	struct remote_status status = {.held = false};
	enum err e;

	do {
		if ((e = await_turn(args, r)) != ERR_OK)
			return e;
		e = capture(args, r, a);
		cli_keep_note(e);
		if (e == ERR_BUSY && remote_status(r, &status) != ERR_OK)
			status.held = false;
		e = cli_kept_note(e);
	} while (e == ERR_BUSY && status.held);
	return e;
}

enum err verb_checkpoint(int argc, char **argv)
{
	struct checkpoint_args args = {0};
	struct archive *a = NULL;
	struct remote *r = NULL;
	struct home h;
	const char *path;
	enum err e = cli_parse(&verb, argc, argv, &args);

	if (e != ERR_OK || (e = cli_archive_path(args.archive, &path)) != ERR_OK ||
	    (e = home_open(&h)) != ERR_OK)
		return e;
	if ((e = home_connect(&h, args.name, args.timeout_ns, &r)) == ERR_OK &&
	    (e = keys_open(path, true, &a)) == ERR_OK &&
	    (e = level_apply(args.level, a)) == ERR_OK &&
	    (e = capture_in_turn(&args, r, a)) != ERR_OK)
		e = err_context(e, "checkpoint %s", args.name);
	cli_keep_note(e);
	archive_close(a);
	remote_close(r);
	return cli_kept_note(e);
}
