/* SPDX-License-Identifier: Apache-2.0 */
/* cut: what a power cut leaves of a directory.
 *
 * A model of the strictest disk that POSIX allows.  While it runs, cut_hook (for
 * fs_fault_set) notes in a shadow directory, before each call of base/fs, the bytes
 * that an fdatasync secures and the names that an fsync of a directory secures.
 * cut_restore then builds the directory as the cut leaves it: what was secured is
 * there; of the rest, nothing (strict) or a random selection: each name old or new,
 * each file's unsecured bytes old, new, or with blocks lost. */
#ifndef TESTS_STORE_CUT_H
#define TESTS_STORE_CUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fs.h"

/* Begin: all that is in dir now is durable.  shadow is created. */
void cut_begin(const char *dir, const char *shadow);
/* Note what the call that is about to happen secures. */
void cut_note(enum fs_op op, const char *what);
/* After the process that called cut_note ended: make `out` from the shadow and, for
 * a random selection (seed != 0), from what is in dir. */
void cut_restore(const char *dir, const char *shadow, const char *out, uint64_t seed);

#endif
