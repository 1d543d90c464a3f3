/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_MANIFEST_H
#define STORE_MANIFEST_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/err.h"
#include "store/archive.h"
#include "store/crypt.h"
#include "store/pack.h"
#include "store/runs.h"

/* manifest: one checkpoint: its streams, the packs it needs, its runs.
 *
 * The file is a root (counts, streams, packs, digests of the blocks, and a
 * digest of all that) and then blocks of runs, so that a part of a stream can be
 * found without reading the rest.  The root's digest identifies the checkpoint.
 * Format: FORMAT.md section 5. */

#define MANIFEST_MAGIC "LBMANIFE"
#define MANIFEST_CLEAR_BYTES 128u
#define MANIFEST_STREAMS_MAX 4096u
#define MANIFEST_LENGTH_MAX (1ull << 60) /* of a stream */
#define MANIFEST_TOTAL_MAX (1ull << 62)  /* of all streams */

struct manifest_stream {
	struct archive_stream_info info;
	uint64_t pages;		  /* of its length, rounded up */
	uint64_t nonzero_pages;
	uint32_t first_block, blocks;
};

struct manifest_block {
	uint64_t first, end; /* pages: of the first run, after the last */
	uint64_t offset;     /* in the file */
	uint32_t bytes, runs;
	struct digest digest;
};

struct manifest {
	struct checkpoint_info info;
	uint8_t archive_id[16];
	uint32_t epoch;	      /* whose key it is sealed with; 0: not sealed */
	uint8_t id[16];	      /* random, for its key; zero if not sealed */
	struct crypt_key key; /* of this manifest */
	uint8_t clear[MANIFEST_CLEAR_BYTES]; /* what is not hidden, and bound to the rest */
	bool fresh; /* prepared and not encoded yet */
	uint32_t n_streams, n_packs, n_blocks;
	uint32_t root_bytes;
	uint64_t file_bytes;
	struct manifest_stream *stream;
	struct pack_ref *pack;
	struct manifest_block *block;
};

void manifest_fini(struct manifest *m);

/* To write one: fill info (without digest), archive_id, the arrays and counts, and have the
 * blocks' bytes, one after the other, in blocks (which changes): all gets the file. */
MUST_USE enum err manifest_file(struct manifest *m, const struct crypt *crypt, struct buf *blocks,
				struct buf *all);

/* Its steps, each once: a manifest's key seals each of its items only once. */

/* Choose the key, fix the root's size and what is not hidden. */
MUST_USE enum err manifest_prepare(struct manifest *m, const struct crypt *crypt);
/* Seal the blocks, whose bytes are in blocks one after the other, and which m->block
 * describes; both change. */
MUST_USE enum err manifest_seal_blocks(struct manifest *m, struct buf *blocks);
/* Encode the root; offsets, file_bytes and info.digest are set.  Also for what
 * manifest_decode gave, unless that is sealed. */
MUST_USE enum err manifest_encode(struct manifest *m, struct buf *out);

/* Decode a root of exactly len bytes (borrowed).  ERR_CORRUPT, ERR_VERSION. */
MUST_USE enum err manifest_decode(const void *p, size_t len, const struct crypt *crypt,
				  struct manifest *m);

/* Open and read NAME@N: its root, checked against its file name and the archive.
 * *fd (given) is for manifest_runs.  ERR_NOTFOUND if there is none. */
MUST_USE enum err manifest_load(int root, const struct crypt *crypt, const char *name,
				uint64_t number, struct manifest *m, int *fd);

/* Runs of block i into runs (room for block[i].runs), checked. */
MUST_USE enum err manifest_runs(const struct manifest *m, int fd, uint32_t i, struct run *runs);

/* "NAME@N" for notes; out of ARCHIVE_NAME_BYTES + 24. */
#define MANIFEST_REF_BYTES (ARCHIVE_NAME_BYTES + 24u)
void manifest_ref_text(const struct checkpoint_info *info, char out[MANIFEST_REF_BYTES]);

#endif
