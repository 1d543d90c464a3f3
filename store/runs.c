/* SPDX-License-Identifier: Apache-2.0 */
/* runs: the four varints of a run, encoded and decoded.
 *
 * Format: runs.h.  The decoder accepts only the shortest form of a number and
 * only ascending runs within the block's range, so that bytes and meaning
 * correspond one to one. */
#include "store/runs.h"

static void varint_put(struct buf *b, uint64_t v)
{
	while (v >= 0x80) {
		buf_put_le8(b, (uint8_t)(v | 0x80));
		v >>= 7;
	}
	buf_put_le8(b, (uint8_t)v);
}

static enum err varint_get(struct rd *r, uint64_t *out)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		uint8_t byte = rd_le8(r);
		uint64_t part = byte & 0x7f;

		if (part << shift >> shift != part)
			break;
		v |= part << shift;
		if (byte & 0x80)
			continue;
		if (r->overrun || (part == 0 && shift > 0))
			break;
		*out = v;
		return ERR_OK;
	}
	return err_note(ERR_CORRUPT, 0, "malformed number in a list of runs");
}

static uint64_t zigzag(uint32_t v, uint32_t before)
{
	int64_t d = (int64_t)v - (int64_t)before;

	return (uint64_t)d << 1 ^ (uint64_t)(d >> 63);
}

/* before + difference, if that is a 32-bit number. */
static bool unzigzag(uint64_t z, uint32_t before, uint32_t *out)
{
	uint64_t size = z >> 1;
	int64_t v;

	if (size > UINT32_MAX)
		return false;
	v = z & 1 ? (int64_t)before - 1 - (int64_t)size : (int64_t)before + (int64_t)size;
	if (v < 0 || v > UINT32_MAX)
		return false;
	*out = (uint32_t)v;
	return true;
}

static void advance(struct runs_at *at, const struct run *run)
{
	at->page = run->page + run->count;
	at->pack = run->pack;
	at->slot = run->slot + (run->repeat ? 1 : run->count);
}

void runs_put(struct buf *b, struct runs_at *at, const struct run *run)
{
	varint_put(b, run->page - at->page);
	varint_put(b, (uint64_t)run->count << 1 | run->repeat);
	varint_put(b, zigzag(run->pack, at->pack));
	varint_put(b, zigzag(run->slot, at->slot));
	advance(at, run);
}

static enum err run_get(struct rd *r, struct runs_at *at, uint64_t end, struct run *run)
{
	uint64_t gap, count, pack, slot;
	enum err e;

	if ((e = varint_get(r, &gap)) != ERR_OK || (e = varint_get(r, &count)) != ERR_OK ||
	    (e = varint_get(r, &pack)) != ERR_OK || (e = varint_get(r, &slot)) != ERR_OK)
		return e;
	if (gap > end - at->page || count >> 1 == 0 || count >> 1 > UINT32_MAX ||
	    count >> 1 > end - at->page - gap)
		return err_note(ERR_CORRUPT, 0, "a run lies outside of its block");
	run->page = at->page + gap;
	run->count = (uint32_t)(count >> 1);
	run->repeat = count & 1;
	if (!unzigzag(pack, at->pack, &run->pack) || !unzigzag(slot, at->slot, &run->slot) ||
	    run->slot > UINT32_MAX - run->count || (run->repeat && run->count == 1))
		return err_note(ERR_CORRUPT, 0, "a run has an impossible place");
	advance(at, run);
	return ERR_OK;
}

enum err runs_decode(const void *p, size_t len, uint64_t first, uint64_t end, uint32_t n,
		     struct run *runs)
{
	struct rd r = rd_make(p, len);
	struct runs_at at = {.page = first};

	for (uint32_t i = 0; i < n; i++) {
		enum err e = run_get(&r, &at, end, &runs[i]);

		if (e != ERR_OK)
			return e;
	}
	if (rd_left(&r) != 0 || at.page != end || (n > 0 && runs[0].page != first))
		return err_note(ERR_CORRUPT, 0, "a block of runs has the wrong length");
	return ERR_OK;
}

bool runs_join(struct run *last, const struct run *run)
{
	if (last->count == 0 || run->page != last->page + last->count || run->pack != last->pack ||
	    last->count > UINT32_MAX / 2 - run->count)
		return false;
	if (run->slot == last->slot && (last->count == 1 || last->repeat) &&
	    (run->count == 1 || run->repeat))
		last->repeat = true;
	else if (last->repeat || run->repeat || run->slot != last->slot + last->count)
		return false;
	last->count += run->count;
	return true;
}

bool runs_extend(struct run *last, uint64_t page, uint32_t pack, uint32_t slot)
{
	return runs_join(last,
			 &(struct run){.page = page, .count = 1, .pack = pack, .slot = slot});
}
