/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_BOOTDISK_H
#define CMD_LIFEBOAT_BOOTDISK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* bootdisk: kernel, initrd and command line off a guest's own disk, read by a process that
 * can do nothing else (cmd/bootfs).  All that comes back is the guest's word. */
struct bootdisk {
	int kernel_fd, initrd_fd; /* sealed memory; owned; initrd_fd -1: none */
	char *kernel, *cmdline;	  /* owned; printable ASCII */
	char *from;		  /* the boot loader's configuration; "": the newest kernel */
	bool dirty;		  /* the disk was not unmounted */
};

/* disk: borrowed, a descriptor of the whole disk that can be opened again.  what: its name in
 * messages.  ERR_NOTFOUND, ERR_CORRUPT, ERR_UNSUPPORTED, ERR_NOSPACE (more than
 * max_bytes); ERR_CANCELLED on a signal. */
MUST_USE enum err bootdisk_read(int disk, const char *what, uint64_t max_bytes, bool weak_sandbox,
				struct bootdisk *out);
void bootdisk_fini(struct bootdisk *b); /* one that is all zero but for descriptors of -1 too */

#endif
