/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_SCSI_PARTS_H
#define HV_VSP_SCSI_PARTS_H

#include "hv/vsp/scsi.h"

/* scsi_parts: what the files of scsi know of each other; private. */

#define SCSI_INVALID_OPCODE SCSI_SENSE(5, 0x20, 0x00)
#define SCSI_OUT_OF_RANGE SCSI_SENSE(5, 0x21, 0x00)
#define SCSI_INVALID_FIELD SCSI_SENSE(5, 0x24, 0x00)

#define SCSI_SAME_SECTORS_MAX (1u << 22)  /* of one WRITE SAME: 2 GiB of holes */
#define SCSI_ZERO_SECTORS_MAX (1u << 17)  /* 64 MiB where they have to be written */
#define SCSI_UNMAP_SECTORS_MAX (1u << 22) /* of one range */

static inline uint32_t be16_get(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}
static inline uint32_t be32_get(const uint8_t *p)
{
	return be16_get(p) << 16 | be16_get(p + 2);
}
static inline uint64_t be64_get(const uint8_t *p)
{
	return (uint64_t)be32_get(p) << 32 | be32_get(p + 4);
}
static inline void be16_put(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
static inline void be32_put(uint8_t *p, uint32_t v)
{
	be16_put(p, v >> 16);
	be16_put(p + 2, v);
}
static inline void be64_put(uint8_t *p, uint64_t v)
{
	be32_put(p, (uint32_t)(v >> 32));
	be32_put(p + 4, (uint32_t)v);
}

static inline uint64_t scsi_sectors(const struct scsi_unit *u)
{
	return u->disk.bytes / BLOCK_SECTOR_BYTES;
}

/* Cut an answer to what the command allows. */
void scsi_limit(struct scsi_answer *a, const struct scsi_command *c, uint64_t allocation);
/* Most sectors of one WRITE SAME. */
uint32_t scsi_same_max(const struct scsi_unit *u);

/* scsi_pages.c: INQUIRY and MODE SENSE. */
void scsi_inquiry(const struct scsi_unit *u, const struct scsi_command *c, struct scsi_answer *a);
void scsi_mode_sense(const struct scsi_unit *u, const struct scsi_command *c,
		     struct scsi_answer *a);

#endif
