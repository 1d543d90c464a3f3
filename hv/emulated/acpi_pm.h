/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_EMULATED_ACPI_PM_H
#define HV_EMULATED_ACPI_PM_H

#include "base/err.h"
#include "hv/device.h"
#include "hv/state.h"

/* acpi_pm: the registers of hardware-reduced ACPI, as hv/acpi.c describes them to
 * the guest.
 *
 *   offset 0  sleep control  (8 bit)  write 0x34: SLP_EN with SLP_TYP 5 = power off
 *   offset 1  sleep status   (8 bit)  always 0 here
 *   offset 2  reset          (8 bit)  write 1 = reset
 *   offset 4  events         (32 bit) pending events, cleared by reading; a new one
 *                                     pulses ACPI_PM_GSI (generic event device)
 */

#define ACPI_PM_BASE 0x600u
#define ACPI_PM_PORTS 8u
#define ACPI_PM_GSI 9u

enum acpi_pm_event {
	ACPI_PM_POWER_BUTTON = 1u << 0,
	ACPI_PM_GENERATION = 1u << 1, /* another VM Generation ID */
};

/* Section "acpi_pm". */
extern const struct state_kind acpi_pm_state_kind;

/* Called on the vCPU thread with the device locked: they may post, they may not
 * call the device. */
struct acpi_pm_callbacks {
	void (*power_off)(void *arg);
	void (*reset)(void *arg);
};

/* irq and arg are borrowed for the life of the device, callbacks is copied.  *dev is given:
 * device_destroy.  ERR_NOMEM. */
MUST_USE enum err acpi_pm_create(struct irq *irq, const struct acpi_pm_callbacks *callbacks,
				 void *arg, struct device **dev);

/* An event for the guest.  Any thread; takes the device's lock.  While the device is
 * quiet it waits, and is told to the guest on resume. */
void acpi_pm_raise(struct device *dev, enum acpi_pm_event event);

#endif
