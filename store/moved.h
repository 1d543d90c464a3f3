/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_MOVED_H
#define STORE_MOVED_H

#include <stdint.h>

#include "base/err.h"
#include "store/forward.h"
#include "store/pipeline.h"

/* moved: the slots of one pack whose pages went through a pipeline into new packs, until its
 * forward is written.  Belongs to one thread at a time. */
struct moved {
	struct pack_ref ref; /* of the old pack */
	struct run *run;     /* page: the old slot; pack: number in the pipeline, until written */
	uint32_t n_runs, room;
};

void moved_fini(struct moved *o);
/* Next in the order of slots; as a pipeline's place calls it. */
MUST_USE enum err moved_place(struct moved *o, const struct run *run);
/* After pipeline_finish: the forward of the old pack, whose file is still there.  Its name is
 * durable when forwards/ was synced.  Only once. */
MUST_USE enum err moved_forward(int root, struct moved *o, const struct pipeline *p);

/* Make names durable. */
MUST_USE enum err moved_sync_dir(int root, const char *path);

#endif
