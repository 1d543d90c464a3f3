/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_REPAIR_H
#define STORE_REPAIR_H

#include "store/shared.h"

/* repair: archive_repair and archive_repair_config; see archive.h. */
MUST_USE enum err repair(struct archive *a, const struct archive_repair_options *opt,
			 struct progress *progress, archive_repair_fn *fn, void *arg,
			 struct archive_repair_result *result);
MUST_USE enum err repair_config(const char *path, const char *from, bool *healed);

/* What the parts of a repair share. */
struct repair_job {
	struct archive *a;
	const struct archive_repair_options *opt;
	struct archive *copy; /* opt->from, if it is a copy of this archive by files */
	struct progress *progress;
	archive_repair_fn *fn;
	void *arg;
	struct archive_repair_result *result;
};

/* Say it; counted if healed. */
void repair_say(struct repair_job *j, bool healed, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* In repairfiles.c: the configuration, numbers and manifests. */
MUST_USE enum err repair_files(struct repair_job *j);

#endif
