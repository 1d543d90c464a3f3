/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_EMULATED_UART_H
#define HV_EMULATED_UART_H

#include "base/err.h"
#include "hv/console.h"
#include "hv/device.h"
#include "hv/state.h"

/* uart: a 16550A, eight ports from the claimed base.
 *
 * Sends at once and without end: the transmitter is always empty again when the
 * guest's write returns.  Receives from the console as fast as the guest reads:
 * no overrun but in loop-back. */

#define UART_PORTS 8u /* bytes to claim */

/* Section "uart", by instance (0 = COM1). */
extern const struct state_kind uart_state_kind;

/* irq borrowed for the device's life; gsi is driven by level changes (see uart.c).
 * console borrowed, its input function is taken over; NULL: nothing is attached.
 * *dev is given: device_destroy.  Loop thread.  ERR_NOMEM. */
MUST_USE enum err uart_create(struct irq *irq, unsigned gsi, struct console *console,
			      unsigned instance, struct device **dev);

#endif
