/* SPDX-License-Identifier: Apache-2.0 */
/* log: lines to the sink that cmd/ installed.  See log.h. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"

#define LINE_BYTES 1024

static log_sink_fn *sink_fn;
static void *sink_arg;
static enum log_level sink_min;

/* Limits are rarely contended and short; one lock serves them all. */
static pthread_mutex_t limit_lock = PTHREAD_MUTEX_INITIALIZER;

void log_set(log_sink_fn *sink, void *arg, enum log_level min)
{
	sink_fn = sink;
	sink_arg = arg;
	sink_min = min;
}

static void emit(enum log_level level, unsigned suppressed, const char *fmt, va_list args)
{
	char line[LINE_BYTES];

	int n = vsnprintf(line, sizeof(line), fmt, args);
	if (suppressed && n >= 0 && (size_t)n < sizeof(line))
		snprintf(line + n, sizeof(line) - (size_t)n, " suppressed=%u", suppressed);
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
	sink_fn(sink_arg, level, line);
}

void log_event(enum log_level level, const char *fmt, ...)
{
	if (!sink_fn || level < sink_min)
		return;
	va_list args;
	va_start(args, fmt);
	emit(level, 0, fmt, args);
	va_end(args);
}

/* May this line pass?  Then *suppressed is how many did not since the last. */
static bool limit_pass(struct log_limit *l, unsigned *suppressed)
{
	uint64_t now = clock_mono_ns();
	bool pass = true;

	pthread_mutex_lock(&limit_lock);
	if (!l->used) {
		l->used = 1;
		l->tokens = l->burst;
		l->next_ns = now + l->interval_ns;
	}
	while (now >= l->next_ns && l->tokens < l->burst) {
		l->tokens++;
		l->next_ns += l->interval_ns;
	}
	if (l->tokens == l->burst)
		l->next_ns = now + l->interval_ns;
	if (l->tokens > 0) {
		l->tokens--;
		*suppressed = l->suppressed;
		l->suppressed = 0;
	} else {
		l->suppressed++;
		pass = false;
	}
	pthread_mutex_unlock(&limit_lock);
	return pass;
}

void log_limited(struct log_limit *l, enum log_level level, const char *fmt, ...)
{
	unsigned suppressed = 0;

	if (!sink_fn || level < sink_min || !limit_pass(l, &suppressed))
		return;
	va_list args;
	va_start(args, fmt);
	emit(level, suppressed, fmt, args);
	va_end(args);
}
