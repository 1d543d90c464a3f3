/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_VERDICT_H
#define STORE_VERDICT_H

#include "store/condemn.h"
#include "store/mark.h"
#include "store/shared.h"

/* verdict: the part of a collection that condemns, judges and deletes; see verdict.c.  One
 * thread, with gc.lock held. */

struct gc {
	struct archive *a;
	const struct archive_gc_options *opt;
	struct progress *progress;
	archive_holder_fn *fn;
	void *arg;
	struct archive_gc_result *result;
	struct mark mark;
	struct condemned_set set; /* the records that stand */
	size_t room;
	uint64_t epoch;	 /* the highest that was ever seen */
	uint64_t oldest; /* of the leases that live; UINT64_MAX: none */
	bool spent;	 /* the reserve was given up */
	bool lifted;	 /* a forward was dropped: what it led to is marked, but not needed */
};

/* Take in the manifests that came since the last look.  ERR_CORRUPT if not all is known that
 * is needed. */
MUST_USE enum err verdict_look(struct gc *g);
/* No checkpoint lists it and nothing leads to it. */
bool verdict_dead(const struct mark_pack *p);
bool verdict_condemned(const struct gc *g, const struct mark_pack *p, bool forward);
/* An epoch was seen somewhere: the next one is higher. */
void verdict_epoch(struct gc *g, uint64_t epoch);
/* Bytes of the pack's file; 0 if there is none. */
uint64_t verdict_bytes(struct gc *g, const struct pack_id *id);

/* One round: condemn n things (their epoch is set here; on a full file system perhaps only some
 * of them) and judge all that is condemned.  ERR_NOSPACE if not even one could be condemned. */
MUST_USE enum err verdict_round(struct gc *g, struct condemned *c, size_t n);

#endif
