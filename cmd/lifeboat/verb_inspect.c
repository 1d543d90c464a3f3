/* SPDX-License-Identifier: Apache-2.0 */
/* lifeboat inspect: show what is in a checkpoint.
 *
 * Reads only small streams, but for --raw, which copies one to standard output. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/units.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/jout.h"
#include "cmd/lifeboat/verbs.h"
#include "hv/inspect.h"
#include "store/archive.h"

#define MAX_CONFIG_BYTES (1u << 20)
#define RAW_BYTES (4u << 20)

struct inspect {
	const char *checkpoint, *archive, *stream, *raw;
	bool json;
	struct archive *store;
	struct archive_reader *reader;
	struct checkpoint_info info;
};

enum { KEY_RAW = 0x3000 };

static enum err option(void *args, int key, char *value)
{
	struct inspect *in = args;

	switch (key) {
	case CLI_ARGUMENT: in->checkpoint = value; return ERR_OK;
	case CLI_KEY_ARCHIVE: in->archive = value; return ERR_OK;
	case CLI_KEY_JSON: in->json = true; return ERR_OK;
	case KEY_RAW: in->raw = value; return ERR_OK;
	case CLI_KEY_STREAM:
		if (strcmp(value, "config") != 0 && strcmp(value, "state") != 0)
			return err_note(ERR_USAGE, 0, "\"%s\" is neither config nor state",
					value);
		in->stream = value;
		return ERR_OK;
	default: return cli_unknown_key(key);
	}
}

static const struct argp_option options[] = {
	CLI_OPTION_ARCHIVE,
	{.name = "stream", .key = CLI_KEY_STREAM, .arg = "WHICH",
	 .doc = "Only config, or only state (of vCPUs and devices)"},
	{.name = "raw", .key = KEY_RAW, .arg = "STREAM",
	 .doc = "Copy the bytes of one stream (ram, kernel...) to standard output"},
	CLI_OPTION_JSON,
	CLI_OPTION_END};
static const struct cli_verb verb = {
	.name = "inspect",
	.args_doc = "CHECKPOINT",
	.doc = "Show what is in a checkpoint: its streams, the machine's configuration, and the state of "
	       "its virtual CPUs and devices."
	       "\vExample:\n  lifeboat inspect web@3 --archive /backup --json",
	.options = options,
	.option = option,
	.min_args = 1,
	.max_args = 1,
};

static bool has(const struct inspect *in, const char *stream)
{
	for (unsigned i = 0; i < archive_read_streams(in->reader); i++)
		if (strcmp(archive_read_stream(in->reader, i)->name, stream) == 0)
			return true;
	return false;
}

/* What was asked for must be there; else what there is: files that were imported have no
 * configuration and no state, and are whole all the same. */
static bool wanted(const struct inspect *in, const char *stream)
{
	return in->stream ? strcmp(in->stream, stream) == 0 : has(in, stream);
}

/* A whole small stream, appended. */
static enum err read_blob(const struct inspect *in, const char *stream, uint64_t max,
			  struct buf *out)
{
	unsigned index;
	enum err e = archive_read_find(in->reader, stream, &index);

	if (e != ERR_OK)
		return e;
	uint64_t length = archive_read_stream(in->reader, index)->length;
	if (length > max)
		return err_note(ERR_CORRUPT, 0, "stream %s: %llu bytes are too many", stream,
				(unsigned long long)length);
	buf_put_zero(out, length);
	if ((e = buf_check(out)) != ERR_OK)
		return e;
	return length ? archive_read(in->reader, index, 0, out->data + out->len - length, length)
		      : ERR_OK;
}

static json_t *streams_json(const struct inspect *in)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < archive_read_streams(in->reader); i++) {
		const struct archive_stream_info *s = archive_read_stream(in->reader, i);

		json_array_append_new(list, json_pack("{s:o, s:I}", "name", jout_text(s->name),
						      "length_bytes", jout_int(s->length)));
	}
	return list;
}

static enum err parse_into(json_t *d, const char *key, const struct buf *text)
{
	json_t *value = json_loadb((const char *)text->data, text->len, 0, NULL);

	if (!value || json_object_set_new(d, key, value) != 0)
		return err_note(ERR_CORRUPT, 0, "stream %s: it is not JSON", key);
	return ERR_OK;
}

static enum err fill_json(const struct inspect *in, json_t *d)
{
	AUTO_BUF struct buf config = {0}, state = {0}, text = {0};
	enum err e;

	if (wanted(in, "config") &&
	    ((e = read_blob(in, "config", MAX_CONFIG_BYTES, &config)) != ERR_OK ||
	     (e = parse_into(d, "config", &config)) != ERR_OK))
		return e;
	if (!wanted(in, "state"))
		return ERR_OK;
	if ((e = read_blob(in, "state", STATE_MAX_BYTES, &state)) != ERR_OK ||
	    (e = inspect_json(state.data, state.len, &text)) != ERR_OK)
		return e;
	return parse_into(d, "state", &text);
}

static enum err show_json(const struct inspect *in)
{
	json_t *d = in->stream ? json_object() : jout_checkpoint(&in->info);
	enum err e;

	if (!d)
		return err_note(ERR_NOMEM, 0, "inspect");
	if (!in->stream)
		json_object_set_new(d, "streams", streams_json(in));
	if ((e = fill_json(in, d)) != ERR_OK) {
		json_decref(d);
		return e;
	}
	return jout_print(d);
}

/* Text from an archive: control characters do not reach the terminal. */
static void print_text(const char *text)
{
	for (; *text; text++)
		cli_print("%c", (unsigned char)*text < 0x20 && *text != '\n' ? '?' : *text);
}

static void show_summary(const struct inspect *in)
{
	char hex[2 * DIGEST_BYTES + 1], time[21], size[UNITS_TEXT_BYTES], full[UNITS_TEXT_BYTES];

	bytes_hex(in->info.digest.b, DIGEST_BYTES, hex);
	clock_rfc3339(in->info.created_ns, time);
	cli_print("checkpoint %s@%llu\ndigest     %s\ncreated    %s\n", in->info.name,
		  (unsigned long long)in->info.number, hex, time);
	cli_print("label      ");
	print_text(in->info.label);
	cli_print("\nsize       %s, %s of it not zero\n\n",
		  units_format_size(in->info.logical_bytes, size),
		  units_format_size(in->info.nonzero_bytes, full));
	for (unsigned i = 0; i < archive_read_streams(in->reader); i++) {
		const struct archive_stream_info *s = archive_read_stream(in->reader, i);

		cli_print("stream %-10s %s\n", s->name, units_format_size(s->length, size));
	}
	if (!has(in, "config"))
		cli_print("\nIt is not a machine's: `lifeboat archive export' gives its streams out.\n");
	else
		cli_print("\n");
}

static enum err show_config(const struct inspect *in)
{
	AUTO_BUF struct buf config = {0};
	enum err e = read_blob(in, "config", MAX_CONFIG_BYTES, &config);

	if (e != ERR_OK)
		return e;
	json_t *d = json_loadb((const char *)config.data, config.len, 0, NULL);
	if (!d)
		return err_note(ERR_CORRUPT, 0, "stream config: it is not JSON");
	cli_print("config\n");
	return jout_print(d);
}

static enum err show_state(const struct inspect *in)
{
	AUTO_BUF struct buf state = {0}, text = {0};
	enum err e = read_blob(in, "state", STATE_MAX_BYTES, &state);

	if (e != ERR_OK || (e = inspect_text(state.data, state.len, &text)) != ERR_OK)
		return e;
	print_text(buf_str(&text));
	return ERR_OK;
}

static enum err show(const struct inspect *in)
{
	enum err e = ERR_OK;

	if (in->json)
		return show_json(in);
	if (!in->stream)
		show_summary(in);
	if (wanted(in, "config"))
		e = show_config(in);
	if (e == ERR_OK && !in->stream && wanted(in, "state"))
		cli_print("\n");
	if (e == ERR_OK && wanted(in, "state"))
		e = show_state(in);
	return e;
}

static enum err copy_raw(const struct inspect *in)
{
	unsigned index;
	enum err e = archive_read_find(in->reader, in->raw, &index);
	uint8_t *piece = malloc(RAW_BYTES);

	if (e == ERR_OK && !piece)
		e = err_note(ERR_NOMEM, 0, "copy a stream");
	uint64_t length = e == ERR_OK ? archive_read_stream(in->reader, index)->length : 0;
	for (uint64_t at = 0; e == ERR_OK && at < length;) {
		size_t n = length - at < RAW_BYTES ? (size_t)(length - at) : RAW_BYTES;

		if ((e = cli_check_interrupted()) != ERR_OK ||
		    (e = archive_read(in->reader, index, at, piece, n)) != ERR_OK)
			break;
		if (!cli_write(piece, n)) {
			e = cli_finish_output();
			break;
		}
		at += n;
	}
	free(piece);
	return e;
}

static enum err inspect(struct inspect *in, const char *path)
{
	enum err e = keys_open(path, false, &in->store);

	if (e != ERR_OK || (e = archive_find(in->store, in->checkpoint, &in->info)) != ERR_OK ||
	    (e = archive_read_open(in->store, &in->info, &in->reader)) != ERR_OK)
		return e;
	return in->raw ? copy_raw(in) : show(in);
}

enum err verb_inspect(int argc, char **argv)
{
	struct inspect in = {0};
	const char *path;
	enum err e = cli_parse(&verb, argc, argv, &in);

	if (e != ERR_OK || (e = cli_archive_path(in.archive, &path)) != ERR_OK)
		return e;
	if (in.raw && (in.json || in.stream))
		return err_note(ERR_USAGE, 0, "inspect: --raw goes with neither --json nor --stream");
	e = inspect(&in, path);
	cli_keep_note(e);
	archive_read_close(in.reader);
	archive_close(in.store);
	return cli_kept_note(e);
}
