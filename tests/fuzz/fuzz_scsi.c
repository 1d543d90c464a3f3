/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_scsi: commands of a hostile guest.
 *
 * Input: flags (1 read-only, 2 no discard, 4 attention, 8 no such disk), length of the
 * CDB, 16 bytes of CDB, 3 bytes size of the guest's buffer, then its content.
 * Whatever came in: every range lies on the disk and is made of whole sectors, a
 * read-only disk is not changed, data fits the buffer, a refusal has sense and nothing
 * else. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "hv/vsp/scsi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define HEAD 21u
#define DISK_BYTES (1ull << 40)

static void check(const struct scsi_unit *u, const struct scsi_command *c,
		  const struct scsi_answer *a)
{
	assert(a->data_bytes <= sizeof(a->data) && a->data_bytes <= c->data_bytes);
	assert(a->ranges <= SCSI_RANGES);
	for (unsigned i = 0; i < a->ranges; i++) {
		assert(a->range[i].offset <= DISK_BYTES);
		assert(a->range[i].bytes <= DISK_BYTES - a->range[i].offset);
		assert(a->range[i].offset % 512 == 0 && a->range[i].bytes % 512 == 0);
		if (a->op == BLOCK_READ || a->op == BLOCK_WRITE)
			assert(a->range[i].bytes <= c->data_bytes);
		if (a->op != BLOCK_READ && a->op != BLOCK_FLUSH)
			assert(!u->disk.read_only);
	}
	if (a->status != SCSI_GOOD)
		assert(a->ranges == 0 && a->data_bytes == 0 && a->sense[0] == 0x70);
	if (!u->present)
		assert(a->ranges == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct scsi_answer a;
	struct scsi_command c = {0};
	struct scsi_unit u = {.luns = 1, .disk = {.bytes = DISK_BYTES}};

	if (len < HEAD)
		return 0;
	u.disk.read_only = data[0] & 1;
	u.disk.discard = !(data[0] & 2) && !u.disk.read_only;
	u.attention = data[0] & 4 ? SCSI_CAPACITY_CHANGED : 0;
	u.present = !(data[0] & 8);
	c.cdb_bytes = data[1] % (SCSI_CDB_BYTES + 1);
	memcpy(c.cdb, data + 2, SCSI_CDB_BYTES);
	c.data_bytes = (uint64_t)data[18] | (uint64_t)data[19] << 8 | (uint64_t)data[20] << 16;
	c.parameter = data + HEAD;
	c.parameter_bytes = scsi_parameter_bytes(&c);
	assert(c.parameter_bytes <= SCSI_PARAMETER_BYTES);
	if (c.parameter_bytes > c.data_bytes)
		c.parameter_bytes = (size_t)c.data_bytes;
	if (c.parameter_bytes > len - HEAD)
		c.parameter_bytes = len - HEAD;
	scsi_execute(&u, &c, &a);
	check(&u, &c, &a);
	return 0;
}
