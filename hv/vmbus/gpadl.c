/* SPDX-License-Identifier: Apache-2.0 */
/* gpadl: page lists, message by message; see gpadl.h.
 *
 * Format: header { type, 0, relid u32 @8, id u32 @12, range bytes u16 @16, range count
 * u16 @18, bytes u32 @20, offset u32 @24, page numbers u64 @28 }, body { type, 0, number
 * u32 @8 (not used), id u32 @12, page numbers u64 @16 }.  "Range bytes" counts modulo
 * 65536: 8 for bytes and offset and 8 for each page number of the whole list.
 *
 * Source: docs/vmbus.md 9, 10. */
#include "hv/vmbus/gpadl.h"

#include <stdlib.h>

#include "hv/vmbus/spec.h"

void gpadl_init(struct gpadl_table *t, const struct memory *m)
{
	*t = (struct gpadl_table){.memory = m};
}

void gpadl_fini(struct gpadl_table *t)
{
	while (t->first)
		gpadl_drop(t, t->first);
}

bool gpadl_complete(const struct gpadl *g)
{
	return g->received == g->pages;
}

struct gpadl *gpadl_find(const struct gpadl_table *t, uint32_t id)
{
	struct gpadl *g = t->first;

	while (g && g->id != id)
		g = g->next;
	return g;
}

void gpadl_drop(struct gpadl_table *t, struct gpadl *g)
{
	struct gpadl **at = &t->first;

	if (!g)
		return;
	while (*at != g)
		at = &(*at)->next;
	*at = g->next;
	t->count--;
	t->pages -= g->pages;
	free(g->page);
	free(g);
}

void gpadl_drop_relid(struct gpadl_table *t, uint32_t relid)
{
	struct gpadl *g = t->first;

	while (g) {
		struct gpadl *next = g->next;

		if (g->relid == relid)
			gpadl_drop(t, g);
		g = next;
	}
}

/* An empty list in the table, if there is room for it. */
static enum err gpadl_add(struct gpadl_table *t, const struct gpadl *like, struct gpadl **out)
{
	uint64_t pages = ((uint64_t)like->offset + like->bytes + SPEC_PAGE - 1) / SPEC_PAGE;
	struct gpadl *g, **at;

	if (like->offset >= SPEC_PAGE || like->bytes == 0 || pages > GPADL_PAGES_MAX)
		return err_note(ERR_GUEST, 0, "a page list of %u bytes at offset %u", like->bytes,
				like->offset);
	if (gpadl_find(t, like->id))
		return err_note(ERR_GUEST, 0, "page list 0x%x exists already", like->id);
	if (t->count == GPADL_COUNT_MAX || t->pages + pages > GPADL_PAGES_TOTAL)
		return err_note(ERR_GUEST, 0, "too many page lists");
	g = malloc(sizeof(*g));
	if (g) {
		*g = *like;
		g->pages = (uint32_t)pages;
		g->received = 0;
		g->page = calloc(g->pages, sizeof(*g->page));
	}
	if (!g || !g->page) {
		free(g);
		return err_note(ERR_NOMEM, 0, "page list: out of memory");
	}
	for (at = &t->first; *at; at = &(*at)->next)
		; /* at the end: a saved and loaded table has the same order */
	g->next = NULL;
	*at = g;
	t->count++;
	t->pages += g->pages;
	*out = g;
	return ERR_OK;
}

static enum err gpadl_page(const struct gpadl_table *t, struct gpadl *g, uint64_t address)
{
	uint64_t offset;

	if (g->received == g->pages)
		return err_note(ERR_GUEST, 0, "page list 0x%x has more pages than it said", g->id);
	if (address % SPEC_PAGE)
		return err_note(ERR_GUEST, 0, "page list 0x%x: 0x%llx is no page", g->id,
				(unsigned long long)address);
	g->page[g->received++] = address;
	return memory_offset(t->memory, gpa(address), SPEC_PAGE, &offset);
}

static enum err gpadl_take(const struct gpadl_table *t, struct gpadl *g, struct rd *in)
{
	enum err e = ERR_OK;

	while (e == ERR_OK && rd_left(in) >= 8) {
		uint64_t number = rd_le64(in);

		if (number > UINT64_MAX / SPEC_PAGE)
			return err_note(ERR_GUEST, 0, "page list 0x%x names page 0x%llx", g->id,
					(unsigned long long)number);
		e = gpadl_page(t, g, number * SPEC_PAGE);
	}
	return e;
}

enum err gpadl_begin(struct gpadl_table *t, const uint8_t *message, size_t len,
		     struct gpadl **out)
{
	struct gpadl like = {0};
	struct rd in;
	enum err e;

	*out = NULL;
	if (len < SPEC_GPADL_HEADER_BYTES)
		return err_note(ERR_GUEST, 0, "a page list of %zu bytes", len);
	like.relid = le32_get(message + 8);
	like.id = le32_get(message + 12);
	like.bytes = le32_get(message + 20);
	like.offset = le32_get(message + 24);
	if (le16_get(message + 18) != 1)
		return err_note(ERR_GUEST, 0, "page list 0x%x: %u ranges", like.id,
				le16_get(message + 18));
	if ((e = gpadl_add(t, &like, out)) != ERR_OK)
		return e;
	in = rd_make(message + SPEC_GPADL_HEADER_BYTES, len - SPEC_GPADL_HEADER_BYTES);
	if (le16_get(message + 16) != (uint16_t)(8 + 8 * (*out)->pages))
		e = err_note(ERR_GUEST, 0, "page list 0x%x contradicts itself", like.id);
	if (e == ERR_OK)
		e = gpadl_take(t, *out, &in);
	if (e != ERR_OK) {
		gpadl_drop(t, *out);
		*out = NULL;
	}
	return e;
}

enum err gpadl_more(struct gpadl_table *t, const uint8_t *message, size_t len, struct gpadl **out)
{
	struct rd in;

	*out = NULL;
	if (len < SPEC_GPADL_BODY_BYTES)
		return err_note(ERR_GUEST, 0, "a part of a page list of %zu bytes", len);
	*out = gpadl_find(t, le32_get(message + 12));
	if (!*out)
		return ERR_OK;
	in = rd_make(message + SPEC_GPADL_BODY_BYTES, len - SPEC_GPADL_BODY_BYTES);
	return gpadl_take(t, *out, &in);
}

/* ---- state ---- */

void gpadl_save(const struct gpadl_table *t, struct buf *out)
{
	for (const struct gpadl *g = t->first; g; g = g->next) {
		buf_put_le64(out, g->id);
		buf_put_le64(out, g->relid);
		buf_put_le64(out, g->offset);
		buf_put_le64(out, g->bytes);
		buf_put_le64(out, g->received);
		for (uint32_t i = 0; i < g->received; i++)
			buf_put_le64(out, g->page[i]);
	}
}

static enum err gpadl_load_one(struct gpadl_table *t, struct rd *in)
{
	uint64_t id = rd_le64(in), relid = rd_le64(in), offset = rd_le64(in);
	uint64_t bytes = rd_le64(in), received = rd_le64(in);
	struct gpadl like = {.id = (uint32_t)id, .relid = (uint32_t)relid,
			     .offset = (uint32_t)offset, .bytes = (uint32_t)bytes};
	struct gpadl *g;
	enum err e;

	if (id > UINT32_MAX || relid > SPEC_RELID_MAX || offset > UINT32_MAX || bytes > UINT32_MAX)
		return err_note(ERR_GUEST, 0, "numbers too large");
	if ((e = gpadl_add(t, &like, &g)) != ERR_OK)
		return e;
	for (uint64_t i = 0; i < received && e == ERR_OK && !in->overrun; i++)
		e = gpadl_page(t, g, rd_le64(in));
	return e;
}

enum err gpadl_load(struct gpadl_table *t, const uint8_t *p, size_t len)
{
	struct rd in = rd_make(p, len);
	enum err e = ERR_OK;

	while (e == ERR_OK && rd_left(&in) > 0)
		e = gpadl_load_one(t, &in);
	if (e == ERR_GUEST || (e == ERR_OK && in.overrun))
		return err_note(ERR_CORRUPT, 0, "state of vmbus: malformed page lists");
	return e;
}
