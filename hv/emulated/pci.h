/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_EMULATED_PCI_H
#define HV_EMULATED_PCI_H

#include "base/err.h"
#include "hv/device.h"
#include "hv/state.h"

/* pci: configuration mechanism #1 (ports 0xCF8 and 0xCFC) with one bus that holds
 * nothing but its host bridge, and the reset control register at 0xCF9.
 *
 * Guests that know no VMBus look for a PCI bus and complain when there is none; what
 * later sits on it (emulated disks and network) is for them too. */

#define PCI_BASE 0xCF8u
#define PCI_PORTS 8u

extern const struct state_kind pci_state_kind;

/* reset(arg) as for i8042_create.  *dev is given: device_destroy.  ERR_NOMEM. */
MUST_USE enum err pci_create(void (*reset)(void *arg), void *arg, struct device **dev);

#endif
