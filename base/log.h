/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* log: one line per event: "event key=value ...", lower case, no full stop.
 * cmd/ installs a sink; without one nothing is written.  Any thread. */

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

typedef void log_sink_fn(void *arg, enum log_level level, const char *line);

/* Set before threads start.  min: lower levels are dropped early. */
void log_set(log_sink_fn *sink, void *arg, enum log_level min);

void log_event(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* For lines that a guest or a peer can trigger: at most `burst` lines at once
 * and one more each `interval_ns`; the next line that passes carries
 * suppressed=N.  Zero-initialised use: LOG_LIMIT(burst, interval_ms). */
struct log_limit {
	uint64_t interval_ns, next_ns;
	uint32_t burst, tokens, suppressed, used;
};
#define LOG_LIMIT(b, ms) {.interval_ns = (ms)*1000000ull, .burst = (b)}
void log_limited(struct log_limit *l, enum log_level level, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

#endif
