/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_PARENT_H
#define STORE_PARENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/budget.h"
#include "store/cursor.h"
#include "store/manifest.h"

/* parent: where the pages of an earlier checkpoint are, by position.
 *
 * A parent is shared by the threads of a writer; each uses a view of its own.  A view
 * is made for ascending positions: it keeps the block of runs and the plan of the
 * region (budget.h) that it is in. */

#define PARENT_NONE UINT32_MAX

struct parent {
	struct manifest m;
	int fd;
	bool *gone;	  /* by pack: rewritten or to go; it must not be referred to anew */
	uint32_t *stream; /* of the parent, by stream of the writer; PARENT_NONE */
};

/* Open the checkpoint that info names: ERR_NOTFOUND, ERR_CORRUPT (also if it is not
 * the one with that digest). */
MUST_USE enum err parent_open(int root, const struct crypt *crypt,
			      const struct checkpoint_info *info, struct parent **out);
void parent_close(struct parent *p); /* NULL allowed */
/* Which checkpoint it is. */
void parent_name(const struct parent *p, struct checkpoint_parent *out);
/* The writer's stream `index` continues the parent's of the same name, if there is
 * one.  By one thread, before any view uses that index. */
void parent_bind(struct parent *p, uint32_t index, const char *name);
/* Its length in bytes; false if the parent has none. */
bool parent_length(const struct parent *p, uint32_t index, uint64_t *bytes);

struct parent_view {
	const struct parent *p; /* borrowed */
	uint32_t stream;	/* of the writer; PARENT_NONE: none yet */
	struct cursor cursor;	/* of its runs */
	struct run run;		/* count 0: none */
	struct cursor ahead;	/* for plans */
	uint64_t region;	/* that plan is of; UINT64_MAX: none */
	struct budget plan;
};

void parent_view_init(struct parent_view *v, const struct parent *p);
void parent_view_fini(struct parent_view *v);
/* The run with `page`, or the next one after it, within stream `index`;
 * *run = NULL if there is none.  Borrowed until the next call. */
MUST_USE enum err parent_view_run(struct parent_view *v, uint32_t index, uint64_t page,
				  const struct run **run);
/* What of the page's region to keep, in numbers of the parent's packs; borrowed until
 * the next call.  Empty without a parent's stream. */
MUST_USE enum err parent_view_plan(struct parent_view *v, uint32_t index, uint64_t page,
				   const struct budget **plan);

#endif
