/* SPDX-License-Identifier: Apache-2.0 */
/* dirty: KVM's dirty log and the device dirty map as one bitmap; see dirty.h.
 *
 * With manual protection (Linux 5.4) reading the log and protecting the pages
 * again are two calls.  We use it, in pieces of 256 MiB: KVM holds its page-table
 * lock for one piece only, and a vCPU that faults waits for that long at most,
 * not for all of RAM.  A fetch clears exactly the bits that it has read, and the
 * reader looks at pages afterwards, so a write in between loses nothing: its bit
 * was set already, or stays for the next fetch.
 * The variant that starts with all bits set is not used: an increment must be
 * able to start from an empty map.
 *
 * The second slot begins at offset 3 GiB, a multiple of 64 pages, so each slot's
 * log is a run of whole words of the one bitmap. */
#include "hv/dirty.h"

#include "base/bytes.h"
#include "hv/kvm/kvm.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define WORD_PAGES 64u
#define CLEAR_PAGES 65536u

static_assert(MEMORY_HOLE_START % (WORD_PAGES * MEMORY_PAGE_BYTES) == 0, "slot 1 starts a word");

struct dirty {
	struct memory *m;
	int vm_fd;
	bool manual, on;
	uint64_t *scratch; /* one slot's log */
};

static size_t slot_words(const struct memory_slot *s)
{
	return (size_t)((s->bytes / MEMORY_PAGE_BYTES + WORD_PAGES - 1) / WORD_PAGES);
}

static enum err dirty_set_slots(struct dirty *d, bool log)
{
	unsigned count;
	const struct memory_slot *s = memory_slots(d->m, &count);

	for (unsigned i = 0; i < count; i++) {
		enum err e = kvm_vm_set_slot(d->vm_fd, i, s[i].base.v, s[i].bytes,
					     memory_host_base(d->m) + s[i].offset, log);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

enum err dirty_create(struct memory *m, int vm_fd, struct dirty **out)
{
	struct dirty *d = calloc(1, sizeof *d);
	enum err e;

	if (!d)
		return err_sys(ENOMEM, "dirty log");
	d->m = m;
	d->vm_fd = vm_fd;
	d->manual = kvm_cap(vm_fd, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) &
		    KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
	if (d->manual && (e = kvm_vm_manual_dirty(vm_fd)) != ERR_OK)
		goto fail;
	if ((e = dirty_set_slots(d, false)) != ERR_OK)
		goto fail;
	*out = d;
	return ERR_OK;
fail:
	dirty_destroy(d);
	return e;
}

void dirty_destroy(struct dirty *d)
{
	if (!d)
		return;
	free(d->scratch);
	free(d);
}

size_t dirty_words(const struct dirty *d)
{
	return (size_t)((memory_bytes(d->m) / MEMORY_PAGE_BYTES + WORD_PAGES - 1) / WORD_PAGES);
}

enum err dirty_start(struct dirty *d)
{
	enum err e;

	if (d->on && (e = dirty_stop(d)) != ERR_OK)
		return e;
	if (!d->scratch)
		d->scratch = malloc(dirty_words(d) * sizeof *d->scratch);
	if (!d->scratch)
		return err_sys(ENOMEM, "dirty log");
	if ((e = dirty_set_slots(d, true)) != ERR_OK)
		return e;
	memory_track(d->m, true);
	d->on = true;
	return ERR_OK;
}

enum err dirty_stop(struct dirty *d)
{
	memory_track(d->m, false);
	d->on = false;
	free(d->scratch);
	d->scratch = NULL;
	return dirty_set_slots(d, false);
}

/* Protect again the pages that d->scratch names, piece by piece. */
static enum err dirty_clear_slot(struct dirty *d, unsigned slot, uint64_t pages)
{
	for (uint64_t first = 0; first < pages; first += CLEAR_PAGES) {
		uint64_t left = pages - first;
		uint32_t count = left < CLEAR_PAGES ? (uint32_t)left : CLEAR_PAGES;
		const uint64_t *bits = d->scratch + first / WORD_PAGES;
		enum err e;

		if (bytes_zero(bits, (count + WORD_PAGES - 1) / WORD_PAGES * sizeof *bits))
			continue;
		if ((e = kvm_vm_clear_dirty(d->vm_fd, slot, first, count, bits)) != ERR_OK)
			return e;
	}
	return ERR_OK;
}

static enum err dirty_fetch_slot(struct dirty *d, unsigned i, const struct memory_slot *s,
				 uint64_t *bits)
{
	size_t words = slot_words(s);
	uint64_t *to = bits + s->offset / MEMORY_PAGE_BYTES / WORD_PAGES;
	enum err e;

	memset(d->scratch, 0, words * sizeof *d->scratch);
	if ((e = kvm_vm_get_dirty(d->vm_fd, i, d->scratch)) != ERR_OK)
		return e;
	for (size_t w = 0; w < words; w++)
		to[w] |= d->scratch[w];
	return d->manual ? dirty_clear_slot(d, i, s->bytes / MEMORY_PAGE_BYTES) : ERR_OK;
}

enum err dirty_fetch(struct dirty *d, uint64_t *bits)
{
	unsigned count;
	const struct memory_slot *s = memory_slots(d->m, &count);

	assert(d->on);
	for (unsigned i = 0; i < count; i++) {
		enum err e = dirty_fetch_slot(d, i, &s[i], bits);
		if (e != ERR_OK)
			return e;
	}
	memory_take_written(d->m, bits);
	return ERR_OK;
}
