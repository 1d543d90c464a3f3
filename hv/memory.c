/* SPDX-License-Identifier: Apache-2.0 */
/* memory: guest RAM as one anonymous private mapping; see memory.h.
 *
 * Why anonymous and private, and not a shared memfd that the keeper could map:
 * docs/MEMORY.md.  The mapping starts on a 2 MiB boundary, and both slots start
 * on one in guest space too, so that KVM can map a huge page of the host as one
 * entry.  Nothing is reserved or touched here: a page costs when the guest, a
 * device or the keeper first writes it.
 *
 * Guest RAM is shared with running vCPUs, so its bytes may change under every
 * copy; callers copy once and check the copy. */
#include "hv/memory.h"

#include "base/fs.h"
#include "base/units.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#define HUGE_BYTES (2ull << 20)
#define MAP_WORD_PAGES 64u

struct memory {
	uint8_t *host; /* offset 0 */
	uint64_t bytes;
	void *map; /* what mmap gave, `host` lies in it */
	size_t map_bytes;
	struct memory_slot slots[2];
	unsigned slot_count;
	_Atomic bool tracking;
	_Atomic uint64_t *written; /* device dirty map, one bit per page */
	size_t written_words;
};

static void memory_place(struct memory *m)
{
	uint64_t low = m->bytes < MEMORY_HOLE_START ? m->bytes : MEMORY_HOLE_START;

	m->slots[0] = (struct memory_slot){.base = gpa(0), .offset = 0, .bytes = low};
	m->slot_count = 1;
	if (m->bytes > low) {
		m->slots[1] = (struct memory_slot){
			.base = gpa(MEMORY_HOLE_END), .offset = low, .bytes = m->bytes - low};
		m->slot_count = 2;
	}
}

static enum err memory_map(struct memory *m)
{
	char text[UNITS_TEXT_BYTES];
	size_t words = (size_t)(m->bytes / MEMORY_PAGE_BYTES + MAP_WORD_PAGES - 1) / MAP_WORD_PAGES;
	const int prot = PROT_READ | PROT_WRITE;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	void *p;

	m->map_bytes = (size_t)(m->bytes + HUGE_BYTES);
	p = mmap(NULL, m->map_bytes, prot, flags, -1, 0);
	if (p == MAP_FAILED)
		return err_sys(errno, "map %s of guest memory", units_format_size(m->bytes, text));
	m->map = p;
	m->host = (uint8_t *)(((uintptr_t)p + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	/* Both are wishes: a kernel without huge pages, or without a core dump
	 * filter, runs the guest as well. */
	(void)madvise(m->host, m->bytes, MADV_HUGEPAGE);
	(void)madvise(m->host, m->bytes, MADV_DONTDUMP);
	p = mmap(NULL, words * sizeof *m->written, prot, flags, -1, 0);
	if (p == MAP_FAILED)
		return err_sys(errno, "map the device dirty map");
	m->written = p;
	m->written_words = words;
	return ERR_OK;
}

enum err memory_create(uint64_t bytes, struct memory **out)
{
	struct memory *m;
	enum err e;

	if (bytes < MEMORY_MIN_BYTES || bytes > MEMORY_MAX_BYTES || bytes % MEMORY_PAGE_BYTES)
		return err_note(ERR_USAGE, 0,
				"memory of %llu bytes is not possible: it must be a multiple of "
				"4 KiB between 16 MiB and 1 TiB",
				(unsigned long long)bytes);
	m = calloc(1, sizeof *m);
	if (!m)
		return err_sys(ENOMEM, "guest memory");
	m->bytes = bytes;
	memory_place(m);
	if ((e = memory_map(m)) != ERR_OK) {
		memory_destroy(m);
		return e;
	}
	*out = m;
	return ERR_OK;
}

void memory_destroy(struct memory *m)
{
	if (!m)
		return;
	if (m->map)
		munmap(m->map, m->map_bytes);
	if (m->written)
		munmap((void *)m->written, m->written_words * sizeof *m->written);
	free(m);
}

uint64_t memory_bytes(const struct memory *m)
{
	return m->bytes;
}

const struct memory_slot *memory_slots(const struct memory *m, unsigned *count)
{
	*count = m->slot_count;
	return m->slots;
}

uintptr_t memory_host_base(const struct memory *m)
{
	return (uintptr_t)m->host;
}

static bool memory_find(const struct memory *m, struct gpa at, size_t len, uint64_t *offset)
{
	for (unsigned i = 0; i < m->slot_count; i++) {
		const struct memory_slot *s = &m->slots[i];

		if (at.v < s->base.v || at.v - s->base.v > s->bytes)
			continue;
		if (len > s->bytes - (at.v - s->base.v))
			continue;
		*offset = s->offset + (at.v - s->base.v);
		return true;
	}
	return false;
}

enum err memory_offset(const struct memory *m, struct gpa at, size_t len, uint64_t *offset)
{
	if (!memory_find(m, at, len, offset))
		return err_note(ERR_GUEST, 0, "guest address 0x%llx (%zu bytes) is not RAM",
				(unsigned long long)at.v, len);
	return ERR_OK;
}

/* After the bytes have landed, so that whoever takes the bit finds them. */
static void memory_mark(struct memory *m, uint64_t offset, size_t len)
{
	uint64_t first, last;

	if (!len || !atomic_load_explicit(&m->tracking, memory_order_acquire))
		return;
	first = offset / MEMORY_PAGE_BYTES;
	last = (offset + len - 1) / MEMORY_PAGE_BYTES;
	for (uint64_t page = first; page <= last; page++)
		atomic_fetch_or_explicit(&m->written[page / MAP_WORD_PAGES],
					 1ull << page % MAP_WORD_PAGES, memory_order_release);
}

enum err memory_read(const struct memory *m, struct gpa at, void *buf, size_t len)
{
	uint64_t offset;
	enum err e;

	if ((e = memory_offset(m, at, len, &offset)) != ERR_OK)
		return e;
	if (len)
		memcpy(buf, m->host + offset, len);
	return ERR_OK;
}

enum err memory_write(struct memory *m, struct gpa at, const void *buf, size_t len)
{
	uint64_t offset;
	enum err e;

	if ((e = memory_offset(m, at, len, &offset)) != ERR_OK)
		return e;
	if (len)
		memcpy(m->host + offset, buf, len);
	memory_mark(m, offset, len);
	return ERR_OK;
}

enum err memory_zero(struct memory *m, struct gpa at, size_t len)
{
	uint64_t offset;
	enum err e;

	if ((e = memory_offset(m, at, len, &offset)) != ERR_OK)
		return e;
	memset(m->host + offset, 0, len);
	memory_mark(m, offset, len);
	return ERR_OK;
}

enum err memory_load_file(struct memory *m, struct gpa at, int fd, uint64_t file_offset, size_t len)
{
	uint64_t offset;
	enum err e;

	if ((e = memory_offset(m, at, len, &offset)) != ERR_OK)
		return e;
	e = fs_read_at(fd, "file for guest memory", m->host + offset, len, file_offset);
	memory_mark(m, offset, len); /* after a short read too: some bytes have landed */
	return e;
}

/* The word at an aligned address of RAM. */
static enum err memory_word(const struct memory *m, struct gpa at, uint64_t *offset, uint32_t **w)
{
	enum err e;

	if (at.v % sizeof **w)
		return err_note(ERR_GUEST, 0, "guest address 0x%llx is not aligned to 4 bytes",
				(unsigned long long)at.v);
	if ((e = memory_offset(m, at, sizeof **w, offset)) != ERR_OK)
		return e;
	*w = (uint32_t *)(void *)(m->host + *offset);
	return ERR_OK;
}

enum err memory_store32_release(struct memory *m, struct gpa at, uint32_t v)
{
	uint64_t offset = 0;
	uint32_t *w = NULL;
	enum err e;

	if ((e = memory_word(m, at, &offset, &w)) != ERR_OK)
		return e;
	__atomic_store_n(w, v, __ATOMIC_RELEASE);
	memory_mark(m, offset, sizeof v);
	return ERR_OK;
}

enum err memory_load32_acquire(const struct memory *m, struct gpa at, uint32_t *v)
{
	uint64_t offset = 0;
	uint32_t *w = NULL;
	enum err e;

	if ((e = memory_word(m, at, &offset, &w)) == ERR_OK)
		*v = __atomic_load_n(w, __ATOMIC_ACQUIRE);
	return e;
}

enum err memory_or32(struct memory *m, struct gpa at, uint32_t bits, uint32_t *before)
{
	uint64_t offset = 0;
	uint32_t *w = NULL;
	enum err e;

	if ((e = memory_word(m, at, &offset, &w)) != ERR_OK)
		return e;
	*before = __atomic_fetch_or(w, bits, __ATOMIC_SEQ_CST);
	memory_mark(m, offset, sizeof bits);
	return ERR_OK;
}

enum err memory_io(struct memory *m, struct gpa at, size_t len, struct iovec *out)
{
	uint64_t offset;
	enum err e;

	if ((e = memory_offset(m, at, len, &offset)) != ERR_OK)
		return e;
	*out = (struct iovec){m->host + offset, len};
	return ERR_OK;
}

void memory_landed(struct memory *m, struct gpa at, size_t len)
{
	uint64_t offset;

	if (memory_find(m, at, len, &offset))
		memory_mark(m, offset, len);
}

enum err memory_clear(struct memory *m)
{
	if (madvise(m->host, m->bytes, MADV_DONTNEED) < 0)
		return err_sys(errno, "clear guest memory");
	for (unsigned i = 0; i < m->slot_count; i++)
		memory_mark(m, m->slots[i].offset, (size_t)m->slots[i].bytes);
	return ERR_OK;
}

void memory_track(struct memory *m, bool on)
{
	for (size_t i = 0; on && i < m->written_words; i++)
		if (atomic_load_explicit(&m->written[i], memory_order_relaxed))
			atomic_store_explicit(&m->written[i], 0, memory_order_relaxed);
	atomic_store_explicit(&m->tracking, on, memory_order_release);
}

void memory_take_written(struct memory *m, uint64_t *bits)
{
	for (size_t i = 0; i < m->written_words; i++)
		if (atomic_load_explicit(&m->written[i], memory_order_relaxed))
			bits[i] |= atomic_exchange_explicit(&m->written[i], 0,
							    memory_order_acquire);
}
