/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat run: start a machine from a kernel. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "cmd/lifeboat/bootdisk.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/disks.h"
#include "cmd/lifeboat/foreground.h"
#include "cmd/lifeboat/launch.h"
#include "cmd/lifeboat/verbs.h"
#include "cmd/lifeboat/vmfile.h"
#include "cmd/lifeboat/words.h"

struct run {
	struct words words;
	const char *file;
	bool detach, weak_sandbox;
	struct vmfile *vmfile;
	struct machine machine;
	struct home home;
	struct launch *launch;
	struct remote *remote;
};

static enum err option(void *args, int key, char *value)
{
	struct run *run = args;
	enum err e;

	if (words_option(&run->words, key, value, &e))
		return e;
	switch (key) {
	case CLI_ARGUMENT: run->file = value; return ERR_OK;
	case CLI_KEY_DETACH: run->detach = true; return ERR_OK;
	case CLI_KEY_SANDBOX: return launch_sandbox(value, &run->weak_sandbox);
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {WORDS_ROWS, CLI_OPTION_DETACH, CLI_OPTION_SANDBOX,
					     CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "run",
	.args_doc = "[FILE.yaml]",
	.doc = "Start a machine, from options, or from a YAML file with the same words as keys (paths "
	       "count from its directory); an option goes before the file's word. Without --detach "
	       "stay with its console: on a terminal Ctrl-] d leaves it and the machine goes on; "
	       "elsewhere SIGINT or SIGTERM ends the machine. The exit code is 0 when the guest "
	       "switched itself off, 7 when it crashed, 1 when it was killed. With --boot-from-disk "
	       "kernel, initrd and, unless --cmdline says one, the kernel's command line are those that "
	       "the boot loader of the first disk would start, or the newest ones in its /boot."
	       "\vExample:\n"
	       "  lifeboat run --kernel vmlinuz --initrd initrd.img --memory 1G --cpus 2 \\\n"
	       "      --cmdline 'console=ttyS0' --name web --detach\n"
	       "  lifeboat run --disk web.raw --boot-from-disk --memory 1G --name web\n"
	       "  lifeboat run web.yaml --memory 2G",
	.options = options,
	.option = option,
	.max_args = 1,
};

static enum err describe(struct run *run)
{
	enum err e;

	machine_init(&run->machine);
	if (run->file && (e = vmfile_open(run->file, &run->words, &run->vmfile)) != ERR_OK)
		return e;
	if ((e = words_apply(&run->words, &run->machine)) != ERR_OK)
		return e;
	const struct machine *m = &run->machine;
	if (m->boot_from_disk && (m->kernel || m->initrd))
		return err_note(ERR_USAGE, 0, "run: --boot-from-disk takes kernel and initrd from the disk: "
				"say either that or --kernel");
	if (m->boot_from_disk && m->disk_count == 0)
		return err_note(ERR_USAGE, 0, "run: --boot-from-disk needs a disk: use --disk FILE");
	if (!m->kernel && !m->boot_from_disk)
		return err_note(ERR_USAGE, 0,
				"run: no kernel was named: use --kernel FILE or --boot-from-disk, or the key "
				"\"kernel\" in a VM file");
	return launch_check(&run->machine);
}

/* What the guest's disk says; its command line only if a person said none. */
static enum err boot_from_disk(struct run *run, int *kernel_fd, int *initrd_fd)
{
	struct machine *m = &run->machine;
	struct bootdisk b;
	enum err e = bootdisk_read(m->disks[0].fd, m->disks[0].path, m->config.memory_bytes,
				   run->weak_sandbox, &b);

	if (e != ERR_OK)
		return e;
	if (!run->words.at[WORD_CMDLINE].value && strlen(b.cmdline) >= CONFIG_MAX_CMDLINE)
		e = err_note(ERR_CORRUPT, 0, "boot from %s: its kernel's command line is too long",
			     m->disks[0].path);
	if (e == ERR_OK && !run->words.at[WORD_CMDLINE].value) {
		free(m->config.cmdline);
		m->config.cmdline = b.cmdline;
		b.cmdline = NULL;
	}
	if (e == ERR_OK) {
		cli_say("disk0 boots %s, %s%s%s", b.kernel, *b.from ? "as its " : "its newest", b.from,
			*b.from ? " says" : "");
		if (b.dirty)
			cli_say("disk0 was not unmounted the last time: what was changed in /boot right "
				"before that may not be seen");
		*kernel_fd = b.kernel_fd;
		*initrd_fd = b.initrd_fd;
		b.kernel_fd = b.initrd_fd = -1;
	}
	bootdisk_fini(&b);
	return e;
}

/* The machine exists and has its kernel; nothing runs yet. */
static enum err create(struct run *run)
{
	const struct machine *m = &run->machine;
	int kernel_fd = -1, initrd_fd = -1;
	enum err e = ERR_OK;

	if (m->kernel)
		e = launch_boot_file("kernel", m->kernel, m->config.memory_bytes, &kernel_fd);
	if (e == ERR_OK && m->initrd)
		e = launch_boot_file("initrd", m->initrd, m->config.memory_bytes, &initrd_fd);
	if (e == ERR_OK)
		e = disks_open(&run->machine);
	if (e == ERR_OK && m->boot_from_disk)
		e = boot_from_disk(run, &kernel_fd, &initrd_fd);
	if (e != ERR_OK) {
		fs_auto_close(&kernel_fd);
		fs_auto_close(&initrd_fd);
		return e;
	}
	e = launch_start(run->launch, &run->home, &run->machine, kernel_fd, initrd_fd,
			 run->weak_sandbox, &run->remote);
	return e == ERR_OK ? remote_boot(run->remote) : e;
}

static enum err start(struct run *run)
{
	int console_fd = -1;
	enum err e = create(run);

	if (e != ERR_OK)
		return e;
	if (!run->detach && (e = foreground_open(&run->machine, run->remote, &console_fd)) != ERR_OK)
		return e;
	if ((e = cli_check_interrupted()) != ERR_OK || (e = remote_resume(run->remote)) != ERR_OK ||
	    (e = launch_keep(run->launch)) != ERR_OK) {
		fs_auto_close(&console_fd);
		return e;
	}
	if (!run->detach)
		return foreground_stay(&run->home, &run->machine, run->launch, run->remote, console_fd);
	cli_print("%s\n", run->machine.config.name);
	return ERR_OK;
}

enum err verb_run(int argc, char **argv)
{
	struct run run = {0};
	enum err e = cli_parse(&verb, argc, argv, &run);

	if (e == ERR_OK && (e = describe(&run)) == ERR_OK && (e = home_open(&run.home)) == ERR_OK &&
	    (e = launch_prepare(&run.home, &run.launch)) == ERR_OK)
		e = launch_explain(run.launch, start(&run));
	cli_keep_note(e);
	remote_close(run.remote);
	launch_close(run.launch);
	machine_fini(&run.machine);
	vmfile_close(run.vmfile);
	return cli_kept_note(e);
}
