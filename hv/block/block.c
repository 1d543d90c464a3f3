/* SPDX-License-Identifier: Apache-2.0 */
/* block: what all kinds of disks have in common, and the map of changed blocks; see
 * block.h. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "hv/block/block_parts.h"

#define WORD_BITS 64u

static size_t words_of(uint64_t bytes)
{
	uint64_t blocks = (bytes + BLOCK_TRACK_BYTES - 1) / BLOCK_TRACK_BYTES;

	return (size_t)((blocks + WORD_BITS - 1) / WORD_BITS);
}

enum err block_init(struct block *b, const struct block_ops *ops)
{
	if (b->info.bytes == 0 || b->info.bytes > BLOCK_MAX_BYTES ||
	    b->info.bytes % BLOCK_SECTOR_BYTES)
		return err_note(
			ERR_USAGE, 0,
			"a disk of %llu bytes is not possible: it must be a multiple of 512 "
			"up to 64 TiB",
			(unsigned long long)b->info.bytes);
	b->ops = ops;
	b->changed_words = words_of(b->info.bytes);
	b->changed = calloc(b->changed_words, sizeof(*b->changed));
	return b->changed ? ERR_OK : err_note(ERR_NOMEM, 0, "map of changed blocks");
}

void block_fini(struct block *b)
{
	free((void *)b->changed);
	b->changed = NULL;
}

void block_destroy(struct block *b)
{
	if (b)
		b->ops->destroy(b);
}

void block_info(const struct block *b, struct block_info *out)
{
	*out = b->info;
}

/* ---- changed blocks ---- */

static void track(struct block *b, uint64_t offset, uint64_t bytes)
{
	uint64_t last;

	if (!bytes)
		return;
	last = (offset + bytes - 1) / BLOCK_TRACK_BYTES;
	for (uint64_t i = offset / BLOCK_TRACK_BYTES; i <= last; i++)
		atomic_fetch_or_explicit(&b->changed[i / WORD_BITS], 1ull << i % WORD_BITS,
					 memory_order_release);
}

size_t block_track_words(const struct block *b)
{
	return b->changed_words;
}

void block_track_take(struct block *b, uint64_t *bits)
{
	for (size_t i = 0; i < b->changed_words; i++)
		if (atomic_load_explicit(&b->changed[i], memory_order_relaxed))
			bits[i] |=
				atomic_exchange_explicit(&b->changed[i], 0, memory_order_acquire);
}

enum err block_resize(struct block *b, uint64_t bytes)
{
	uint64_t old = b->info.bytes, from = old < bytes ? old : bytes;
	_Atomic uint64_t *map;
	size_t words = words_of(bytes);
	enum err e;

	if (b->info.read_only)
		return err_note(ERR_AUTH, 0, "resize a disk: it is read-only");
	if (bytes == 0 || bytes > BLOCK_MAX_BYTES || bytes % BLOCK_SECTOR_BYTES)
		return err_note(ERR_USAGE, 0,
				"resize a disk to %llu bytes: not a multiple of 512 up "
				"to 64 TiB",
				(unsigned long long)bytes);
	map = calloc(words, sizeof(*map));
	if (!map)
		return err_note(ERR_NOMEM, 0, "map of changed blocks");
	if ((e = b->ops->resize(b, bytes)) != ERR_OK) {
		free((void *)map);
		return e;
	}
	for (size_t i = 0; i < words && i < b->changed_words; i++)
		atomic_store(&map[i], atomic_load(&b->changed[i]));
	free((void *)b->changed);
	b->changed = map;
	b->changed_words = words;
	b->info.bytes = bytes;
	/* What is new, and the block in which the end lies now. */
	track(b, from - from % BLOCK_TRACK_BYTES, bytes - (from - from % BLOCK_TRACK_BYTES));
	return ERR_OK;
}

/* ---- requests ---- */

static bool changes(const struct block_io *io)
{
	return io->op == BLOCK_WRITE || io->op == BLOCK_DISCARD || io->op == BLOCK_ZERO;
}

void block_submit(struct block *b, struct block_queue *q, struct block_io *io)
{
	assert(io->offset <= b->info.bytes && io->bytes <= b->info.bytes - io->offset);
	assert(!(changes(io) && b->info.read_only));
	io->block = b;
	io->next = NULL;
	io->at = io->offset;
	io->left = io->bytes;
	io->error = 0;
	io->syncing = false;
	q->busy++;
	if (q->in_kernel < q->depth && !q->first) {
		q->in_kernel++;
		b->ops->submit(b, q, io);
		return;
	}
	*q->last = io;
	q->last = &io->next;
}

void block_done(struct block_queue *q, struct block_io *io, int error)
{
	if (changes(io))
		track(io->block, io->offset, io->bytes);
	io->error = error;
	q->in_kernel--;
	q->busy--;
	io->done(io);
}

/* ---- faults ---- */

static struct {
	block_fault_fn *fn;
	void *arg;
} fault;

void block_fault_set(block_fault_fn *fn, void *arg)
{
	fault.fn = fn;
	fault.arg = arg;
}

int block_fault(const struct block_io *io, size_t *len)
{
	return fault.fn ? fault.fn(fault.arg, io, len) : 0;
}
