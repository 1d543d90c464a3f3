/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_WORKER_OPS_PARTS_H
#define CMD_WORKER_OPS_PARTS_H

#include "cmd/worker/ops.h"

/* ops_parts: what the files of ops know of each other; private. */

MUST_USE enum err ops_put_u64(json_t *o, const char *key, uint64_t v);
MUST_USE enum err ops_put_text(json_t *o, const char *key, const char *text);
/* A whole number in [0, max]; absent is `fallback`. */
MUST_USE enum err ops_get_u64(const json_t *o, const char *key, uint64_t max, uint64_t fallback,
			      uint64_t *v);
MUST_USE enum err ops_get_bool(const json_t *o, const char *key, bool *v);

/* ---- ops_disks.c ---- */

MUST_USE enum err ops_disk(struct ops_call *c);
MUST_USE enum err ops_disk_add(struct ops_call *c);
MUST_USE enum err ops_disk_remove(struct ops_call *c);
MUST_USE enum err ops_disk_resize(struct ops_call *c);

#endif
