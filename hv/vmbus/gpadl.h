/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VMBUS_GPADL_H
#define HV_VMBUS_GPADL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "hv/memory.h"

/* gpadl: lists of guest pages that the guest lends to a channel (docs/vmbus.md 10).
 *
 * A list comes in one header message and any number of bodies; every page is checked
 * against RAM as it comes.  Their number and size are bounded.
 * Threads: the machine's loop thread. */

#define GPADL_COUNT_MAX 1024u
#define GPADL_PAGES_MAX 16384u		/* of one list: 64 MiB */
#define GPADL_PAGES_TOTAL (1u << 18)	/* of all lists of a machine */

struct gpadl {
	struct gpadl *next;
	uint32_t id, relid;
	uint32_t offset, bytes;	  /* offset in the first page */
	uint32_t pages, received; /* complete when they are equal */
	uint64_t *page;		  /* guest-physical addresses */
};

struct gpadl_table {
	const struct memory *memory; /* borrowed */
	struct gpadl *first;
	uint32_t count, pages;
};

void gpadl_init(struct gpadl_table *t, const struct memory *m);
void gpadl_fini(struct gpadl_table *t); /* drops all; t can be used again */
/* A whole header message.  *out is borrowed until it is dropped.  ERR_GUEST: refused. */
MUST_USE enum err gpadl_begin(struct gpadl_table *t, const uint8_t *message, size_t len,
			      struct gpadl **out);
/* A whole body message; NULL in *out: it belongs to no list.  ERR_GUEST: refused, the
 * list is to be dropped. */
MUST_USE enum err gpadl_more(struct gpadl_table *t, const uint8_t *message, size_t len,
			     struct gpadl **out);
bool gpadl_complete(const struct gpadl *g);
struct gpadl *gpadl_find(const struct gpadl_table *t, uint32_t id); /* NULL: none */
void gpadl_drop(struct gpadl_table *t, struct gpadl *g);	    /* NULL allowed */
void gpadl_drop_relid(struct gpadl_table *t, uint32_t relid);

/* All lists as u64 values: { id, relid, offset, bytes, received, pages that came }. */
void gpadl_save(const struct gpadl_table *t, struct buf *out);
/* Into an empty table.  ERR_CORRUPT. */
MUST_USE enum err gpadl_load(struct gpadl_table *t, const uint8_t *p, size_t len);

#endif
