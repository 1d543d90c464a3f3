/* SPDX-License-Identifier: Apache-2.0 */
/* words: from what a person said to a vm_config, one small function per kind
 * of word, one table of them. */
#include "cmd/lifeboat/words.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "cmd/lifeboat/disks.h"

static const char *const names[WORD_COUNT] = {
	[WORD_KERNEL] = "kernel",	[WORD_INITRD] = "initrd",
	[WORD_BOOT_FROM_DISK] = "boot-from-disk",
	[WORD_CMDLINE] = "cmdline",	[WORD_MEMORY] = "memory",
	[WORD_CPUS] = "cpus",		[WORD_CPU] = "cpu",
	[WORD_CONSOLE] = "console",	[WORD_CONSOLE2] = "console2",
	[WORD_ON_REBOOT] = "on-reboot", [WORD_ON_CRASH] = "on-crash",
	[WORD_NAME] = "name",
};

const char *words_name(enum word w) { return names[w]; }

void machine_init(struct machine *m)
{
	*m = (struct machine){0};
	config_init(&m->config);
	m->config.console[0] = CONFIG_CONSOLE_STDIO;
	m->config.console[1] = CONFIG_CONSOLE_NONE;
}

void machine_fini(struct machine *m)
{
	disks_fini(m);
	config_fini(&m->config);
	free(m->kernel);
	free(m->initrd);
	free(m->console_file[0]);
	free(m->console_file[1]);
	*m = (struct machine){0};
}

static enum err set_text(char **out, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return err_note(ERR_NOMEM, 0, "keep a value");
	free(*out);
	*out = copy;
	return ERR_OK;
}

/* dir_of: the VM file that said it, or NULL. */
enum err words_path(char **out, const char *value, const char *dir_of)
{
	const char *slash = dir_of ? strrchr(dir_of, '/') : NULL;
	char *path = NULL;

	if (!*value)
		return err_note(ERR_USAGE, 0, "an empty path");
	if (!slash || *value == '/')
		return set_text(out, value);
	if (asprintf(&path, "%.*s/%s", (int)(slash - dir_of), dir_of, value) < 0)
		return err_note(ERR_NOMEM, 0, "keep a path");
	free(*out);
	*out = path;
	return ERR_OK;
}

static enum err set_console(struct machine *m, unsigned port, const char *v, const char *dir_of)
{
	enum config_console *where = &m->config.console[port];

	if (strcmp(v, "stdio") == 0)
		*where = CONFIG_CONSOLE_STDIO;
	else if (strcmp(v, "pty") == 0)
		*where = CONFIG_CONSOLE_PTY;
	else if (strcmp(v, "none") == 0)
		*where = CONFIG_CONSOLE_NONE;
	else if (strncmp(v, "file:", 5) == 0) {
		*where = CONFIG_CONSOLE_FILE;
		return words_path(&m->console_file[port], v + 5, dir_of);
	} else
		return err_note(ERR_USAGE, 0, "\"%s\" is none of stdio, pty, none, file:PATH", v);
	return ERR_OK;
}

static enum err set_action(enum config_action *out, const char *v)
{
	if (strcmp(v, "reboot") == 0)
		*out = CONFIG_REBOOT;
	else if (strcmp(v, "stop") == 0)
		*out = CONFIG_STOP;
	else
		return err_note(ERR_USAGE, 0, "\"%s\" is neither reboot nor stop", v);
	return ERR_OK;
}

static enum err set_flag(bool *out, const char *v)
{
	*out = strcmp(v, "yes") == 0;
	if (*out || strcmp(v, "no") == 0)
		return ERR_OK;
	return err_note(ERR_USAGE, 0, "\"%s\" is neither yes nor no", v);
}

static enum err set_cmdline(struct machine *m, const char *v)
{
	if (strlen(v) >= CONFIG_MAX_CMDLINE)
		return err_note(ERR_USAGE, 0, "%zu bytes are too long: at most %u", strlen(v),
				CONFIG_MAX_CMDLINE - 1);
	return set_text(&m->config.cmdline, v);
}

static enum err set_cpus(struct machine *m, const char *v)
{
	uint64_t n;
	enum err e = units_number(v, "number of virtual CPUs", 1, CONFIG_MAX_VCPUS, &n);

	if (e == ERR_OK)
		m->config.vcpus = (uint32_t)n;
	return e;
}

static enum err set_name(struct machine *m, const char *v)
{
	if (!config_name_ok(v))
		return err_note(ERR_USAGE, 0,
				"\"%s\" is no name: lower-case letters, digits and dashes, not a dash "
				"first, at most 63", v);
	snprintf(m->config.name, sizeof(m->config.name), "%s", v);
	return ERR_OK;
}

static enum err apply(struct machine *m, enum word w, const char *v, const char *dir_of)
{
	switch (w) {
	case WORD_KERNEL: return words_path(&m->kernel, v, dir_of);
	case WORD_INITRD: return words_path(&m->initrd, v, dir_of);
	case WORD_BOOT_FROM_DISK: return set_flag(&m->boot_from_disk, v);
	case WORD_CMDLINE: return set_cmdline(m, v);
	case WORD_MEMORY: return units_size(v, &m->config.memory_bytes);
	case WORD_CPUS: return set_cpus(m, v);
	case WORD_CPU: return config_cpu_parse(v, &m->config.cpu);
	case WORD_CONSOLE: return set_console(m, 0, v, dir_of);
	case WORD_CONSOLE2: return set_console(m, 1, v, dir_of);
	case WORD_ON_REBOOT: return set_action(&m->config.on_reboot, v);
	case WORD_ON_CRASH: return set_action(&m->config.on_crash, v);
	case WORD_NAME: return set_name(m, v);
	case WORD_COUNT: break;
	}
	return err_note(ERR_USAGE, 0, "no such word");
}

enum err words_add_disk(struct words *w, const char *value, int line)
{
	if (w->disk_count == CONFIG_MAX_DISKS)
		return err_note(ERR_USAGE, 0, "more than %u disks", CONFIG_MAX_DISKS);
	w->disk[w->disk_count].value = value;
	w->disk[w->disk_count++].line = line;
	return ERR_OK;
}

bool words_option(struct words *w, int key, const char *value, enum err *e)
{
	*e = ERR_OK;
	if (key < WORDS_KEY || key >= WORDS_KEY + (int)WORDS_KEYS)
		return false;
	if (key == WORDS_KEY + (int)WORD_DISK)
		*e = words_add_disk(w, value, 0);
	else
		w->at[key - WORDS_KEY].value = value ? value : "yes"; /* one without a value */
	return true;
}

enum err words_apply(const struct words *w, struct machine *m)
{
	for (enum word i = 0; i < WORD_COUNT; i++) {
		const char *value = w->at[i].value;
		int line = w->at[i].line;
		enum err e;

		if (!value || (e = apply(m, i, value, line ? w->file : NULL)) == ERR_OK)
			continue;
		if (line)
			return err_context(e, "%s:%d: %s", w->file, line, names[i]);
		return err_context(e, "--%s", names[i]);
	}
	for (unsigned i = 0; i < w->disk_count; i++) {
		int line = w->disk[i].line;
		enum err e = disks_parse(m, w->disk[i].value, line ? w->file : NULL);

		if (e != ERR_OK && line)
			return err_context(e, "%s:%d: disk", w->file, line);
		if (e != ERR_OK)
			return err_context(e, "--disk");
	}
	if (m->config.console[0] == CONFIG_CONSOLE_STDIO &&
	    m->config.console[1] == CONFIG_CONSOLE_STDIO)
		return err_note(ERR_USAGE, 0,
				"--console, --console2: only one of them can be stdio");
	return ERR_OK;
}
