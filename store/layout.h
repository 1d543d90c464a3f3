/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_LAYOUT_H
#define STORE_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/archive.h"

/* layout: names of files and the sizes that the format fixes.
 *
 *   archive                the configuration (two equal records)
 *   manifests/NAME@N       one checkpoint each
 *   manifests/tmp-W        the manifest to be of writer W, locked while W lives
 *   packs/WS.pack          pages; W 24 hex digits, S 8 hex digits
 *   numbers/NAME           the highest number given out for NAME
 *   keys/                  sealed keys, see keyring.h
 *   numbers.lock           held while a number is chosen
 *   index/                 the cache, see index.h
 *   pins/ID                a checkpoint that must not be removed; pins/lock
 *   leases/ID              one for each job that reads or writes, locked while it lives;
 *                          leases/epoch, leases/shared
 *   condemned/ID.KIND      a pack (or forward) that is to go, and since which epoch
 *   forwards/PACK          where the pages of a rewritten pack are now
 *   gc.lock                held by the one that collects garbage or repairs
 *   reserve                bytes that are given up when the file system is full
 *
 * All paths are relative to the archive's directory.  See FORMAT.md. */

#define LAYOUT_CONFIG "archive"
#define LAYOUT_MANIFESTS "manifests"
#define LAYOUT_PACKS "packs"
#define LAYOUT_NUMBERS "numbers"
#define LAYOUT_NUMBERS_LOCK "numbers.lock"
#define LAYOUT_INDEX "index"
#define LAYOUT_PINS "pins"
#define LAYOUT_PINS_LOCK LAYOUT_PINS "/lock"
#define LAYOUT_LEASES "leases"
#define LAYOUT_LEASES_SHARED LAYOUT_LEASES "/shared"
#define LAYOUT_EPOCH LAYOUT_LEASES "/epoch"
#define LAYOUT_CONDEMNED "condemned"
#define LAYOUT_FORWARDS "forwards"
#define LAYOUT_GC_LOCK "gc.lock"
#define LAYOUT_RESERVE "reserve"
#define LAYOUT_KEYS "keys"

/* The directories of an archive. */
extern const char *const layout_parts[];
extern const size_t layout_part_count;
/* Without it nothing can be read (written); the others are made when they are needed. */
bool layout_part_needed(const char *part, bool writable);

#define PAGE_BYTES ARCHIVE_PAGE_BYTES
#define GROUP_PAGES 16u
#define GROUP_BYTES (GROUP_PAGES * PAGE_BYTES)
#define PACK_PAGES 32768u /* slots of one pack at most */

#define WRITER_ID_BYTES 12u
#define PACK_ID_BYTES 16u
#define LAYOUT_PATH_BYTES 128u

struct writer_id {
	uint8_t b[WRITER_ID_BYTES];
};

/* The writer's id, then a sequence number (32 bits, little-endian). */
struct pack_id {
	uint8_t b[PACK_ID_BYTES];
};

/* Random bytes from the kernel. */
MUST_USE enum err layout_random(void *p, size_t len);

void layout_pack_id(const struct writer_id *w, uint32_t sequence, struct pack_id *out);
/* "packs/....pack" */
void layout_pack_path(const struct pack_id *id, char out[LAYOUT_PATH_BYTES]);
/* The id in a file name of packs/; false if it is none. */
bool layout_pack_parse(const char *file, struct pack_id *out);

/* "manifests/tmp-...." */
void layout_temp_path(const struct writer_id *w, char out[LAYOUT_PATH_BYTES]);
bool layout_temp_parse(const char *file, struct writer_id *out);

/* "manifests/NAME@N" */
void layout_manifest_path(const char *name, uint64_t number, char out[LAYOUT_PATH_BYTES]);
/* "NAME@N", as a file name or from a person; no leading zeros, N >= 1. */
bool layout_manifest_parse(const char *file, char name[ARCHIVE_NAME_BYTES], uint64_t *number);

/* "pins/....", "leases/....": 16 hex digits of a random id. */
void layout_id_path(const char *dir, uint64_t id, char out[LAYOUT_PATH_BYTES]);
bool layout_id_parse(const char *file, uint64_t *id);

/* "condemned/....pack" or "condemned/....forward" */
void layout_condemned_path(const struct pack_id *id, bool forward, char out[LAYOUT_PATH_BYTES]);
bool layout_condemned_parse(const char *file, struct pack_id *id, bool *forward);

/* "forwards/...." */
void layout_forward_path(const struct pack_id *id, char out[LAYOUT_PATH_BYTES]);
bool layout_forward_parse(const char *file, struct pack_id *out);

void layout_number_path(const char *name, char out[LAYOUT_PATH_BYTES]);

/* [a-z0-9][a-z0-9-]{0,62} */
bool layout_name_ok(const char *name);

#endif
