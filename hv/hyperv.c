/* SPDX-License-Identifier: Apache-2.0 */
/* hyperv: synthetic MSRs, hypercalls, reference clock, crash report.
 *
 * One lock guards all of it: accesses are a dozen per boot.  TIME_REF_COUNT, which a
 * guest without a valid TSC page may read often, only holds it for the formula.
 *
 * Clock.  scale and offset are state, and change only in hyperv_reset, hyperv_load
 * and hyperv_loaded.  After a load the guest's TSC goes on from its saved value, so
 * the same scale and offset continue reference time by themselves.  Not so if the
 * TSC has another frequency, or if this KVM cannot set a guest's TSC (software
 * back ends): then a new pair is chosen that gives the saved time now, and an
 * enabled TSC page gets it under a new sequence.
 *
 * Source: Microsoft TLFS 6.0b: 3.5 (hypercall page), 12.7 (reference time), 14.2.2
 * (crash MSRs). */
#include "hv/hyperv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "hv/config.h"
#include "hv/vcpu_state.h"

enum {
	MSR_GUEST_OS_ID = 0x40000000,
	MSR_HYPERCALL = 0x40000001,
	MSR_VP_INDEX = 0x40000002,
	MSR_TIME_REF_COUNT = 0x40000020,
	MSR_REFERENCE_TSC = 0x40000021,
	MSR_TSC_FREQUENCY = 0x40000022,
	MSR_APIC_FREQUENCY = 0x40000023,
	MSR_VP_ASSIST_PAGE = 0x40000073,
	MSR_SYNIC_FIRST = 0x40000080,
	MSR_SYNIC_LAST = 0x4000009f,
	MSR_CRASH_P0 = 0x40000100,
	MSR_CRASH_P4 = 0x40000104,
	MSR_CRASH_CTL = 0x40000105,

	CRASH_PARAMETERS = 5,
	APIC_HZ = 1000000000, /* KVM's LAPIC counts nanoseconds */
	TSC_RESUMED_PART = 4, /* of a second: a TSC that was set is no further on */
	TSC_PAGE_SCALE = 8,
	TSC_PAGE_OFFSET = 16,
};

#define PAGE_ENABLE 1ull
#define CRASH_NOTIFY (1ull << 63)
#define CRASH_MESSAGE (1ull << 62)
#define REF_HZ 10000000ull

__extension__ typedef unsigned __int128 hyperv_wide;

struct hyperv {
	struct hyperv_host host;
	pthread_mutex_t lock;
	uint64_t guest_os_id, hypercall, reference_tsc;
	uint64_t crash[CRASH_PARAMETERS];
	uint64_t vp_assist[CONFIG_MAX_VCPUS];
	uint64_t tsc_hz, scale, offset; /* offset wraps as a signed number would */
	uint32_t sequence;		/* of the TSC page; never 0 */
	/* Between hyperv_load and hyperv_loaded: where the clock stood. */
	uint64_t loaded_tsc, loaded_time, loaded_hz;
	bool loaded;
	uint64_t anchor_guest, anchor_host;
	hyperv_wide anchor_ratio; /* of the two TSCs' speeds, 32 bits of fraction */
};

/* ---- clock ---- */

/* floor(2^64 * 10^7 / hz), for hz > 10^7. */
static uint64_t hyperv_scale(uint64_t tsc_hz)
{
	return (uint64_t)(((hyperv_wide)REF_HZ << 64) / tsc_hz);
}

static uint64_t hyperv_scaled(uint64_t tsc, uint64_t scale)
{
	return (uint64_t)(((hyperv_wide)tsc * scale) >> 64);
}

uint64_t hyperv_reference_time(const struct hyperv *h, uint64_t guest_tsc)
{
	return hyperv_scaled(guest_tsc, h->scale) + h->offset;
}

/* From here on reference time is `time` when the TSC is `tsc`. */
static void hyperv_set_clock(struct hyperv *h, uint64_t tsc_hz, uint64_t tsc, uint64_t time)
{
	h->tsc_hz = tsc_hz;
	h->scale = hyperv_scale(tsc_hz);
	h->offset = time - hyperv_scaled(tsc, h->scale);
}

static uint32_t hyperv_next_sequence(uint32_t sequence)
{
	return sequence == UINT32_MAX ? 1 : sequence + 1;
}

static uint64_t hyperv_page(uint64_t msr)
{
	return msr & ~(uint64_t)(MEMORY_PAGE_BYTES - 1);
}

/* Sequence 0 while scale and offset change: guests then use the MSR. */
static enum err hyperv_write_tsc_page(struct hyperv *h)
{
	struct gpa page = gpa(hyperv_page(h->reference_tsc));
	uint8_t values[16];
	enum err e;

	le64_put(values, h->scale);
	le64_put(values + 8, h->offset);
	if ((e = memory_store32_release(h->host.memory, page, 0)) != ERR_OK ||
	    (e = memory_write(h->host.memory, gpa(page.v + TSC_PAGE_SCALE), values,
			      sizeof(values))) != ERR_OK)
		return e;
	return memory_store32_release(h->host.memory, page, h->sequence);
}

/* ---- pages ---- */

static bool hyperv_set_hypercall(struct hyperv *h, uint64_t value)
{
	/* Without an identity the page cannot be enabled: TLFS 3.5. */
	if (h->guest_os_id == 0)
		value &= ~PAGE_ENABLE;
	if ((value & PAGE_ENABLE) && hypercall_write_page(h->host.memory, gpa(hyperv_page(value))) != ERR_OK)
		return false;
	h->hypercall = value;
	return true;
}

static bool hyperv_set_reference_tsc(struct hyperv *h, uint64_t value)
{
	uint64_t before = h->reference_tsc;

	h->reference_tsc = value;
	if (!(value & PAGE_ENABLE) || hyperv_write_tsc_page(h) == ERR_OK)
		return true;
	h->reference_tsc = before;
	return false;
}

static bool hyperv_set_vp_assist(struct hyperv *h, uint32_t vp, uint64_t value)
{
	if ((value & PAGE_ENABLE) && !(h->vp_assist[vp] & PAGE_ENABLE) &&
	    memory_zero(h->host.memory, gpa(hyperv_page(value)), MEMORY_PAGE_BYTES) != ERR_OK)
		return false;
	h->vp_assist[vp] = value;
	return true;
}

/* ---- crash ---- */

/* Keep tab and newline; other control characters and what is no ASCII become '?'. */
static void hyperv_printable(char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == 0) {
			break; /* what follows is no text */
		} else if ((c < ' ' && c != '\n' && c != '\t') || c > '~') {
			text[i] = '?';
		}
	}
	text[len] = 0;
}

static void hyperv_crashed(struct hyperv *h, uint32_t vp, uint64_t control)
{
	char text[HYPERV_CRASH_TEXT_BYTES + 1] = "";
	uint64_t at, len = 0;

	pthread_mutex_lock(&h->lock);
	at = h->crash[3];
	if (control & CRASH_MESSAGE)
		len = h->crash[4] < HYPERV_CRASH_TEXT_BYTES ? h->crash[4] : HYPERV_CRASH_TEXT_BYTES;
	pthread_mutex_unlock(&h->lock);
	if (len > 0 && memory_read(h->host.memory, gpa(at), text, (size_t)len) != ERR_OK)
		len = 0;
	hyperv_printable(text, (size_t)len);
	h->host.panic(h->host.arg, vp, text);
}

/* ---- MSRs ---- */

static bool hyperv_read_clock(struct hyperv *h, uint32_t vp, uint64_t *value)
{
	uint64_t tsc;

	if (!h->host.guest_tsc(h->host.arg, vp, &tsc))
		return false;
	AUTO_LOCK(&h->lock);
	*value = hyperv_reference_time(h, tsc);
	return true;
}

bool hyperv_msr_read(struct hyperv *h, uint32_t vp, uint32_t msr, uint64_t *value)
{
	assert(vp < h->host.vcpus);
	if (msr == MSR_TIME_REF_COUNT)
		return hyperv_read_clock(h, vp, value);
	if (msr >= MSR_SYNIC_FIRST && msr <= MSR_SYNIC_LAST)
		return synic_msr_read(h->host.synic, vp, msr, value);
	AUTO_LOCK(&h->lock);
	switch (msr) {
	case MSR_GUEST_OS_ID:
		*value = h->guest_os_id;
		return true;
	case MSR_HYPERCALL:
		*value = h->hypercall;
		return true;
	case MSR_VP_INDEX:
		*value = vp;
		return true;
	case MSR_REFERENCE_TSC:
		*value = h->reference_tsc;
		return true;
	case MSR_TSC_FREQUENCY:
		*value = h->tsc_hz;
		return true;
	case MSR_APIC_FREQUENCY:
		*value = APIC_HZ;
		return true;
	case MSR_VP_ASSIST_PAGE:
		*value = h->vp_assist[vp];
		return true;
	case MSR_CRASH_CTL:
		*value = CRASH_NOTIFY | CRASH_MESSAGE;
		return true;
	default:
		if (msr < MSR_CRASH_P0 || msr > MSR_CRASH_P4)
			return false;
		*value = h->crash[msr - MSR_CRASH_P0];
		return true;
	}
}

static bool hyperv_write_locked(struct hyperv *h, uint32_t vp, uint32_t msr, uint64_t value)
{
	AUTO_LOCK(&h->lock);
	switch (msr) {
	case MSR_GUEST_OS_ID:
		h->guest_os_id = value;
		if (value == 0)
			h->hypercall &= ~PAGE_ENABLE;
		return true;
	case MSR_HYPERCALL:
		return hyperv_set_hypercall(h, value);
	case MSR_REFERENCE_TSC:
		return hyperv_set_reference_tsc(h, value);
	case MSR_VP_ASSIST_PAGE:
		return hyperv_set_vp_assist(h, vp, value);
	default:
		if (msr < MSR_CRASH_P0 || msr > MSR_CRASH_P4)
			return false;
		h->crash[msr - MSR_CRASH_P0] = value;
		return true;
	}
}

bool hyperv_msr_write(struct hyperv *h, uint32_t vp, uint32_t msr, uint64_t value)
{
	assert(vp < h->host.vcpus);
	if (msr >= MSR_SYNIC_FIRST && msr <= MSR_SYNIC_LAST)
		return synic_msr_write(h->host.synic, vp, msr, value);
	if (msr != MSR_CRASH_CTL)
		return hyperv_write_locked(h, vp, msr, value);
	if (value & CRASH_NOTIFY)
		hyperv_crashed(h, vp, value);
	return true;
}

/* ---- hypercalls ---- */

bool hyperv_has_page(struct hyperv *h)
{
	AUTO_LOCK(&h->lock);
	return h->hypercall & PAGE_ENABLE;
}

uint64_t hyperv_signal(struct hyperv *h, uint32_t connection)
{
	return hypercall_signal(&h->host.calls, connection);
}

uint64_t hyperv_hypercall(struct hyperv *h, uint64_t control, uint64_t input, uint64_t output)
{
	(void)output; /* neither of the two has one */
	return hypercall_run(&h->host.calls, h->host.memory, control, input);
}

/* ---- time for other threads ---- */

void hyperv_anchor(struct hyperv *h, uint64_t guest_tsc, uint64_t host_tsc, uint64_t guest_hz,
		   uint64_t host_hz)
{
	AUTO_LOCK(&h->lock);
	h->anchor_guest = guest_tsc;
	h->anchor_host = host_tsc;
	h->anchor_ratio = (hyperv_wide)guest_hz << 32;
	h->anchor_ratio /= host_hz;
}

uint64_t hyperv_time_at(struct hyperv *h, uint64_t host_tsc)
{
	AUTO_LOCK(&h->lock);
	return hyperv_reference_time(
		h, h->anchor_guest +
			   (uint64_t)((host_tsc - h->anchor_host) * h->anchor_ratio >> 32));
}

/* ---- life ---- */

enum err hyperv_create(const struct hyperv_host *host, struct hyperv **out)
{
	struct hyperv *h;

	assert(host->vcpus >= 1 && host->vcpus <= CONFIG_MAX_VCPUS);
	if (host->tsc_hz <= REF_HZ)
		return err_note(ERR_UNSUPPORTED, 0, "the TSC of this host runs at %llu Hz: slower "
				"than the reference clock", (unsigned long long)host->tsc_hz);
	h = calloc(1, sizeof(*h));
	if (!h)
		return err_note(ERR_NOMEM, 0, "Hyper-V interface: out of memory");
	h->host = *host;
	pthread_mutex_init(&h->lock, NULL);
	hyperv_reset(h, 0);
	*out = h;
	return ERR_OK;
}

void hyperv_destroy(struct hyperv *h)
{
	if (!h)
		return;
	pthread_mutex_destroy(&h->lock);
	free(h);
}

void hyperv_reset(struct hyperv *h, uint64_t boot_tsc)
{
	synic_reset(h->host.synic);
	AUTO_LOCK(&h->lock);
	h->guest_os_id = h->hypercall = h->reference_tsc = 0;
	memset(h->crash, 0, sizeof(h->crash));
	memset(h->vp_assist, 0, sizeof(h->vp_assist));
	h->sequence = 1;
	h->loaded = false;
	hyperv_set_clock(h, h->host.tsc_hz, boot_tsc, 0);
}

/* ---- state ---- */

enum {
	TAG_GUEST_OS_ID = 1,
	TAG_HYPERCALL,
	TAG_REFERENCE_TSC,
	TAG_CRASH_P0, /* .. P4 */
	TAG_TSC_HZ = 10,
	TAG_SCALE,
	TAG_OFFSET,
	TAG_SEQUENCE,
	TAG_GUEST_TSC,
	TAG_REFERENCE_TIME,

	TAG_VP_ASSIST = 1,
};

static const struct state_field hyperv_fields[] = {
	{TAG_GUEST_OS_ID, STATE_U64, false, "guest_os_id"},
	{TAG_HYPERCALL, STATE_U64, false, "hypercall"},
	{TAG_REFERENCE_TSC, STATE_U64, false, "reference_tsc"},
	{TAG_CRASH_P0, STATE_U64, false, "crash_p0"},
	{TAG_CRASH_P0 + 1, STATE_U64, false, "crash_p1"},
	{TAG_CRASH_P0 + 2, STATE_U64, false, "crash_p2"},
	{TAG_CRASH_P0 + 3, STATE_U64, false, "crash_p3"},
	{TAG_CRASH_P0 + 4, STATE_U64, false, "crash_p4"},
	{TAG_TSC_HZ, STATE_U64, false, "tsc_hz"},
	{TAG_SCALE, STATE_U64, false, "tsc_scale"},
	{TAG_OFFSET, STATE_U64, false, "tsc_offset_100ns"},
	{TAG_SEQUENCE, STATE_U32, false, "tsc_page_sequence"},
	{TAG_GUEST_TSC, STATE_U64, false, "guest_tsc"},
	{TAG_REFERENCE_TIME, STATE_U64, false, "reference_time_100ns"},
};

const struct state_kind hyperv_state_kind = {
	.kind = "hyperv", .version = 1, .fields = hyperv_fields,
	.count = sizeof(hyperv_fields) / sizeof(hyperv_fields[0])};

static const struct state_field hyperv_vp_fields[] = {
	{TAG_VP_ASSIST, STATE_U64, false, "vp_assist_page"},
};

const struct state_kind hyperv_vp_state_kind = {
	.kind = "hyperv_vp", .version = 1, .fields = hyperv_vp_fields, .count = 1};

/* A machine that was loaded and never ran is saved with the clock that it came with. */
void hyperv_save(const struct hyperv *h, uint64_t guest_tsc, struct state_out *out)
{
	if (h->loaded)
		guest_tsc = h->loaded_tsc;
	state_begin(out, &hyperv_state_kind, 0);
	state_put_u64(out, TAG_GUEST_OS_ID, h->guest_os_id);
	state_put_u64(out, TAG_HYPERCALL, h->hypercall);
	state_put_u64(out, TAG_REFERENCE_TSC, h->reference_tsc);
	for (uint16_t i = 0; i < CRASH_PARAMETERS; i++)
		state_put_u64(out, (uint16_t)(TAG_CRASH_P0 + i), h->crash[i]);
	state_put_u64(out, TAG_TSC_HZ, h->tsc_hz);
	state_put_u64(out, TAG_SCALE, h->scale);
	state_put_u64(out, TAG_OFFSET, h->offset);
	state_put_u32(out, TAG_SEQUENCE, h->sequence);
	state_put_u64(out, TAG_GUEST_TSC, guest_tsc);
	state_put_u64(out, TAG_REFERENCE_TIME, hyperv_reference_time(h, guest_tsc));
	state_end(out);
	for (uint32_t i = 0; i < h->host.vcpus; i++) {
		state_begin(out, &hyperv_vp_state_kind, i);
		state_put_u64(out, TAG_VP_ASSIST, h->vp_assist[i]);
		state_end(out);
	}
	synic_save(h->host.synic, out);
}

static enum err hyperv_get(struct hyperv *h, struct state_in *in, uint64_t *guest_tsc,
			   uint64_t *time)
{
	enum err e;

	for (uint16_t i = 0; i < CRASH_PARAMETERS; i++)
		if ((e = state_get_u64(in, (uint16_t)(TAG_CRASH_P0 + i), &h->crash[i])) != ERR_OK)
			return e;
	if ((e = state_get_u64(in, TAG_GUEST_OS_ID, &h->guest_os_id)) != ERR_OK ||
	    (e = state_get_u64(in, TAG_HYPERCALL, &h->hypercall)) != ERR_OK ||
	    (e = state_get_u64(in, TAG_REFERENCE_TSC, &h->reference_tsc)) != ERR_OK ||
	    (e = state_get_u64(in, TAG_TSC_HZ, &h->tsc_hz)) != ERR_OK ||
	    (e = state_get_u64(in, TAG_SCALE, &h->scale)) != ERR_OK ||
	    (e = state_get_u64(in, TAG_OFFSET, &h->offset)) != ERR_OK ||
	    (e = state_get_u32(in, TAG_SEQUENCE, &h->sequence)) != ERR_OK ||
	    (e = state_get_u64(in, TAG_GUEST_TSC, guest_tsc)) != ERR_OK ||
	    (e = state_get_u64(in, TAG_REFERENCE_TIME, time)) != ERR_OK)
		return e;
	/* The formula must agree with what it gave when it was saved. */
	if (h->sequence == 0 || h->tsc_hz <= REF_HZ ||
	    hyperv_reference_time(h, *guest_tsc) != *time)
		return err_note(ERR_CORRUPT, 0, "state section hyperv.0: its clock contradicts itself");
	return ERR_OK;
}

static enum err hyperv_check_page(const struct hyperv *h, uint64_t msr, const char *name)
{
	uint64_t offset;

	if ((msr & PAGE_ENABLE) && memory_offset(h->host.memory, gpa(hyperv_page(msr)),
						 MEMORY_PAGE_BYTES, &offset) != ERR_OK)
		return err_note(ERR_CORRUPT, 0, "state section hyperv.0: %s %#llx is outside RAM",
				name, (unsigned long long)msr);
	return ERR_OK;
}

static enum err hyperv_parse(struct hyperv *h, struct state_file *file, uint64_t *guest_tsc,
			     uint64_t *time)
{
	struct state_in *in;
	enum err e;

	if ((e = state_find(file, &hyperv_state_kind, 0, &in)) != ERR_OK ||
	    (e = hyperv_get(h, in, guest_tsc, time)) != ERR_OK ||
	    (e = hyperv_check_page(h, h->hypercall, "hypercall page")) != ERR_OK ||
	    (e = hyperv_check_page(h, h->reference_tsc, "TSC page")) != ERR_OK)
		return e;
	for (uint32_t i = 0; i < h->host.vcpus; i++)
		if ((e = state_find(file, &hyperv_vp_state_kind, i, &in)) != ERR_OK ||
		    (e = state_get_u64(in, TAG_VP_ASSIST, &h->vp_assist[i])) != ERR_OK ||
		    (e = hyperv_check_page(h, h->vp_assist[i], "VP assist page")) != ERR_OK)
			return e;
	return ERR_OK;
}

enum err hyperv_load(struct hyperv *h, struct state_file *file, uint64_t tsc_hz)
{
	struct hyperv new = {.host = h->host};
	uint64_t guest_tsc = 0, time = 0;
	enum err e = hyperv_parse(&new, file, &guest_tsc, &time);

	if (e != ERR_OK)
		return e;
	if (tsc_hz <= REF_HZ)
		return err_note(ERR_UNSUPPORTED, 0, "the TSC of this host runs at %llu Hz",
				(unsigned long long)tsc_hz);
	if ((e = synic_load(h->host.synic, file)) != ERR_OK)
		return e;
	AUTO_LOCK(&h->lock);
	h->guest_os_id = new.guest_os_id;
	h->hypercall = new.hypercall;
	h->reference_tsc = new.reference_tsc;
	memcpy(h->crash, new.crash, sizeof(h->crash));
	memcpy(h->vp_assist, new.vp_assist, sizeof(h->vp_assist));
	h->tsc_hz = new.tsc_hz;
	h->scale = new.scale;
	h->offset = new.offset;
	h->sequence = new.sequence;
	h->loaded_tsc = guest_tsc;
	h->loaded_time = time;
	h->loaded_hz = tsc_hz;
	h->loaded = true;
	return ERR_OK;
}

enum err hyperv_loaded(struct hyperv *h)
{
	uint64_t now = 0;
	bool same;
	enum err e;

	if (!h->loaded)
		return ERR_OK;
	if (!h->host.guest_tsc(h->host.arg, 0, &now))
		return err_note(ERR_IO, 0, "the TSC of vCPU 0 cannot be read");
	AUTO_LOCK(&h->lock);
	same = vcpu_state_same_clock(h->tsc_hz, h->loaded_hz) &&
	       now - h->loaded_tsc < h->tsc_hz / TSC_RESUMED_PART;
	if (!same) {
		hyperv_set_clock(h, h->loaded_hz, now, h->loaded_time);
		h->sequence = hyperv_next_sequence(h->sequence);
	}
	if (!same && (h->reference_tsc & PAGE_ENABLE) && (e = hyperv_write_tsc_page(h)) != ERR_OK)
		return err_context(e, "writing the reference TSC page");
	h->loaded = false;
	return ERR_OK;
}
