/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_TRANSFER_H
#define STORE_TRANSFER_H

#include "store/mend.h"

/* transfer: a damaged pack whose pages can all be had, but whose very bytes cannot be made again
 * (another version of the compressor made them).  Its pages go into new packs, a forward of all its
 * slots leads there, and its file is deleted.  Manifests stay as they are.
 *
 * *done false: not all pages can be had, or too many forwards lead to the pack already; nothing
 * was changed.  Only for who holds gc.lock, when the pack's file has a sound header and directory. */
MUST_USE enum err transfer(struct mend *m, const struct mend_sides *s, const struct pack_ref *ref,
			   bool *done);

#endif
