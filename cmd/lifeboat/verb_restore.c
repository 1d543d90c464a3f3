/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat restore: start a machine from a checkpoint. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/disks.h"
#include "cmd/lifeboat/foreground.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/launch.h"
#include "cmd/lifeboat/meter.h"
#include "cmd/lifeboat/verbs.h"
#include "cmd/lifeboat/words.h"
#include "restore/restore.h"

struct restore {
	struct words words;
	const char *checkpoint, *archive, *disk_dir;
	bool paused, detach, json, quiet, weak_sandbox;
	uint64_t start_ns, resident_ns, running_ns;
	uint64_t await_ns, first_reply_ns; /* 0: not asked for; none came */
	struct machine machine;
	struct home home;
	struct launch *launch;
	struct archive *store;
	struct source *source;
	struct checkpoint_info info;
	struct remote *remote;
	struct restore_report report;
	struct restore_disks_report disks_report;
};

#define KEY_DISK_DIR 0x3000

static enum err option(void *args, int key, char *value)
{
	struct restore *r = args;
	enum err e;

	if (words_option(&r->words, key, value, &e))
		return e;
	switch (key) {
	case CLI_ARGUMENT: r->checkpoint = value; return ERR_OK;
	case CLI_KEY_ARCHIVE: r->archive = value; return ERR_OK;
	case KEY_DISK_DIR: r->disk_dir = value; return ERR_OK;
	case CLI_KEY_PAUSED: r->paused = true; return ERR_OK;
	case CLI_KEY_AWAIT_REPLY: return cli_timeout(value, &r->await_ns);
	case CLI_KEY_DETACH: r->detach = true; return ERR_OK;
	case CLI_KEY_EAGER: return ERR_OK;
	case CLI_KEY_JSON: r->json = true; return ERR_OK;
	case CLI_KEY_QUIET: r->quiet = true; return ERR_OK;
	case CLI_KEY_SANDBOX: return launch_sandbox(value, &r->weak_sandbox);
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {
	CLI_OPTION_ARCHIVE,
	WORDS_ROW(WORD_NAME, "name", "NAME", "Another name for it (default: the name it had)"),
	{.name = "disk-dir", .key = KEY_DISK_DIR, .arg = "DIR",
	 .doc = "Where new files for its disks are made: NAME-disk0.raw, ... (needed if it has any; "
		"nothing is overwritten)"},
	{.name = "paused", .key = CLI_KEY_PAUSED, .doc = "Leave it paused, for `lifeboat resume'"},
	{.name = "eager", .key = CLI_KEY_EAGER,
	 .doc = "Bring all of its memory before it runs (the only way so far)"},
	WORDS_ROWS_CONSOLE,
	CLI_OPTION_DETACH,
	{.name = "await-reply", .key = CLI_KEY_AWAIT_REPLY, .arg = "TIME",
	 .doc = "Wait so long for the guest to write to its first serial line; needs --detach"},
	CLI_OPTION_SANDBOX,
	CLI_OPTION_QUIET,
	{.name = "json", .key = CLI_KEY_JSON,
	 .doc = "Print one JSON document instead of text; needs --detach"},
	CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "restore",
	.args_doc = "CHECKPOINT",
	.doc = "Start a machine from a checkpoint, where it stood then. CHECKPOINT is NAME@N, NAME for "
	       "its newest, or the first digits of a digest. Without --detach stay with its console, "
	       "like `lifeboat run'. When it fails or is interrupted before the machine runs, nothing "
	       "is left behind."
	       "\vExample:\n  lifeboat restore web@3 --archive /backup --name web-copy --detach",
	.options = options,
	.option = option,
	.min_args = 1,
	.max_args = 1,
};

/* The machine of the image, under the name and with the consoles asked for. */
static enum err describe(struct restore *r)
{
	enum err e;

	config_fini(&r->machine.config);
	if ((e = restore_config(r->source, &r->machine.config)) == ERR_USAGE)
		return err_context(e, "restore %s@%llu", r->info.name,
				   (unsigned long long)r->info.number);
	if (e != ERR_OK || (e = words_apply(&r->words, &r->machine)) != ERR_OK)
		return e;
	if ((e = launch_check(&r->machine)) != ERR_OK)
		return e;
	return disks_create(&r->machine, r->disk_dir);
}

static enum err open_source(struct restore *r, const char *path)
{
	enum err e = keys_open(path, false, &r->store);

	if (e != ERR_OK || (e = archive_find(r->store, r->checkpoint, &r->info)) != ERR_OK)
		return e;
	if ((e = source_archive_open(r->store, &r->info, &r->source)) != ERR_OK)
		return e;
	return describe(r);
}

static enum err create(struct restore *r)
{
	int kernel_fd = -1, initrd_fd = -1;
	enum err e = restore_boot_files(r->source, &kernel_fd, &initrd_fd);

	if (e != ERR_OK)
		return e;
	e = launch_start(r->launch, &r->home, &r->machine, kernel_fd, initrd_fd, r->weak_sandbox,
			 &r->remote);
	if (e == ERR_BUSY)
		return err_context(e, "restore %s", r->checkpoint);
	return e;
}

static enum err fill(struct restore *r)
{
	char title[160];
	int disks[CONFIG_MAX_DISKS];
	struct progress progress = {0};
	struct meter *meter = NULL;
	enum err e;

	snprintf(title, sizeof(title), "restore %s@%llu", r->info.name,
		 (unsigned long long)r->info.number);
	if ((e = meter_start(title, &progress, r->json || r->quiet, &meter)) != ERR_OK)
		return e;
	for (unsigned i = 0; i < r->machine.disk_count; i++)
		disks[i] = r->machine.disks[i].fd;
	e = restore_disks(r->source, &r->machine.config, disks, &progress, &r->disks_report);
	if (e == ERR_OK)
		e = restore_run(r->source, r->remote, &progress, &r->report);
	meter_stop(meter);
	r->resident_ns = clock_mono_ns() - r->start_ns;
	return e;
}

static enum err start(struct restore *r, int *console_fd)
{
	enum err e = cli_check_interrupted();

	*console_fd = -1;
	if (e != ERR_OK)
		return e;
	if (r->await_ns)
		e = remote_console(r->remote, 0, false, console_fd);
	else if (!r->detach)
		e = foreground_open(&r->machine, r->remote, console_fd);
	if (e != ERR_OK)
		return e;
	if ((e = disks_keep(&r->machine)) != ERR_OK ||
	    (!r->paused && (e = remote_resume(r->remote)) != ERR_OK))
		goto fail;
	r->running_ns = clock_mono_ns() - r->start_ns;
	if ((e = launch_keep(r->launch)) != ERR_OK)
		goto fail;
	r->machine.kept = true;
	return ERR_OK;
fail:
	fs_auto_close(console_fd);
	return e;
}

/* The first byte that the guest writes, if one comes in time. */
static enum err await_reply(struct restore *r, int console_fd)
{
	uint64_t end = clock_mono_ns() + r->await_ns, now;
	struct pollfd p[2] = {{.fd = console_fd, .events = POLLIN},
			      {.fd = cli_signal_fd(), .events = POLLIN}};
	char first;

	while ((now = clock_mono_ns()) < end) {
		uint64_t ms = (end - now + NS_PER_MS - 1) / NS_PER_MS;
		int n = poll(p, 2, ms > INT_MAX ? INT_MAX : (int)ms);

		if (n < 0 && errno != EINTR)
			return err_sys(errno, "wait for the guest");
		if (n > 0 && p[0].revents) {
			if (read(console_fd, &first, 1) == 1)
				r->first_reply_ns = clock_mono_ns() - r->start_ns;
			return ERR_OK; /* or its end: nothing will come */
		}
		if (n > 0)
			return err_context(cli_check_interrupted(), "machine %s goes on",
					   r->machine.config.name);
	}
	return ERR_OK;
}

/* Was it answered?  It runs in any case. */
static enum err judge_reply(const struct restore *r)
{
	char time[UNITS_TEXT_BYTES];

	if (r->await_ns == 0 || r->first_reply_ns > 0)
		return ERR_OK;
	return err_note(ERR_GUEST, 0, "machine %s: it was restored, but its guest wrote nothing within "
			"%s", r->machine.config.name, units_format_duration(r->await_ns, time));
}

static enum err report(const struct restore *r)
{
	char size[UNITS_TEXT_BYTES], time[UNITS_TEXT_BYTES];
	const char *name = r->machine.config.name;

	if (r->json) {
		json_t *d = json_pack(
			"{s:o, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "checkpoint",
			json_sprintf("%s@%llu", r->info.name, (unsigned long long)r->info.number),
			"name", name, "paused", r->paused ? 1 : 0, "running_ns",
			jout_int(r->running_ns), "resident_ns", jout_int(r->resident_ns), "check_ns",
			jout_int(r->report.check_ns), "memory_ns", jout_int(r->report.memory_ns),
			"state_ns", jout_int(r->report.state_ns), "state_bytes",
			jout_int(r->report.state_bytes), "ram_bytes", jout_int(r->report.ram_bytes),
			"nonzero_bytes", jout_int(r->report.nonzero_bytes));
		json_t *disks = json_array();

		for (unsigned i = 0; i < r->machine.disk_count; i++)
			json_array_append_new(disks, json_string(r->machine.disks[i].path));
		json_object_set_new(d, "disks", disks);
		json_object_set_new(d, "disks_ns", json_integer(jout_int(r->disks_report.ns)));
		json_object_set_new(d, "disk_bytes",
				    json_integer(jout_int(r->disks_report.bytes)));

		if (d && r->paused) /* it does not run yet */
			json_object_set_new(d, "running_ns", json_null());
		if (d)
			json_object_set_new(d, "first_reply_ns", r->first_reply_ns
				? json_integer(jout_int(r->first_reply_ns)) : json_null());
		return jout_print(d);
	}
	if (!r->quiet)
		cli_say("machine %s %s %s@%llu: %s of memory, in %s", name,
			r->paused ? "is paused at" : "goes on from", r->info.name,
			(unsigned long long)r->info.number,
			units_format_size(r->report.ram_bytes, size),
			units_format_duration(r->paused ? r->resident_ns : r->running_ns, time));
	if (!r->quiet && r->first_reply_ns)
		cli_say("machine %s wrote its first byte after %s", name,
			units_format_duration(r->first_reply_ns, time));
	if (r->detach)
		cli_print("%s\n", name);
	return ERR_OK;
}

static void close_source(struct restore *r)
{
	if (r->source)
		r->source->ops->close(r->source);
	r->source = NULL;
	archive_close(r->store);
	r->store = NULL;
	keys_forget();
}

/* What a machine cannot go on from may still hold what somebody needs. */
static enum err explain_damage(const struct restore *r, enum err e)
{
	if (e != ERR_CORRUPT || r->info.number == 0)
		return e;
	return err_note(e, 0, "%.300s: lifeboat archive repair may heal it; lifeboat archive export "
			      "%s@%llu --partial gives out what is undamaged",
			err_text(), r->info.name, (unsigned long long)r->info.number);
}

static enum err bring_back(struct restore *r, const char *path)
{
	int console_fd = -1;
	enum err e;

	if ((e = open_source(r, path)) != ERR_OK || (e = create(r)) != ERR_OK ||
	    (e = fill(r)) != ERR_OK)
		return explain_damage(r, e);
	close_source(r); /* a foreground machine may live for years */
	if ((e = start(r, &console_fd)) != ERR_OK)
		return e;
	if (r->await_ns) {
		e = await_reply(r, console_fd);
		fs_auto_close(&console_fd);
	}
	if (e != ERR_OK || (e = report(r)) != ERR_OK)
		return e;
	if (r->detach)
		return judge_reply(r);
	return foreground_stay(&r->home, &r->machine, r->launch, r->remote, console_fd);
}

enum err verb_restore(int argc, char **argv)
{
	struct restore r = {.start_ns = clock_mono_ns()};
	const char *path;
	enum err e = cli_parse(&verb, argc, argv, &r);

	if (e == ERR_OK && r.json && !r.detach)
		e = err_note(ERR_USAGE, 0, "restore: --json needs --detach: standard output is the "
					   "machine's console otherwise");
	if (e == ERR_OK && r.await_ns && (!r.detach || r.paused))
		e = err_note(ERR_USAGE, 0, "restore: --await-reply needs --detach and goes not with "
					   "--paused");
	if (e != ERR_OK || (e = cli_archive_path(r.archive, &path)) != ERR_OK)
		return e;
	machine_init(&r.machine);
	if ((e = home_open(&r.home)) == ERR_OK && (e = launch_prepare(&r.home, &r.launch)) == ERR_OK)
		e = launch_explain(r.launch, bring_back(&r, path));
	cli_keep_note(e);
	close_source(&r);
	remote_close(r.remote);
	launch_close(r.launch);
	machine_fini(&r.machine);
	return cli_kept_note(e);
}
