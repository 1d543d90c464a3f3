/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_EMULATED_I8042_H
#define HV_EMULATED_I8042_H

#include "base/err.h"
#include "hv/device.h"
#include "hv/state.h"

/* i8042: of the keyboard controller, what a machine without a keyboard needs: an
 * idle status at port 0x64 and the reset pulse (0xFE to it).
 * Claimed as one range 0x60..0x64; the ports between answer as if unclaimed. */

#define I8042_BASE 0x60u
#define I8042_PORTS 5u

/* Section "i8042": no fields. */
extern const struct state_kind i8042_state_kind;

/* reset(arg) is called on the vCPU thread with the device locked: it may post,
 * it may not call the device.  *dev is given: device_destroy.  ERR_NOMEM. */
MUST_USE enum err i8042_create(void (*reset)(void *arg), void *arg, struct device **dev);

#endif
