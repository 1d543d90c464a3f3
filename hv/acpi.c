/* SPDX-License-Identifier: Apache-2.0 */
/* acpi: the tables, built byte by byte; see acpi.h.
 *
 * A table: signature (4), length (4), revision, checksum, OEM id (6), OEM table id
 * (8), OEM revision (4), creator id (4), creator revision (4), body.  The bytes of
 * a table add up to 0.
 *
 * Source: ACPI 6.4, sections 5.2.5 (RSDP), 5.2.8 (XSDT), 5.2.9 (FADT), 5.2.12
 * (MADT), 4.1 (hardware-reduced). */
#include "hv/acpi.h"

#include "base/bytes.h"
#include "hv/emulated/acpi_pm.h"

#include <assert.h>
#include <string.h>

#define HEADER_BYTES 36u
#define RSDP_BYTES 36u
#define FADT_BYTES 276u
#define TABLE_ALIGN 16u

enum {
	FADT_WBINVD = 1 << 0,
	FADT_PROC_C1 = 1 << 2,
	FADT_PWR_BUTTON = 1 << 4, /* a control-method device, not a fixed register */
	FADT_SLP_BUTTON = 1 << 5,
	FADT_RESET_REG = 1 << 10,
	FADT_HW_REDUCED = 1 << 20,

	BOOT_NO_VGA = 1 << 2,
	BOOT_NO_CMOS_RTC = 1 << 5,

	SPACE_IO = 1,
	ACCESS_BYTE = 1,
};

static uint8_t checksum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + p[i]);
	return (uint8_t)-sum;
}

/* Begin a table at the next aligned place; returns where. */
static size_t table_begin(struct buf *b, const char signature[5], uint8_t revision)
{
	size_t at;

	buf_put_zero(b, (TABLE_ALIGN - b->len % TABLE_ALIGN) % TABLE_ALIGN);
	at = b->len;
	buf_put(b, signature, 4);
	buf_put_le32(b, 0); /* length, by table_end */
	buf_put_le8(b, revision);
	buf_put_le8(b, 0); /* checksum, by table_end */
	buf_put_str(b, "LIFEBT");
	buf_put_str(b, "LIFEBOAT");
	buf_put_le32(b, 1);
	buf_put_str(b, "LIFB");
	buf_put_le32(b, 1);
	return at;
}

static void table_end(struct buf *b, size_t at)
{
	if (b->failed)
		return;
	le32_put(b->data + at + 4, (uint32_t)(b->len - at));
	b->data[at + 9] = checksum(b->data + at, b->len - at);
}

/* Generic address structure of an 8-bit port. */
static void put_port(uint8_t *p, uint16_t port)
{
	p[0] = SPACE_IO;
	p[1] = 8;
	p[2] = 0;
	p[3] = ACCESS_BYTE;
	le64_put(p + 4, port);
}

static size_t put_dsdt(struct buf *b)
{
	size_t at;

	buf_put_zero(b, (TABLE_ALIGN - b->len % TABLE_ALIGN) % TABLE_ALIGN);
	at = b->len;
	buf_put(b, acpi_dsdt, acpi_dsdt_bytes);
	return at;
}

/* Offsets from the start of the table. */
static size_t put_fadt(struct buf *b, uint64_t dsdt)
{
	uint8_t t[FADT_BYTES] = {0};
	size_t at = table_begin(b, "FACP", 6);

	le32_put(t + 40, (uint32_t)dsdt);
	le16_put(t + 109, BOOT_NO_VGA | BOOT_NO_CMOS_RTC);
	le32_put(t + 112, FADT_WBINVD | FADT_PROC_C1 | FADT_PWR_BUTTON | FADT_SLP_BUTTON |
				  FADT_RESET_REG | FADT_HW_REDUCED);
	put_port(t + 116, ACPI_PM_BASE + 2);
	t[128] = 1; /* value to write there */
	t[131] = 4; /* minor version: 6.4 */
	le64_put(t + 140, dsdt);
	put_port(t + 244, ACPI_PM_BASE);
	put_port(t + 256, ACPI_PM_BASE + 1);
	memcpy(t + 268, "LIFEBOAT", 8); /* hypervisor vendor */
	buf_put(b, t + HEADER_BYTES, sizeof t - HEADER_BYTES);
	table_end(b, at);
	return at;
}

static size_t put_madt(struct buf *b, uint32_t vcpus)
{
	size_t at = table_begin(b, "APIC", 5);

	buf_put_le32(b, ACPI_LAPIC);
	buf_put_le32(b, 1); /* there are 8259s too */
	for (uint32_t i = 0; i < vcpus; i++) {
		buf_put_le8(b, 0); /* local APIC */
		buf_put_le8(b, 8);
		buf_put_le8(b, (uint8_t)i); /* ACPI processor uid */
		buf_put_le8(b, (uint8_t)i); /* APIC id */
		buf_put_le32(b, 1);	    /* enabled */
	}
	buf_put_le8(b, 1); /* IOAPIC */
	buf_put_le8(b, 12);
	buf_put_le8(b, 0);
	buf_put_le8(b, 0);
	buf_put_le32(b, ACPI_IOAPIC);
	buf_put_le32(b, 0); /* its first GSI */
	table_end(b, at);
	return at;
}

static size_t put_xsdt(struct buf *b, uint64_t fadt, uint64_t madt)
{
	size_t at = table_begin(b, "XSDT", 1);

	buf_put_le64(b, fadt);
	buf_put_le64(b, madt);
	table_end(b, at);
	return at;
}

static void fill_rsdp(uint8_t *p, uint64_t xsdt)
{
	memset(p, 0, RSDP_BYTES);
	memcpy(p, "RSD PTR ", 8);
	memcpy(p + 9, "LIFEBT", 6);
	p[15] = 2;
	le32_put(p + 20, RSDP_BYTES);
	le64_put(p + 24, xsdt);
	p[8] = checksum(p, 20);
	p[32] = checksum(p, RSDP_BYTES);
}

enum err acpi_write(struct memory *m, uint32_t vcpus)
{
	AUTO_BUF struct buf b = {0};
	size_t dsdt, fadt, madt, xsdt;
	enum err e;

	assert(vcpus >= 1 && vcpus < 255);
	buf_put_zero(&b, RSDP_BYTES);
	dsdt = put_dsdt(&b);
	fadt = put_fadt(&b, ACPI_BASE + dsdt);
	madt = put_madt(&b, vcpus);
	xsdt = put_xsdt(&b, ACPI_BASE + fadt, ACPI_BASE + madt);
	if ((e = buf_check(&b)) != ERR_OK)
		return e;
	assert(b.len <= ACPI_END - ACPI_BASE);
	fill_rsdp(b.data, ACPI_BASE + xsdt);
	return memory_write(m, gpa(ACPI_BASE), b.data, b.len);
}
