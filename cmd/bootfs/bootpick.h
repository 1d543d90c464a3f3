/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_BOOTFS_BOOTPICK_H
#define CMD_BOOTFS_BOOTPICK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cmd/bootfs/bootmenu.h"

/* bootpick: what a disk would boot.  All of it from bytes that a guest wrote. */
struct bootpick {
	struct bootmenu_entry entry;
	char from[BOOTMENU_PATH_BYTES]; /* the configuration that names it; "": the newest */
	bool dirty; /* the file system was not unmounted: its journal may hold newer words */
	uint64_t kernel_bytes, initrd_bytes;
};

/* Find kernel, initrd and command line on the disk, and copy the first two to the ends of the
 * two empty descriptors (borrowed), neither larger than max_bytes; without an initrd
 * initrd_bytes is 0.  ERR_NOTFOUND: there is none; ERR_CORRUPT, ERR_UNSUPPORTED as extfs.h
 * says; ERR_NOSPACE: too large. */
MUST_USE enum err bootpick_read(int disk, uint64_t disk_bytes, int kernel, int initrd,
				uint64_t max_bytes, struct bootpick *out);

#endif
