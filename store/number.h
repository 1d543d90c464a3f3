/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_NUMBER_H
#define STORE_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/crypt.h"
#include "store/layout.h"

/* number: NAME@N, N never given out twice, whatever is deleted in between.
 *
 * numbers/NAME holds two equal records: 12: name, 64 bytes, zero-padded;
 * 76: the highest number given out, 8 bytes. */

#define NUMBER_MAGIC "LBNUMBER"

/* Durably take the next number; other processes get others. */
MUST_USE enum err number_take(int root, const struct crypt *crypt, const char *name, uint64_t *number);
/* The highest number given out; 0 if there is no file. */
MUST_USE enum err number_read(int root, const char *name, uint64_t *number, bool *damaged);
/* Durably set it: only for a repair, which knows why. */
MUST_USE enum err number_write(int root, const char *name, uint64_t number);
/* Remove what interrupted writers left in numbers/. */
MUST_USE enum err number_sweep(int root);
/* Check and decode a sound record. */
MUST_USE enum err number_decode(const uint8_t *rec, const char *name, uint64_t *number);

#endif
