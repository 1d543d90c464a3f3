/* SPDX-License-Identifier: Apache-2.0 */
/* vmfile: YAML by libcyaml, every value as text, which words.c then reads like
 * an option's.
 *
 * libcyaml returns only a code; what it found is in the lines that it logs, so
 * these are collected.  The position there is where the item before the bad
 * one began, therefore the line of a key is looked up in the text itself. */
#include "cmd/lifeboat/vmfile.h"

#include <ctype.h>
#include <cyaml/cyaml.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/fs.h"

#define MAX_FILE_BYTES 65536u
#define MAX_VALUE_BYTES 16384u

struct values {
	char *word[WORD_COUNT];
	char **disk;
	uint64_t disk_count;
};

static const cyaml_schema_value_t entry = {
	CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, MAX_VALUE_BYTES),
};

#define FIELD(w, n)                                                                                \
	CYAML_FIELD_STRING_PTR(n, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct values,         \
			       word[w], 0, MAX_VALUE_BYTES)
static const cyaml_schema_field_t fields[] = {
	FIELD(WORD_KERNEL, "kernel"),	  FIELD(WORD_INITRD, "initrd"),
	FIELD(WORD_BOOT_FROM_DISK, "boot-from-disk"), FIELD(WORD_CMDLINE, "cmdline"),
	FIELD(WORD_MEMORY, "memory"),
	FIELD(WORD_CPUS, "cpus"),	  FIELD(WORD_CPU, "cpu"),
	FIELD(WORD_CONSOLE, "console"),	  FIELD(WORD_CONSOLE2, "console2"),
	FIELD(WORD_ON_REBOOT, "on-reboot"), FIELD(WORD_ON_CRASH, "on-crash"),
	FIELD(WORD_NAME, "name"),
	{.key = "disk",
	 .value = {.type = CYAML_SEQUENCE, .flags = CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
		   .data_size = sizeof(char *),
		   .sequence = {.entry = &entry, .min = 0, .max = CONFIG_MAX_DISKS}},
	 .data_offset = offsetof(struct values, disk), .count_size = sizeof(uint64_t),
	 .count_offset = offsetof(struct values, disk_count)},
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t schema = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct values, fields),
};

struct complaint {
	char text[160]; /* the first error or warning */
	int line;	/* as libcyaml says; 0: not */
};

struct vmfile {
	struct buf text;
	struct values *values;
	cyaml_config_t config;
	struct complaint complaint;
};

__attribute__((format(printf, 3, 0))) static void on_log(cyaml_log_t level, void *ctx,
							       const char *fmt, va_list ap)
{
	struct complaint *c = ctx;
	char line[256];

	if (level < CYAML_LOG_WARNING)
		return;
	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	const char *at = strstr(line, "(line: ");
	if (at && !c->line)
		c->line = atoi(at + 7);
	if (at || strstr(line, "Backtrace") || c->text[0])
		return;
	const char *said = strncmp(line, "Load: ", 6) == 0 ? line + 6 : line;
	snprintf(c->text, sizeof(c->text), "%.*s", (int)sizeof(c->text) - 1, said);
}

/* Line of the nth appearance of a key at the start of a line, from 1; 0: none. */
static int line_of(const char *text, const char *key, int nth)
{
	size_t len = strlen(key);
	int line = 1;

	for (const char *p = text; *p; line++) {
		const char *q = p + strspn(p, " \t\"'{");

		if (strncmp(q, key, len) == 0 && strchr(" \t:\"'", q[len]) && q[len] && --nth == 0)
			return line;
		p += strcspn(p, "\n");
		p += *p == '\n';
	}
	return 0;
}

static enum err complain(struct vmfile *f, const char *path, cyaml_err_t code)
{
	static const char unknown[] = "Unexpected key: ", twice[] = "Mapping field already seen: ";
	struct complaint *c = &f->complaint;
	const char *text = buf_str(&f->text);
	int line;

	if (strncmp(c->text, unknown, sizeof(unknown) - 1) == 0) {
		const char *key = c->text + sizeof(unknown) - 1;

		line = line_of(text, key, 1);
		return err_note(ERR_USAGE, 0, "%s:%d: unknown key \"%s\": see `lifeboat run --help'",
				path, line ? line : c->line, key);
	}
	if (strncmp(c->text, twice, sizeof(twice) - 1) == 0) {
		const char *key = c->text + sizeof(twice) - 1;

		line = line_of(text, key, 2);
		return err_note(ERR_USAGE, 0, "%s:%d: the key \"%s\" is there twice", path,
				line ? line : c->line, key);
	}
	return err_note(ERR_USAGE, 0, "%s:%d: not a VM file: %s", path, c->line ? c->line : 1,
			c->text[0] ? c->text : cyaml_strerror(code));
}

static void take_words(struct vmfile *f, struct words *w)
{
	for (enum word i = 0; i < WORD_COUNT && f->values; i++)
		if (f->values->word[i] && !w->at[i].value) {
			int line = line_of(buf_str(&f->text), words_name(i), 1);

			w->at[i].value = f->values->word[i];
			w->at[i].line = line ? line : 1;
		}
}

/* An option goes before all of the file's. */
static enum err take_disks(struct vmfile *f, struct words *w)
{
	int line = line_of(buf_str(&f->text), "disk", 1);
	enum err e = ERR_OK;

	if (!f->values || w->disk_count > 0)
		return ERR_OK;
	for (uint64_t i = 0; i < f->values->disk_count && e == ERR_OK; i++)
		e = words_add_disk(w, f->values->disk[i], line ? line : 1);
	return e;
}

enum err vmfile_open(const char *path, struct words *w, struct vmfile **out)
{
	struct vmfile *f = calloc(1, sizeof(*f));
	enum err e;

	*out = NULL;
	if (!f)
		return err_note(ERR_NOMEM, 0, "%s", path);
	f->config = (cyaml_config_t){.log_fn = on_log, .log_ctx = &f->complaint,
				     .mem_fn = cyaml_mem, .log_level = CYAML_LOG_WARNING,
				     .flags = CYAML_CFG_NO_ALIAS};
	if ((e = fs_read_file(AT_FDCWD, path, MAX_FILE_BYTES, &f->text)) != ERR_OK) {
		if (e == ERR_CORRUPT)
			e = err_note(ERR_USAGE, 0, "%s: too large for a VM file (64 KiB)", path);
		goto fail;
	}
	if (strlen(buf_str(&f->text)) != f->text.len) {
		e = err_note(ERR_USAGE, 0, "%s: not a VM file: it is not text", path);
		goto fail;
	}
	cyaml_err_t code = cyaml_load_data(f->text.data, f->text.len, &f->config, &schema,
					   (cyaml_data_t **)&f->values, NULL);
	if (code != CYAML_OK || f->complaint.text[0]) {
		e = complain(f, path, code);
		goto fail;
	}
	w->file = path;
	take_words(f, w);
	if ((e = take_disks(f, w)) != ERR_OK)
		goto fail;
	*out = f;
	return ERR_OK;
fail:
	vmfile_close(f);
	return e;
}

void vmfile_close(struct vmfile *f)
{
	if (!f)
		return;
	if (f->values && cyaml_free(&f->config, &schema, f->values, 0) != CYAML_OK)
		abort(); /* only for a schema that does not match */
	buf_fini(&f->text);
	free(f);
}
