/* SPDX-License-Identifier: Apache-2.0 */
/* ring: packets in and out of guest memory, every index checked; see ring.h.
 *
 * Control page: write index u32 @0, read index u32 @4, interrupt mask u32 @8, pending
 * send size u32 @12.  Indices are offsets in the data area, multiples of 8, below its
 * size.  A packet is followed by 8 bytes, the upper 4 of which are the index at which it
 * began; it wraps at the end of the data at any byte.  The ring is never quite full:
 * equal indices mean empty.
 *
 * Barriers.  Reader: what it stores (read index, mask) must be seen before it looks at
 * what the guest stores (pending size, write index), or both may believe that the other
 * will go on; the same for the writer with its index and the guest's mask.
 *
 * Source: docs/vmbus.md 11. */
#include "hv/vmbus/ring.h"

#include <stdatomic.h>
#include <string.h>

#include "base/bytes.h"
#include "hv/vmbus/spec.h"

#define ALIGN 8u

static struct gpa ring_control(const struct ring *r, uint32_t field)
{
	return gpa(r->pages[0] + field);
}

static enum err ring_bad(const struct ring *r, const char *what, uint32_t value)
{
	return err_note(ERR_GUEST, 0, "%s ring of %u bytes: %s %u", r->reader ? "guest's" : "host's",
			r->bytes, what, value);
}

static bool ring_index_ok(const struct ring *r, uint32_t index)
{
	return index < r->bytes && index % ALIGN == 0;
}

/* The index that the guest moves. */
static enum err ring_theirs(const struct ring *r, uint32_t *index)
{
	enum err e = memory_load32_acquire(
		r->memory, ring_control(r, r->reader ? SPEC_RING_WRITE : SPEC_RING_READ), index);

	if (e == ERR_OK && !ring_index_ok(r, *index))
		e = ring_bad(r, "impossible index", *index);
	return e;
}

static uint32_t ring_used(const struct ring *r, uint32_t write, uint32_t read)
{
	return write >= read ? write - read : r->bytes - read + write;
}

static uint32_t ring_after(const struct ring *r, uint32_t index, size_t len)
{
	return (uint32_t)((index + len) % r->bytes);
}

/* One page's worth of a copy at a time; offset < bytes. */
static enum err ring_copy(const struct ring *r, uint32_t offset, void *to, const void *from,
			  size_t len)
{
	size_t done = 0;
	enum err e = ERR_OK;

	while (done < len && e == ERR_OK) {
		uint32_t in_page = offset % SPEC_PAGE;
		struct gpa at = gpa(r->pages[1 + offset / SPEC_PAGE] + in_page);
		size_t n = SPEC_PAGE - in_page;

		n = n < len - done ? n : len - done;
		if (to)
			e = memory_read(r->memory, at, (uint8_t *)to + done, n);
		else
			e = memory_write(r->memory, at, (const uint8_t *)from + done, n);
		done += n;
		offset = ring_after(r, offset, n);
	}
	return e;
}

static enum err ring_get(const struct ring *r, uint32_t offset, void *to, size_t len)
{
	return ring_copy(r, offset, to, NULL, len);
}

static enum err ring_put(const struct ring *r, uint32_t offset, const void *from, size_t len)
{
	return ring_copy(r, offset, NULL, from, len);
}

enum err ring_restore(struct ring *r, struct memory *m, const uint64_t *pages, uint32_t count,
		      bool reader, uint32_t index)
{
	*r = (struct ring){.memory = m, .pages = pages, .reader = reader, .index = index};
	if (count < 2 || count > UINT32_MAX / SPEC_PAGE)
		return err_note(ERR_GUEST, 0, "a ring of %u pages", count);
	r->bytes = (count - 1) * SPEC_PAGE;
	return ring_index_ok(r, index) ? ERR_OK : ring_bad(r, "impossible index", index);
}

enum err ring_attach(struct ring *r, struct memory *m, const uint64_t *pages, uint32_t count,
		     bool reader)
{
	enum err e = ring_restore(r, m, pages, count, reader, 0);

	if (e == ERR_OK)
		e = memory_load32_acquire(
			m, ring_control(r, reader ? SPEC_RING_READ : SPEC_RING_WRITE), &r->index);
	if (e == ERR_OK && !ring_index_ok(r, r->index))
		e = ring_bad(r, "impossible index", r->index);
	return e;
}

/* ---- reader ---- */

enum err ring_mask(struct ring *r, bool on)
{
	enum err e = memory_store32_release(r->memory, ring_control(r, SPEC_RING_MASK), on);

	atomic_thread_fence(memory_order_seq_cst);
	return e;
}

enum err ring_pending(const struct ring *r, bool *yes)
{
	uint32_t write = 0;
	enum err e = ring_theirs(r, &write);

	*yes = e == ERR_OK && write != r->index;
	return e;
}

/* The length of the packet at our index, from its descriptor, which is put in buf. */
static enum err ring_peek(const struct ring *r, uint8_t *buf, size_t room, uint32_t used,
			  size_t *len)
{
	size_t offset;
	enum err e;

	if (used < SPEC_DESCRIPTOR_BYTES + SPEC_TRAILER_BYTES)
		return ring_bad(r, "less than a packet: bytes", used);
	if ((e = ring_get(r, r->index, buf, SPEC_DESCRIPTOR_BYTES)) != ERR_OK)
		return e;
	offset = (size_t)le16_get(buf + 2) * ALIGN;
	*len = (size_t)le16_get(buf + 4) * ALIGN;
	if (offset < SPEC_DESCRIPTOR_BYTES || offset > *len)
		return ring_bad(r, "a packet's payload at", (uint32_t)offset);
	if (*len + SPEC_TRAILER_BYTES > used)
		return ring_bad(r, "a packet beyond what was written: bytes", (uint32_t)*len);
	if (*len > room)
		return ring_bad(r, "a packet too long: bytes", (uint32_t)*len);
	return ERR_OK;
}

/* `taken` bytes were consumed: does the guest wait for that?  It does if its packet did
 * not fit before and fits now, by what it has written up to this moment. */
static enum err ring_made_room(const struct ring *r, uint32_t taken, bool *signal)
{
	uint32_t pending = 0, write = 0, room;
	enum err e = memory_load32_acquire(r->memory, ring_control(r, SPEC_RING_PENDING), &pending);

	*signal = false;
	if (e != ERR_OK || pending == 0 || (e = ring_theirs(r, &write)) != ERR_OK)
		return e;
	room = r->bytes - ring_used(r, write, r->index);
	*signal = room > pending && (room < taken || room - taken <= pending);
	return ERR_OK;
}

enum err ring_read(struct ring *r, uint8_t *buf, size_t room, size_t *len, bool *signal)
{
	uint32_t write = 0;
	enum err e = ring_theirs(r, &write);

	*len = 0;
	*signal = false;
	if (e != ERR_OK || write == r->index)
		return e;
	if ((e = ring_peek(r, buf, room, ring_used(r, write, r->index), len)) == ERR_OK)
		e = ring_get(r, ring_after(r, r->index, SPEC_DESCRIPTOR_BYTES),
			     buf + SPEC_DESCRIPTOR_BYTES, *len - SPEC_DESCRIPTOR_BYTES);
	if (e != ERR_OK) {
		*len = 0;
		return e;
	}
	r->index = ring_after(r, r->index, *len + SPEC_TRAILER_BYTES);
	e = memory_store32_release(r->memory, ring_control(r, SPEC_RING_READ), r->index);
	atomic_thread_fence(memory_order_seq_cst);
	if (e != ERR_OK)
		return e;
	return ring_made_room(r, (uint32_t)*len + SPEC_TRAILER_BYTES, signal);
}

/* ---- writer ---- */

/* Room for a packet of n bytes, trailer included; if not, and still not when the guest
 * knows of it, *room is false. */
static enum err ring_room(struct ring *r, uint32_t n, bool *room)
{
	uint32_t read = 0;
	enum err e = ring_theirs(r, &read);

	*room = e == ERR_OK && r->bytes - ring_used(r, r->index, read) > n;
	if (e != ERR_OK || *room)
		return e;
	e = memory_store32_release(r->memory, ring_control(r, SPEC_RING_PENDING), n);
	atomic_thread_fence(memory_order_seq_cst);
	if (e == ERR_OK && (e = ring_theirs(r, &read)) == ERR_OK)
		*room = r->bytes - ring_used(r, r->index, read) > n;
	return e;
}

/* Is a signal due for what was written from `before` on? */
static enum err ring_noticed(const struct ring *r, uint32_t before, bool *signal)
{
	uint32_t mask = 0, read = 0;
	enum err e = memory_load32_acquire(r->memory, ring_control(r, SPEC_RING_MASK), &mask);

	if (e == ERR_OK)
		e = ring_theirs(r, &read);
	*signal = e == ERR_OK && mask == 0 && read == before;
	return e;
}

static enum err ring_put_pieces(struct ring *r, const struct ring_piece *pieces, unsigned count,
				size_t padding)
{
	uint8_t tail[ALIGN + SPEC_TRAILER_BYTES] = {0};
	uint32_t at = r->index;
	enum err e = ERR_OK;

	for (unsigned i = 0; i < count && e == ERR_OK; i++) {
		e = ring_put(r, at, pieces[i].p, pieces[i].len);
		at = ring_after(r, at, pieces[i].len);
	}
	le32_put(tail + padding + 4, r->index);
	if (e == ERR_OK)
		e = ring_put(r, at, tail, padding + SPEC_TRAILER_BYTES);
	return e;
}

enum err ring_write(struct ring *r, const struct ring_piece *pieces, unsigned count, bool *written,
		    bool *signal)
{
	uint32_t before = r->index;
	size_t len = 0, padding;
	enum err e;

	*written = *signal = false;
	for (unsigned i = 0; i < count; i++)
		len += pieces[i].len;
	padding = (ALIGN - len % ALIGN) % ALIGN;
	if (len + padding + SPEC_TRAILER_BYTES >= r->bytes)
		return err_note(ERR_USAGE, 0, "a packet of %zu bytes for a ring of %u", len,
				r->bytes);
	e = ring_room(r, (uint32_t)(len + padding) + SPEC_TRAILER_BYTES, written);
	if (e != ERR_OK || !*written)
		return e;
	/* In the common case nobody asked for room, and nothing is stored. */
	uint32_t pending = 0;
	struct gpa at = ring_control(r, SPEC_RING_PENDING);

	if ((e = memory_load32_acquire(r->memory, at, &pending)) == ERR_OK && pending != 0)
		e = memory_store32_release(r->memory, at, 0);
	if (e == ERR_OK)
		e = ring_put_pieces(r, pieces, count, padding);
	if (e != ERR_OK)
		return e;
	r->index = ring_after(r, r->index, len + padding + SPEC_TRAILER_BYTES);
	e = memory_store32_release(r->memory, ring_control(r, SPEC_RING_WRITE), r->index);
	atomic_thread_fence(memory_order_seq_cst);
	return e == ERR_OK ? ring_noticed(r, before, signal) : e;
}
