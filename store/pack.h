/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_PACK_H
#define STORE_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/err.h"
#include "store/crypt.h"
#include "store/group.h"
#include "store/layout.h"
#include "store/record.h"

/* pack: a file of groups with its own directory; written once, then immutable.
 *
 *   header                 record, 512 bytes
 *   groups                 one after the other
 *   directory              at the next multiple of 512
 *   directory again        at the next multiple of 512
 *   trailer, trailer       records, at the next multiples of 512; end of file
 *
 * With encryption each group (item number: its first slot) and the directory (item
 * PACK_ITEM_DIR; both copies are the same bytes) is sealed with the pack's own key.
 *
 * Gaps are zero.  A page is named by its slot: its place in the directory. */

#define PACK_HEADER_MAGIC "LBPACKHD"
#define PACK_TRAILER_MAGIC "LBPACKTL"
#define PACK_ITEM_DIR (1ull << 32)
#define PACK_REF_BYTES 68u

/* What a manifest binds of a pack. */
struct pack_ref {
	struct pack_id id;
	struct digest dir_digest;
	uint64_t dir_offset; /* of the first copy */
	uint32_t dir_bytes; /* as stored: sealed if epoch is not 0 */
	uint32_t slots;
	uint32_t epoch; /* whose key it was sealed with; 0: not sealed */
};

void pack_ref_encode(const struct pack_ref *ref, uint8_t out[PACK_REF_BYTES]);
/* ERR_CORRUPT if the fields contradict each other. */
MUST_USE enum err pack_ref_get(struct rd *r, struct pack_ref *ref);
bool pack_ref_equal(const struct pack_ref *a, const struct pack_ref *b);
/* Where things follow from dir_offset and dir_bytes. */
uint64_t pack_second_dir(const struct pack_ref *ref);
uint64_t pack_trailer(const struct pack_ref *ref); /* the first; the second follows */
uint64_t pack_file_bytes(const struct pack_ref *ref);

/* ---- directory ---- */
struct pack_group {
	uint64_t offset; /* of the stored form in the file */
	uint32_t stored_bytes;
	uint32_t first_slot;
	uint8_t pages;
	uint8_t codec;
	uint8_t check[GROUP_CHECK_BYTES];
};

struct pack_dir {
	uint32_t groups, slots;
	int level;	   /* that its groups were compressed at */
	uint64_t data_end; /* offset after the last group */
	struct pack_group *group;
	struct digest *digest; /* by slot */
};

/* Decode len bytes (borrowed, opened) into dir, which pack_dir_fini frees; overhead is
 * that of each group's seal.  ERR_CORRUPT if id or anything else is not as pack_seal
 * writes it. */
MUST_USE enum err pack_dir_decode(const void *p, size_t len, const struct pack_id *id,
				  size_t overhead, struct pack_dir *dir);
void pack_dir_fini(struct pack_dir *dir);
/* The group that holds slot (< slots). */
const struct pack_group *pack_dir_find(const struct pack_dir *dir, uint32_t slot);

/* Records.  The header binds the file to its archive. */
void pack_header_encode(const struct pack_id *id, const struct crypt *crypt, uint32_t epoch,
			uint8_t rec[RECORD_BYTES]);
MUST_USE enum err pack_header_check(const uint8_t rec[RECORD_BYTES], const struct pack_id *id,
				    const struct crypt *crypt, uint32_t epoch, const char *what);
void pack_trailer_encode(const struct pack_ref *ref, uint8_t rec[RECORD_BYTES]);
MUST_USE enum err pack_trailer_decode(const uint8_t rec[RECORD_BYTES], const char *what,
				      struct pack_ref *ref);

/* ---- writing ---- */
struct pack_writer; /* one thread at a time */

/* Create the file with its header; it is unknown to everybody until a manifest names
 * it.  key is the pack's (copied), level that of compression.  digests (given to it, room for
 * PACK_PAGES) belong to the caller and must live until pack_seal. */
MUST_USE enum err pack_create(int root, const struct pack_id *id, const struct crypt *crypt,
			      const struct crypt_key *key, int level, const struct digest *digests,
			      struct pack_writer **out);
/* The same in a file of another name. */
MUST_USE enum err pack_create_at(int root, const char *path, const struct pack_id *id,
				 const struct crypt *crypt, const struct crypt_key *key, int level,
				 const struct digest *digests, struct pack_writer **out);
/* The next n_pages slots; stored is sealed already. */
MUST_USE enum err pack_append(struct pack_writer *p, const uint8_t *stored, uint32_t len,
			      uint8_t codec, const uint8_t check[GROUP_CHECK_BYTES],
			      unsigned n_pages);
/* Directories and trailers; *ref tells where.  Nothing is synced yet. */
MUST_USE enum err pack_seal(struct pack_writer *p, struct pack_ref *ref);
MUST_USE enum err pack_sync(struct pack_writer *p);
uint64_t pack_size(const struct pack_writer *p); /* bytes written so far */
void pack_close(struct pack_writer *p);		 /* NULL allowed; the file stays */

/* ---- reading ---- */
/* Read the directory that ref names: first copy, else the second; checked by its
 * digest and decoded.  ERR_CORRUPT. */
MUST_USE enum err pack_dir_read(int fd, const char *path, const struct pack_ref *ref,
				const struct crypt_key *key, struct pack_dir *dir);
/* The same of stored bytes (ref->dir_bytes of them) that were read already, here or from a
 * forward. */
MUST_USE enum err pack_dir_parse(const uint8_t *bytes, const char *path,
				 const struct pack_ref *ref, const struct crypt_key *key,
				 struct pack_dir *dir);
/* The stored bytes of a sound copy, into out (room for ref->dir_bytes). */
MUST_USE enum err pack_dir_bytes(int fd, const char *path, const struct pack_ref *ref,
				 uint8_t *out);
/* Open the stored bytes of a group in place; *len is then for group_decode.  ERR_CORRUPT only
 * where pages do not prove themselves one by one.  *sealed: the seal is whole, so that these are
 * the bytes that were proven when they were written. */
MUST_USE enum err pack_group_open(const struct crypt_key *key, const struct pack_group *g,
				  uint8_t *stored, uint32_t *len, bool *sealed);

#endif
