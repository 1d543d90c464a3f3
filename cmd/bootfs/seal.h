/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_BOOTFS_SEAL_H
#define CMD_BOOTFS_SEAL_H

#include <stdint.h>

#include "base/err.h"

/* seal: the last steps of shutting in the reader of a guest's file system, after
 * sandbox_enter (cmd/worker/sandbox.h): limits of its own, and the filter of system calls.
 * max_bytes: of any file that it writes.  Cannot be undone.  ERR_UNSUPPORTED. */
MUST_USE enum err seal(uint64_t max_bytes);

#endif
