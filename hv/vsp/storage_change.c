/* SPDX-License-Identifier: Apache-2.0 */
/* storage_change: disks come, go and change their sizes while the driver is there.
 *
 * All of it happens while the bus is quiet, so that nothing is in flight at any disk; but
 * commands may be held back (a host's error): those of a disk that goes are answered "no
 * such device" when the machine runs again, and never reach another disk of its place.
 *
 * The driver is told twice, as a real controller and as Hyper-V's would: each disk has a
 * unit attention for its next command (its capacity has changed; for the others of a disk
 * that came or went: REPORT LUNS has), and the channel gets a packet that nobody asked for,
 * upon which drivers look at every LUN again.  That packet is due from the change on until
 * the machine runs and a driver has set itself up; it is part of the state until then.  A
 * driver that sets itself up looks at every LUN anyway.
 *
 * Source: docs/vmbus.md 15; SPC-4 5.14 (unit attentions), 6.33 (REPORT LUNS). */
#include "hv/vsp/storage_parts.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"

enum { OP_REMOVE_DEVICE = 2, OP_ENUMERATE_BUS = 11 };

uint32_t storage_sense(uint32_t attentions)
{
	if (attentions & STORAGE_CAPACITY_CHANGED)
		return SCSI_CAPACITY_CHANGED;
	return attentions & STORAGE_LUNS_CHANGED ? SCSI_LUNS_CHANGED : 0;
}

void storage_attention_told(struct storage *s, unsigned lun, uint32_t sense)
{
	uint32_t which =
		sense == SCSI_CAPACITY_CHANGED ? STORAGE_CAPACITY_CHANGED : STORAGE_LUNS_CHANGED;

	AUTO_LOCK(&s->lock);
	s->disks[lun].attentions &= ~which;
}

void storage_luns_told(struct storage *s)
{
	AUTO_LOCK(&s->lock);
	for (unsigned i = 0; i < SCSI_LUNS; i++)
		s->disks[i].attentions &= ~STORAGE_LUNS_CHANGED;
}

/* ---- changes; quiet ---- */

/* With lock: the inventory is another. */
static void luns_changed(struct storage *s, unsigned but, uint8_t announce)
{
	if (s->phase != STORAGE_READY)
		return; /* nobody has looked yet */
	for (unsigned i = 0; i < SCSI_LUNS; i++)
		if (s->disks[i].block && i != but)
			s->disks[i].attentions |= STORAGE_LUNS_CHANGED;
	s->announce |= announce;
}

void storage_add(struct storage *s, unsigned lun, struct block *block, bool hold_errors)
{
	AUTO_LOCK(&s->lock);
	assert(s->in_flight == 0 && lun < SCSI_LUNS && !s->disks[lun].block);
	s->disks[lun] = (struct disk){.block = block, .hold_errors = hold_errors};
	luns_changed(s, lun, STORAGE_TELL_ADDED);
}

void storage_remove(struct storage *s, unsigned lun)
{
	AUTO_LOCK(&s->lock);
	assert(s->in_flight == 0 && lun < SCSI_LUNS && s->disks[lun].block);
	block_destroy(s->disks[lun].block);
	s->disks[lun] = (struct disk){.block = NULL};
	for (struct storage_request *r = s->held; r; r = r->next)
		r->gone = r->gone || r->lun == lun;
	luns_changed(s, lun, STORAGE_TELL_REMOVED);
}

enum err storage_resize(struct storage *s, unsigned lun, uint64_t bytes)
{
	struct block_info before;
	enum err e;

	AUTO_LOCK(&s->lock);
	assert(s->in_flight == 0 && lun < SCSI_LUNS && s->disks[lun].block);
	block_info(s->disks[lun].block, &before);
	if ((e = block_resize(s->disks[lun].block, bytes)) != ERR_OK || before.bytes == bytes)
		return e;
	if (s->phase == STORAGE_READY) {
		s->disks[lun].attentions |= STORAGE_CAPACITY_CHANGED;
		s->announce |= STORAGE_TELL_ADDED;
	}
	return ERR_OK;
}

bool storage_has(struct storage *s, unsigned lun, struct block_info *out)
{
	AUTO_LOCK(&s->lock);
	if (lun >= SCSI_LUNS || !s->disks[lun].block)
		return false;
	block_info(s->disks[lun].block, out);
	return true;
}

/* ---- telling ---- */

static void send(struct storage *s, uint32_t operation)
{
	uint8_t p[VSTOR_BYTES] = {0};

	le32_put(p + VSTOR_OPERATION, operation);
	chan_send(s->primary,
		  &(struct chan_out){.type = SPEC_PACKET_INBAND, .data = p, .bytes = sizeof(p)});
}

/* Counted as in flight meanwhile, so that a pause waits for what it writes. */
void storage_tell(struct storage *s)
{
	uint8_t due = 0;

	pthread_mutex_lock(&s->lock);
	if (!s->quiet && s->phase == STORAGE_READY) {
		due = s->announce;
		s->announce = 0;
	}
	if (due)
		s->in_flight++;
	pthread_mutex_unlock(&s->lock);
	if (!due)
		return;
	if (due & STORAGE_TELL_REMOVED)
		send(s, OP_REMOVE_DEVICE);
	if (due & STORAGE_TELL_ADDED)
		send(s, OP_ENUMERATE_BUS);
	storage_ended(s);
}
