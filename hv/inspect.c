/* SPDX-License-Identifier: Apache-2.0 */
/* inspect: a state as text and as JSON.
 *
 * The field tables of all kinds are in one list below; a section of another kind or
 * version, and a field that its table does not know or that has another length than
 * its type, is shown as tag and bytes.  So everything that state_open accepts can be
 * looked at, whoever wrote it. */
#include "hv/inspect.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "hv/compat.h"
#include "hv/cpuid.h"
#include "hv/emulated/acpi_pm.h"
#include "hv/emulated/i8042.h"
#include "hv/emulated/pci.h"
#include "hv/emulated/rtc.h"
#include "hv/emulated/uart.h"
#include "hv/hyperv.h"
#include "hv/vcpu_state.h"
#include "hv/vm.h"
#include "hv/vm_state.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vmgen.h"
#include "hv/vsp/ic.h"
#include "hv/vsp/storage.h"

static const struct state_kind *const kinds[] = {
	&compat_state_kind,
	&cpuid_state_kind,
	&vcpu_state_kind,
	&vm_state_pic_kind,
	&vm_state_ioapic_kind,
	&vm_state_pit_kind,
	&hyperv_state_kind,
	&hyperv_vp_state_kind,
	&synic_state_kind,
	&uart_state_kind,
	&rtc_state_kind,
	&i8042_state_kind,
	&pci_state_kind,
	&acpi_pm_state_kind,
	&vmgen_state_kind,
	&vmbus_state_kind,
	&vmbus_channel_state_kind,
	&ic_state_kind,
	&storage_state_kind,
	&vm_section_kind,
};

enum { MSR_BYTES = 12, LEAF_BYTES = 28, LINE_BYTES = 32 };

const struct state_kind *inspect_kind(const char *name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(kinds[i]->kind, name))
			return kinds[i];
	return NULL;
}

/* How a field is shown: its name, and its type if its value agrees with it. */
struct shown {
	char name[64];
	unsigned type;
};

static bool inspect_fits(unsigned type, const uint8_t *p, size_t len)
{
	switch (type) {
	case STATE_TEXT: /* JSON readers do not take a NUL */
		return !memchr(p, 0, len);
	case STATE_U8:
		return len == 1;
	case STATE_U16:
		return len == 2;
	case STATE_U32:
		return len == 4;
	case STATE_U64:
		return len == 8;
	case STATE_U64S:
		return len % 8 == 0;
	case STATE_MSRS:
		return len % MSR_BYTES == 0;
	case STATE_CPUID:
		return len % LEAF_BYTES == 0;
	default:
		return true;
	}
}

static struct shown inspect_field(const struct state_kind *kind, const struct state_raw *raw)
{
	struct shown s = {.type = STATE_BYTES};

	snprintf(s.name, sizeof(s.name), "tag_%u", raw->tag);
	for (size_t i = 0; kind && i < kind->count; i++) {
		if (kind->fields[i].tag != raw->tag)
			continue;
		snprintf(s.name, sizeof(s.name), "%s", kind->fields[i].name);
		if (inspect_fits(kind->fields[i].type, raw->p, raw->len))
			s.type = kind->fields[i].type;
	}
	return s;
}

static uint64_t inspect_integer(const struct state_raw *raw)
{
	uint64_t v = 0;

	for (size_t i = raw->len; i > 0; i--)
		v = v << 8 | raw->p[i - 1];
	return v;
}

static void inspect_hex(struct buf *out, const uint8_t *p, size_t len)
{
	char hex[2 * LINE_BYTES + 1];

	for (size_t at = 0; at < len; at += LINE_BYTES) {
		bytes_hex(p + at, len - at < LINE_BYTES ? len - at : LINE_BYTES, hex);
		buf_put_str(out, hex);
	}
}

/* JSON's escapes; bytes that are no ASCII become \u00XX, so that any input is valid. */
static void inspect_quoted(struct buf *out, const uint8_t *p, size_t len)
{
	buf_put_le8(out, '"');
	for (size_t i = 0; i < len; i++) {
		if (p[i] == '"' || p[i] == '\\')
			buf_printf(out, "\\%c", p[i]);
		else if (p[i] < ' ' || p[i] > '~')
			buf_printf(out, "\\u%04x", p[i]);
		else
			buf_put_le8(out, p[i]);
	}
	buf_put_le8(out, '"');
}

/* ---- text ---- */

/* Lines of 32 bytes; those that are all zero are left out. */
static void text_bytes(struct buf *out, const struct state_raw *raw)
{
	if (raw->len <= LINE_BYTES) {
		buf_put_le8(out, ' ');
		inspect_hex(out, raw->p, raw->len);
		return;
	}
	buf_printf(out, " %zu bytes", raw->len);
	for (size_t at = 0; at < raw->len; at += LINE_BYTES) {
		size_t n = raw->len - at < LINE_BYTES ? raw->len - at : LINE_BYTES;

		if (bytes_zero(raw->p + at, n))
			continue;
		buf_printf(out, "\n    %04zx: ", at);
		inspect_hex(out, raw->p + at, n);
	}
}

static void text_leaf(struct buf *out, const uint8_t *p)
{
	buf_printf(out, "\n    %08x.%x eax %08x ebx %08x ecx %08x edx %08x", le32_get(p),
		   le32_get(p + 4), le32_get(p + 12), le32_get(p + 16), le32_get(p + 20),
		   le32_get(p + 24));
}

/* Quantities are decimal, registers hexadecimal, small numbers both. */
static void text_integer(struct buf *out, const struct shown *s, uint64_t v)
{
	static const char *const units[] = {"_bytes", "_ns", "_hz", "_khz", "_100ns"};
	size_t len = strlen(s->name);

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t n = strlen(units[i]);

		if (len > n && !strcmp(s->name + len - n, units[i])) {
			buf_printf(out, " %" PRIu64, v);
			return;
		}
	}
	if (s->type == STATE_U64)
		buf_printf(out, " 0x%" PRIx64, v);
	else if (v < 10)
		buf_printf(out, " %" PRIu64, v);
	else
		buf_printf(out, " %" PRIu64 " (0x%" PRIx64 ")", v, v);
}

static void text_value(struct buf *out, const struct shown *s, const struct state_raw *raw)
{
	switch (s->type) {
	case STATE_U8:
	case STATE_U16:
	case STATE_U32:
	case STATE_U64:
		text_integer(out, s, inspect_integer(raw));
		break;
	case STATE_TEXT:
		buf_put_le8(out, ' ');
		inspect_quoted(out, raw->p, raw->len);
		break;
	case STATE_U64S:
		for (size_t at = 0; at < raw->len; at += 8)
			buf_printf(out, "%s0x%" PRIx64, at % 64 ? " " : "\n    ",
				   le64_get(raw->p + at));
		break;
	case STATE_MSRS:
		for (size_t at = 0; at < raw->len; at += MSR_BYTES)
			buf_printf(out, "\n    %08x 0x%" PRIx64, le32_get(raw->p + at),
				   le64_get(raw->p + at + 4));
		break;
	case STATE_CPUID:
		for (size_t at = 0; at < raw->len; at += LEAF_BYTES)
			text_leaf(out, raw->p + at);
		break;
	default:
		text_bytes(out, raw);
	}
}

enum err inspect_text(const void *state, size_t len, struct buf *out)
{
	struct state_file *file;
	enum err e = state_open(state, len, &file);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; i < state_sections(file); i++) {
		const struct state_kind *kind;
		uint32_t instance, version;
		struct state_raw raw;
		const char *name;
		size_t at = 0;

		state_section(file, i, &name, &instance, &version);
		kind = inspect_kind(name);
		if (kind && kind->version != version)
			kind = NULL;
		buf_printf(out, "%s.%u (version %u%s)\n", name, instance, version,
			   kind ? "" : ", not known to this program");
		while (state_next_field(file, i, &at, &raw)) {
			struct shown s = inspect_field(kind, &raw);

			buf_printf(out, "  %s", s.name);
			text_value(out, &s, &raw);
			buf_put_str(out, "\n");
		}
	}
	state_close(file);
	return buf_check(out);
}

/* ---- JSON ---- */

static void json_list(struct buf *out, const struct state_raw *raw, size_t step,
		      void (*item)(struct buf *, const uint8_t *))
{
	buf_put_le8(out, '[');
	for (size_t at = 0; at < raw->len; at += step) {
		if (at)
			buf_put_le8(out, ',');
		item(out, raw->p + at);
	}
	buf_put_le8(out, ']');
}

static void json_u64(struct buf *out, const uint8_t *p)
{
	buf_printf(out, "\"0x%" PRIx64 "\"", le64_get(p));
}

static void json_msr(struct buf *out, const uint8_t *p)
{
	buf_printf(out, "{\"index\":\"0x%x\",\"value\":\"0x%" PRIx64 "\"}", le32_get(p),
		   le64_get(p + 4));
}

static void json_leaf(struct buf *out, const uint8_t *p)
{
	static const char *const names[] = {"function", "index", "flags", "eax",
					    "ebx",	"ecx",	 "edx"};

	buf_put_le8(out, '{');
	for (unsigned i = 0; i < 7; i++)
		buf_printf(out, "%s\"%s\":\"0x%x\"", i ? "," : "", names[i], le32_get(p + 4 * i));
	buf_put_le8(out, '}');
}

static void json_value(struct buf *out, unsigned type, const struct state_raw *raw)
{
	switch (type) {
	case STATE_U8:
	case STATE_U16:
	case STATE_U32:
		buf_printf(out, "%" PRIu64, inspect_integer(raw));
		break;
	case STATE_U64:
		json_u64(out, raw->p);
		break;
	case STATE_TEXT:
		inspect_quoted(out, raw->p, raw->len);
		break;
	case STATE_U64S:
		json_list(out, raw, 8, json_u64);
		break;
	case STATE_MSRS:
		json_list(out, raw, MSR_BYTES, json_msr);
		break;
	case STATE_CPUID:
		json_list(out, raw, LEAF_BYTES, json_leaf);
		break;
	default:
		buf_put_le8(out, '"');
		inspect_hex(out, raw->p, raw->len);
		buf_put_le8(out, '"');
	}
}

static void json_section(struct buf *out, const struct state_file *file, size_t i)
{
	const struct state_kind *kind;
	uint32_t instance, version;
	struct state_raw raw;
	const char *name;
	size_t at = 0;
	bool first = true;

	state_section(file, i, &name, &instance, &version);
	kind = inspect_kind(name);
	if (kind && kind->version != version)
		kind = NULL;
	buf_printf(out, "%s{\"kind\":\"%s\",\"instance\":%u,\"version\":%u,\"known\":%s,\"fields\":{",
		   i ? "," : "", name, instance, version, kind ? "true" : "false");
	while (state_next_field(file, i, &at, &raw)) {
		struct shown s = inspect_field(kind, &raw);

		buf_printf(out, "%s\"%s\":", first ? "" : ",", s.name);
		json_value(out, s.type, &raw);
		first = false;
	}
	buf_put_str(out, "}}");
}

enum err inspect_json(const void *state, size_t len, struct buf *out)
{
	struct state_file *file;
	enum err e = state_open(state, len, &file);

	if (e != ERR_OK)
		return e;
	buf_printf(out, "{\"format\":%u,\"sections\":[", STATE_VERSION);
	for (size_t i = 0; i < state_sections(file); i++)
		json_section(out, file, i);
	buf_put_str(out, "]}\n");
	state_close(file);
	return buf_check(out);
}
