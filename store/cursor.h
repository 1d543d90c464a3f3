/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_CURSOR_H
#define STORE_CURSOR_H

#include "base/err.h"
#include "store/manifest.h"

/* cursor: the runs of one stream, block by block.  One thread at a time. */

struct cursor {
	const struct manifest *m; /* borrowed */
	int fd;			  /* borrowed */
	uint32_t block, end;	  /* block of m that is loaded or comes next; after the last */
	uint32_t at, n;		  /* next run; runs loaded (0: none) */
	struct run *runs;
};

MUST_USE enum err cursor_init(struct cursor *c, const struct manifest *m, int fd, uint32_t stream);
void cursor_fini(struct cursor *c);
/* The next run, or *run = NULL after the last; borrowed until the next call. */
MUST_USE enum err cursor_next(struct cursor *c, const struct run **run);
/* Go to the first run that ends after page. */
MUST_USE enum err cursor_seek(struct cursor *c, uint32_t stream, uint64_t page);

#endif
