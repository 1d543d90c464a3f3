/* SPDX-License-Identifier: Apache-2.0 */
/* storage_state: what a controller is, saved and loaded; see storage.h.
 *
 * No command is part of it: the bus is quiet, so each was completed or not fetched yet.
 * The disks are: what they hold is not here, but who they are, so that a machine never
 * goes on over other disks than those that it was saved with. */
#include "hv/vsp/storage_parts.h"

#include <string.h>

#include "base/bytes.h"

enum { TAG_PHASE = 1, TAG_VERSION, TAG_SUBCHANNELS, TAG_DISKS, TAG_ANNOUNCE };

static const struct state_field storage_fields[] = {
	{TAG_PHASE, STATE_U8, false, "phase"}, /* enum storage_phase */
	{TAG_VERSION, STATE_U16, false, "version"},
	{TAG_SUBCHANNELS, STATE_U16, false, "subchannels"},
	/* Of each: LUN u8, flags u8 (1: read-only), 0 u16, attentions u32, bytes u64, id 16 */
	{TAG_DISKS, STATE_BYTES, false, "disks"},
	{TAG_ANNOUNCE, STATE_U8, false, "announce"}, /* STORAGE_TELL_... */
};
const struct state_kind storage_state_kind = {
	.kind = "storage", .version = 1, .fields = storage_fields, .count = 5};
#define DISK_BYTES 32u

static void put_disk(struct buf *b, unsigned lun, const struct disk *d)
{
	struct block_info info;

	block_info(d->block, &info);
	buf_put_le8(b, (uint8_t)lun);
	buf_put_le8(b, info.read_only ? 1 : 0);
	buf_put_le16(b, 0);
	buf_put_le32(b, d->attentions);
	buf_put_le64(b, info.bytes);
	buf_put(b, info.id, BLOCK_ID_BYTES);
}

enum err storage_save(const void *self, struct state_out *out)
{
	struct storage *s = (struct storage *)(uintptr_t)self;
	AUTO_BUF struct buf disks = {0};

	AUTO_LOCK(&s->lock);
	if (s->held)
		return err_note(ERR_BUSY, 0,
				"disk%u: a request failed and waits to be tried again: "
				"cure its cause (see the machine's log) and resume the machine",
				s->held->lun);
	for (unsigned i = 0; i < SCSI_LUNS; i++)
		if (s->disks[i].block)
			put_disk(&disks, i, &s->disks[i]);
	if (buf_check(&disks) != ERR_OK)
		return err_note(ERR_NOMEM, 0, "save the disks: out of memory");
	state_put_u8(out, TAG_PHASE, (uint8_t)s->phase);
	state_put_u16(out, TAG_VERSION, s->version);
	state_put_u16(out, TAG_SUBCHANNELS, s->subchannels);
	state_put_bytes(out, TAG_DISKS, disks.data, disks.len);
	state_put_u8(out, TAG_ANNOUNCE, s->announce);
	return ERR_OK;
}

/* Is LUN i what the state says?  at: its record, NULL if it has none. */
static enum err check_disk(const struct storage *s, unsigned i, const uint8_t *at)
{
	struct block_info info;

	if (!at && !s->disks[i].block)
		return ERR_OK;
	if (!at || !s->disks[i].block)
		return err_note(ERR_VERSION, 0, "disk%u: %s", i,
				at ? "the image has it, this machine does not"
				   : "this machine has it, the image does not");
	block_info(s->disks[i].block, &info);
	if (memcmp(info.id, at + 16, BLOCK_ID_BYTES) != 0)
		return err_note(ERR_VERSION, 0,
				"disk%u: it is not the image's disk: another identity", i);
	if (info.bytes != le64_get(at + 8) || info.read_only != (at[1] == 1))
		return err_note(ERR_VERSION, 0,
				"disk%u: it is not as the image's: another size, or "
				"writable where that was not",
				i);
	return ERR_OK;
}

static enum err check_disks(const struct storage *s, const uint8_t *p, size_t len)
{
	const uint8_t *at[SCSI_LUNS] = {NULL};
	enum err e = ERR_OK;

	if (len % DISK_BYTES || len / DISK_BYTES > SCSI_LUNS)
		return err_note(ERR_CORRUPT, 0, "state of storage: disks of %zu bytes", len);
	for (; len > 0; p += DISK_BYTES, len -= DISK_BYTES) {
		if (p[0] >= SCSI_LUNS || at[p[0]] || p[1] > 1 ||
		    le32_get(p + 4) > STORAGE_ATTENTIONS)
			return err_note(ERR_CORRUPT, 0, "state of storage: an impossible disk");
		at[p[0]] = p;
	}
	for (unsigned i = 0; i < SCSI_LUNS && e == ERR_OK; i++)
		e = check_disk(s, i, at[i]);
	return e;
}

enum err storage_load(void *self, struct state_in *in)
{
	struct storage *s = self;
	uint16_t version = 0, subchannels = 0;
	const uint8_t *disks = NULL;
	uint8_t phase = 0, announce = 0;
	size_t len = 0;
	enum err e;

	if ((e = state_get_u8(in, TAG_PHASE, &phase)) != ERR_OK ||
	    (e = state_get_u16(in, TAG_VERSION, &version)) != ERR_OK ||
	    (e = state_get_u16(in, TAG_SUBCHANNELS, &subchannels)) != ERR_OK ||
	    (e = state_get_u8(in, TAG_ANNOUNCE, &announce)) != ERR_OK ||
	    (e = state_get_bytes(in, TAG_DISKS, &disks, &len)) != ERR_OK)
		return e;
	if (phase > STORAGE_READY || subchannels > s->provider.subchannels ||
	    announce > (STORAGE_TELL_ADDED | STORAGE_TELL_REMOVED) ||
	    (version && version != 0x0600 && version != 0x0602))
		return err_note(ERR_CORRUPT, 0, "state of storage: an impossible value");
	if ((e = check_disks(s, disks, len)) != ERR_OK)
		return e;
	AUTO_LOCK(&s->lock);
	s->phase = (enum storage_phase)phase;
	s->version = version;
	s->subchannels = subchannels;
	s->announce = announce;
	for (; len > 0; disks += DISK_BYTES, len -= DISK_BYTES)
		s->disks[disks[0]].attentions = le32_get(disks + 4);
	return ERR_OK;
}
