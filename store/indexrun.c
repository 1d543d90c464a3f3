/* SPDX-License-Identifier: Apache-2.0 */
/* indexrun: blocks of sorted entries in a file.  Format and purpose: indexrun.h. */
#include "store/indexrun.h"

#include "base/bytes.h"
#include "base/fs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define ENTRY_BYTES 16u
#define COUNT_AT (INDEXRUN_PLACES * ENTRY_BYTES)
#define NUMBER_AT (COUNT_AT + 4)
#define CHECK_AT (NUMBER_AT + 4)
#define BUFFER_BLOCKS 64u
#define BUFFER_BYTES ((size_t)BUFFER_BLOCKS * INDEXRUN_BLOCK_BYTES)
/* Somebody could choose pages whose digests crowd into one place. */
#define WALK_MAX 16u

_Static_assert(CHECK_AT + 8 == INDEXRUN_BLOCK_BYTES, "a block is full");

static uint64_t block_of(uint64_t key, uint32_t blocks)
{
	/* key * blocks / 2^64, without a product of 96 bits. */
	return ((key >> 32) * blocks + ((key & UINT32_MAX) * blocks >> 32)) >> 32;
}

static enum err block_check(const uint8_t *block, uint32_t number, const char *path)
{
	if (le32_get(block + COUNT_AT) <= INDEXRUN_PLACES &&
	    le32_get(block + NUMBER_AT) == number &&
	    le64_get(block + CHECK_AT) == XXH3_64bits(block, CHECK_AT))
		return ERR_OK;
	return err_note(ERR_CORRUPT, 0, "%s: damaged block", path);
}

static struct index_entry entry_get(const uint8_t *block, uint32_t i)
{
	const uint8_t *p = block + (size_t)i * ENTRY_BYTES;

	return (struct index_entry){le64_get(p), le32_get(p + 8), le32_get(p + 12)};
}

enum err indexrun_open(int root, const char *path, uint32_t number, uint32_t blocks,
		       uint64_t entries, struct indexrun *out)
{
	AUTO_FD int fd = -1;
	uint64_t size;
	enum err e;

	if ((e = fs_open(root, path, O_RDONLY, 0, &fd)) != ERR_OK ||
	    (e = fs_size(fd, path, &size)) != ERR_OK)
		return e;
	if (size % INDEXRUN_BLOCK_BYTES || size / INDEXRUN_BLOCK_BYTES < blocks || blocks == 0 ||
	    entries > size / ENTRY_BYTES)
		return err_note(ERR_CORRUPT, 0, "%s: wrong length", path);
	*out = (struct indexrun){.fd = fd,
				 .number = number,
				 .blocks = blocks,
				 .entries = entries,
				 .file_blocks = size / INDEXRUN_BLOCK_BYTES,
				 .synced = true};
	snprintf(out->path, sizeof(out->path), "%s", path);
	fd = -1;
	return ERR_OK;
}

void indexrun_close(struct indexrun *r)
{
	fs_auto_close(&r->fd);
	r->fd = -1;
}

enum err indexrun_sync(struct indexrun *r)
{
	enum err e = r->synced ? ERR_OK : fs_sync(r->fd, r->path);

	r->synced |= e == ERR_OK;
	return e;
}

/* The first place whose key is not below key. */
static uint32_t search(const uint8_t *block, uint32_t n, uint64_t key)
{
	uint32_t low = 0, high = n;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (le64_get(block + (size_t)mid * ENTRY_BYTES) < key)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

enum err indexrun_find(const struct indexrun *r, uint64_t key, struct index_entry *out)
{
	uint64_t at = block_of(key, r->blocks);

	for (unsigned walked = 0; walked < WALK_MAX && at < r->file_blocks; walked++, at++) {
		uint8_t block[INDEXRUN_BLOCK_BYTES];
		uint32_t n, i;
		enum err e =
			fs_read_at(r->fd, r->path, block, sizeof(block), at * INDEXRUN_BLOCK_BYTES);

		if (e == ERR_OK)
			e = block_check(block, r->number, r->path);
		if (e != ERR_OK)
			return e;
		n = le32_get(block + COUNT_AT);
		i = search(block, n, key);
		if (i < n) {
			*out = entry_get(block, i);
			return out->key == key ? ERR_OK : ERR_NOTFOUND;
		}
		if (n < INDEXRUN_PLACES)
			return ERR_NOTFOUND;
	}
	return ERR_NOTFOUND;
}

/* ---- making ---- */

struct indexrun_writer {
	struct indexrun run;
	int root;	    /* borrowed */
	uint64_t at, first; /* block that is filled; first of the buffer */
	uint32_t n;	    /* entries in it */
	uint64_t last;	    /* key */
	uint8_t *buffer;
};

enum err indexrun_create(int root, const char *path, uint32_t number, uint64_t expected,
			 struct indexrun_writer **out)
{
	struct indexrun_writer *w = calloc(1, sizeof(*w));
	enum err e;

	if (w)
		w->buffer = calloc(1, BUFFER_BYTES);
	if (!w || !w->buffer) {
		free(w);
		return err_note(ERR_NOMEM, 0, "write the index: out of memory");
	}
	w->root = root;
	w->run.number = number;
	w->run.blocks = (uint32_t)((expected + INDEXRUN_FILL - 1) / INDEXRUN_FILL);
	if (w->run.blocks == 0)
		w->run.blocks = 1;
	snprintf(w->run.path, sizeof(w->run.path), "%s", path);
	e = fs_open(root, path, O_RDWR | O_CREAT | O_TRUNC, 0600, &w->run.fd);
	if (e != ERR_OK) {
		free(w->buffer);
		free(w);
		return e;
	}
	*out = w;
	return ERR_OK;
}

static enum err flush(struct indexrun_writer *w)
{
	size_t len = (size_t)(w->at - w->first) * INDEXRUN_BLOCK_BYTES;
	enum err e = fs_write_at(w->run.fd, w->run.path, w->buffer, len,
				 w->first * INDEXRUN_BLOCK_BYTES);

	w->first = w->at;
	memset(w->buffer, 0, BUFFER_BYTES);
	return e;
}

static enum err block_end(struct indexrun_writer *w)
{
	uint8_t *block = w->buffer + (size_t)(w->at - w->first) * INDEXRUN_BLOCK_BYTES;

	le32_put(block + COUNT_AT, w->n);
	le32_put(block + NUMBER_AT, w->run.number);
	le64_put(block + CHECK_AT, XXH3_64bits(block, CHECK_AT));
	w->n = 0;
	w->at++;
	return w->at - w->first == BUFFER_BLOCKS ? flush(w) : ERR_OK;
}

enum err indexrun_put(struct indexrun_writer *w, const struct index_entry *entry)
{
	uint64_t to = block_of(entry->key, w->run.blocks);
	uint8_t *p;

	if (w->run.entries && entry->key == w->last)
		return ERR_OK;
	while (w->at < to || w->n == INDEXRUN_PLACES) {
		enum err e = block_end(w);

		if (e != ERR_OK)
			return e;
	}
	p = w->buffer + (size_t)(w->at - w->first) * INDEXRUN_BLOCK_BYTES +
	    (size_t)w->n++ * ENTRY_BYTES;
	le64_put(p, entry->key);
	le32_put(p + 8, entry->pack);
	le32_put(p + 12, entry->slot);
	w->last = entry->key;
	w->run.entries++;
	return ERR_OK;
}

enum err indexrun_finish(struct indexrun_writer *w, struct indexrun *out)
{
	enum err e = block_end(w);

	while (e == ERR_OK && w->at < w->run.blocks)
		e = block_end(w);
	if (e == ERR_OK)
		e = flush(w);
	if (e != ERR_OK) {
		indexrun_abandon(w);
		return e;
	}
	*out = w->run;
	out->file_blocks = w->at;
	free(w->buffer);
	free(w);
	return ERR_OK;
}

void indexrun_abandon(struct indexrun_writer *w)
{
	char why[ERR_NOTE_BYTES];

	if (!w)
		return;
	snprintf(why, sizeof(why), "%s", err_text());
	indexrun_close(&w->run);
	(void)!fs_unlink(w->root, w->run.path);
	(void)!err_note(ERR_OK, 0, "%s", why);
	free(w->buffer);
	free(w);
}

/* ---- reading all ---- */

struct indexrun_scan {
	const struct indexrun *run;
	uint64_t next;		    /* block to be read */
	uint32_t block, blocks, at; /* in the buffer; of it; entry of the block */
	bool begun;
	struct index_entry entry;
	uint8_t buffer[];
};

enum err indexrun_scan_create(const struct indexrun *r, struct indexrun_scan **out)
{
	struct indexrun_scan *s = calloc(1, sizeof(*s) + BUFFER_BYTES);

	if (!s)
		return err_note(ERR_NOMEM, 0, "read the index: out of memory");
	s->run = r;
	*out = s;
	return ERR_OK;
}

void indexrun_scan_destroy(struct indexrun_scan *s)
{
	free(s);
}

static enum err refill(struct indexrun_scan *s)
{
	uint64_t left = s->run->file_blocks - s->next;
	enum err e;

	s->blocks = left < BUFFER_BLOCKS ? (uint32_t)left : BUFFER_BLOCKS;
	s->block = s->at = 0;
	if (s->blocks == 0)
		return ERR_OK;
	e = fs_read_at(s->run->fd, s->run->path, s->buffer,
		       (size_t)s->blocks * INDEXRUN_BLOCK_BYTES, s->next * INDEXRUN_BLOCK_BYTES);
	s->next += s->blocks;
	for (uint32_t i = 0; e == ERR_OK && i < s->blocks; i++)
		e = block_check(s->buffer + (size_t)i * INDEXRUN_BLOCK_BYTES, s->run->number,
				s->run->path);
	return e;
}

enum err indexrun_scan_next(struct indexrun_scan *s, const struct index_entry **out)
{
	const uint8_t *block;
	struct index_entry e;

	*out = NULL;
	for (;;) {
		if (s->block == s->blocks) {
			enum err failed = refill(s);

			if (failed != ERR_OK || s->blocks == 0)
				return failed;
		}
		block = s->buffer + (size_t)s->block * INDEXRUN_BLOCK_BYTES;
		if (s->at < le32_get(block + COUNT_AT))
			break;
		s->block++;
		s->at = 0;
	}
	e = entry_get(block, s->at++);
	if (s->begun && e.key <= s->entry.key)
		return err_note(ERR_CORRUPT, 0, "%s: entries out of order", s->run->path);
	s->begun = true;
	s->entry = e;
	*out = &s->entry;
	return ERR_OK;
}
