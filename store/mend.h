/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_MEND_H
#define STORE_MEND_H

#include "store/wanted.h"

/* mend: a damaged pack made again, byte for byte.
 *
 * The reference in the manifests fixes every byte of a pack.  So header, trailers, gaps and
 * directories follow from one sound directory, and a group can be taken from the same pack
 * of a copy of the archive, or made again from its pages if the compressor still makes the same
 * bytes of them; only the same bytes are put in. */

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
	bool frame;   /* something else but groups was made again */
	bool missing; /* no directory: nothing can be said or done */
};

MUST_USE enum err mend_init(struct mend *m, struct archive *a, struct archive *copy,
			    struct wanted *wanted, struct progress *progress);
void mend_fini(struct mend *m);

/* Add the pages that are to be looked for to m->wanted. */
MUST_USE enum err mend_survey(struct mend *m, const struct pack_ref *ref);
/* Make the pack again, as far as that is possible, and put it durably in the place of the old one;
 * readers that have that open go on with it.  frame: header, trailers, directories or gaps
 * are damaged. */
MUST_USE enum err mend_pack(struct mend *m, const struct pack_ref *ref, bool frame,
			    struct mend_result *result);

#endif
