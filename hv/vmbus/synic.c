/* SPDX-License-Identifier: Apache-2.0 */
/* synic: message slots, event flags, and what waits for a slot; see synic.h.
 *
 * Delivery of a message.  The guest empties its slot by setting the type to 0, and only
 * then looks whether more wait (the pending bit) and writes EOM if so.  So when a slot
 * is found full the bit is set, and the slot is looked at once more: either the guest
 * sees the bit, or we see its empty slot.
 *
 * Auto-EOI is refused (#GP): interrupts come through a plain LAPIC, which wants its EOI,
 * and CPUID says so (hint "deprecate auto-EOI").  A masked or polled SINT gets its
 * messages and flags, but no interrupt.
 * A page is zeroed when it is enabled: a guest hands over memory, not contents.
 *
 * Threads: each vCPU's part has its own lock.
 * Source: docs/vmbus.md 5, 7; Microsoft TLFS 6.0b, 11. */
#include "hv/vmbus/synic.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "hv/config.h"

enum {
	MSR_SCONTROL = 0x40000080,
	MSR_SVERSION,
	MSR_SIEFP,
	MSR_SIMP,
	MSR_EOM,
	MSR_SINT0 = 0x40000090,
	MSR_SINT15 = 0x4000009f,

	SLOT_BYTES = 256,
	SLOT_TYPE = 0,
	SLOT_WORD = 4, /* size u8, flags u8, reserved u16 */
	SLOT_SENDER = 8,
	SLOT_PAYLOAD = 16,
	SLOT_PENDING = 1 << 8, /* in SLOT_WORD */

	VECTOR_FIRST = 16,
	RECORD_BYTES = 12, /* of a waiting message in a state, before its payload */
};

#define ENABLE 1ull
#define SINT_VECTOR 0xffull
#define SINT_MASKED (1ull << 16)
#define SINT_AUTO_EOI (1ull << 17)
#define SINT_POLLING (1ull << 18)
#define PAGE_MASK (~(uint64_t)(SPEC_PAGE - 1))

struct message {
	uint32_t type, len;
	uint8_t payload[SPEC_MESSAGE_BYTES];
};

struct queue_of { /* what waits for one SINT: a ring that grows */
	struct message *m;
	uint32_t first, count, room;
};

struct synic_vp {
	pthread_mutex_t lock;
	uint64_t scontrol, siefp, simp, sint[SPEC_SINTS];
	struct queue_of queue[SPEC_SINTS];
};

struct synic {
	struct synic_host host;
	void (*room)(void *arg);
	void *room_arg;
	struct synic_vp vp[CONFIG_MAX_VCPUS];
};

/* ---- queues ---- */

static bool queue_grow(struct queue_of *q)
{
	uint32_t room = q->room ? 2 * q->room : 16;
	struct message *m = malloc(room * sizeof(*m));

	if (!m)
		return false;
	for (uint32_t i = 0; i < q->count; i++)
		m[i] = q->m[(q->first + i) % q->room];
	free(q->m);
	*q = (struct queue_of){.m = m, .count = q->count, .room = room};
	return true;
}

static bool queue_add(struct queue_of *q, uint32_t type, const void *payload, size_t len)
{
	struct message *m;

	if (q->count == SYNIC_QUEUE_MAX || (q->count == q->room && !queue_grow(q)))
		return false;
	m = &q->m[(q->first + q->count++) % q->room];
	*m = (struct message){.type = type, .len = (uint32_t)len};
	memcpy(m->payload, payload, len);
	return true;
}

static void queue_empty(struct queue_of *q)
{
	free(q->m);
	*q = (struct queue_of){0};
}

/* ---- delivery ---- */

static void synic_interrupt(struct synic *s, uint32_t vp, unsigned sint)
{
	uint64_t v = s->vp[vp].sint[sint];

	if (!(v & (SINT_MASKED | SINT_POLLING)))
		s->host.inject(s->host.arg, vp, (uint8_t)(v & SINT_VECTOR));
}

/* Is the slot free?  If not, the guest has been asked to say when. */
static enum err synic_slot_free(struct synic *s, struct gpa slot, bool *yes)
{
	uint32_t type = 0, before;
	enum err e = memory_load32_acquire(s->host.memory, gpa(slot.v + SLOT_TYPE), &type);

	*yes = e == ERR_OK && type == 0;
	if (e != ERR_OK || *yes)
		return e;
	e = memory_or32(s->host.memory, gpa(slot.v + SLOT_WORD), SLOT_PENDING, &before);
	atomic_thread_fence(memory_order_seq_cst);
	if (e == ERR_OK)
		e = memory_load32_acquire(s->host.memory, gpa(slot.v + SLOT_TYPE), &type);
	*yes = e == ERR_OK && type == 0;
	return e;
}

static enum err synic_fill(struct synic *s, struct gpa slot, const struct message *m, bool more)
{
	uint8_t sender[8] = {0};
	enum err e;

	e = memory_write(s->host.memory, gpa(slot.v + SLOT_PAYLOAD), m->payload, m->len);
	if (e == ERR_OK)
		e = memory_write(s->host.memory, gpa(slot.v + SLOT_SENDER), sender, sizeof(sender));
	if (e == ERR_OK)
		e = memory_store32_release(s->host.memory, gpa(slot.v + SLOT_WORD),
					   m->len | (more ? SLOT_PENDING : 0u));
	if (e == ERR_OK)
		e = memory_store32_release(s->host.memory, gpa(slot.v + SLOT_TYPE), m->type);
	return e;
}

/* With the vCPU's lock.  Errors cannot be: the page was RAM when it was enabled. */
static void synic_deliver(struct synic *s, uint32_t vp, unsigned sint)
{
	struct synic_vp *v = &s->vp[vp];
	struct queue_of *q = &v->queue[sint];
	struct gpa slot = gpa((v->simp & PAGE_MASK) + (uint64_t)SLOT_BYTES * sint);
	bool empty = false;

	if (q->count == 0 || !(v->scontrol & ENABLE) || !(v->simp & ENABLE))
		return;
	if (synic_slot_free(s, slot, &empty) != ERR_OK || !empty)
		return;
	if (synic_fill(s, slot, &q->m[q->first], q->count > 1) != ERR_OK)
		return;
	q->first = (q->first + 1) % q->room;
	q->count--;
	synic_interrupt(s, vp, sint);
}

/* True if a queue that was congested is not any more. */
static bool synic_deliver_all(struct synic *s, uint32_t vp)
{
	bool relieved = false;

	for (unsigned i = 0; i < SPEC_SINTS; i++) {
		uint32_t before = s->vp[vp].queue[i].count;

		synic_deliver(s, vp, i);
		relieved |= before >= SYNIC_QUEUE_HIGH && s->vp[vp].queue[i].count < SYNIC_QUEUE_HIGH;
	}
	return relieved;
}

enum err synic_post(struct synic *s, uint32_t vp, unsigned sint, uint32_t type,
		    const void *payload, size_t len)
{
	assert(vp < s->host.vcpus && sint < SPEC_SINTS && len <= SPEC_MESSAGE_BYTES && type != 0);
	AUTO_LOCK(&s->vp[vp].lock);
	if (!queue_add(&s->vp[vp].queue[sint], type, payload, len))
		return err_note(ERR_BUSY, 0, "too many messages wait for the guest");
	synic_deliver(s, vp, sint);
	return ERR_OK;
}

bool synic_congested(struct synic *s, uint32_t vp, unsigned sint)
{
	AUTO_LOCK(&s->vp[vp].lock);
	return s->vp[vp].queue[sint].count >= SYNIC_QUEUE_HIGH;
}

void synic_drop(struct synic *s, uint32_t vp, unsigned sint)
{
	AUTO_LOCK(&s->vp[vp].lock);
	queue_empty(&s->vp[vp].queue[sint]);
}

void synic_signal(struct synic *s, uint32_t vp, unsigned sint, unsigned flag)
{
	struct synic_vp *v = &s->vp[vp];
	uint32_t bit = 1u << flag % 32, before = 0;
	struct gpa at;

	assert(vp < s->host.vcpus && sint < SPEC_SINTS && flag < SPEC_FLAGS);
	AUTO_LOCK(&v->lock);
	if (!(v->scontrol & ENABLE) || !(v->siefp & ENABLE))
		return;
	at = gpa((v->siefp & PAGE_MASK) + (uint64_t)SLOT_BYTES * sint + flag / 32 * 4);
	if (memory_or32(s->host.memory, at, bit, &before) == ERR_OK && !(before & bit))
		synic_interrupt(s, vp, sint);
}

/* ---- MSRs ---- */

bool synic_msr_read(struct synic *s, uint32_t vp, uint32_t msr, uint64_t *value)
{
	struct synic_vp *v = &s->vp[vp];

	AUTO_LOCK(&v->lock);
	switch (msr) {
	case MSR_SCONTROL:
		*value = v->scontrol;
		return true;
	case MSR_SVERSION:
		*value = 1;
		return true;
	case MSR_SIEFP:
		*value = v->siefp;
		return true;
	case MSR_SIMP:
		*value = v->simp;
		return true;
	case MSR_EOM:
		*value = 0;
		return true;
	default:
		if (msr < MSR_SINT0 || msr > MSR_SINT15)
			return false;
		*value = v->sint[msr - MSR_SINT0];
		return true;
	}
}

static bool synic_set_page(struct synic *s, uint64_t *msr, uint64_t value)
{
	bool same = (*msr & ENABLE) && (*msr & PAGE_MASK) == (value & PAGE_MASK);

	if ((value & ENABLE) && !same &&
	    memory_zero(s->host.memory, gpa(value & PAGE_MASK), SPEC_PAGE) != ERR_OK)
		return false;
	*msr = value;
	return true;
}

static bool synic_sint_ok(uint64_t value)
{
	if (value & SINT_AUTO_EOI)
		return false;
	return (value & SINT_MASKED) || (value & SINT_VECTOR) >= VECTOR_FIRST;
}

/* With the lock; false: #GP. */
static bool synic_write_locked(struct synic *s, struct synic_vp *v, uint32_t msr, uint64_t value)
{
	switch (msr) {
	case MSR_SCONTROL:
		v->scontrol = value;
		return true;
	case MSR_SIEFP:
		return synic_set_page(s, &v->siefp, value);
	case MSR_SIMP:
		return synic_set_page(s, &v->simp, value);
	case MSR_EOM:
		return true;
	default:
		if (msr < MSR_SINT0 || msr > MSR_SINT15 || !synic_sint_ok(value))
			return false;
		v->sint[msr - MSR_SINT0] = value;
		return true;
	}
}

bool synic_msr_write(struct synic *s, uint32_t vp, uint32_t msr, uint64_t value)
{
	struct synic_vp *v = &s->vp[vp];
	bool ok, relieved = false;

	pthread_mutex_lock(&v->lock);
	ok = synic_write_locked(s, v, msr, value);
	if (ok)
		relieved = synic_deliver_all(s, vp);
	pthread_mutex_unlock(&v->lock);
	if (relieved && s->room)
		s->room(s->room_arg);
	return ok;
}

/* ---- life ---- */

enum err synic_create(const struct synic_host *host, struct synic **out)
{
	struct synic *s = calloc(1, sizeof(*s));

	assert(host->vcpus >= 1 && host->vcpus <= CONFIG_MAX_VCPUS);
	if (!s)
		return err_note(ERR_NOMEM, 0, "synthetic interrupt controller: out of memory");
	s->host = *host;
	for (uint32_t i = 0; i < CONFIG_MAX_VCPUS; i++)
		pthread_mutex_init(&s->vp[i].lock, NULL);
	synic_reset(s);
	*out = s;
	return ERR_OK;
}

void synic_destroy(struct synic *s)
{
	if (!s)
		return;
	synic_reset(s);
	for (uint32_t i = 0; i < CONFIG_MAX_VCPUS; i++)
		pthread_mutex_destroy(&s->vp[i].lock);
	free(s);
}

void synic_set_room(struct synic *s, void (*fn)(void *arg), void *arg)
{
	s->room = fn;
	s->room_arg = arg;
}

void synic_reset(struct synic *s)
{
	for (uint32_t i = 0; i < CONFIG_MAX_VCPUS; i++) {
		struct synic_vp *v = &s->vp[i];

		AUTO_LOCK(&v->lock);
		v->scontrol = v->siefp = v->simp = 0;
		for (unsigned k = 0; k < SPEC_SINTS; k++) {
			v->sint[k] = SINT_MASKED;
			queue_empty(&v->queue[k]);
		}
	}
}

/* ---- state ---- */

enum { TAG_SCONTROL = 1, TAG_SIEFP, TAG_SIMP, TAG_SINTS, TAG_WAITING };

static const struct state_field synic_fields[] = {
	{TAG_SCONTROL, STATE_U64, false, "scontrol"},
	{TAG_SIEFP, STATE_U64, false, "event_flags_page"},
	{TAG_SIMP, STATE_U64, false, "message_page"},
	{TAG_SINTS, STATE_U64S, false, "sints"},
	/* Messages that wait: { sint u32, type u32, length u32, payload }, in order. */
	{TAG_WAITING, STATE_BYTES, false, "waiting_messages"},
};

const struct state_kind synic_state_kind = {
	.kind = "synic", .version = 1, .fields = synic_fields,
	.count = sizeof(synic_fields) / sizeof(synic_fields[0])};

static void synic_save_vp(struct synic_vp *v, struct state_out *out)
{
	AUTO_BUF struct buf waiting = {0};
	uint8_t sints[SPEC_SINTS * 8];

	AUTO_LOCK(&v->lock);
	for (unsigned k = 0; k < SPEC_SINTS; k++) {
		const struct queue_of *q = &v->queue[k];

		le64_put(sints + 8 * k, v->sint[k]);
		for (uint32_t i = 0; i < q->count; i++) {
			const struct message *m = &q->m[(q->first + i) % q->room];

			buf_put_le32(&waiting, k);
			buf_put_le32(&waiting, m->type);
			buf_put_le32(&waiting, m->len);
			buf_put(&waiting, m->payload, m->len);
		}
	}
	state_put_u64(out, TAG_SCONTROL, v->scontrol);
	state_put_u64(out, TAG_SIEFP, v->siefp);
	state_put_u64(out, TAG_SIMP, v->simp);
	state_put_bytes(out, TAG_SINTS, sints, sizeof(sints));
	state_put_bytes(out, TAG_WAITING, waiting.data, waiting.len);
}

void synic_save(struct synic *s, struct state_out *out)
{
	for (uint32_t i = 0; i < s->host.vcpus; i++) {
		state_begin(out, &synic_state_kind, i);
		synic_save_vp(&s->vp[i], out);
		state_end(out);
	}
}

static enum err synic_bad(uint32_t vp, const char *what)
{
	return err_note(ERR_CORRUPT, 0, "state section synic.%u: %s", vp, what);
}

static enum err synic_load_waiting(struct synic_vp *v, uint32_t vp, const uint8_t *p, size_t len)
{
	struct rd in = rd_make(p, len);

	while (rd_left(&in) > 0) {
		uint32_t sint = rd_le32(&in), type = rd_le32(&in), bytes = rd_le32(&in);
		const uint8_t *payload;

		if (in.overrun || sint >= SPEC_SINTS || type == 0 || bytes > SPEC_MESSAGE_BYTES)
			return synic_bad(vp, "a malformed message");
		payload = rd_bytes(&in, bytes);
		if (in.overrun || !queue_add(&v->queue[sint], type, payload, bytes))
			return synic_bad(vp, "messages that it cannot hold");
	}
	return ERR_OK;
}

static enum err synic_check_page(const struct synic *s, uint32_t vp, uint64_t msr)
{
	uint64_t offset;

	if ((msr & ENABLE) &&
	    memory_offset(s->host.memory, gpa(msr & PAGE_MASK), SPEC_PAGE, &offset) != ERR_OK)
		return synic_bad(vp, "a page outside RAM");
	return ERR_OK;
}

static enum err synic_load_vp(const struct synic *s, uint32_t vp, struct state_file *file,
			      struct synic_vp *v)
{
	uint8_t sints[SPEC_SINTS * 8];
	const uint8_t *p = NULL;
	struct state_in *in;
	size_t len = 0;
	enum err e;

	if ((e = state_find(file, &synic_state_kind, vp, &in)) != ERR_OK ||
	    (e = state_get_u64(in, TAG_SCONTROL, &v->scontrol)) != ERR_OK ||
	    (e = state_get_u64(in, TAG_SIEFP, &v->siefp)) != ERR_OK ||
	    (e = state_get_u64(in, TAG_SIMP, &v->simp)) != ERR_OK ||
	    (e = state_get_exact(in, TAG_SINTS, sints, sizeof(sints))) != ERR_OK ||
	    (e = state_get_bytes(in, TAG_WAITING, &p, &len)) != ERR_OK ||
	    (e = synic_check_page(s, vp, v->siefp)) != ERR_OK ||
	    (e = synic_check_page(s, vp, v->simp)) != ERR_OK)
		return e;
	for (unsigned k = 0; k < SPEC_SINTS; k++) {
		v->sint[k] = le64_get(sints + 8 * k);
		if (!synic_sint_ok(v->sint[k]))
			return synic_bad(vp, "a source that no guest could set");
	}
	return synic_load_waiting(v, vp, p, len);
}

enum err synic_load(struct synic *s, struct state_file *file)
{
	struct synic_vp *new = calloc(s->host.vcpus, sizeof(*new));
	enum err e = new ? ERR_OK : err_note(ERR_NOMEM, 0, "load synic: out of memory");

	for (uint32_t i = 0; i < s->host.vcpus && e == ERR_OK; i++)
		e = synic_load_vp(s, i, file, &new[i]);
	for (uint32_t i = 0; new && i < s->host.vcpus; i++) {
		struct synic_vp *v = &s->vp[i];

		AUTO_LOCK(&v->lock);
		for (unsigned k = 0; k < SPEC_SINTS; k++) {
			struct queue_of old = v->queue[k];

			if (e == ERR_OK)
				v->queue[k] = new[i].queue[k];
			queue_empty(e == ERR_OK ? &old : &new[i].queue[k]);
		}
		if (e != ERR_OK)
			continue;
		v->scontrol = new[i].scontrol;
		v->siefp = new[i].siefp;
		v->simp = new[i].simp;
		memcpy(v->sint, new[i].sint, sizeof(v->sint));
	}
	free(new);
	return e;
}
