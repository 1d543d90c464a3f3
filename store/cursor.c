/* SPDX-License-Identifier: Apache-2.0 */
/* cursor: loads one block of runs at a time, so that memory does not depend on the
 * size of the stream. */
#include "store/cursor.h"

#include <stdlib.h>
#include <string.h>

enum err cursor_init(struct cursor *c, const struct manifest *m, int fd, uint32_t stream)
{
	const struct manifest_stream *s = &m->stream[stream];

	memset(c, 0, sizeof(*c));
	c->m = m;
	c->fd = fd;
	c->block = s->first_block;
	c->end = s->first_block + s->blocks;
	c->runs = malloc(RUNS_BLOCK_MAX / 4 * sizeof(*c->runs));
	if (!c->runs)
		return err_note(ERR_NOMEM, 0, "read a manifest: out of memory");
	return ERR_OK;
}

void cursor_fini(struct cursor *c)
{
	free(c->runs);
	memset(c, 0, sizeof(*c));
}

static enum err load(struct cursor *c)
{
	enum err e = manifest_runs(c->m, c->fd, c->block, c->runs);

	c->at = 0;
	c->n = e == ERR_OK ? c->m->block[c->block].runs : 0;
	return e;
}

enum err cursor_next(struct cursor *c, const struct run **run)
{
	*run = NULL;
	if (c->n && c->at == c->n) {
		c->n = 0;
		c->block++;
	}
	if (!c->n) {
		enum err e;

		if (c->block >= c->end)
			return ERR_OK;
		if ((e = load(c)) != ERR_OK)
			return e;
	}
	*run = &c->runs[c->at++];
	return ERR_OK;
}

/* The first block of the stream that ends after page. */
static uint32_t find_block(const struct cursor *c, uint32_t stream, uint64_t page)
{
	uint32_t low = c->m->stream[stream].first_block, high = c->end;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (c->m->block[mid].end <= page)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

enum err cursor_seek(struct cursor *c, uint32_t stream, uint64_t page)
{
	uint32_t block = find_block(c, stream, page), low = 0, high;

	if (!c->n || block != c->block) {
		c->block = block;
		c->n = 0;
		if (block >= c->end)
			return ERR_OK;
		enum err e = load(c);
		if (e != ERR_OK)
			return e;
	}
	high = c->n;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (c->runs[mid].page + c->runs[mid].count <= page)
			low = mid + 1;
		else
			high = mid;
	}
	c->at = low;
	return ERR_OK;
}
