/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_IRQ_H
#define HV_IRQ_H

#include <stdint.h>

#include "base/err.h"
#include "hv/device.h"

/* irq: the interrupt lines of one VM; irq_set and irq_pulse are in device.h.
 *
 * A line that KVM refuses is counted and logged, not reported: no device could
 * do anything about it, and none of our GSI numbers is refused by a KVM whose
 * chips exist. */

/* vm_fd is borrowed for the life of it; its chips exist. */
MUST_USE enum err irq_create(int vm_fd, struct irq **out);
void irq_destroy(struct irq *irq); /* NULL allowed */
uint64_t irq_failures(const struct irq *irq);
/* A fixed, edge-triggered interrupt of the processor with that APIC id.  Any thread. */
void irq_message(struct irq *irq, uint32_t apic_id, uint8_t vector);

#endif
