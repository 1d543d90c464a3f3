/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_EMULATED_RTC_H
#define HV_EMULATED_RTC_H

#include "base/err.h"
#include "hv/device.h"
#include "hv/state.h"

/* rtc: the CMOS clock (MC146818) with its 128 bytes of storage.
 *
 * Shows the host's wall clock (UTC) plus an offset, which is 0 until the guest
 * sets the clock.  The offset is state; the host's time is not: a restored
 * machine's clock is right at once.  Its interrupt line is not wired. */

#define RTC_BASE 0x70u
#define RTC_PORTS 2u

/* Section "rtc". */
extern const struct state_kind rtc_state_kind;

/* *dev is given: device_destroy.  Loop thread.  ERR_NOMEM. */
MUST_USE enum err rtc_create(struct device **dev);

/* The wall clock that the chip follows, in ns since 1970; for tests (NULL: the
 * host's again).  Set while no vCPU runs. */
void rtc_set_clock(struct device *dev, uint64_t (*real_ns)(void));

#endif
