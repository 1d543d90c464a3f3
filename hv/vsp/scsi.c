/* SPDX-License-Identifier: Apache-2.0 */
/* scsi: commands of a disk; see scsi.h.  What a disk says of itself is in scsi_pages.c.
 *
 * Not there, and refused as unknown: persistent reservations, MODE SELECT, VERIFY,
 * COMPARE AND WRITE, and WRITE SAME with anything but zeros. */
#include "hv/vsp/scsi.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "hv/vsp/scsi_parts.h"

enum {
	TEST_UNIT_READY = 0x00,
	REQUEST_SENSE = 0x03,
	READ_6 = 0x08,
	WRITE_6 = 0x0a,
	INQUIRY = 0x12,
	MODE_SENSE_6 = 0x1a,
	START_STOP = 0x1b,
	PREVENT_REMOVAL = 0x1e,
	READ_CAPACITY_10 = 0x25,
	READ_10 = 0x28,
	WRITE_10 = 0x2a,
	SYNCHRONIZE_CACHE_10 = 0x35,
	WRITE_SAME_10 = 0x41,
	UNMAP = 0x42,
	MODE_SENSE_10 = 0x5a,
	READ_16 = 0x88,
	WRITE_16 = 0x8a,
	SYNCHRONIZE_CACHE_16 = 0x91,
	WRITE_SAME_16 = 0x93,
	SERVICE_ACTION_IN = 0x9e,
	REPORT_LUNS = 0xa0,
	READ_12 = 0xa8,
	WRITE_12 = 0xaa,
};
#define READ_CAPACITY_16 0x10

#define NOT_PRESENT SCSI_SENSE(5, 0x25, 0x00)
#define WRITE_PROTECTED SCSI_SENSE(7, 0x27, 0x00)
#define NO_SPACE SCSI_SENSE(7, 0x27, 0x07)
#define READ_ERROR SCSI_SENSE(3, 0x11, 0x00)
#define WRITE_ERROR SCSI_SENSE(3, 0x0c, 0x00)
#define PARAMETER_LENGTH SCSI_SENSE(5, 0x1a, 0x00)
#define PARAMETER_FIELD SCSI_SENSE(5, 0x26, 0x00)

/* ---- answers ---- */

static void put_sense(uint8_t *p, uint32_t sense)
{
	memset(p, 0, SCSI_SENSE_BYTES);
	p[0] = 0x70; /* current, fixed format */
	p[2] = (uint8_t)(sense >> 16);
	p[7] = SCSI_SENSE_BYTES - 8;
	p[12] = (uint8_t)(sense >> 8);
	p[13] = (uint8_t)sense;
}

void scsi_refuse(struct scsi_answer *a, uint32_t sense)
{
	a->status = SCSI_CHECK_CONDITION;
	a->data_bytes = 0;
	a->ranges = 0;
	put_sense(a->sense, sense);
}

void scsi_limit(struct scsi_answer *a, const struct scsi_command *c, uint64_t allocation)
{
	uint64_t most = allocation < c->data_bytes ? allocation : c->data_bytes;

	if (a->data_bytes > most)
		a->data_bytes = (size_t)most;
}

void scsi_finish(struct scsi_answer *a, enum block_op op, int error)
{
	if (error == ENOSPC || error == EDQUOT)
		scsi_refuse(a, NO_SPACE);
	else if (error)
		scsi_refuse(a, op == BLOCK_READ ? READ_ERROR : WRITE_ERROR);
}

/* ---- ranges ---- */

/* A range of the disk becomes work; false: refused. */
static bool add_range(const struct scsi_unit *u, uint64_t sector, uint64_t sectors,
		      struct scsi_answer *a)
{
	uint64_t all = scsi_sectors(u);

	if (sector > all || sectors > all - sector) {
		scsi_refuse(a, SCSI_OUT_OF_RANGE);
		return false;
	}
	if (sectors == 0)
		return true;
	a->range[a->ranges].offset = sector * BLOCK_SECTOR_BYTES;
	a->range[a->ranges].bytes = sectors * BLOCK_SECTOR_BYTES;
	a->ranges++;
	return true;
}

static bool writable(const struct scsi_unit *u, struct scsi_answer *a)
{
	if (u->disk.read_only)
		scsi_refuse(a, WRITE_PROTECTED);
	return !u->disk.read_only;
}

struct transfer {
	uint64_t sector, sectors;
	uint8_t flags;
};

/* Where the fields are depends on the length of the command alone. */
static struct transfer decode_transfer(const uint8_t *cdb)
{
	switch (cdb[0] >> 5) {
	case 0: return (struct transfer){(be32_get(cdb) & 0x1fffff), cdb[4] ? cdb[4] : 256, 0};
	case 4: return (struct transfer){be64_get(cdb + 2), be32_get(cdb + 10), cdb[1]};
	case 5: return (struct transfer){be32_get(cdb + 2), be32_get(cdb + 6), cdb[1]};
	default: return (struct transfer){be32_get(cdb + 2), be16_get(cdb + 7), cdb[1]};
	}
}

static void transfer(const struct scsi_unit *u, const struct scsi_command *c, enum block_op op,
		     struct scsi_answer *a)
{
	const struct transfer t = decode_transfer(c->cdb);

	if (op == BLOCK_WRITE && !writable(u, a))
		return;
	/* No protection information; a buffer for all of it. */
	if (t.flags & 0xe0 || t.sectors * BLOCK_SECTOR_BYTES > c->data_bytes) {
		scsi_refuse(a, SCSI_INVALID_FIELD);
		return;
	}
	a->op = op;
	a->fua = op == BLOCK_WRITE && t.flags & 0x08;
	add_range(u, t.sector, t.sectors, a);
}

static void synchronize(const struct scsi_unit *u, const struct scsi_command *c,
			struct scsi_answer *a)
{
	const struct transfer t = decode_transfer(c->cdb);

	if (t.sector > scsi_sectors(u) || t.sectors > scsi_sectors(u) - t.sector) {
		scsi_refuse(a, SCSI_OUT_OF_RANGE);
		return;
	}
	a->op = BLOCK_FLUSH; /* of everything, whatever the range is */
	a->range[0].offset = a->range[0].bytes = 0;
	a->ranges = 1;
}

static bool no_data_block(const struct scsi_command *c)
{
	return c->cdb[0] == WRITE_SAME_16 && c->cdb[1] & 0x01;
}

static void write_same(const struct scsi_unit *u, const struct scsi_command *c,
		       struct scsi_answer *a)
{
	const struct transfer t = decode_transfer(c->cdb);
	bool unmap = t.flags & 0x08;

	if (!writable(u, a))
		return;
	if (t.flags & 0xf6 || (unmap && !u->disk.discard) || t.sectors == 0 ||
	    t.sectors > scsi_same_max(u)) {
		scsi_refuse(a, SCSI_INVALID_FIELD);
		return;
	}
	if (!no_data_block(c)) {
		if (c->parameter_bytes < BLOCK_SECTOR_BYTES ||
		    !bytes_zero(c->parameter, BLOCK_SECTOR_BYTES)) {
			scsi_refuse(a, SCSI_INVALID_FIELD);
			return;
		}
	}
	a->op = unmap ? BLOCK_DISCARD : BLOCK_ZERO;
	add_range(u, t.sector, t.sectors, a);
}

static void unmap(const struct scsi_unit *u, const struct scsi_command *c, struct scsi_answer *a)
{
	size_t length = be16_get(c->cdb + 7), count;
	const uint8_t *p = c->parameter;

	if (!writable(u, a))
		return;
	if (!u->disk.discard || c->cdb[1] & 1) {
		scsi_refuse(a, u->disk.discard ? SCSI_INVALID_FIELD : SCSI_INVALID_OPCODE);
		return;
	}
	if (length == 0)
		return;
	if (length < 8 || length > c->parameter_bytes) {
		scsi_refuse(a, PARAMETER_LENGTH);
		return;
	}
	count = be16_get(p + 2) / 16;
	if (count > SCSI_RANGES || 8 + count * 16 > length) {
		scsi_refuse(a, PARAMETER_FIELD);
		return;
	}
	a->op = BLOCK_DISCARD;
	for (size_t i = 0; i < count; i++) {
		const uint8_t *d = p + 8 + 16 * i;

		if (be32_get(d + 8) > SCSI_UNMAP_SECTORS_MAX) {
			scsi_refuse(a, PARAMETER_FIELD);
			return;
		}
		if (!add_range(u, be64_get(d), be32_get(d + 8), a))
			return;
	}
}

/* ---- small answers ---- */

static void read_capacity(const struct scsi_unit *u, const struct scsi_command *c,
			  struct scsi_answer *a)
{
	uint64_t last = scsi_sectors(u) - 1;

	be32_put(a->data, last > UINT32_MAX ? UINT32_MAX : (uint32_t)last);
	be32_put(a->data + 4, BLOCK_SECTOR_BYTES);
	a->data_bytes = 8;
	scsi_limit(a, c, 8);
}

static void service_action(const struct scsi_unit *u, const struct scsi_command *c,
			   struct scsi_answer *a)
{
	if ((c->cdb[1] & 0x1f) != READ_CAPACITY_16) {
		scsi_refuse(a, SCSI_INVALID_FIELD);
		return;
	}
	be64_put(a->data, scsi_sectors(u) - 1);
	be32_put(a->data + 8, BLOCK_SECTOR_BYTES);
	a->data[13] = 3; /* eight sectors are one physical block */
	if (u->disk.discard)
		a->data[14] = 0xc0; /* thin; discarded sectors read as zeros */
	a->data_bytes = 32;
	scsi_limit(a, c, be32_get(c->cdb + 10));
}

static void report_luns(const struct scsi_unit *u, const struct scsi_command *c,
			struct scsi_answer *a)
{
	size_t n = 8;

	for (unsigned lun = 0; lun < SCSI_LUNS; lun++)
		if (u->luns >> lun & 1) {
			a->data[n + 1] = (uint8_t)lun;
			n += 8;
		}
	be32_put(a->data, (uint32_t)(n - 8));
	a->data_bytes = n;
	scsi_limit(a, c, be32_get(c->cdb + 6));
}

static void request_sense(const struct scsi_unit *u, const struct scsi_command *c,
			  struct scsi_answer *a)
{
	put_sense(a->data, u->present ? u->attention : NOT_PRESENT);
	a->attention = u->attention != 0;
	a->data_bytes = SCSI_SENSE_BYTES;
	scsi_limit(a, c, c->cdb[4]);
}

/* ---- all of them ---- */

size_t scsi_parameter_bytes(const struct scsi_command *c)
{
	size_t want = 0;

	if (c->cdb[0] == UNMAP)
		want = be16_get(c->cdb + 7);
	else if ((c->cdb[0] == WRITE_SAME_10 || c->cdb[0] == WRITE_SAME_16) && !no_data_block(c))
		want = BLOCK_SECTOR_BYTES;
	return want < SCSI_PARAMETER_BYTES ? want : SCSI_PARAMETER_BYTES;
}

/* As the group in its first byte says; 6 for those that are nobody's. */
static size_t length_of(uint8_t opcode)
{
	static const uint8_t lengths[8] = {6, 10, 10, 6, 16, 12, 6, 6};

	return lengths[opcode >> 5];
}

static void execute(const struct scsi_unit *u, const struct scsi_command *c, struct scsi_answer *a)
{
	switch (c->cdb[0]) {
	case TEST_UNIT_READY:
	case START_STOP:
	case PREVENT_REMOVAL: return;
	case READ_CAPACITY_10: read_capacity(u, c, a); return;
	case SERVICE_ACTION_IN: service_action(u, c, a); return;
	case MODE_SENSE_6:
	case MODE_SENSE_10: scsi_mode_sense(u, c, a); return;
	case READ_6:
	case READ_10:
	case READ_12:
	case READ_16: transfer(u, c, BLOCK_READ, a); return;
	case WRITE_6:
	case WRITE_10:
	case WRITE_12:
	case WRITE_16: transfer(u, c, BLOCK_WRITE, a); return;
	case SYNCHRONIZE_CACHE_10:
	case SYNCHRONIZE_CACHE_16: synchronize(u, c, a); return;
	case WRITE_SAME_10:
	case WRITE_SAME_16: write_same(u, c, a); return;
	case UNMAP: unmap(u, c, a); return;
	default: scsi_refuse(a, SCSI_INVALID_OPCODE); return;
	}
}

void scsi_execute(const struct scsi_unit *u, const struct scsi_command *c, struct scsi_answer *a)
{
	memset(a, 0, sizeof(*a));
	if (c->cdb_bytes < length_of(c->cdb[0])) {
		scsi_refuse(a, SCSI_INVALID_FIELD);
		return;
	}
	/* These three answer always, also for a disk that is not there. */
	switch (c->cdb[0]) {
	case INQUIRY: scsi_inquiry(u, c, a); return;
	case REPORT_LUNS: report_luns(u, c, a); return;
	case REQUEST_SENSE: request_sense(u, c, a); return;
	default: break;
	}
	if (!u->present) {
		scsi_refuse(a, NOT_PRESENT);
	} else if (u->attention) {
		scsi_refuse(a, u->attention);
		a->attention = true;
	} else {
		execute(u, c, a);
	}
}
