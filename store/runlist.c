/* SPDX-License-Identifier: Apache-2.0 */
/* runlist: pages one by one, merged into runs, runs into blocks. */
#include "store/runlist.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void runlist_fini(struct runlist *l)
{
	buf_fini(&l->open);
	buf_fini(&l->data);
	free(l->block);
	memset(l, 0, sizeof(*l));
}

static enum err close_block(struct runlist *l)
{
	struct manifest_block *b;
	enum err e;

	if (l->open_runs == 0)
		return ERR_OK;
	if (l->blocks == l->room) {
		uint32_t room = l->room ? 2 * l->room : 16;
		struct manifest_block *more = realloc(l->block, room * sizeof(*more));

		if (!more)
			return err_note(ERR_NOMEM, 0, "list the runs of a stream: out of memory");
		l->block = more;
		l->room = room;
	}
	if ((e = buf_check(&l->open)) != ERR_OK)
		return e;
	b = &l->block[l->blocks++];
	*b = (struct manifest_block){.first = l->open_first,
				     .end = l->at.page,
				     .bytes = (uint32_t)l->open.len,
				     .runs = l->open_runs};
	digest_of(l->open.data, l->open.len, &b->digest);
	buf_put(&l->data, l->open.data, l->open.len);
	buf_clear(&l->open);
	l->open_runs = 0;
	return buf_check(&l->data);
}

static enum err close_run(struct runlist *l)
{
	if (l->last.count == 0)
		return ERR_OK;
	if (l->open_runs == 0) {
		l->open_first = l->last.page;
		l->at = (struct runs_at){.page = l->last.page};
	}
	runs_put(&l->open, &l->at, &l->last);
	l->open_runs++;
	l->last.count = 0;
	return l->open.len >= RUNS_BLOCK_BYTES ? close_block(l) : buf_check(&l->open);
}

enum err runlist_add_run(struct runlist *l, const struct run *run)
{
	enum err e;

	l->pages += run->count;
	if (runs_join(&l->last, run))
		return ERR_OK;
	assert(l->last.count == 0 || run->page >= l->last.page + l->last.count);
	if ((e = close_run(l)) != ERR_OK)
		return e;
	l->last = *run;
	return ERR_OK;
}

enum err runlist_add(struct runlist *l, uint64_t page, uint32_t pack, uint32_t slot)
{
	return runlist_add_run(
		l, &(struct run){.page = page, .count = 1, .pack = pack, .slot = slot});
}

enum err runlist_finish(struct runlist *l)
{
	enum err e = close_run(l);

	return e == ERR_OK ? close_block(l) : e;
}
