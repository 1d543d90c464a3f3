/* SPDX-License-Identifier: Apache-2.0 */
/* scsi_pages: what a disk says of itself: INQUIRY and MODE SENSE; see scsi.h.
 *
 * The vendor is "Msft", as on Hyper-V: guests' drivers know by it that discards work
 * (docs/vmbus.md 15).  The serial number is the disk's identity in hexadecimal; the NAA
 * identifier is a locally assigned one (NAA 3) made of its first 60 bits, since names of
 * other kinds belong to registered vendors.
 *
 * Source: SPC-4 6.6 (INQUIRY), 7.8 (vital product data), 7.5 (mode pages); SBC-3 6.5. */
#include <string.h>

#include "base/bytes.h"
#include "hv/vsp/scsi_parts.h"

enum {
	PAGE_LIST = 0x00,
	PAGE_SERIAL = 0x80,
	PAGE_IDS = 0x83,
	PAGE_LIMITS = 0xb0,
	PAGE_CHARACTERISTICS = 0xb1,
	PAGE_PROVISIONING = 0xb2
};
enum { MODE_CACHING = 0x08, MODE_CONTROL = 0x0a, MODE_ALL = 0x3f };

#define ABSENT 0x7f /* no device, and none possible */
#define VENDOR "Msft    "
#define PRODUCT "Virtual Disk    "
#define GRANULE_SECTORS 8u /* 4 KiB */

uint32_t scsi_same_max(const struct scsi_unit *u)
{
	return u->disk.discard ? SCSI_SAME_SECTORS_MAX : SCSI_ZERO_SECTORS_MAX;
}

static void standard(const struct scsi_unit *u, struct scsi_answer *a)
{
	uint8_t *p = a->data;

	a->data_bytes = 36;
	p[0] = u->present ? 0x00 : ABSENT;
	p[2] = 6; /* SPC-4 */
	p[3] = 2; /* format of this answer */
	p[4] = 36 - 5;
	if (!u->present)
		return;
	p[7] = 0x02; /* queues commands */
	memcpy(p + 8, VENDOR, 8);
	memcpy(p + 16, PRODUCT, 16);
	memcpy(p + 32, "1.0 ", 4);
}

static size_t page_list(uint8_t *p)
{
	static const uint8_t pages[] = {PAGE_LIST,   PAGE_SERIAL,	   PAGE_IDS,
					PAGE_LIMITS, PAGE_CHARACTERISTICS, PAGE_PROVISIONING};

	memcpy(p, pages, sizeof(pages));
	return sizeof(pages);
}

static size_t page_serial(const struct scsi_unit *u, uint8_t *p)
{
	char hex[2 * BLOCK_ID_BYTES + 1];

	bytes_hex(u->disk.id, BLOCK_ID_BYTES, hex);
	memcpy(p, hex, 2 * BLOCK_ID_BYTES);
	return 2 * BLOCK_ID_BYTES;
}

static size_t page_ids(const struct scsi_unit *u, uint8_t *p)
{
	p[0] = 0x01; /* binary */
	p[1] = 0x03; /* of the logical unit, NAA */
	p[3] = 8;
	memcpy(p + 4, u->disk.id, 8);
	p[4] = (uint8_t)(0x30 | (p[4] & 0x0f));
	p[12] = 0x02; /* ASCII */
	p[13] = 0x01; /* of the logical unit, by vendor */
	p[15] = 8 + 2 * BLOCK_ID_BYTES;
	memcpy(p + 16, VENDOR, 8);
	page_serial(u, p + 24);
	return 24 + 2 * BLOCK_ID_BYTES;
}

/* From byte 4 of the page on, as are the next two. */
static size_t page_limits(const struct scsi_unit *u, uint8_t *p)
{
	p[0] = 1; /* WRITE SAME of 0 sectors is refused */
	be16_put(p + 2, GRANULE_SECTORS);
	be32_put(p + 4, SCSI_TRANSFER_BYTES / BLOCK_SECTOR_BYTES);
	be32_put(p + 8, SCSI_TRANSFER_BYTES / BLOCK_SECTOR_BYTES);
	if (u->disk.discard) {
		be32_put(p + 16, SCSI_UNMAP_SECTORS_MAX);
		be32_put(p + 20, SCSI_RANGES);
		be32_put(p + 24, GRANULE_SECTORS);
		p[28] = 0x80; /* the alignment that follows, 0, counts */
	}
	be64_put(p + 32, scsi_same_max(u));
	return 60;
}

static size_t page_characteristics(uint8_t *p)
{
	be16_put(p, 1); /* nothing rotates */
	return 60;
}

static size_t page_provisioning(const struct scsi_unit *u, uint8_t *p)
{
	if (u->disk.discard) {
		p[1] = 0xe4; /* UNMAP, WRITE SAME(16) and (10) discard; it reads as zeros */
		p[2] = 2;    /* thin */
	}
	return 4;
}

static void vital_page(const struct scsi_unit *u, uint8_t page, struct scsi_answer *a)
{
	uint8_t *p = a->data + 4;
	size_t n;

	switch (page) {
	case PAGE_LIST: n = page_list(p); break;
	case PAGE_SERIAL: n = page_serial(u, p); break;
	case PAGE_IDS: n = page_ids(u, p); break;
	case PAGE_LIMITS: n = page_limits(u, p); break;
	case PAGE_CHARACTERISTICS: n = page_characteristics(p); break;
	case PAGE_PROVISIONING: n = page_provisioning(u, p); break;
	default: scsi_refuse(a, SCSI_INVALID_FIELD); return;
	}
	a->data[1] = page;
	be16_put(a->data + 2, (uint32_t)n);
	a->data_bytes = 4 + n;
}

void scsi_inquiry(const struct scsi_unit *u, const struct scsi_command *c, struct scsi_answer *a)
{
	bool vital = c->cdb[1] & 1;

	if (vital && u->present)
		vital_page(u, c->cdb[2], a);
	else if (!vital && c->cdb[2])
		scsi_refuse(a, SCSI_INVALID_FIELD);
	else
		standard(u, a);
	scsi_limit(a, c, be16_get(c->cdb + 3));
}

/* ---- mode pages ---- */

/* changeable: the mask of what can be set: nothing. */
static size_t mode_caching(uint8_t *p, bool changeable)
{
	p[0] = MODE_CACHING;
	p[1] = 18;
	p[2] = changeable ? 0 : 0x04; /* writes are cached */
	return 20;
}

static size_t mode_control(uint8_t *p, bool changeable)
{
	p[0] = MODE_CONTROL;
	p[1] = 10;
	p[3] = changeable ? 0 : 0x10; /* commands may be carried out in any order */
	return 12;
}

void scsi_mode_sense(const struct scsi_unit *u, const struct scsi_command *c, struct scsi_answer *a)
{
	bool longer = c->cdb[0] == 0x5a;
	uint8_t page = c->cdb[2] & 0x3f, control = c->cdb[2] >> 6;
	uint8_t specific = (uint8_t)((u->disk.read_only ? 0x80 : 0) | 0x10); /* FUA works */
	size_t head = longer ? 8 : 4, n = head;

	if (c->cdb[3] && c->cdb[3] != 0xff) {
		scsi_refuse(a, SCSI_INVALID_FIELD);
		return;
	}
	if (control == 3) { /* saved values: there are none */
		scsi_refuse(a, SCSI_SENSE(5, 0x39, 0x00));
		return;
	}
	if (page == MODE_CACHING || page == MODE_ALL)
		n += mode_caching(a->data + n, control == 1);
	if (page == MODE_CONTROL || page == MODE_ALL)
		n += mode_control(a->data + n, control == 1);
	if (n == head) {
		scsi_refuse(a, SCSI_INVALID_FIELD);
		return;
	}
	if (longer) {
		be16_put(a->data, (uint32_t)(n - 2));
		a->data[3] = specific;
	} else {
		a->data[0] = (uint8_t)(n - 1);
		a->data[2] = specific;
	}
	a->data_bytes = n;
	scsi_limit(a, c, longer ? be16_get(c->cdb + 7) : c->cdb[4]);
}
