/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_FEED_H
#define CMD_LIFEBOAT_FEED_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/err.h"
#include "base/progress.h"
#include "store/archive.h"

/* feed: a file, a device or a pipe on its way into a stream of a checkpoint. */
struct feed {
	const char *file; /* as a person wrote it; "-" is standard input; borrowed */
	char stream[ARCHIVE_NAME_BYTES];
	int fd;
	bool endless;	/* no size and no offsets: read until it ends */
	uint64_t bytes; /* else: its size */
	struct timespec changed;
	unsigned index; /* of the stream */
};

/* The stream's name that a file's name makes: its last part, in lower case, with '-' for
 * what a name cannot have.  False if nothing is left. */
bool feed_stream_name(const char *file, char out[ARCHIVE_NAME_BYTES]);

/* Open f->file.  ERR_USAGE for a directory. */
MUST_USE enum err feed_open(struct feed *f);
void feed_close(struct feed *f);

/* Put all of it into f->index of w.  *touched: it was written to meanwhile, so that the stream may
 * hold a mixture; a changed size is ERR_FAILED. */
MUST_USE enum err feed_put(struct feed *f, struct archive_writer *w, struct progress *progress,
			   bool *touched);

#endif
