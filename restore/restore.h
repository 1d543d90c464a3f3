/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RESTORE_RESTORE_H
#define RESTORE_RESTORE_H

#include <stdint.h>

#include "base/err.h"
#include "base/progress.h"
#include "hv/config.h"
#include "hv/remote.h"
#include "restore/source.h"

/* restore: an image into a new machine, eagerly.
 *
 * Order of a restore, as its caller sees it:
 *   restore_config      what machine it was; the caller may rename it
 *   restore_boot_files  kernel and initrd, which the new worker gets at its start
 *   (the caller starts a worker: CREATED)
 *   restore_disks       what its disks held, into new files
 *   restore_run         check, memory, state: PAUSED
 *   (the caller resumes it, or leaves it paused)
 * On any error the caller ends the worker, and nothing is left. */

struct restore_report {
	uint64_t check_ns;  /* comparing the state with this host */
	uint64_t memory_ns; /* reading, verifying, placing memory */
	uint64_t state_ns;  /* loading the machine state */
	uint64_t total_ns;
	uint64_t state_bytes;
	uint64_t ram_bytes;	/* logical */
	uint64_t nonzero_bytes; /* placed */
};

/* The configuration in the image (out is initialised here; config_fini it).
 * ERR_USAGE: neither that nor a state: somebody's files.  ERR_CORRUPT: it is missing, or is one
 * that no machine can have. */
MUST_USE enum err restore_config(struct source *s, struct vm_config *out);

/* Kernel and initrd as sealed memfds (given; -1 where the image has none). */
MUST_USE enum err restore_boot_files(struct source *s, int *kernel_fd, int *initrd_fd);

struct restore_disks_report {
	uint64_t ns;	/* reading, verifying, writing, making durable */
	uint64_t bytes; /* logical, of all */
	uint64_t nonzero_bytes;
};

/* The content of the image's disks into new, empty files of their sizes, durably; fds
 * (borrowed): one for each of the configuration's.  Before the machine is loaded. */
MUST_USE enum err restore_disks(struct source *s, const struct vm_config *config, const int *fds,
				struct progress *progress, struct restore_disks_report *report);

/* Fill the CREATED machine behind r: everything that does not fit is found before
 * any memory moves (ERR_VERSION, with every reason).  Leaves it PAUSED. */
MUST_USE enum err restore_run(struct source *s, struct remote *r, struct progress *progress,
			      struct restore_report *report);

#endif
