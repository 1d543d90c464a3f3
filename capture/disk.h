/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CAPTURE_DISK_H
#define CAPTURE_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/progress.h"
#include "capture/sink.h"
#include "hv/config.h"
#include "hv/remote.h"

/* disk: the disks of a machine on their way into a sink, as streams "disk0", "disk1"...
 *
 * Writable ones are read while the machine is held: their devices are quiet, so that
 * what the guest was told to be written is in the file, and nothing is half-written.
 * Read-only ones cannot change and are read before.  Holes are skipped. */

struct disk_set {
	struct config_disk disks[CONFIG_MAX_DISKS];
	uint32_t count;
	int fds[CONFIG_MAX_DISKS]; /* owned */
	uint64_t bytes;		   /* of all */
	uint64_t read_bytes;	   /* of them outside of holes */
};

/* All descriptors; config as JSON, as it came from the machine.  disk_close in any case. */
MUST_USE enum err disk_open(struct disk_set *d, struct remote *r, const void *config, size_t len);
void disk_close(struct disk_set *d);
/* Those that are read-only, or those that are not. */
MUST_USE enum err disk_put(struct disk_set *d, struct sink *s, bool read_only,
			   struct progress *progress);

#endif
