/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_VSP_STORAGE_PARTS_H
#define HV_VSP_STORAGE_PARTS_H

#include <pthread.h>

#include "base/thread.h"
#include "hv/vsp/storage.h"

/* storage_parts: what the files of storage know of each other; private. */

/* ---- vstor packets (docs/vmbus.md 15) ---- */
#define VSTOR_BYTES 64u
enum { /* offsets; those of a SRB count from the packet's start too */
       VSTOR_OPERATION = 0,
       VSTOR_FLAGS = 4,
       VSTOR_STATUS = 8,
       VSTOR_BODY = 12,
       SRB_LENGTH = 12,
       SRB_STATUS = 14,
       SRB_SCSI_STATUS = 15,
       SRB_PORT = 16,
       SRB_PATH = 17,
       SRB_TARGET = 18,
       SRB_LUN = 19,
       SRB_CDB_BYTES = 20,
       SRB_SENSE_BYTES = 21,
       SRB_DIRECTION = 22,
       SRB_TRANSFER = 24,
       SRB_CDB = 28,
};
enum { DIRECTION_OUT = 0, DIRECTION_IN = 1, DIRECTION_NONE = 2 };
enum {
	SRB_SUCCESS = 0x01,
	SRB_ERROR = 0x04,
	SRB_INVALID_REQUEST = 0x06,
	SRB_INVALID_LUN = 0x20,
	SRB_SENSE_VALID = 0x80
};
#define VSTOR_OK 0u
#define VSTOR_FAILED 0xC0000001u
#define VSTOR_DEVICE_ERROR 0xC0000185u
#define VSTOR_NO_DEVICE 0xC00000C0u
#define VSTOR_REVISION_MISMATCH 0xC0000059u

#define STORAGE_PIECES (SCSI_TRANSFER_BYTES / 4096 + 1)

struct lane {
	struct storage *storage;
	struct loop *loop;
	struct block_queue *queue;
	struct thread thread;
	bool own_loop;
	struct storage_request *idle; /* with the storage's lock */
};

struct storage_request {
	struct storage_request *next; /* idle, held or waiting */
	struct lane *lane;
	struct chan *chan;
	uint64_t transaction;
	unsigned lun;
	bool gone; /* held back, and its disk was removed meanwhile */
	uint8_t packet[VSTOR_BYTES];
	struct packet_range pieces[STORAGE_PIECES];
	struct iovec iov[STORAGE_PIECES];
	size_t piece_count;
	uint64_t buffer_bytes, moved_bytes;
	struct scsi_answer answer;
	unsigned range; /* which one is being worked on */
	struct block_io io;
};

struct disk {
	struct block *block; /* owned; NULL: no such LUN */
	bool hold_errors;
	uint32_t attentions; /* STORAGE_..._CHANGED; with lock */
};

/* What a disk's next commands are told, in this order; and the driver, by a packet.  Parts
 * of the state. */
#define STORAGE_CAPACITY_CHANGED 1u
#define STORAGE_LUNS_CHANGED 2u
#define STORAGE_ATTENTIONS 3u
#define STORAGE_TELL_ADDED 1u
#define STORAGE_TELL_REMOVED 2u

enum storage_phase { STORAGE_CLOSED, STORAGE_OPEN, STORAGE_BEGUN, STORAGE_READY };

struct storage {
	struct storage_host host;
	uint32_t instance;
	char name[16];
	struct chan_provider provider;
	struct chan *primary;
	struct lane lanes[STORAGE_LANES_MAX];
	struct loop *loops[STORAGE_LANES_MAX];
	unsigned lane_count;

	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t drained;
	struct disk disks[SCSI_LUNS];
	enum storage_phase phase;
	uint16_t version, subchannels;
	uint8_t announce; /* STORAGE_TELL_...: due */
	struct {
		unsigned busy; /* commands not completed, held ones too */
		bool closing, full;
	} channels[STORAGE_CHANNELS_MAX];
	unsigned in_flight; /* commands at hv/block, and resets */
	bool quiet;
	struct storage_request *held;	/* failed, to be tried again */
	struct storage_request *resets; /* wait for the end of everything else in flight */
	unsigned reset_count;		/* of them; they count as in flight */
	uint64_t commands, errors;
};

/* ---- storage_io.c; on the lane's thread ---- */

/* A command; the request is taken. */
void storage_io_begin(struct storage_request *r, const struct packet *p);
/* Answer with these statuses and give the request back. */
void storage_io_complete(struct storage_request *r, uint32_t vstor, uint8_t srb);
/* Try again what was held back for that lane. */
void storage_io_retry(struct lane *lane);

/* ---- storage.c ---- */

/* Its packet has been answered (or its channel is gone): free for the next. */
void storage_release(struct storage_request *r);
void storage_began(struct storage *s);
void storage_ended(struct storage *s);

/* ---- storage_change.c ---- */

/* The sense data of the first of these attentions; 0: none.  It was told. */
uint32_t storage_sense(uint32_t attentions);
void storage_attention_told(struct storage *s, unsigned lun, uint32_t sense);
void storage_luns_told(struct storage *s); /* by REPORT LUNS */
/* Send what is due; the primary's lane. */
void storage_tell(struct storage *s);

/* ---- storage_state.c ---- */
MUST_USE enum err storage_save(const void *self, struct state_out *out);
MUST_USE enum err storage_load(void *self, struct state_in *in);

#endif
