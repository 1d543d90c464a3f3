/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat: the command line.  Finds the verb, runs it, turns its result into
 * an exit code and at most one sentence. */
#include <stdio.h>
#include <string.h>

#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/verbs.h"

static const struct command {
	const char *group; /* "archive", or NULL */
	const char *name;
	verb_fn *run;
	const char *what;
} commands[] = {
	{NULL, "run", verb_run, "start a machine"},
	{NULL, "ps", verb_ps, "list running machines"},
	{NULL, "console", verb_console, "attach to a machine's serial line"},
	{NULL, "pause", verb_pause, "stand a machine still"},
	{NULL, "resume", verb_resume, "let a paused machine run on"},
	{NULL, "stop", verb_stop, "ask a machine to switch itself off"},
	{NULL, "kill", verb_kill, "end a machine at once"},
	{NULL, "checkpoint", verb_checkpoint, "put an image of a machine into an archive"},
	{NULL, "checkpoints", verb_checkpoints, "list checkpoints"},
	{NULL, "inspect", verb_inspect, "show what is in a checkpoint"},
	{NULL, "restore", verb_restore, "start a machine from a checkpoint"},
	{"archive", "init", verb_archive_init, "make an empty archive"},
	{"archive", "verify", verb_archive_verify, "read an archive back and check all of it"},
	{"archive", "ls", verb_archive_ls, "list what is in an archive"},
	{"archive", "stats", verb_archive_stats, "show what it takes, and who needs it"},
	{"archive", "import", verb_archive_import, "put files into an archive as a checkpoint"},
	{"archive", "export", verb_archive_export, "write a checkpoint's streams to files"},
	{"archive", "copy", verb_archive_copy, "copy checkpoints into another archive"},
	{"archive", "repair", verb_archive_repair, "heal what is damaged"},
	{"archive", "rm", verb_archive_rm, "remove checkpoints"},
	{"archive", "gc", verb_archive_gc, "free the space of what no checkpoint needs"},
	{"archive", "pins", verb_archive_pins, "show and change what must not be removed"},
	{"archive", "rebuild-index", verb_archive_rebuild_index, "make the index again"},
	{"disk", "add", verb_disk_add, "give a running machine one more disk"},
	{"disk", "remove", verb_disk_remove, "take a disk out of a running machine"},
	{"disk", "resize", verb_disk_resize, "give a disk another size"},
	{"disk", "ls", verb_disk_ls, "list a machine's disks"},
	{"guest", "info", verb_guest_info, "show what a machine's guest says of itself"},
	{"guest", "ping", verb_guest_ping, "ask a guest for a sign of life"},
	{"guest", "time", verb_guest_time, "set a guest's clock"},
	{"image", "build", verb_image_build, "make a disk with a Debian on it"},
	{"host", "check", verb_host_check, "measure what this host can do for machines"},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static enum err help(void)
{
	cli_print("Usage: lifeboat VERB [OBJECT] [OPTIONS]\n\n"
		  "Runs virtual machines, and never loses one.\n\n");
	for (size_t i = 0; i < COMMANDS; i++) {
		const struct command *c = &commands[i];

		cli_print("  %s%s%-*s %s\n", c->group ? c->group : "", c->group ? " " : "",
			  21 - (c->group ? (int)strlen(c->group) + 1 : 0), c->name, c->what);
	}
	cli_print("\n`lifeboat VERB --help' tells more, with an example.\n\n"
		  "Environment:\n"
		  "  LIFEBOAT_ARCHIVE  the archive, where --archive is not given\n"
		  "  LIFEBOAT_KEY_FILE, LIFEBOAT_PASSPHRASE_FILE\n"
		  "                    what opens it, where no option says it\n"
		  "  LIFEBOAT_HOME     directory for running machines and their logs\n\n"
		  "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such object, 4 this host cannot,\n"
		  "  5 archive damaged, 6 peer or network, 7 the guest did not do it, 8 incompatible\n"
		  "  state, 9 out of space or memory, 10 refused, 130 interrupted.\n");
	return ERR_OK;
}

static enum err version(void)
{
	cli_print("lifeboat %s\n", LIFEBOAT_VERSION);
	return ERR_OK;
}

static bool is_group(const char *word)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (commands[i].group && strcmp(commands[i].group, word) == 0)
			return true;
	return false;
}

static const struct command *find(const char *group, const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		const struct command *c = &commands[i];

		if (strcmp(c->name, name) == 0 &&
		    (group ? c->group && strcmp(c->group, group) == 0 : !c->group))
			return c;
	}
	return NULL;
}

static enum err dispatch(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : "";
	const struct command *c;

	if (strcmp(word, "--help") == 0 || strcmp(word, "help") == 0 || strcmp(word, "-h") == 0 ||
	    strcmp(word, "-?") == 0)
		return help();
	if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
		return version();
	if (argc < 2)
		return err_note(ERR_USAGE, 0, "no verb was given: try `lifeboat --help'");
	int skip = 1;
	if (is_group(word)) {
		if (argc < 3 || strcmp(argv[2], "--help") == 0)
			return argc < 3 ? err_note(ERR_USAGE, 0,
						   "%s: no verb was given: try `lifeboat --help'", word)
					: help();
		c = find(word, argv[2]);
		skip = 2;
	} else {
		c = find(NULL, word);
	}
	if (!c)
		return err_note(ERR_USAGE, 0, "no such verb: %s%s%s: try `lifeboat --help'", word,
				skip == 2 ? " " : "", skip == 2 ? argv[2] : "");
	return c->run(argc - skip, argv + skip);
}

int main(int argc, char **argv)
{
	cli_hold_standard_fds();
	cli_catch_signals();
	enum err e = dispatch(argc, argv);
	cli_print_error(e);
	/* What was printed has to be out, whatever else went wrong. */
	enum err written = cli_finish_output();
	cli_print_error(written);
	return cli_exit_code(e != ERR_OK ? e : written);
}
