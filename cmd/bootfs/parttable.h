/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_BOOTFS_PARTTABLE_H
#define CMD_BOOTFS_PARTTABLE_H

#include <stdint.h>

#include "base/err.h"

/* parttable: where on a disk file systems may be.  The table is a guest's and hostile. */

#define PARTTABLE_MAX 32u

struct part {
	uint64_t offset, bytes; /* within the disk */
};

/* The whole disk, if it holds an ext file system itself; else the partitions that hold one,
 * of a GPT or of the first four of an MBR, in the order of the table.  *count is 0 when there
 * is none.  disk: borrowed, read only.  ERR_IO. */
MUST_USE enum err parttable_read(int disk, uint64_t disk_bytes, struct part parts[PARTTABLE_MAX],
				 unsigned *count);

#endif
