/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_PIN_H
#define STORE_PIN_H

#include <stdint.h>

#include "base/err.h"
#include "store/archive.h"
#include "store/record.h"

/* pin: a durable promise that a checkpoint stays, until its owner takes it back.
 *
 *   pins/ID     two equal records LBPINNED: 12 name (64), 76 number (le64), 84 made, ns
 *               (le64), 92 owner (256, text ending in zeros)
 *   pins/lock   empty; locked exclusively while a pin is made and while a checkpoint is
 *               removed, so that one of the two sees the other
 *
 * A pin outlives processes and power cuts: for the source of a lazy restore, or the parent
 * that the next increment needs.  What a job needs only while it runs, its lease keeps. */

#define PIN_MAGIC "LBPINNED"

/* Wait for and take pins/lock; it ends when *fd is closed. */
MUST_USE enum err pin_lock(int root, int *fd);

/* Durable when it returns; the caller holds the lock and has seen the checkpoint after that. */
MUST_USE enum err pin_create(int root, const char *name, uint64_t number, const char *owner,
			     struct archive_pin *out);
MUST_USE enum err pin_remove(int root, const char *id);
MUST_USE enum err pin_list(int root, archive_pin_fn *fn, void *arg);
/* ERR_BUSY, naming the pin, if a pin holds NAME@NUMBER or cannot be read. */
MUST_USE enum err pin_check(int root, const char *name, uint64_t number);

/* Records.  decode (of a sound record): ERR_CORRUPT. */
void pin_encode(const struct archive_pin *pin, uint8_t rec[RECORD_BYTES]);
MUST_USE enum err pin_decode(const uint8_t rec[RECORD_BYTES], struct archive_pin *pin);

#endif
