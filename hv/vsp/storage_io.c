/* SPDX-License-Identifier: Apache-2.0 */
/* storage_io: one SCSI command from its packet to its completion; see storage.h.
 *
 * The guest's memory is described by the packet, which was copied out of the ring and
 * is checked page by page (packet_ranges); the kernel reads and writes there directly,
 * and the pages are marked after the bytes have landed, whether the transfer went well
 * or not. */
#include "hv/vsp/storage_parts.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"

/* ---- completion ---- */

void storage_io_complete(struct storage_request *r, uint32_t vstor, uint8_t srb)
{
	uint8_t *p = r->packet;

	le32_put(p + VSTOR_OPERATION, 1);
	le32_put(p + VSTOR_FLAGS, 0);
	le32_put(p + VSTOR_STATUS, vstor);
	if (srb)
		p[SRB_STATUS] = srb;
	chan_complete(r->chan, r->transaction, p, VSTOR_BYTES);
	storage_release(r);
}

static void complete_command(struct storage_request *r)
{
	const struct scsi_answer *a = &r->answer;
	uint8_t *p = r->packet;

	le32_put(p + SRB_TRANSFER, (uint32_t)r->moved_bytes);
	p[SRB_SCSI_STATUS] = (uint8_t)a->status;
	if (a->status == SCSI_GOOD) {
		p[SRB_SENSE_BYTES] = 0;
		storage_io_complete(r, VSTOR_OK, SRB_SUCCESS);
		return;
	}
	memset(p + SRB_CDB, 0, 20);
	memcpy(p + SRB_CDB, a->sense, SCSI_SENSE_BYTES);
	p[SRB_SENSE_BYTES] = SCSI_SENSE_BYTES;
	storage_io_complete(r, VSTOR_DEVICE_ERROR, SRB_ERROR | SRB_SENSE_VALID);
}

/* ---- data that we have at hand ---- */

static enum err copy_out(struct storage_request *r, const uint8_t *from, size_t len)
{
	struct memory *m = r->lane->storage->host.memory;

	for (size_t i = 0; i < r->piece_count && len > 0; i++) {
		size_t n = len < r->pieces[i].bytes ? len : r->pieces[i].bytes;
		enum err e = memory_write(m, r->pieces[i].at, from, n);

		if (e != ERR_OK)
			return e;
		from += n;
		len -= n;
		r->moved_bytes += n;
	}
	return ERR_OK;
}

static enum err copy_in(const struct storage_request *r, uint8_t *to, size_t len)
{
	const struct memory *m = r->lane->storage->host.memory;

	for (size_t i = 0; i < r->piece_count && len > 0; i++) {
		size_t n = len < r->pieces[i].bytes ? len : r->pieces[i].bytes;
		enum err e = memory_read(m, r->pieces[i].at, to, n);

		if (e != ERR_OK)
			return e;
		to += n;
		len -= n;
	}
	return ERR_OK;
}

/* ---- I/O ---- */

static void next_range(struct storage_request *r);

static void landed(const struct storage_request *r)
{
	uint64_t left = r->io.bytes;

	for (size_t i = 0; i < r->piece_count && left > 0; i++) {
		size_t n = left < r->pieces[i].bytes ? (size_t)left : r->pieces[i].bytes;

		memory_landed(r->lane->storage->host.memory, r->pieces[i].at, n);
		left -= n;
	}
}

/* Held back, if its disk says so; true then. */
static bool hold(struct storage_request *r, int error)
{
	struct storage *s = r->lane->storage;

	pthread_mutex_lock(&s->lock);
	bool holds = s->disks[r->lun].hold_errors && !s->channels[chan_index(r->chan)].closing;
	if (holds) {
		r->next = s->held;
		s->held = r;
		s->errors++;
	}
	pthread_mutex_unlock(&s->lock);
	if (holds && s->host.held)
		s->host.held(s->host.arg, r->lun, strerror(error));
	return holds;
}

static void on_done(struct block_io *io)
{
	struct storage_request *r =
		(struct storage_request *)(void *)((uint8_t *)io -
						   offsetof(struct storage_request, io));
	struct storage *s = r->lane->storage;

	if (io->op == BLOCK_READ)
		landed(r);
	if (io->error && hold(r, io->error)) {
		storage_ended(s);
		return;
	}
	if (io->error) {
		AUTO_LOCK(&s->lock);
		s->errors++;
	}
	scsi_finish(&r->answer, io->op, io->error);
	if (!io->error && (io->op == BLOCK_READ || io->op == BLOCK_WRITE))
		r->moved_bytes += io->bytes;
	if (!io->error)
		r->range++;
	if (!io->error && r->range < r->answer.ranges)
		next_range(r);
	else
		complete_command(r);
	storage_ended(s);
}

/* The pieces of the guest's buffer that a transfer of `bytes` needs, as the kernel wants
 * them. */
static unsigned pieces(struct storage_request *r, uint64_t bytes)
{
	struct memory *m = r->lane->storage->host.memory;
	unsigned n = 0;

	for (; n < r->piece_count && bytes > 0; n++) {
		size_t len = bytes < r->pieces[n].bytes ? (size_t)bytes : r->pieces[n].bytes;

		if (memory_io(m, r->pieces[n].at, len, &r->iov[n]) != ERR_OK)
			return 0;
		bytes -= len;
	}
	return n;
}

/* It counts as in flight already. */
static void submit_range(struct storage_request *r)
{
	const struct scsi_answer *a = &r->answer;
	struct storage *s = r->lane->storage;

	r->io = (struct block_io){
		.op = a->op,
		.fua = a->fua,
		.done = on_done,
		.offset = a->range[r->range].offset,
		.bytes = a->range[r->range].bytes,
		.iov = r->iov,
	};
	if (a->op == BLOCK_READ || a->op == BLOCK_WRITE)
		r->io.iov_count = pieces(r, r->io.bytes);
	block_submit(s->disks[r->lun].block, r->lane->queue, &r->io);
}

static void next_range(struct storage_request *r)
{
	storage_began(r->lane->storage);
	submit_range(r);
}

/* Is the disk still long enough for what was held back? */
static bool fits(const struct storage_request *r)
{
	struct block_info info;

	block_info(r->lane->storage->disks[r->lun].block, &info);
	return r->answer.range[r->range].offset + r->answer.range[r->range].bytes <= info.bytes;
}

static void give_up(struct storage_request *r)
{
	if (r->gone) {
		le32_put(r->packet + SRB_TRANSFER, 0);
		storage_io_complete(r, VSTOR_NO_DEVICE, SRB_INVALID_LUN);
		return;
	}
	scsi_refuse(&r->answer, SCSI_SENSE(5, 0x21, 0x00));
	complete_command(r);
}

void storage_io_retry(struct lane *lane)
{
	struct storage *s = lane->storage;
	struct storage_request *mine = NULL, **p = &s->held;

	pthread_mutex_lock(&s->lock);
	while (!s->quiet && *p) {
		struct storage_request *r = *p;

		if (r->lane != lane) {
			p = &r->next;
			continue;
		}
		*p = r->next;
		r->next = mine;
		mine = r;
		s->in_flight++;
	}
	pthread_mutex_unlock(&s->lock);
	while (mine) {
		struct storage_request *r = mine;

		mine = r->next;
		if (r->gone || !fits(r)) {
			give_up(r);
			storage_ended(s);
		} else {
			submit_range(r);
		}
	}
	block_queue_kick(lane->queue);
}

/* ---- commands ---- */

/* The disk as this command sees it. */
static void look(const struct storage_request *r, struct scsi_unit *u)
{
	struct storage *s = r->lane->storage;
	const uint8_t *p = r->packet;

	*u = (struct scsi_unit){.present = false};
	if (p[SRB_PATH] != 0 || p[SRB_TARGET] != 0)
		return;
	AUTO_LOCK(&s->lock);
	for (unsigned i = 0; i < SCSI_LUNS; i++)
		if (s->disks[i].block)
			u->luns |= 1ull << i;
	if (r->lun < SCSI_LUNS && s->disks[r->lun].block) {
		u->present = true;
		u->attention = storage_sense(s->disks[r->lun].attentions);
		block_info(s->disks[r->lun].block, &u->disk);
	}
}

enum { INQUIRY = 0x12, REPORT_LUNS = 0xa0 };

static bool always_answered(uint8_t opcode)
{
	return opcode == INQUIRY || opcode == REPORT_LUNS;
}

static bool wrong_way(const struct storage_request *r)
{
	const struct scsi_answer *a = &r->answer;
	uint8_t direction = r->packet[SRB_DIRECTION];

	if (a->ranges == 0)
		return false;
	return (a->op == BLOCK_READ && direction != DIRECTION_IN) ||
	       (a->op == BLOCK_WRITE && direction != DIRECTION_OUT);
}

static void execute(struct storage_request *r)
{
	uint8_t parameter[SCSI_PARAMETER_BYTES];
	struct scsi_command c = {.cdb_bytes = r->packet[SRB_CDB_BYTES],
				 .data_bytes = r->buffer_bytes,
				 .parameter = parameter};
	struct scsi_unit unit;

	memcpy(c.cdb, r->packet + SRB_CDB, SCSI_CDB_BYTES);
	look(r, &unit);
	if (!unit.present && !always_answered(c.cdb[0])) {
		le32_put(r->packet + SRB_TRANSFER, 0);
		storage_io_complete(r, VSTOR_NO_DEVICE, SRB_INVALID_LUN);
		return;
	}
	c.parameter_bytes = scsi_parameter_bytes(&c);
	if (c.parameter_bytes > c.data_bytes)
		c.parameter_bytes = (size_t)c.data_bytes;
	if (copy_in(r, parameter, c.parameter_bytes) != ERR_OK)
		c.parameter_bytes = 0;
	scsi_execute(&unit, &c, &r->answer);
	if (r->answer.attention)
		storage_attention_told(r->lane->storage, r->lun, unit.attention);
	if (c.cdb[0] == REPORT_LUNS)
		storage_luns_told(r->lane->storage);
	if (wrong_way(r))
		scsi_refuse(&r->answer, SCSI_SENSE(5, 0x24, 0x00));
	if (r->answer.ranges > 0) {
		next_range(r);
		return;
	}
	if (r->packet[SRB_DIRECTION] == DIRECTION_IN &&
	    copy_out(r, r->answer.data, r->answer.data_bytes) != ERR_OK)
		r->moved_bytes = 0;
	complete_command(r);
}

void storage_io_begin(struct storage_request *r, const struct packet *p)
{
	uint32_t wanted = le32_get(r->packet + SRB_TRANSFER);
	enum err e;

	r->lun = r->packet[SRB_LUN];
	r->gone = false;
	r->range = 0;
	r->moved_bytes = 0;
	e = packet_ranges(p, r->lane->storage->host.memory, SCSI_TRANSFER_BYTES, r->pieces,
			  STORAGE_PIECES, &r->piece_count, &r->buffer_bytes);
	if (e != ERR_OK) {
		chan_break(r->chan, err_text());
		storage_release(r);
		return;
	}
	if (r->packet[SRB_CDB_BYTES] > SCSI_CDB_BYTES) {
		storage_io_complete(r, VSTOR_DEVICE_ERROR, SRB_INVALID_REQUEST);
		return;
	}
	if (r->buffer_bytes > wanted)
		r->buffer_bytes = wanted;
	execute(r);
}
