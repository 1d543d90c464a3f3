/* SPDX-License-Identifier: Apache-2.0 */
/* packet: descriptors and page lists; see packet.h.
 *
 * Format: type u16 @0, payload offset in units of 8 bytes u16 @2, length in units of 8
 * u16 @4, flags u16 @6, transaction id u64 @8.  A GPA-direct packet goes on: reserved
 * u32 @16, range count u32 @20, ranges { bytes u32, offset in the first page u32, page
 * numbers u64[ceil((offset + bytes) / 4096)] }.
 *
 * Source: docs/vmbus.md 12. */
#include "hv/vmbus/packet.h"

#include <stdbool.h>

#include "base/bytes.h"
#include "hv/vmbus/spec.h"

#define PAGE_NUMBER_MAX ((1ull << 52) - 1)

enum err packet_parse(const uint8_t *p, size_t len, struct packet *out)
{
	size_t at, all;

	if (len < SPEC_DESCRIPTOR_BYTES)
		return err_note(ERR_GUEST, 0, "a packet of %zu bytes", len);
	at = (size_t)le16_get(p + 2) * 8;
	all = (size_t)le16_get(p + 4) * 8;
	if (at < SPEC_DESCRIPTOR_BYTES || at > all || all > len)
		return err_note(ERR_GUEST, 0, "a packet of %zu bytes: payload at %zu, length %zu",
				len, at, all);
	*out = (struct packet){
		.type = le16_get(p),
		.flags = le16_get(p + 6),
		.transaction = le64_get(p + 8),
		.header = p + SPEC_DESCRIPTOR_BYTES,
		.header_bytes = at - SPEC_DESCRIPTOR_BYTES,
		.data = p + at,
		.bytes = all - at,
	};
	return ERR_OK;
}

struct ranges { /* what packet_ranges fills */
	const struct memory *memory;
	struct packet_range *out;
	size_t room, count;
};

/* One piece within a page. */
static enum err packet_add(struct ranges *r, uint64_t page, uint32_t offset, uint32_t bytes)
{
	struct packet_range *last = r->count ? &r->out[r->count - 1] : NULL;
	uint64_t place;
	struct gpa at;
	enum err e;

	if (page > PAGE_NUMBER_MAX)
		return err_note(ERR_GUEST, 0, "a packet names page 0x%llx",
				(unsigned long long)page);
	at = gpa(page * SPEC_PAGE + offset);
	if (last && last->at.v + last->bytes == at.v &&
	    memory_offset(r->memory, last->at, (size_t)last->bytes + bytes, &place) == ERR_OK) {
		last->bytes += bytes;
		return ERR_OK;
	}
	if ((e = memory_offset(r->memory, at, bytes, &place)) != ERR_OK)
		return e;
	if (r->count == r->room)
		return err_note(ERR_GUEST, 0, "a packet names more than %zu pieces of memory",
				r->room);
	r->out[r->count++] = (struct packet_range){at, bytes};
	return ERR_OK;
}

/* One range with its page numbers. */
static enum err packet_range(struct ranges *r, struct rd *in, uint64_t left, uint32_t *bytes)
{
	uint32_t offset, rest;
	enum err e = ERR_OK;

	*bytes = rest = rd_le32(in);
	offset = rd_le32(in);
	if (offset >= SPEC_PAGE || rest > left)
		return err_note(ERR_GUEST, 0, "a packet names %u bytes at offset %u of a page",
				rest, offset);
	while (rest > 0 && e == ERR_OK) {
		uint32_t n = SPEC_PAGE - offset < rest ? SPEC_PAGE - offset : rest;
		uint64_t page = rd_le64(in);

		if (in->overrun)
			return err_note(ERR_GUEST, 0, "a packet lacks page numbers");
		e = packet_add(r, page, offset, n);
		rest -= n;
		offset = 0;
	}
	return e;
}

enum err packet_ranges(const struct packet *p, const struct memory *m, uint64_t max_total,
		       struct packet_range *out, size_t room, size_t *count, uint64_t *total)
{
	struct ranges r = {.memory = m, .out = out, .room = room};
	struct rd in = rd_make(p->header, p->header_bytes);
	uint32_t ranges, bytes = 0;
	enum err e = ERR_OK;

	*count = 0;
	*total = 0;
	if (p->type != SPEC_PACKET_GPA_DIRECT)
		return ERR_OK;
	(void)rd_le32(&in);
	ranges = rd_le32(&in);
	for (uint32_t i = 0; i < ranges && e == ERR_OK; i++) {
		if (rd_left(&in) < 8)
			return err_note(ERR_GUEST, 0, "a packet lacks some of its %u ranges",
					ranges);
		e = packet_range(&r, &in, max_total - *total, &bytes);
		*total += bytes;
	}
	if (e == ERR_OK && in.overrun)
		e = err_note(ERR_GUEST, 0, "a packet with page numbers, but too short for them");
	*count = e == ERR_OK ? r.count : 0;
	return e;
}
