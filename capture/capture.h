/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CAPTURE_CAPTURE_H
#define CAPTURE_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/progress.h"
#include "capture/sink.h"
#include "hv/remote.h"

/* capture: an image out of a machine.
 *
 * A paused, full checkpoint: the machine stands from the moment its vCPUs are
 * parked until its memory has been read, and runs on while the image is sealed.
 * It stands by a hold of the connection, so that it runs on whatever becomes of
 * this process.
 *
 * Streams, in this order: "config", "kernel" and "initrd" (if there are any),
 * "disk0"... that are read-only, "state", "ram", the other disks. */

struct capture_report {
	bool was_running;
	uint64_t pause_ns;  /* the guest stood so long (worker's clock); 0 if it was paused before */
	uint64_t park_ns;   /* of that: stopping vCPUs, quieting devices */
	uint64_t state_ns;  /* of that: saving and storing the machine state */
	uint64_t memory_ns; /* of that: reading memory and handing it to the sink */
	uint64_t disks_ns;  /* of that: reading writable disks and handing them to the sink */
	uint64_t total_ns;  /* from the call to the durable commit */
	uint64_t state_bytes;
	uint64_t ram_bytes;	/* logical */
	uint64_t read_bytes;	/* of them ever touched, thus read */
	uint64_t disk_bytes;	/* logical, of all disks */
	uint64_t disk_read_bytes; /* of them outside of holes, thus read */
	uint64_t nonzero_bytes; /* of all streams, from the sink */
	uint64_t stored_bytes;	/* newly written */
};

/* Capture the machine behind r into s (taken: committed or aborted), with a label
 * (borrowed, may be "").  progress may be NULL.  info and report are filled on
 * ERR_OK.  ERR_BUSY: another job holds the machine, or it was never started.
 * Whatever is returned, the machine is as it was: running if it ran. */
MUST_USE enum err capture_run(struct remote *r, struct sink *s, const char *label,
			      struct progress *progress, struct checkpoint_info *info,
			      struct capture_report *report);

#endif
