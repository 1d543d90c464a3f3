/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_LEVEL_H
#define CMD_LIFEBOAT_LEVEL_H

#include "base/err.h"
#include "cmd/lifeboat/cli.h"
#include "store/archive.h"

/* level: how hard to compress, as a person says it.  A row of options for the verb that makes
 * an archive, whose own level it becomes, and for those that write to one. */

#define LEVEL_KEY 0x1a00
#define LEVEL_OPTION(which)                                                                        \
	{                                                                                          \
		.name = "compression", .key = LEVEL_KEY, .arg = "LEVEL",                           \
		.doc = "fast, default, best, or a level of zstd from -7 to 19 (default: " which ")" \
	}

/* The level that the word names; ERR_USAGE. */
MUST_USE enum err level_parse(const char *word, int *level);
/* Write through `a` at that level; word NULL: at its own. */
MUST_USE enum err level_apply(const char *word, struct archive *a);

#endif
