/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's view of its devices.  Compiled at build time; hv/acpi.c puts the
 * result into guest memory.  Nothing in it varies between machines: what does
 * (processors) is in the MADT.
 *
 * With hardware-reduced ACPI a guest has no legacy interrupts: what uses one
 * must be described here, with an Interrupt() descriptor.  Addresses are those
 * of hv/acpi.h and hv/emulated/. */
DefinitionBlock ("dsdt.aml", "DSDT", 2, "LIFEBT", "LIFEBOAT", 1)
{
	/* S5 only; SLP_TYP 5 is what acpi_pm takes for power off. */
	Name (\_S5, Package () { 5, 0, 0, 0 })

	Scope (\_SB)
	{
		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, 1)
			Name (_CRS, ResourceTemplate () {
				IO (Decode16, 0x3F8, 0x3F8, 0, 8)
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 4 }
			})
		}

		Device (COM2)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, 2)
			Name (_CRS, ResourceTemplate () {
				IO (Decode16, 0x2F8, 0x2F8, 0, 8)
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 3 }
			})
		}

		Device (PWRB)
		{
			Name (_HID, EisaId ("PNP0C0C"))
			Name (_UID, 0)
		}

		/* The bus, below a container as on Hyper-V.  Linux wants a _CRS and takes
		 * nothing from it: the interrupts are SynIC's.  The window is for devices
		 * with memory of their own; there is none yet. */
		Device (VMOD)
		{
			Name (_HID, "ACPI0004")
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate () {
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
					NonCacheable, ReadWrite,
					0, 0xF8000000, 0xF9FFFFFF, 0, 0x2000000)
			})
			Device (VMBS)
			{
				Name (_HID, "VMBus")
				Name (_UID, 0)
				Name (_DDN, "VMBUS")
				Method (_STA) { Return (0x0F) }
				Name (_CRS, ResourceTemplate () {
					IRQ (Edge, ActiveHigh, Exclusive) { 5 }
				})
			}
		}

		/* VM Generation ID: where it is; hv/vmgen.h. */
		Device (VGEN)
		{
			Name (_HID, "LBGN0001")
			Name (_CID, "VM_Gen_Counter")
			Name (_DDN, "VM_Gen_Counter")
			Name (ADDR, Package () { 0xFF000, 0 })
		}

		/* Generic event device: one edge for all events; which of them, the
		 * register at 0x604 says, and reading it clears it. */
		Device (GED)
		{
			Name (_HID, "ACPI0013")
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate () {
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 9 }
			})
			OperationRegion (EVTR, SystemIO, 0x604, 4)
			Field (EVTR, DWordAcc, NoLock, WriteAsZeros)
			{
				EVTS, 32
			}
			Method (_EVT, 1, Serialized)
			{
				Local0 = EVTS
				If (Local0 & 1)
				{
					Notify (\_SB.PWRB, 0x80)
				}
				If (Local0 & 2)
				{
					Notify (\_SB.VGEN, 0x80)
				}
			}
		}
	}
}
