/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_SCSI_H
#define HV_VSP_SCSI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hv/block/block.h"

/* scsi: what a SCSI command asks of a disk, and how it is answered.
 *
 * Pure functions over borrowed bytes: a command either has its answer at once (data,
 * or a status with sense), or is a list of ranges for hv/block, whose result becomes a
 * status afterwards.  Every byte of the command and of its parameters is the guest's:
 * whatever is wrong with it is a status for the guest, never an error of ours.
 *
 * Integers are big-endian here, and only here.
 * Source: INCITS SPC-4 and SBC-3; docs/vmbus.md 15 for what Hyper-V's disks look like. */

#define SCSI_CDB_BYTES 16u
#define SCSI_SENSE_BYTES 18u
#define SCSI_LUNS 64u
#define SCSI_DATA_BYTES 576u /* the longest answer: REPORT LUNS */
#define SCSI_RANGES 32u	     /* of one UNMAP */
#define SCSI_PARAMETER_BYTES (8u + 16u * SCSI_RANGES)
#define SCSI_TRANSFER_BYTES (1u << 20) /* of one command */

enum scsi_status { SCSI_GOOD = 0, SCSI_CHECK_CONDITION = 2 };

/* Sense key, additional sense code and qualifier in one number. */
#define SCSI_SENSE(key, asc, ascq) ((uint32_t)(key) << 16 | (uint32_t)(asc) << 8 | (uint32_t)(ascq))
#define SCSI_CAPACITY_CHANGED SCSI_SENSE(6, 0x2a, 0x09)
#define SCSI_LUNS_CHANGED SCSI_SENSE(6, 0x3f, 0x0e)

struct scsi_unit { /* what a command sees of its disk */
	bool present;
	struct block_info disk;
	uint64_t luns;	    /* bit n: the controller has LUN n */
	uint32_t attention; /* a SCSI_SENSE that the guest has to be told of; 0: none */
};

struct scsi_command {
	uint8_t cdb[SCSI_CDB_BYTES];
	size_t cdb_bytes;
	uint64_t data_bytes; /* the guest's buffer */
	/* Of it, for commands that write: what scsi_parameter_bytes asked for, or as much as
	 * there is; borrowed. */
	const uint8_t *parameter;
	size_t parameter_bytes;
};

struct scsi_answer {
	enum scsi_status status;
	uint8_t sense[SCSI_SENSE_BYTES]; /* with CHECK CONDITION */
	bool attention;			 /* the unit's attention was told */
	uint8_t data[SCSI_DATA_BYTES];	 /* for the guest's buffer */
	size_t data_bytes;
	/* What is to be done: `ranges` requests of that kind, one after the other.  0: the
	 * answer is complete. */
	unsigned ranges;
	enum block_op op;
	bool fua;
	struct {
		uint64_t offset, bytes;
	} range[SCSI_RANGES];
};

/* How many bytes of the guest's buffer have to be looked at before the command can be
 * understood; at most SCSI_PARAMETER_BYTES. */
size_t scsi_parameter_bytes(const struct scsi_command *c);

void scsi_execute(const struct scsi_unit *u, const struct scsi_command *c, struct scsi_answer *out);

/* The answer to a command whose request ended with this errno (0: well). */
void scsi_finish(struct scsi_answer *a, enum block_op op, int error);

/* CHECK CONDITION with that SCSI_SENSE. */
void scsi_refuse(struct scsi_answer *a, uint32_t sense);

#endif
