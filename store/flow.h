/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_FLOW_H
#define STORE_FLOW_H

#include "base/thread.h"
#include "store/dedup.h"
#include "store/packmap.h"
#include "store/pipeline.h"
#include "store/recall.h"

/* flow: what the steps of a pipeline share; see pipeline.c for who owns what. */

#define BATCH_PAGES 128u
#define BATCH_CREDIT (BATCH_PAGES / GROUP_PAGES + 1)

struct position {
	uint32_t stream;
	uint64_t page;
};

/* What is known of a page before it is given a place. */
struct known {
	enum { KNOWN_NOT, KNOWN_PARENT, KNOWN_BEYOND, KNOWN_INDEX } how;
	uint32_t pack, slot; /* KNOWN_PARENT: the parent's; KNOWN_INDEX: the index's number */
};

/* The assigner's: where pages are that were stored before. */
struct known_state {
	struct packmap map;
	struct parent_view view;
	const struct catalog_pack *held; /* of the parent, in use; NULL: none */
	uint32_t held_pack;
	uint32_t *old_number; /* index's pack number -> number in packs + 1 */
	uint32_t old_room;
	uint32_t stream; /* the region that budget is of */
	uint64_t region;
	struct budget budget; /* beside the parent's plan */
	uint32_t fresh_pack, fresh_slot; /* the first that was newly stored for the region */
};

/* A run that stays where the parent, or the index, has it. */
struct kept {
	uint32_t stream;
	unsigned before; /* it comes before that page of the batch */
	bool indexed;
	struct run run; /* pack: the parent's number, or the index's */
};

struct batch {
	struct pool_job job; /* first: found from it */
	struct pipeline *p;
	struct batch *next;
	uint64_t seq;
	unsigned n, n_kept, used_credit;
	struct position pos[BATCH_PAGES];
	struct digest digest[BATCH_PAGES];
	struct group_sum sum[BATCH_PAGES];
	struct group_sum expect[BATCH_PAGES]; /* of the parent's at that place; zero: not known */
	bool same[BATCH_PAGES];		      /* it is that page: no digest was made */
	struct known known[BATCH_PAGES];
	struct kept kept[BATCH_PAGES];
	uint8_t *data;
};

/* A pack of ours while it grows. */
struct growing {
	struct pack_id id;
	struct crypt_key key;
	struct digest *digests; /* by slot; freed when sealed */
	uint32_t slots;		/* assigned */
	struct pack_writer *writer;
	bool created, sealed;
	uint32_t number; /* in packs[] */
	struct growing *next;
};

struct group {
	struct pool_job job; /* first: found from it */
	struct pipeline *p;
	struct group *next;
	uint64_t seq;
	unsigned n;
	struct growing *pack;
	uint32_t first_slot;
	struct group_sum sum[GROUP_PAGES]; /* of the pages as they came */
	uint8_t *pages, *out;
	const uint8_t *stored;
	uint32_t len;
	uint8_t codec, check[GROUP_CHECK_BYTES];
	bool last_of_pack;
};

struct pipeline {
	struct pipeline_options opt;
	pthread_mutex_t lock;
	pthread_cond_t moved;
	enum err err;
	char why[ERR_NOTE_BYTES];

	struct batch *batches, *free_batch, *filling;
	struct group *groups, *free_group, *open;
	unsigned n_batches, n_groups, credit;
	struct batch **batch_ring;
	struct group **group_ring;
	uint64_t batches_issued, batches_done, groups_issued, groups_done;
	bool assigning, appending;

	struct group_sum_key sum_key;
	struct recall *recall; /* NULL: none */
	struct dedup own;
	struct known_state known;
	struct growing *growing, *current; /* newest first; the one being filled */
	uint32_t sequence;

	struct pipeline_pack *packs;
	struct growing **grown; /* by pack number; NULL for old packs */
	uint32_t n_packs, packs_room;
	uint64_t stored;

	struct queue *to_sync;
	struct thread syncer;
};

/* Note the first error, with this thread's sentence; all later work is skipped. */
void pipeline_fail(struct pipeline *p, enum err e);
bool pipeline_failed(struct pipeline *p);

/* assign.c: hash a batch, then, in order, look its pages up and give the new ones slots. */
void assign_run(struct pool_job *job, struct pool_worker *w);
/* Send the open group on its way; the assigner, or the owner when nobody assigns. */
void assign_issue(struct pipeline *p);

/* known.c: pages that were stored before. */
MUST_USE enum err known_init(struct pipeline *p);
void known_fini(struct pipeline *p);
/* Fill b->known from the parent, by position, and from the index. */
void known_look(struct pipeline *p, struct batch *b);
/* The place of page i if b->known tells one that is within the budget. */
MUST_USE enum err known_place(struct pipeline *p, struct batch *b, unsigned i, bool *there,
			      uint32_t *number, uint32_t *slot);
/* May the page lie there, by the budget of its region? */
MUST_USE bool known_allow(struct pipeline *p, const struct position *at, uint32_t number,
			  uint32_t slot);
/* The page was newly stored there. */
void known_stored(struct pipeline *p, const struct position *at, uint32_t number, uint32_t slot);
/* The number in packs of a pack of the parent. */
MUST_USE enum err known_parent_number(struct pipeline *p, uint32_t pack, uint32_t *number);
/* The number in packs of a pack of the index. */
MUST_USE enum err known_index_number(struct pipeline *p, uint32_t pack, uint32_t *number);
/* A new number for a pack: grown (ours) or ref (published); in assign.c. */
MUST_USE enum err assign_number(struct pipeline *p, struct growing *grown,
				const struct pack_ref *ref, uint32_t *number);

/* append.c: compress and prove a group, then, in order, append it to its pack. */
void append_run(struct pool_job *job, struct pool_worker *w);
/* Complete a pack and pass it to be made durable; the appender, or the owner when
 * nobody appends. */
MUST_USE enum err append_seal(struct pipeline *p, struct growing *pack);

#endif
