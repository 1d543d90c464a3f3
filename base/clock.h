/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/* clock: host time.  Never stored in machine state. */
#define NS_PER_SEC 1000000000ull
#define NS_PER_MS 1000000ull
uint64_t clock_mono_ns(void);	/* CLOCK_MONOTONIC */
uint64_t clock_real_ns(void);	/* CLOCK_REALTIME, since 1970 */
/* RFC 3339, UTC, seconds ("2026-11-23T17:10:00Z"); out holds 21 bytes. */
void clock_rfc3339(uint64_t real_ns, char out[21]);

#endif
