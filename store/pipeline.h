/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_PIPELINE_H
#define STORE_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/progress.h"
#include "store/catalog.h"
#include "store/crypt.h"
#include "store/index.h"
#include "store/parent.h"
#include "store/pool.h"

/* pipeline: pages in, packs out.
 *
 *   put -> [hash]* -> assign -> [compress, prove]* -> append -> sync
 *   keep ------------> assign
 *
 * The steps marked * run on all threads of the pool; assign (look up, choose a
 * slot) and append keep the order of put and keep.  put waits while too much is in
 * flight. */

/* Called in the order of put and keep, one call at a time, from pool threads: where
 * pages are; run->pack is the number of a pack. */
typedef enum err pipeline_place_fn(void *arg, uint32_t stream, const struct run *run);

struct pipeline_options {
	int root;		   /* borrowed, as all below */
	const struct crypt *crypt;
	int level; /* of compression */
	struct writer_id writer;
	struct pool *pool;
	struct catalog *catalog;
	struct index *index;	     /* NULL: every page is new */
	const struct parent *parent; /* NULL: none */
	bool recall;		     /* use and make one (recall.h) */
	struct progress *progress;
	pipeline_place_fn *place;
	void *arg;
};

struct pipeline_pack {
	struct pack_ref ref;
	uint32_t parent; /* its number there; PACKMAP_NONE */
	bool ours;	 /* written by this pipeline */
};

struct pipeline;
MUST_USE enum err pipeline_create(const struct pipeline_options *opt, struct pipeline **out);
/* One non-zero page (borrowed until return).  Errors of any step come back here or
 * from pipeline_finish; then only pipeline_destroy is left. */
MUST_USE enum err pipeline_put(struct pipeline *p, uint32_t stream, uint64_t page,
			       const uint8_t *data);
/* Pages that stay where the parent has them: run->pack is the number of a pack there. */
MUST_USE enum err pipeline_keep(struct pipeline *p, uint32_t stream, const struct run *run);
/* Pages that stay where the index said that they are: run->pack is its number of a pack. */
MUST_USE enum err pipeline_have(struct pipeline *p, uint32_t stream, const struct run *run);
/* Wait until every page is in a sealed pack whose bytes are durable. */
MUST_USE enum err pipeline_finish(struct pipeline *p);

/* After pipeline_finish: the packs by the numbers given to place (borrowed), and the
 * bytes of the new ones. */
const struct pipeline_pack *pipeline_packs(const struct pipeline *p, uint32_t *count);
uint64_t pipeline_stored(const struct pipeline *p);
/* The checkpoint of these packs is published. */
void pipeline_published(struct pipeline *p, const struct checkpoint_info *info);
/* Remove the files of packs that it wrote, as far as that is possible. */
void pipeline_remove(struct pipeline *p);
void pipeline_destroy(struct pipeline *p); /* NULL allowed; waits for its jobs */

#endif
