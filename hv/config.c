/* SPDX-License-Identifier: Apache-2.0 */
/* config: what a VM is, to JSON and back.
 *
 * The text comes from images and from other processes, so it is checked like any
 * other input: every key known, given once and of its type, every value in range.
 * A key that is missing keeps its default, but for name, memory_bytes and vcpus. */
#include "hv/config.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "hv/memory.h"

/* Words of an enumeration, in its order. */
struct words {
	const char *what;
	const char *const *words;
	size_t count;
};

#define WORDS(name, text, ...)                                                                     \
	static const char *const name##_list[] = {__VA_ARGS__};                                    \
	static const struct words name = {text, name##_list,                                       \
					  sizeof(name##_list) / sizeof(name##_list[0])}

WORDS(cpu_words, "cpu", "host", "x86-64-v2", "x86-64-v3", "x86-64-v4");
WORDS(action_words, "action", "reboot", "stop");
WORDS(console_words, "console", "stdio", "pty", "file", "none");

WORDS(cache_words, "cache", "host", "direct");
WORDS(error_words, "on_error", "report", "pause");

static enum err config_word(const struct words *w, const char *text, unsigned *out)
{
	AUTO_BUF struct buf list = {0};

	for (size_t i = 0; i < w->count; i++) {
		if (!strcmp(text, w->words[i])) {
			*out = (unsigned)i;
			return ERR_OK;
		}
		buf_printf(&list, "%s%s", i ? ", " : "", w->words[i]);
	}
	return err_note(ERR_USAGE, 0, "%s: \"%.40s\" is none of %s", w->what, text,
			buf_str(&list));
}

void config_init(struct vm_config *c)
{
	*c = (struct vm_config){
		.memory_bytes = 512ull << 20,
		.vcpus = 1,
		.cpu = CONFIG_CPU_HOST,
		.on_reboot = CONFIG_REBOOT,
		.on_crash = CONFIG_STOP,
		.console = {CONFIG_CONSOLE_STDIO, CONFIG_CONSOLE_NONE},
	};
}

void config_fini(struct vm_config *c)
{
	free(c->cmdline);
	c->cmdline = NULL;
}

/* A name is a directory, a part of messages and of "NAME@N" in archives. */
bool config_name_ok(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
	size_t n = strnlen(name, CONFIG_NAME_BYTES);

	return n > 0 && n < CONFIG_NAME_BYTES && strspn(name, allowed) == n && name[0] != '-';
}

static enum err config_check_cmdline(const char *s)
{
	if (!s)
		return ERR_OK;
	if (strlen(s) >= CONFIG_MAX_CMDLINE)
		return err_note(ERR_USAGE, 0, "cmdline: %zu bytes are more than %u", strlen(s),
				CONFIG_MAX_CMDLINE - 1);
	for (; *s; s++)
		if ((unsigned char)*s < ' ' && *s != '\t')
			return err_note(ERR_USAGE, 0, "cmdline: it holds a control character");
	return ERR_OK;
}

static enum err config_check_disks(const struct vm_config *c)
{
	if (c->disk_count > CONFIG_MAX_DISKS)
		return err_note(ERR_USAGE, 0, "disks: %u are more than %u", c->disk_count,
				CONFIG_MAX_DISKS);
	for (uint32_t i = 0; i < c->disk_count; i++) {
		const struct config_disk *d = &c->disks[i];

		if (d->lun >= CONFIG_MAX_DISKS || (i > 0 && d->lun <= c->disks[i - 1].lun))
			return err_note(ERR_USAGE, 0, "disks: their numbers do not rise, or not below "
					"%u", CONFIG_MAX_DISKS);
		if (d->bytes == 0 || d->bytes % 512 || d->bytes > 64ull << 40)
			return err_note(ERR_USAGE, 0, "disk%u: %llu bytes are no multiple of 512 up "
					"to 64 TiB", d->lun, (unsigned long long)d->bytes);
		if (d->cache >= cache_words.count || d->on_error >= error_words.count)
			return err_note(ERR_USAGE, 0, "disk%u: a value out of range", d->lun);
	}
	return ERR_OK;
}

enum err config_check(const struct vm_config *c)
{
	enum err e;

	if (!memchr(c->name, 0, sizeof(c->name)) || !config_name_ok(c->name))
		return err_note(ERR_USAGE, 0,
				"name: \"%.63s\" is not 1 to %u lower-case letters, digits and "
				"dashes, beginning with no dash", c->name,
				CONFIG_NAME_BYTES - 1);
	if (c->memory_bytes < MEMORY_MIN_BYTES || c->memory_bytes > MEMORY_MAX_BYTES)
		return err_note(ERR_USAGE, 0, "memory: %llu bytes are not between 16 MiB and 1 TiB",
				(unsigned long long)c->memory_bytes);
	if (c->memory_bytes % MEMORY_PAGE_BYTES != 0)
		return err_note(ERR_USAGE, 0, "memory: %llu bytes are no multiple of %u",
				(unsigned long long)c->memory_bytes, MEMORY_PAGE_BYTES);
	if (c->vcpus < 1 || c->vcpus > CONFIG_MAX_VCPUS)
		return err_note(ERR_USAGE, 0, "vcpus: %u is not between 1 and %u", c->vcpus,
				CONFIG_MAX_VCPUS);
	if (c->cpu >= cpu_words.count || c->on_reboot >= action_words.count ||
	    c->on_crash >= action_words.count || c->console[0] >= console_words.count ||
	    c->console[1] >= console_words.count)
		return err_note(ERR_USAGE, 0, "configuration: a value out of range");
	if ((e = config_check_disks(c)) != ERR_OK)
		return e;
	return config_check_cmdline(c->cmdline);
}

bool config_has_scsi(const struct vm_config *c)
{
	return c->scsi || c->disk_count > 0;
}

struct config_disk *config_disk_find(struct vm_config *c, unsigned lun)
{
	for (uint32_t i = 0; i < c->disk_count; i++)
		if (c->disks[i].lun == lun)
			return &c->disks[i];
	return NULL;
}

bool config_disk_place(const struct vm_config *c, uint8_t *lun)
{
	uint8_t at = 0;

	for (uint32_t i = 0; i < c->disk_count && c->disks[i].lun == at; i++)
		at++;
	*lun = at;
	return at < CONFIG_MAX_DISKS;
}

void config_disk_insert(struct vm_config *c, const struct config_disk *d)
{
	uint32_t at = 0;

	while (at < c->disk_count && c->disks[at].lun < d->lun)
		at++;
	memmove(&c->disks[at + 1], &c->disks[at], (c->disk_count - at) * sizeof(*d));
	c->disks[at] = *d;
	c->disk_count++;
}

void config_disk_remove(struct vm_config *c, unsigned lun)
{
	uint32_t at = (uint32_t)(config_disk_find(c, lun) - c->disks);

	c->disk_count--;
	memmove(&c->disks[at], &c->disks[at + 1], (c->disk_count - at) * sizeof(c->disks[0]));
}

const char *config_cache_name(enum config_cache cache)
{
	return cache < cache_words.count ? cache_words.words[cache] : "unknown";
}

enum err config_cache_parse(const char *text, enum config_cache *out)
{
	unsigned v = 0;
	enum err e = config_word(&cache_words, text, &v);

	if (e == ERR_OK)
		*out = (enum config_cache)v;
	return e;
}

const char *config_on_error_name(enum config_on_error on_error)
{
	return on_error < error_words.count ? error_words.words[on_error] : "unknown";
}

enum err config_on_error_parse(const char *text, enum config_on_error *out)
{
	unsigned v = 0;
	enum err e = config_word(&error_words, text, &v);

	if (e == ERR_OK)
		*out = (enum config_on_error)v;
	return e;
}

const char *config_cpu_name(enum config_cpu cpu)
{
	return cpu < cpu_words.count ? cpu_words.words[cpu] : "unknown";
}

enum err config_cpu_parse(const char *text, enum config_cpu *out)
{
	unsigned v = 0;
	enum err e = config_word(&cpu_words, text, &v);

	if (e == ERR_OK)
		*out = (enum config_cpu)v;
	return e;
}

/* ---- JSON ---- */

static json_t *config_disks_json(const struct vm_config *c)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < c->disk_count; i++) {
		const struct config_disk *d = &c->disks[i];
		char id[2 * CONFIG_DISK_ID_BYTES + 1];

		bytes_hex(d->id, CONFIG_DISK_ID_BYTES, id);
		(void)json_array_append_new(
			list, json_pack("{s:i, s:s, s:I, s:b, s:s, s:s}", "lun", (int)d->lun, "id", id,
					"bytes",
					(json_int_t)d->bytes, "read_only", d->read_only ? 1 : 0,
					"cache", cache_words.words[d->cache], "on_error",
					error_words.words[d->on_error]));
	}
	return list;
}

enum err config_to_json(const struct vm_config *c, struct buf *out)
{
	enum err e = config_check(c);
	json_t *j;
	char *text;

	if (e != ERR_OK)
		return e;
	j = json_pack("{s:s, s:I, s:I, s:s, s:s*, s:s, s:s, s:[s, s]}", "name", c->name,
		      "memory_bytes", (json_int_t)c->memory_bytes, "vcpus", (json_int_t)c->vcpus,
		      "cpu", cpu_words.words[c->cpu], "cmdline", c->cmdline, "on_reboot",
		      action_words.words[c->on_reboot], "on_crash",
		      action_words.words[c->on_crash], "console",
		      console_words.words[c->console[0]], console_words.words[c->console[1]]);
	if ((j && c->disk_count > 0 &&
	     json_object_set_new(j, "disks", config_disks_json(c)) != 0) ||
	    (j && c->scsi && json_object_set_new(j, "scsi", json_true()) != 0)) {
		json_decref(j);
		return err_note(ERR_NOMEM, 0, "configuration: out of memory");
	}
	text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	if (!text)
		return err_note(ERR_USAGE, 0, "configuration: name or cmdline is no UTF-8");
	buf_put_str(out, text);
	free(text);
	return buf_check(out);
}

static enum err config_get_text(const char *key, const json_t *v, const char **out)
{
	*out = json_string_value(v);
	if (!*out)
		return err_note(ERR_USAGE, 0, "configuration: %s is no text", key);
	if (strlen(*out) != json_string_length(v))
		return err_note(ERR_USAGE, 0, "configuration: %s holds a zero byte", key);
	return ERR_OK;
}

static enum err config_get_number(const char *key, const json_t *v, uint64_t *out)
{
	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return err_note(ERR_USAGE, 0, "configuration: %s is no whole number", key);
	*out = (uint64_t)json_integer_value(v);
	return ERR_OK;
}

static enum err config_get_word(const char *key, const json_t *v, const struct words *w,
				unsigned *out)
{
	const char *text;
	enum err e = config_get_text(key, v, &text);

	return e == ERR_OK ? config_word(w, text, out) : e;
}

static enum err config_take_name(const json_t *v, struct vm_config *c)
{
	const char *text;
	enum err e = config_get_text("name", v, &text);

	if (e != ERR_OK)
		return e;
	if (!config_name_ok(text))
		return err_note(ERR_USAGE, 0, "name: \"%.63s\" cannot be a machine's name", text);
	memcpy(c->name, text, strlen(text) + 1);
	return ERR_OK;
}

static enum err config_take_memory(const json_t *v, struct vm_config *c)
{
	return config_get_number("memory_bytes", v, &c->memory_bytes);
}

static enum err config_take_vcpus(const json_t *v, struct vm_config *c)
{
	uint64_t n = 0;
	enum err e = config_get_number("vcpus", v, &n);

	if (e == ERR_OK && n > CONFIG_MAX_VCPUS)
		return err_note(ERR_USAGE, 0, "vcpus: %llu is not between 1 and %u",
				(unsigned long long)n, CONFIG_MAX_VCPUS);
	c->vcpus = (uint32_t)n;
	return e;
}

static enum err config_take_cpu(const json_t *v, struct vm_config *c)
{
	unsigned w = 0;
	enum err e = config_get_word("cpu", v, &cpu_words, &w);

	c->cpu = (enum config_cpu)w;
	return e;
}

static enum err config_take_cmdline(const json_t *v, struct vm_config *c)
{
	const char *text;
	enum err e = config_get_text("cmdline", v, &text);

	if (e != ERR_OK)
		return e;
	c->cmdline = strdup(text);
	return c->cmdline ? ERR_OK : err_note(ERR_NOMEM, 0, "configuration: out of memory");
}

static enum err config_take_on_reboot(const json_t *v, struct vm_config *c)
{
	unsigned w = 0;
	enum err e = config_get_word("on_reboot", v, &action_words, &w);

	c->on_reboot = (enum config_action)w;
	return e;
}

static enum err config_take_on_crash(const json_t *v, struct vm_config *c)
{
	unsigned w = 0;
	enum err e = config_get_word("on_crash", v, &action_words, &w);

	c->on_crash = (enum config_action)w;
	return e;
}

static enum err config_take_console(const json_t *v, struct vm_config *c)
{
	if (!json_is_array(v) || json_array_size(v) != 2)
		return err_note(ERR_USAGE, 0, "configuration: console is no list of two");
	for (size_t i = 0; i < 2; i++) {
		unsigned w = 0;
		enum err e = config_get_word("console", json_array_get(v, i), &console_words, &w);

		if (e != ERR_OK)
			return e;
		c->console[i] = (enum config_console)w;
	}
	return ERR_OK;
}

static enum err config_take_disk(const json_t *v, struct config_disk *d)
{
	enum { FIELDS = 6 };
	const char *id = json_string_value(json_object_get(v, "id"));
	const json_t *read_only = json_object_get(v, "read_only");
	unsigned cache = 0, on_error = 0;
	uint64_t lun = 0;
	enum err e;

	if (!id || strlen(id) != 2 * CONFIG_DISK_ID_BYTES ||
	    !bytes_unhex(id, d->id, CONFIG_DISK_ID_BYTES))
		return err_note(ERR_USAGE, 0, "configuration: a disk without an id of 32 digits");
	if (!json_is_boolean(read_only) || json_object_size(v) != FIELDS)
		return err_note(ERR_USAGE, 0, "configuration: a disk that is no object of lun, id, "
				"bytes, read_only, cache and on_error");
	d->read_only = json_is_true(read_only);
	if ((e = config_get_number("lun", json_object_get(v, "lun"), &lun)) != ERR_OK)
		return e;
	d->lun = lun < CONFIG_MAX_DISKS ? (uint8_t)lun : CONFIG_MAX_DISKS;
	if ((e = config_get_number("bytes", json_object_get(v, "bytes"), &d->bytes)) != ERR_OK ||
	    (e = config_get_word("cache", json_object_get(v, "cache"), &cache_words, &cache)) != ERR_OK ||
	    (e = config_get_word("on_error", json_object_get(v, "on_error"), &error_words,
				 &on_error)) != ERR_OK)
		return e;
	d->cache = (enum config_cache)cache;
	d->on_error = (enum config_on_error)on_error;
	return ERR_OK;
}

static enum err config_take_disks(const json_t *v, struct vm_config *c)
{
	if (!json_is_array(v) || json_array_size(v) > CONFIG_MAX_DISKS)
		return err_note(ERR_USAGE, 0, "configuration: disks is no list of up to %u",
				CONFIG_MAX_DISKS);
	for (size_t i = 0; i < json_array_size(v); i++) {
		enum err e = config_take_disk(json_array_get(v, i), &c->disks[i]);

		if (e != ERR_OK)
			return e;
		c->disk_count++;
	}
	return ERR_OK;
}

static enum err config_take_scsi(const json_t *v, struct vm_config *c)
{
	c->scsi = json_is_true(v);
	return json_is_boolean(v) ? ERR_OK : err_note(ERR_USAGE, 0, "configuration: scsi is neither "
						      "true nor false");
}

static const struct {
	const char *key;
	bool needed;
	enum err (*take)(const json_t *v, struct vm_config *c);
} keys[] = {
	{"name", true, config_take_name},	{"memory_bytes", true, config_take_memory},
	{"vcpus", true, config_take_vcpus},	{"cpu", false, config_take_cpu},
	{"cmdline", false, config_take_cmdline}, {"on_reboot", false, config_take_on_reboot},
	{"on_crash", false, config_take_on_crash}, {"console", false, config_take_console},
	{"disks", false, config_take_disks},	{"scsi", false, config_take_scsi},
};
#define KEYS (sizeof(keys) / sizeof(keys[0]))

static enum err config_check_keys(json_t *root)
{
	const char *key;
	json_t *v;

	json_object_foreach(root, key, v)
	{
		size_t i = 0;

		while (i < KEYS && strcmp(key, keys[i].key) != 0)
			i++;
		if (i == KEYS)
			return err_note(ERR_USAGE, 0, "configuration: unknown key \"%.60s\"", key);
	}
	return ERR_OK;
}

static enum err config_take_all(json_t *root, struct vm_config *c)
{
	enum err e;

	if (!json_is_object(root))
		return err_note(ERR_USAGE, 0, "configuration: it is no JSON object");
	if ((e = config_check_keys(root)) != ERR_OK)
		return e;
	for (size_t i = 0; i < KEYS; i++) {
		json_t *v = json_object_get(root, keys[i].key);

		if (v && (e = keys[i].take(v, c)) != ERR_OK)
			return e;
		if (!v && keys[i].needed)
			return err_note(ERR_USAGE, 0, "configuration: %s is missing", keys[i].key);
	}
	return config_check(c);
}

enum err config_from_json(const void *text, size_t len, struct vm_config *out)
{
	struct vm_config c;
	json_error_t where;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	enum err e;

	if (!root)
		return err_note(ERR_USAGE, 0, "configuration: line %d: %s", where.line,
				where.text);
	config_init(&c);
	e = config_take_all(root, &c);
	json_decref(root);
	if (e == ERR_OK)
		*out = c;
	else
		config_fini(&c);
	return e;
}
