/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_RECORD_H
#define STORE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* record: a block of fixed size that proves itself.
 *
 *   offset  size
 *        0     8   magic, says which kind
 *        8     4   format version
 *       12   468   fields of the kind, the rest zero
 *      480    32   SHA-256 of the 480 bytes before
 *
 * The configuration and the number files hold two equal records, so that one
 * flipped bit loses nothing.  Any thread on its own bytes. */

#define RECORD_BYTES 512u
#define RECORD_FIELDS 12u /* offset of the first field */
#define RECORD_BODY 480u

/* The top bit marks an experimental version: no other version reads it. */
#define FORMAT_VERSION 0x80000001u

/* Zero rec and put magic (8 bytes) and version. */
void record_begin(uint8_t rec[RECORD_BYTES], const char *magic);
void record_seal(uint8_t rec[RECORD_BYTES]);
/* ERR_CORRUPT, or ERR_VERSION for a sound record of another version; what names
 * the file in the note. */
MUST_USE enum err record_check(const uint8_t rec[RECORD_BYTES], const char *magic,
			       const char *what);

/* Read a file of two records; rec gets the first sound one, *damaged says
 * whether the other is not its equal.  ERR_NOTFOUND, ERR_CORRUPT, ERR_VERSION. */
MUST_USE enum err record_read_twin(int dirfd, const char *path, const char *magic,
				   uint8_t rec[RECORD_BYTES], bool *damaged);
/* Durably replace the file by two copies of rec. */
MUST_USE enum err record_write_twin(int dirfd, const char *path,
				    const uint8_t rec[RECORD_BYTES]);

#endif
