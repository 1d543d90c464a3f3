/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_METER_H
#define CMD_LIFEBOAT_METER_H

#include <stdbool.h>

#include "base/err.h"
#include "base/progress.h"

/* meter: shows a progress on standard error while a job runs, and hands an
 * interruption to it.  On a terminal one line that changes, else a line each 2 s.
 *
 *   checkpoint vm-1: 312.0 MiB of 1.0 GiB (30 %), 410.2 MiB/s, 1.9 s left */
struct meter;

/* title, progress: borrowed until meter_stop.  quiet: only hands on interruptions. */
MUST_USE enum err meter_start(const char *title, struct progress *progress, bool quiet,
			      struct meter **out);
/* Ends the display; the changing line is wiped.  NULL allowed. */
void meter_stop(struct meter *m);

#endif
