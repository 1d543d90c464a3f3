/* SPDX-License-Identifier: Apache-2.0 */
/* irq: lines of the in-kernel PIC and IOAPIC; see irq.h and device.h.
 *
 * Threads: no state but a counter; KVM serialises the lines itself. */
#include "hv/irq.h"

#include "base/log.h"
#include "hv/kvm/kvm.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

struct irq {
	int vm_fd;
	_Atomic uint64_t failures;
};

enum err irq_create(int vm_fd, struct irq **out)
{
	struct irq *irq = calloc(1, sizeof *irq);

	if (!irq)
		return err_sys(ENOMEM, "interrupt lines");
	irq->vm_fd = vm_fd;
	*out = irq;
	return ERR_OK;
}

void irq_destroy(struct irq *irq)
{
	free(irq);
}

void irq_set(struct irq *irq, unsigned gsi, bool level)
{
	if (kvm_vm_irq_line(irq->vm_fd, gsi, level) == ERR_OK)
		return;
	if (atomic_fetch_add(&irq->failures, 1) == 0)
		log_event(LOG_WARN, "irq-failed gsi=%u reason=\"%s\"", gsi, err_text());
}

void irq_message(struct irq *irq, uint32_t apic_id, uint8_t vector)
{
	if (kvm_vm_signal_msi(irq->vm_fd, apic_id, vector) == ERR_OK)
		return;
	if (atomic_fetch_add(&irq->failures, 1) == 0)
		log_event(LOG_WARN, "irq-failed vector=%u reason=\"%s\"", vector, err_text());
}

void irq_pulse(struct irq *irq, unsigned gsi)
{
	irq_set(irq, gsi, true);
	irq_set(irq, gsi, false);
}

uint64_t irq_failures(const struct irq *irq)
{
	return atomic_load(&irq->failures);
}
