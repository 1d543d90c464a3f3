/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_INIT_H
#define STORE_INIT_H

#include "base/err.h"
#include "store/archive.h"

/* init: how an archive comes to be.  The contract is that of archive_init. */
MUST_USE enum err init_archive(const char *path, const struct archive_init_options *opt);

#endif
