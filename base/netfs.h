/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_NETFS_H
#define BASE_NETFS_H

#include <stdint.h>

#include "base/err.h"

/* netfs: file systems whose locks and syncs another host or program keeps.  Any thread. */

/* The kind with that f_type of statfs(2): "NFS"; static, NULL for a local one. */
const char *netfs_name(uint64_t type);
/* The kind that path (a person's), or its nearest parent that exists, is on. */
MUST_USE enum err netfs_of(const char *path, const char **name);

#endif
