/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_PROGRESS_H
#define BASE_PROGRESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* progress: what a long job tells its caller, and how the caller stops it.
 *
 * Jobs add to the counters from any thread; the owner (cmd/) samples them from
 * its own thread and sets `cancel`.  Jobs look at it at least every 100 ms of
 * work and then return ERR_CANCELLED with everything cleaned up.  A NULL
 * pointer to a progress is allowed everywhere. */
struct progress {
	_Atomic uint64_t done_bytes;  /* logical bytes handled */
	_Atomic uint64_t total_bytes; /* 0 = not known yet */
	_Atomic uint64_t nonzero_bytes; /* of done, not all-zero pages */
	_Atomic uint64_t stored_bytes;	/* new bytes written or sent */
	_Atomic bool cancel;
};

static inline void progress_add(struct progress *p, uint64_t done, uint64_t nonzero)
{
	if (!p)
		return;
	atomic_fetch_add_explicit(&p->done_bytes, done, memory_order_relaxed);
	atomic_fetch_add_explicit(&p->nonzero_bytes, nonzero, memory_order_relaxed);
}

/* ERR_CANCELLED with a note if the owner asked for it. */
MUST_USE static inline enum err progress_check(struct progress *p)
{
	if (p && atomic_load_explicit(&p->cancel, memory_order_relaxed))
		return err_note(ERR_CANCELLED, 0, "interrupted");
	return ERR_OK;
}

#endif
