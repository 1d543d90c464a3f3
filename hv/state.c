/* SPDX-License-Identifier: Apache-2.0 */
/* state: machine state as tagged, versioned sections (format: state.h).
 *
 * Writing cannot fail half-way for the caller: allocation failures are collected
 * by struct buf and reported by state_out_finish.
 * Reading treats the blob as hostile.  state_open walks every byte once and checks
 * structure, so that later look-ups only follow lengths that are known to fit.
 * Limits bound the quadratic checks for duplicates. */
#include "hv/state.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
	HEADER_BYTES = 16,
	SECTION_BYTES = 32,
	FIELD_BYTES = 8,
	MAX_SECTIONS = 1024,
	MAX_FIELDS = 512, /* of one section */
	FLAG_OPTIONAL = 1,
};

static_assert(sizeof(STATE_MAGIC) == 8, "the magic is eight bytes with its NUL");

/* ---- writing ---- */

struct state_out {
	struct buf b;
	const struct state_kind *kind; /* of the open section, or NULL */
	size_t section;		       /* offset of its header */
	uint32_t count;
};

enum err state_out_create(struct state_out **out)
{
	struct state_out *o = calloc(1, sizeof(*o));

	if (!o)
		return err_note(ERR_NOMEM, 0, "machine state: out of memory");
	buf_put(&o->b, STATE_MAGIC, sizeof(STATE_MAGIC));
	buf_put_le32(&o->b, STATE_VERSION);
	buf_put_le32(&o->b, 0); /* count, by state_out_finish */
	*out = o;
	return ERR_OK;
}

void state_out_destroy(struct state_out *o)
{
	if (!o)
		return;
	buf_fini(&o->b);
	free(o);
}

void state_begin(struct state_out *o, const struct state_kind *kind, uint32_t instance)
{
	char name[STATE_KIND_BYTES] = {0};
	size_t len = strlen(kind->kind);

	assert(!o->kind && len > 0 && len < STATE_KIND_BYTES && o->count < MAX_SECTIONS);
	memcpy(name, kind->kind, len);
	o->kind = kind;
	o->section = o->b.len;
	o->count++;
	buf_put(&o->b, name, sizeof(name));
	buf_put_le32(&o->b, instance);
	buf_put_le32(&o->b, kind->version);
	buf_put_le64(&o->b, 0); /* payload bytes, by state_end */
}

static const struct state_field *state_kind_field(const struct state_kind *kind, uint16_t tag)
{
	for (size_t i = 0; i < kind->count; i++)
		if (kind->fields[i].tag == tag)
			return &kind->fields[i];
	return NULL;
}

static bool state_type_is_bytes(unsigned type)
{
	return type >= STATE_BYTES;
}

static void state_put(struct state_out *o, uint16_t tag, unsigned type, const void *p, size_t len)
{
	const struct state_field *f;

	assert(o->kind && len <= UINT32_MAX);
	f = state_kind_field(o->kind, tag);
	assert(f && (type == STATE_BYTES ? state_type_is_bytes(f->type) : f->type == type));
	buf_put_le16(&o->b, tag);
	buf_put_le16(&o->b, f->optional ? FLAG_OPTIONAL : 0);
	buf_put_le32(&o->b, (uint32_t)len);
	buf_put(&o->b, p, len);
}

void state_put_u8(struct state_out *o, uint16_t tag, uint8_t v)
{
	state_put(o, tag, STATE_U8, &v, 1);
}

void state_put_u16(struct state_out *o, uint16_t tag, uint16_t v)
{
	uint8_t b[2];

	le16_put(b, v);
	state_put(o, tag, STATE_U16, b, sizeof(b));
}

void state_put_u32(struct state_out *o, uint16_t tag, uint32_t v)
{
	uint8_t b[4];

	le32_put(b, v);
	state_put(o, tag, STATE_U32, b, sizeof(b));
}

void state_put_u64(struct state_out *o, uint16_t tag, uint64_t v)
{
	uint8_t b[8];

	le64_put(b, v);
	state_put(o, tag, STATE_U64, b, sizeof(b));
}

void state_put_bytes(struct state_out *o, uint16_t tag, const void *p, size_t len)
{
	state_put(o, tag, STATE_BYTES, p, len);
}

void state_end(struct state_out *o)
{
	assert(o->kind);
	o->kind = NULL;
	if (!o->b.failed)
		le64_put(o->b.data + o->section + 24, o->b.len - o->section - SECTION_BYTES);
}

enum err state_out_finish(struct state_out *o, const uint8_t **p, size_t *len)
{
	enum err e;

	assert(!o->kind);
	if ((e = buf_check(&o->b)) != ERR_OK)
		return e;
	if (o->b.len > STATE_MAX_BYTES)
		return err_note(ERR_FAILED, 0, "machine state: larger than %llu bytes",
				STATE_MAX_BYTES);
	le32_put(o->b.data + 12, o->count);
	*p = o->b.data;
	*len = o->b.len;
	return ERR_OK;
}

/* ---- reading ---- */

struct state_in {
	char kind[STATE_KIND_BYTES];
	uint32_t instance, version;
	const uint8_t *p; /* payload */
	size_t len;
	size_t next; /* where the look-up of the next field begins */
	const struct state_kind *table; /* once state_find has checked it */
};

struct state_file {
	struct state_in *sections;
	size_t count;
};

static enum err state_corrupt(const char *what)
{
	return err_note(ERR_CORRUPT, 0, "machine state: %s", what);
}

/* The name's bytes are lower-case letters, digits or '_', then only NULs. */
static bool state_name_ok(const char *name)
{
	size_t n = strnlen(name, STATE_KIND_BYTES);

	if (n == 0 || n == STATE_KIND_BYTES)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789_", name[i]))
			return false;
	return bytes_zero(name + n, STATE_KIND_BYTES - n);
}

/* Every field lies inside, has known flags, and no tag comes twice. */
static enum err state_check_fields(const struct state_in *in)
{
	uint16_t tags[MAX_FIELDS];
	size_t n = 0;

	for (size_t at = 0; at < in->len;) {
		uint16_t tag;
		uint32_t len;

		if (in->len - at < FIELD_BYTES)
			return state_corrupt("a field header is cut off");
		tag = le16_get(in->p + at);
		len = le32_get(in->p + at + 4);
		if (le16_get(in->p + at + 2) & ~(unsigned)FLAG_OPTIONAL)
			return state_corrupt("a field has unknown flags");
		if (len > in->len - at - FIELD_BYTES)
			return state_corrupt("a field is longer than its section");
		for (size_t i = 0; i < n; i++)
			if (tags[i] == tag)
				return state_corrupt("a section holds a field twice");
		if (n == MAX_FIELDS)
			return state_corrupt("a section has too many fields");
		tags[n++] = tag;
		at += FIELD_BYTES + len;
	}
	return ERR_OK;
}

static enum err state_check_section(const struct state_file *f, size_t i)
{
	const struct state_in *in = &f->sections[i];

	if (!state_name_ok(in->kind))
		return state_corrupt("a section has a malformed name");
	for (size_t k = 0; k < i; k++)
		if (f->sections[k].instance == in->instance &&
		    !strcmp(f->sections[k].kind, in->kind))
			return state_corrupt("a section comes twice");
	return state_check_fields(in);
}

static enum err state_parse(struct state_file *f, struct rd *r)
{
	enum err e;

	for (size_t i = 0; i < f->count; i++) {
		struct state_in *in = &f->sections[i];
		const uint8_t *name = rd_bytes(r, STATE_KIND_BYTES);
		uint64_t len;

		if (name)
			memcpy(in->kind, name, STATE_KIND_BYTES);
		in->instance = rd_le32(r);
		in->version = rd_le32(r);
		len = rd_le64(r);
		if (r->overrun || len > rd_left(r))
			return state_corrupt("a section is cut off");
		in->len = (size_t)len;
		in->p = rd_bytes(r, in->len);
		if ((e = state_check_section(f, i)) != ERR_OK)
			return e;
	}
	if (rd_left(r) != 0)
		return state_corrupt("bytes after the last section");
	return ERR_OK;
}

enum err state_open(const void *p, size_t len, struct state_file **out)
{
	struct rd r = rd_make(p, len);
	const uint8_t *magic;
	struct state_file *f;
	uint32_t version, count;
	enum err e;

	if (len < HEADER_BYTES || len > STATE_MAX_BYTES)
		return state_corrupt("it has an impossible size");
	magic = rd_bytes(&r, sizeof(STATE_MAGIC));
	if (!magic || memcmp(magic, STATE_MAGIC, sizeof(STATE_MAGIC)) != 0)
		return state_corrupt("it does not begin as one");
	version = rd_le32(&r);
	if (version != STATE_VERSION)
		return err_note(ERR_VERSION, 0,
				"machine state has format %#x, this program reads only %#x",
				version, STATE_VERSION);
	count = rd_le32(&r);
	if (count > MAX_SECTIONS || count > rd_left(&r) / SECTION_BYTES)
		return state_corrupt("it has an impossible number of sections");
	f = calloc(1, sizeof(*f));
	if (!f || !(f->sections = calloc(count ? count : 1, sizeof(*f->sections)))) {
		free(f);
		return err_note(ERR_NOMEM, 0, "machine state: out of memory");
	}
	f->count = count;
	if ((e = state_parse(f, &r)) != ERR_OK) {
		state_close(f);
		return e;
	}
	*out = f;
	return ERR_OK;
}

void state_close(struct state_file *f)
{
	if (!f)
		return;
	free(f->sections);
	free(f);
}

size_t state_sections(const struct state_file *f)
{
	return f->count;
}

void state_section(const struct state_file *f, size_t i, const char **kind, uint32_t *instance,
		   uint32_t *version)
{
	assert(i < f->count);
	*kind = f->sections[i].kind;
	*instance = f->sections[i].instance;
	*version = f->sections[i].version;
}

bool state_next_field(const struct state_file *f, size_t section, size_t *at,
		      struct state_raw *out)
{
	const struct state_in *in;

	assert(section < f->count);
	in = &f->sections[section];
	if (*at >= in->len)
		return false;
	out->tag = le16_get(in->p + *at);
	out->optional = (le16_get(in->p + *at + 2) & FLAG_OPTIONAL) != 0;
	out->len = le32_get(in->p + *at + 4);
	out->p = in->p + *at + FIELD_BYTES;
	*at += FIELD_BYTES + out->len;
	return true;
}

static struct state_in *state_lookup(const struct state_file *f, const char *kind,
				     uint32_t instance)
{
	for (size_t i = 0; i < f->count; i++)
		if (f->sections[i].instance == instance && !strcmp(f->sections[i].kind, kind))
			return &f->sections[i];
	return NULL;
}

enum err state_find(struct state_file *f, const struct state_kind *kind, uint32_t instance,
		    struct state_in **out)
{
	struct state_in *in = state_lookup(f, kind->kind, instance);

	if (!in)
		return err_note(ERR_NOTFOUND, 0, "state has no section %s.%u", kind->kind,
				instance);
	if (in->version != kind->version)
		return err_note(ERR_VERSION, 0,
				"state section %s.%u has version %u, this program reads %u",
				kind->kind, instance, in->version, kind->version);
	for (size_t at = 0; at < in->len;) {
		uint16_t tag = le16_get(in->p + at);

		if (!state_kind_field(kind, tag) &&
		    !(le16_get(in->p + at + 2) & FLAG_OPTIONAL))
			return err_note(ERR_VERSION, 0,
					"state section %s.%u has a field %u that this program "
					"does not know: it was saved by a newer one",
					kind->kind, instance, tag);
		at += FIELD_BYTES + le32_get(in->p + at + 4);
	}
	in->table = kind;
	in->next = 0;
	*out = in;
	return ERR_OK;
}

/* Fields are mostly asked for in the order of the file: start where the last
 * look-up ended, and go round once. */
static const uint8_t *state_field_find(struct state_in *in, uint16_t tag, size_t *len)
{
	size_t at = in->next < in->len ? in->next : 0, start = at;

	if (in->len == 0)
		return NULL;
	do {
		const uint8_t *h = in->p + at;
		uint32_t n = le32_get(h + 4);

		at += FIELD_BYTES + n;
		if (le16_get(h) == tag) {
			in->next = at;
			*len = n;
			return h + FIELD_BYTES;
		}
		if (at >= in->len)
			at = 0;
	} while (at != start);
	return NULL;
}

/* *p stays NULL if an optional field is missing. */
static enum err state_get(struct state_in *in, uint16_t tag, unsigned type, const uint8_t **p,
			  size_t *len)
{
	const struct state_field *f;

	assert(in->table);
	f = state_kind_field(in->table, tag);
	assert(f && (type == STATE_BYTES ? state_type_is_bytes(f->type) : f->type == type));
	*p = state_field_find(in, tag, len);
	if (!*p && !f->optional)
		return err_note(ERR_CORRUPT, 0, "state section %s.%u lacks %s", in->kind,
				in->instance, f->name);
	return ERR_OK;
}

static enum err state_get_int(struct state_in *in, uint16_t tag, unsigned type, size_t want,
			      const uint8_t **p)
{
	size_t len = 0;
	enum err e = state_get(in, tag, type, p, &len);

	if (e == ERR_OK && *p && len != want)
		return err_note(ERR_CORRUPT, 0,
				"state section %s.%u: %s has %zu bytes instead of %zu", in->kind,
				in->instance, state_kind_field(in->table, tag)->name, len, want);
	return e;
}

enum err state_get_u8(struct state_in *in, uint16_t tag, uint8_t *v)
{
	const uint8_t *p;
	enum err e = state_get_int(in, tag, STATE_U8, 1, &p);

	if (e == ERR_OK && p)
		*v = *p;
	return e;
}

enum err state_get_u16(struct state_in *in, uint16_t tag, uint16_t *v)
{
	const uint8_t *p;
	enum err e = state_get_int(in, tag, STATE_U16, 2, &p);

	if (e == ERR_OK && p)
		*v = le16_get(p);
	return e;
}

enum err state_get_u32(struct state_in *in, uint16_t tag, uint32_t *v)
{
	const uint8_t *p;
	enum err e = state_get_int(in, tag, STATE_U32, 4, &p);

	if (e == ERR_OK && p)
		*v = le32_get(p);
	return e;
}

enum err state_get_u64(struct state_in *in, uint16_t tag, uint64_t *v)
{
	const uint8_t *p;
	enum err e = state_get_int(in, tag, STATE_U64, 8, &p);

	if (e == ERR_OK && p)
		*v = le64_get(p);
	return e;
}

enum err state_get_bytes(struct state_in *in, uint16_t tag, const uint8_t **p, size_t *len)
{
	const uint8_t *found;
	size_t n = 0;
	enum err e = state_get(in, tag, STATE_BYTES, &found, &n);

	if (e == ERR_OK && found) {
		*p = found;
		*len = n;
	}
	return e;
}

enum err state_get_exact(struct state_in *in, uint16_t tag, void *out, size_t len)
{
	const uint8_t *p;
	enum err e = state_get_int(in, tag, STATE_BYTES, len, &p);

	if (e == ERR_OK && p)
		memcpy(out, p, len);
	return e;
}
