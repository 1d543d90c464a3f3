/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_STATE_H
#define HV_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

/* state: machine state as tagged, versioned sections.
 *
 * State describes the hardware, never a C struct's bytes, never host time.
 *
 * Format, little-endian:
 *   header    magic "LBSTATE\0" (8)  format version u32  section count u32
 *   section   kind (16 bytes, NUL-padded)  instance u32  version u32  payload bytes u64
 *   field     tag u16  flags u16 (bit 0: optional)  length u32  value (length bytes)
 * A section's payload is its fields.  Integers are 1, 2, 4 or 8 bytes.
 * An unknown optional field is skipped, any other unknown one is ERR_VERSION.
 * Until a first release the format version is STATE_VERSION_EXPERIMENTAL plus a
 * counter, and every other is refused.
 *
 * Every kind describes its fields in one table (struct state_kind), which the
 * encoder, the decoder and `lifeboat inspect` share. */

#define STATE_MAGIC "LBSTATE"
#define STATE_VERSION_EXPERIMENTAL 0xE0000000u
#define STATE_VERSION (STATE_VERSION_EXPERIMENTAL + 1)
#define STATE_KIND_BYTES 16u
#define STATE_MAX_BYTES (256ull << 20)

enum state_type {
	STATE_U8, STATE_U16, STATE_U32, STATE_U64,
	STATE_BYTES, /* hex dump */
	STATE_TEXT,  /* UTF-8 without NUL */
	STATE_U64S,  /* array of u64 */
	STATE_MSRS,  /* array of { index u32, value u64 } */
	STATE_CPUID, /* array of { function, index, flags, eax, ebx, ecx, edx } u32 */
};

struct state_field {
	uint16_t tag; /* unique in the kind, never reused */
	uint8_t type; /* enum state_type */
	bool optional;
	const char *name; /* snake_case, with unit */
};

struct state_kind {
	const char *kind; /* at most 15 bytes */
	uint32_t version;
	const struct state_field *fields;
	size_t count;
};

/* ---- writing ---- */
struct state_out;
MUST_USE enum err state_out_create(struct state_out **out);
void state_out_destroy(struct state_out *o); /* NULL allowed */
void state_begin(struct state_out *o, const struct state_kind *kind, uint32_t instance);
/* tag must be in the kind's table with that type (asserted). */
void state_put_u8(struct state_out *o, uint16_t tag, uint8_t v);
void state_put_u16(struct state_out *o, uint16_t tag, uint16_t v);
void state_put_u32(struct state_out *o, uint16_t tag, uint32_t v);
void state_put_u64(struct state_out *o, uint16_t tag, uint64_t v);
void state_put_bytes(struct state_out *o, uint16_t tag, const void *p, size_t len);
void state_end(struct state_out *o);
/* The whole blob, borrowed until the next call on o; ERR_NOMEM if a put failed. */
MUST_USE enum err state_out_finish(struct state_out *o, const uint8_t **p, size_t *len);

/* ---- reading ---- */
struct state_file; /* a checked, indexed blob */
struct state_in;   /* one section of it */
/* Checks structure only.  p is borrowed for the life of the file.  ERR_VERSION for
 * other format versions, ERR_CORRUPT for anything malformed, duplicates included. */
MUST_USE enum err state_open(const void *p, size_t len, struct state_file **out);
void state_close(struct state_file *f);
size_t state_sections(const struct state_file *f);
/* i-th section in file order: kind name (borrowed), instance, version. */
void state_section(const struct state_file *f, size_t i, const char **kind, uint32_t *instance,
		   uint32_t *version);
/* Fields of the i-th section one after the other, whatever they are, for inspection:
 * start with *at = 0; false after the last.  p is borrowed from the blob. */
struct state_raw {
	uint16_t tag;
	bool optional;
	const uint8_t *p;
	size_t len;
};
bool state_next_field(const struct state_file *f, size_t section, size_t *at,
		      struct state_raw *out);
/* ERR_NOTFOUND "state has no section K.I"; ERR_VERSION if its version is not
 * kind->version or it holds an unknown field that is not optional.
 * *in is borrowed from f. */
MUST_USE enum err state_find(struct state_file *f, const struct state_kind *kind,
			     uint32_t instance, struct state_in **in);
/* A missing field that is not optional, or one of another length, is ERR_CORRUPT
 * and names kind, instance and field.  A missing optional one leaves *v alone. */
MUST_USE enum err state_get_u8(struct state_in *in, uint16_t tag, uint8_t *v);
MUST_USE enum err state_get_u16(struct state_in *in, uint16_t tag, uint16_t *v);
MUST_USE enum err state_get_u32(struct state_in *in, uint16_t tag, uint32_t *v);
MUST_USE enum err state_get_u64(struct state_in *in, uint16_t tag, uint64_t *v);
/* Borrowed bytes of any length. */
MUST_USE enum err state_get_bytes(struct state_in *in, uint16_t tag, const uint8_t **p,
				  size_t *len);
/* Exactly len bytes. */
MUST_USE enum err state_get_exact(struct state_in *in, uint16_t tag, void *p, size_t len);

#endif
