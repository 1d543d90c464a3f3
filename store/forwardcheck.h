/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_FORWARDCHECK_H
#define STORE_FORWARDCHECK_H

#include "store/packcheck.h"
#include "store/shared.h"

/* forwardcheck: what is left of a pack that was rewritten: its forward, and every page that
 * leads to, against the old directory. */

/* Is it such a pack? */
MUST_USE enum err forwardcheck_applies(const struct archive *a, const struct pack_ref *ref,
				       bool *applies);
/* As packcheck.  out->bad also has the slots that the forward does not have, which is damage
 * only if a checkpoint needs them; any_bad says whether there is other damage.  Where only a
 * sample is wanted, the packs that the pages are in now are left to packcheck. */
MUST_USE enum err forwardcheck(struct archive *a, struct progress *progress,
			       const struct pack_ref *ref, const struct packcheck_scope *scope,
			       packcheck_fn *fn, void *arg, struct packcheck *out);

#endif
