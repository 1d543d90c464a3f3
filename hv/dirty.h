/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_DIRTY_H
#define HV_DIRTY_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/memory.h"

/* dirty: which pages of RAM were written, by the guest (KVM's dirty log) or by
 * our own code (the device dirty map of hv/memory).
 *
 * A bitmap has one bit per page by RAM offset, 64 pages a word, bit 0 of word 0
 * first; dirty_words() says how many words.
 * States: OFF -[dirty_start]-> ON -[dirty_stop]-> OFF.
 * Threads: one at a time.  dirty_fetch may run beside running vCPUs; start and
 * stop only while they are parked. */
struct dirty;

/* m and vm_fd are borrowed for the life of it; the slots of m are set up in KVM
 * by this (slot numbers 0, 1), and belong to it from then on. */
MUST_USE enum err dirty_create(struct memory *m, int vm_fd, struct dirty **out);
void dirty_destroy(struct dirty *d); /* NULL allowed */
size_t dirty_words(const struct dirty *d);
/* Record from now on; both maps start empty.  Again while ON: the same. */
MUST_USE enum err dirty_start(struct dirty *d);
MUST_USE enum err dirty_stop(struct dirty *d);
/* The pages written since the last fetch (or start), OR-ed into bits, and from
 * now on recorded anew.  A page written while this runs is in this result or in
 * the next one: read page contents only after it has returned.
 * After an error nothing is lost: what was taken is in bits. */
MUST_USE enum err dirty_fetch(struct dirty *d, uint64_t *bits);

#endif
