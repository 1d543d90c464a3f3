/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_ACPI_H
#define HV_ACPI_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/memory.h"

/* acpi: the tables that tell a guest what hardware there is.
 *
 * Hardware-reduced ACPI: no PM timer, no SCI, no FACS.  The RSDP is at ACPI_BASE,
 * where a guest finds it by scanning too; the tables follow it. */

#define ACPI_BASE 0xE0000u
#define ACPI_END 0xF0000u /* tables end below this */
#define ACPI_LAPIC 0xFEE00000u
#define ACPI_IOAPIC 0xFEC00000u

/* Write RSDP, XSDT, FADT, MADT and DSDT for a machine with `vcpus` processors whose
 * APIC ids are 0 .. vcpus-1. */
MUST_USE enum err acpi_write(struct memory *m, uint32_t vcpus);

/* The DSDT, compiled from hv/acpi/dsdt.asl. */
extern const unsigned char acpi_dsdt[];
extern const size_t acpi_dsdt_bytes;

#endif
