/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_MEND_H
#define STORE_MEND_H

#include "store/wanted.h"

/* mend: a damaged pack made again, byte for byte.
 *
 * The reference in the manifests fixes every byte of a pack.  So header, trailers, gaps and
 * directories follow from one sound directory, and a group can be taken from the same pack
 * of a copy of the archive, or made again from its pages if the compressor still makes the same
 * bytes of them; only the same bytes are put in.  Where that fails for the bytes alone, transfer.h
 * keeps the pages. */

struct mend {
	struct archive *a;
	struct archive *copy; /* of this archive (same id); NULL: none */
	struct wanted *wanted;
	struct progress *progress;
	struct group_codec *codec;
	uint8_t *stored, *scratch, *pages, *out; /* GROUP_STORED_MAX each */
};

struct mend_result {
	uint32_t healed; /* groups */
	uint32_t lost;	 /* groups that stay as they are */
	uint32_t unfit;	 /* of those, that have all their pages, but not their bytes */
	uint32_t lost_pages;
	uint32_t moved; /* groups whose bytes could not be made again: all pages of the pack are
			 * in new packs now, and it has a forward */
	bool frame;   /* something else but groups was made again */
	bool missing; /* no directory: nothing can be said or done */
};

MUST_USE enum err mend_init(struct mend *m, struct archive *a, struct archive *copy,
			    struct wanted *wanted, struct progress *progress);
void mend_fini(struct mend *m);

/* One pack as two archives have it. */
struct mend_sides {
	const struct catalog_pack *ours, *copy; /* in use; NULL: cannot be had */
	const struct catalog_pack *dir;		/* one of them */
};

/* All pages of a group into m->pages, from wherever they can be had; *all: none is lost. */
MUST_USE enum err mend_pages(struct mend *m, const struct mend_sides *s, const struct pack_group *g,
			     bool *all);

/* Add the pages that are to be looked for to m->wanted. */
MUST_USE enum err mend_survey(struct mend *m, const struct pack_ref *ref);
/* Make the pack again, as far as that is possible, and put it durably in the place of the old one;
 * readers that have that open go on with it.  If its pages can all be had but not its bytes, they
 * go into new packs (transfer.h).  frame: header, trailers, directories or gaps
 * are damaged. */
MUST_USE enum err mend_pack(struct mend *m, const struct pack_ref *ref, bool frame,
			    struct mend_result *result);

#endif
