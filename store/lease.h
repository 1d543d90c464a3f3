/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_LEASE_H
#define STORE_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "store/layout.h"
#include "store/record.h"

/* lease: the sign of a job that reads or writes, so that nothing goes from under it.
 *
 *   leases/ID      record LBLEASE, exclusively locked while the job lives:
 *                  12 epoch (le64), 20 process id (le32), 24 since, ns (le64), 32 what (128)
 *   leases/epoch   two equal records LBEPOCH: 12 epoch (le64); absent: 0
 *   leases/shared  empty; jobs that cannot make a file of their own (no right to write, full or
 *                  read-only file system) lock of it, shared, the byte at offset epoch
 *
 * A lease holds an epoch that was current after it could be seen and before the job looked at
 * anything.  What was condemned at epoch C may go when every living lease has an epoch of at least
 * C.  No clock is asked, and nothing of this needs to survive a
 * power cut: no job does.  See FORMAT.md, section 10. */

#define LEASE_MAGIC "LBLEASE\0"
#define LEASE_EPOCH_MAGIC "LBEPOCH\0"
#define LEASE_WHAT_BYTES 128u
#define LEASE_EPOCH_MAX (UINT64_C(1) << 62) /* more is nobody's: there must be a next one */

struct lease;

/* Before the job looks at anything.  what: "reads web@3".  The epoch may be older than the
 * current one, never newer. */
MUST_USE enum err lease_take(int root, const char *what, struct lease **out);
void lease_end(struct lease *l); /* NULL allowed */
uint64_t lease_epoch(const struct lease *l);
/* ERR_BUSY with a sentence if the lease was taken away. */
MUST_USE enum err lease_check(const struct lease *l);

/* One that lives. */
struct lease_info {
	uint64_t epoch; /* 0: not known, so the oldest */
	uint32_t pid;	/* 0: not known */
	uint64_t since_ns;
	char what[LEASE_WHAT_BYTES];
};
/* Calls fn for each that lives (of those without a file for the oldest and the youngest), and
 * removes the files of the dead if clean. */
typedef enum err lease_fn(void *arg, const struct lease_info *info);
MUST_USE enum err lease_list(int root, bool clean, lease_fn *fn, void *arg);

MUST_USE enum err lease_epoch_read(int root, uint64_t *epoch);
MUST_USE enum err lease_epoch_write(int root, uint64_t epoch);

/* Records.  decode: ERR_CORRUPT. */
void lease_encode(const struct lease_info *info, uint8_t rec[RECORD_BYTES]);
MUST_USE enum err lease_decode(const uint8_t rec[RECORD_BYTES], struct lease_info *info);

#endif
