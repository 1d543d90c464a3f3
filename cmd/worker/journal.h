/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_WORKER_JOURNAL_H
#define CMD_WORKER_JOURNAL_H

#include "base/err.h"
#include "base/log.h"

/* journal: the worker's log, which never makes the machine wait.
 *
 * Before journal_start a line is written by whoever logs it; from then on a thread
 * writes, and what comes faster than the log takes it is counted and left out. */

#define JOURNAL_LINES 64u
#define JOURNAL_CLOSE_MS 2000

/* A log_sink_fn for base/log: to standard error, with time and level.  Any thread. */
void journal_line(void *arg, enum log_level level, const char *line);

/* Once, before the sandbox closes.  ERR_NOMEM: no thread; lines are written as before. */
MUST_USE enum err journal_start(void);

/* Wait, but not for ever, until all lines are written.  The process ends next. */
void journal_end(void);

#endif
