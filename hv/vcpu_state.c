/* SPDX-License-Identifier: Apache-2.0 */
/* vcpu_state: all of a vCPU, as KVM gives it, in named fields.
 *
 * Reading order and why:
 *   1. settle + LAPIC of all: a LAPIC timer that expired while the vCPU was parked waits
 *      in KVM outside every register; KVM moves it to the IRR only on the way into the
 *      guest.  See vcpu_lapic.c.
 *   2. TSC of all vCPUs at one instant, from their offsets.  After the LAPICs: a
 *      restored timer may then be late by microseconds of guest time, never early.
 *   3. MP state: reading it makes KVM take a pending INIT or SIPI, which changes
 *      CS:RIP, so it comes before registers.
 *   4. events, registers, MSRs, extended state, in any order: nothing changes them.
 *
 * Loading order and why:
 *   0. MP state, read only: an INIT or SIPI that was under way when the machine was
 *      reset is taken now, and not by the machine after it.
 *   1. SREGS: the APIC base with its x2APIC bit decides how LAPIC registers are read,
 *      CR4 and EFER what later writes may do; on the boot processor it may touch the
 *      MP state.
 *   2. REGS, XCR0, XSAVE (after XCR0: it says which parts are live), debug registers.
 *   3. MSRs, only those whose value differs.  TSC_ADJUST is among them.
 *   4. LAPIC: starts its timer, so as late as possible; IRR and ISR go with it.
 *   5. MP state, then events: SET_REGS and SET_LAPIC drop or raise pending events.
 *   6. TSC offsets, of all vCPUs together, last: some MSR writes move the TSC.
 * The chips of the VM follow (vm_state.h).
 *
 * Source: Linux Documentation/virt/kvm/api.rst; Intel SDM 3A 10.5 (LAPIC timer). */
#include "hv/vcpu_state.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hv/kvm/kvm_state.h"
#include "hv/vcpu_lapic.h"
#include "hv/vcpu_plan.h"

enum {
	MSR_TSC = 0x10,
	LAPIC_REGISTERS = 64,
	XSAVE_MIN_BYTES = 576,
	SEGMENTS = 8,
	FOREIGN_NAMED = 16,
	/* Frequencies closer than this are the same clock, measured twice: calibration
	 * of one CPU differs by up to 800 ppm between boots. */
	TSC_SAME_PPM = 1000,
	MSR_BYTES = VCPU_PLAN_MSR_BYTES,
};

/* A vCPU between KVM and the state. */
struct vcpu_image {
	struct kvm_regs regs;
	struct kvm_sregs2 sregs;
	uint32_t access[SEGMENTS];
	uint64_t xcr0;
	struct kvm_debugregs debug;
	struct kvm_vcpu_events events;
	uint32_t mp_state;
	uint64_t tsc;
	uint32_t tsc_khz;
	uint8_t lapic[LAPIC_REGISTERS * 4];
	const uint8_t *xsave, *msrs; /* borrowed from plan or file */
	size_t xsave_bytes, msr_count;
};

/* Order of this list = order of access[] and of their tags. */
#define SEGMENT_LIST(X) X(cs, 0) X(ds, 1) X(es, 2) X(fs, 3) X(gs, 4) X(ss, 5) X(tr, 6) X(ldt, 7)

/* Every field that is one integer: tag, type, name, where. */
#define REG_LIST(X)                                                                                \
	X(1, U64, "rax", regs.rax)                                                                 \
	X(2, U64, "rbx", regs.rbx)                                                                 \
	X(3, U64, "rcx", regs.rcx)                                                                 \
	X(4, U64, "rdx", regs.rdx)                                                                 \
	X(5, U64, "rsi", regs.rsi)                                                                 \
	X(6, U64, "rdi", regs.rdi)                                                                 \
	X(7, U64, "rsp", regs.rsp)                                                                 \
	X(8, U64, "rbp", regs.rbp)                                                                 \
	X(9, U64, "r8", regs.r8)                                                                   \
	X(10, U64, "r9", regs.r9)                                                                  \
	X(11, U64, "r10", regs.r10)                                                                \
	X(12, U64, "r11", regs.r11)                                                                \
	X(13, U64, "r12", regs.r12)                                                                \
	X(14, U64, "r13", regs.r13)                                                                \
	X(15, U64, "r14", regs.r14)                                                                \
	X(16, U64, "r15", regs.r15)                                                                \
	X(17, U64, "rip", regs.rip)                                                                \
	X(18, U64, "rflags", regs.rflags)                                                          \
	X(20, U64, "cr0", sregs.cr0)                                                               \
	X(21, U64, "cr2", sregs.cr2)                                                               \
	X(22, U64, "cr3", sregs.cr3)                                                               \
	X(23, U64, "cr4", sregs.cr4)                                                               \
	X(24, U64, "cr8", sregs.cr8)                                                               \
	X(25, U64, "efer", sregs.efer)                                                             \
	X(26, U64, "apic_base", sregs.apic_base)                                                   \
	X(27, U64, "gdt_base", sregs.gdt.base)                                                     \
	X(28, U16, "gdt_limit", sregs.gdt.limit)                                                   \
	X(29, U64, "idt_base", sregs.idt.base)                                                     \
	X(30, U16, "idt_limit", sregs.idt.limit)                                                   \
	X(31, U64, "sregs_flags", sregs.flags)                                                     \
	X(32, U64, "pdptr0", sregs.pdptrs[0])                                                      \
	X(33, U64, "pdptr1", sregs.pdptrs[1])                                                      \
	X(34, U64, "pdptr2", sregs.pdptrs[2])                                                      \
	X(35, U64, "pdptr3", sregs.pdptrs[3])                                                      \
	X(80, U64, "xcr0", xcr0)                                                                   \
	X(90, U64, "dr0", debug.db[0])                                                             \
	X(91, U64, "dr1", debug.db[1])                                                             \
	X(92, U64, "dr2", debug.db[2])                                                             \
	X(93, U64, "dr3", debug.db[3])                                                             \
	X(94, U64, "dr6", debug.dr6)                                                               \
	X(95, U64, "dr7", debug.dr7)                                                               \
	X(100, U32, "event_flags", events.flags)                                                   \
	X(101, U8, "exception_injected", events.exception.injected)                                \
	X(102, U8, "exception_vector", events.exception.nr)                                        \
	X(103, U8, "exception_has_error", events.exception.has_error_code)                         \
	X(104, U8, "exception_pending", events.exception.pending)                                  \
	X(105, U32, "exception_error", events.exception.error_code)                                \
	X(106, U8, "exception_has_payload", events.exception_has_payload)                          \
	X(107, U64, "exception_payload", events.exception_payload)                                 \
	X(108, U8, "interrupt_injected", events.interrupt.injected)                                \
	X(109, U8, "interrupt_vector", events.interrupt.nr)                                        \
	X(110, U8, "interrupt_soft", events.interrupt.soft)                                        \
	X(111, U8, "interrupt_shadow", events.interrupt.shadow)                                    \
	X(112, U8, "nmi_injected", events.nmi.injected)                                            \
	X(113, U8, "nmi_pending", events.nmi.pending)                                              \
	X(114, U8, "nmi_masked", events.nmi.masked)                                                \
	X(115, U32, "sipi_vector", events.sipi_vector)                                             \
	X(116, U8, "smi_smm", events.smi.smm)                                                      \
	X(117, U8, "smi_pending", events.smi.pending)                                              \
	X(118, U8, "smi_inside_nmi", events.smi.smm_inside_nmi)                                    \
	X(119, U8, "init_latched", events.smi.latched_init)                                        \
	X(120, U8, "triple_fault_pending", events.triple_fault.pending)                            \
	X(130, U32, "mp_state", mp_state)                                                          \
	X(131, U64, "tsc", tsc)                                                                    \
	X(132, U32, "tsc_khz", tsc_khz)

#define SEGMENT_REGS(X, s, i)                                                                      \
	X(40 + 4 * (i), U64, #s "_base", sregs.s.base)                                             \
	X(41 + 4 * (i), U32, #s "_limit", sregs.s.limit)                                           \
	X(42 + 4 * (i), U16, #s "_selector", sregs.s.selector)                                     \
	X(43 + 4 * (i), U32, #s "_access", access[i])

enum { TAG_XSAVE = 81, TAG_LAPIC = 133, TAG_MSRS = 134 };

#define AS_FIELD(tag, type, name, member) {tag, STATE_##type, false, name},
#define AS_PLACE(tag, type, name, member) {tag, STATE_##type, offsetof(struct vcpu_image, member)},
#define SEGMENT_FIELD(s, i) SEGMENT_REGS(AS_FIELD, s, i)
#define SEGMENT_PLACE(s, i) SEGMENT_REGS(AS_PLACE, s, i)

static const struct state_field vcpu_fields[] = {
	REG_LIST(AS_FIELD) SEGMENT_LIST(SEGMENT_FIELD)
	{TAG_XSAVE, STATE_BYTES, false, "xsave"},
	{TAG_LAPIC, STATE_BYTES, false, "lapic"}, /* 64 u32: register n at offset 16 n */
	{TAG_MSRS, STATE_MSRS, false, "msrs"},
};

static const struct vcpu_place {
	uint16_t tag;
	uint8_t type;
	size_t offset;
} vcpu_places[] = {REG_LIST(AS_PLACE) SEGMENT_LIST(SEGMENT_PLACE)};

const struct state_kind vcpu_state_kind = {
	.kind = "vcpu",
	.version = 1,
	.fields = vcpu_fields,
	.count = sizeof(vcpu_fields) / sizeof(vcpu_fields[0]),
};

#define PLACES (sizeof(vcpu_places) / sizeof(vcpu_places[0]))

/* ---- segments ---- */

static struct kvm_segment *vcpu_segment(struct vcpu_image *m, unsigned i)
{
#define SEGMENT_ADDRESS(s, n) &m->sregs.s,
	struct kvm_segment *all[SEGMENTS] = {SEGMENT_LIST(SEGMENT_ADDRESS)};

	return all[i];
}

/* Access rights as in Intel SDM 3C table 24-2: type 0-3, s 4, dpl 5-6, present 7,
 * avl 12, l 13, db 14, g 15, unusable 16. */
static uint32_t vcpu_segment_access(const struct kvm_segment *s)
{
	return (s->type & 15u) | (s->s & 1u) << 4 | (s->dpl & 3u) << 5 | (s->present & 1u) << 7 |
	       (s->avl & 1u) << 12 | (s->l & 1u) << 13 | (s->db & 1u) << 14 | (s->g & 1u) << 15 |
	       (s->unusable & 1u) << 16;
}

static void vcpu_segment_set_access(struct kvm_segment *s, uint32_t a)
{
	s->type = a & 15;
	s->s = a >> 4 & 1;
	s->dpl = a >> 5 & 3;
	s->present = a >> 7 & 1;
	s->avl = a >> 12 & 1;
	s->l = a >> 13 & 1;
	s->db = a >> 14 & 1;
	s->g = a >> 15 & 1;
	s->unusable = a >> 16 & 1;
}

/* ---- saving ---- */

static enum err vcpu_read_xcr0(const struct vcpu_plan *p, int fd, uint64_t *xcr0)
{
	struct kvm_xcrs x = {0};
	enum err e;

	*xcr0 = 1;
	if (!p->has_xcrs)
		return ERR_OK;
	if ((e = kvm_state_get_xcrs(fd, &x)) != ERR_OK)
		return e;
	for (uint32_t i = 0; i < x.nr_xcrs && i < KVM_MAX_XCRS; i++)
		if (x.xcrs[i].xcr == 0)
			*xcr0 = x.xcrs[i].value;
	return ERR_OK;
}

static enum err vcpu_read(const struct vcpu_plan *p, const struct vcpu_ref *v,
			  const struct kvm_lapic_state *lapic, struct vcpu_image *m)
{
	enum err e;

	memset(m, 0, sizeof(*m));
	if ((e = kvm_state_get_mp_state(v->fd, &m->mp_state)) != ERR_OK ||
	    (e = kvm_state_get_events(v->fd, &m->events)) != ERR_OK ||
	    (e = kvm_state_get_regs(v->fd, &m->regs)) != ERR_OK ||
	    (e = kvm_state_get_sregs2(v->fd, &m->sregs)) != ERR_OK ||
	    (e = kvm_state_get_debugregs(v->fd, &m->debug)) != ERR_OK ||
	    (e = vcpu_read_xcr0(p, v->fd, &m->xcr0)) != ERR_OK ||
	    (e = kvm_state_get_xsave2(v->fd, p->xsave)) != ERR_OK ||
	    (e = vcpu_plan_read_msrs(p, v->fd)) != ERR_OK)
		return e;
	for (unsigned i = 0; i < LAPIC_REGISTERS; i++)
		memcpy(m->lapic + 4 * i, lapic->regs + 16 * i, 4);
	for (unsigned i = 0; i < SEGMENTS; i++)
		m->access[i] = vcpu_segment_access(vcpu_segment(m, i));
	m->xsave = p->xsave;
	m->xsave_bytes = p->xsave_bytes;
	m->msrs = p->msr_bytes;
	m->msr_count = p->msr_count;
	return ERR_OK;
}

static void vcpu_put_place(struct state_out *out, const struct vcpu_image *m,
			   const struct vcpu_place *f)
{
	const uint8_t *at = (const uint8_t *)m + f->offset;
	uint16_t v16;
	uint32_t v32;
	uint64_t v64;

	switch (f->type) {
	case STATE_U8:
		state_put_u8(out, f->tag, *at);
		break;
	case STATE_U16:
		memcpy(&v16, at, sizeof(v16));
		state_put_u16(out, f->tag, v16);
		break;
	case STATE_U32:
		memcpy(&v32, at, sizeof(v32));
		state_put_u32(out, f->tag, v32);
		break;
	default:
		memcpy(&v64, at, sizeof(v64));
		state_put_u64(out, f->tag, v64);
	}
}

static void vcpu_put(struct state_out *out, uint32_t index, const struct vcpu_image *m)
{
	state_begin(out, &vcpu_state_kind, index);
	for (size_t i = 0; i < PLACES; i++)
		vcpu_put_place(out, m, &vcpu_places[i]);
	state_put_bytes(out, TAG_XSAVE, m->xsave, m->xsave_bytes);
	state_put_bytes(out, TAG_LAPIC, m->lapic, sizeof(m->lapic));
	state_put_bytes(out, TAG_MSRS, m->msrs, m->msr_count * MSR_BYTES);
	state_end(out);
}

static enum err vcpu_save_all(const struct vcpu_plan *p, const struct vcpu_ref *vcpus,
			      uint32_t count, struct state_out *out, uint64_t *tsc,
			      struct kvm_lapic_state *lapics)
{
	struct vcpu_image m;
	enum err e;

	for (uint32_t i = 0; i < count; i++)
		if ((e = vcpu_lapic_read(&vcpus[i], p->timer_in_vmcs, &lapics[i])) != ERR_OK)
			return err_context(e, "saving vCPU %u", i);
	if ((e = vcpu_state_get_tsc(vcpus, count, tsc)) != ERR_OK)
		return e;
	for (uint32_t i = 0; i < count; i++) {
		if ((e = vcpu_read(p, &vcpus[i], &lapics[i], &m)) != ERR_OK)
			return err_context(e, "saving vCPU %u", i);
		m.tsc = tsc[i];
		m.tsc_khz = p->guest_tsc_khz;
		vcpu_put(out, i, &m);
	}
	return ERR_OK;
}

enum err vcpu_state_save(const struct vcpu_plan *p, const struct vcpu_ref *vcpus, uint32_t count,
			 struct state_out *out, uint64_t *tsc)
{
	struct kvm_lapic_state *lapics = calloc(count, sizeof(*lapics));
	enum err e;

	if (!lapics)
		return err_note(ERR_NOMEM, 0, "vCPU state: out of memory");
	e = vcpu_save_all(p, vcpus, count, out, tsc, lapics);
	free(lapics);
	return e;
}

/* ---- loading ---- */

static enum err vcpu_get_place(struct state_in *in, struct vcpu_image *m,
			       const struct vcpu_place *f)
{
	uint8_t *at = (uint8_t *)m + f->offset;
	uint16_t v16 = 0;
	uint32_t v32 = 0;
	uint64_t v64 = 0;
	enum err e;

	switch (f->type) {
	case STATE_U8:
		return state_get_u8(in, f->tag, at);
	case STATE_U16:
		e = state_get_u16(in, f->tag, &v16);
		memcpy(at, &v16, sizeof(v16));
		return e;
	case STATE_U32:
		e = state_get_u32(in, f->tag, &v32);
		memcpy(at, &v32, sizeof(v32));
		return e;
	default:
		e = state_get_u64(in, f->tag, &v64);
		memcpy(at, &v64, sizeof(v64));
		return e;
	}
}

static enum err vcpu_get(const struct vcpu_plan *p, struct state_file *file, uint32_t index,
			 struct vcpu_image *m)
{
	struct state_in *in;
	size_t msr_bytes = 0;
	enum err e;

	memset(m, 0, sizeof(*m));
	if ((e = state_find(file, &vcpu_state_kind, index, &in)) != ERR_OK)
		return e;
	for (size_t i = 0; i < PLACES; i++)
		if ((e = vcpu_get_place(in, m, &vcpu_places[i])) != ERR_OK)
			return e;
	if ((e = state_get_bytes(in, TAG_XSAVE, &m->xsave, &m->xsave_bytes)) != ERR_OK ||
	    (e = state_get_exact(in, TAG_LAPIC, m->lapic, sizeof(m->lapic))) != ERR_OK ||
	    (e = state_get_bytes(in, TAG_MSRS, &m->msrs, &msr_bytes)) != ERR_OK)
		return e;
	if (m->xsave_bytes < XSAVE_MIN_BYTES || msr_bytes % MSR_BYTES != 0 ||
	    msr_bytes / MSR_BYTES > VCPU_PLAN_MAX_MSRS)
		return err_note(ERR_CORRUPT, 0, "state section vcpu.%u: malformed xsave or msrs",
				index);
	m->msr_count = msr_bytes / MSR_BYTES;
	/* What this KVM's buffer has no room for must at least be unused. */
	if (m->xsave_bytes > p->xsave_bytes &&
	    !bytes_zero(m->xsave + p->xsave_bytes, m->xsave_bytes - p->xsave_bytes))
		return err_note(ERR_VERSION, 0,
				"state section vcpu.%u has %zu bytes of extended state, this host "
				"takes %zu", index, m->xsave_bytes, p->xsave_bytes);
	for (unsigned i = 0; i < SEGMENTS; i++)
		vcpu_segment_set_access(vcpu_segment(m, i), m->access[i]);
	return ERR_OK;
}

unsigned vcpu_state_foreign_msrs(const struct vcpu_plan *p, struct state_file *file, uint32_t index,
				 struct buf *names)
{
	const uint8_t *at = NULL;
	struct state_in *in;
	unsigned count = 0;
	size_t bytes = 0;

	if (state_find(file, &vcpu_state_kind, index, &in) != ERR_OK ||
	    state_get_bytes(in, TAG_MSRS, &at, &bytes) != ERR_OK)
		return 0;
	for (; bytes >= MSR_BYTES; at += MSR_BYTES, bytes -= MSR_BYTES) {
		if (le64_get(at + 4) == 0 || vcpu_plan_has_msr(p, le32_get(at)))
			continue;
		if (names && count < FOREIGN_NAMED)
			buf_printf(names, " %#x", le32_get(at));
		if (names && count == FOREIGN_NAMED)
			buf_put_str(names, " ...");
		count++;
	}
	return count;
}

static enum err vcpu_write_extended(const struct vcpu_plan *p, int fd, const struct vcpu_image *m)
{
	struct kvm_xcrs x = {.nr_xcrs = 1, .xcrs[0].value = m->xcr0};
	size_t n = m->xsave_bytes < p->xsave_bytes ? m->xsave_bytes : p->xsave_bytes;
	uint64_t now = 0;
	enum err e;

	if ((e = vcpu_read_xcr0(p, fd, &now)) != ERR_OK)
		return e;
	if (now != m->xcr0 && (e = kvm_state_set_xcrs(fd, &x)) != ERR_OK)
		return err_context(e, "XCR0 %#llx", (unsigned long long)m->xcr0);
	memcpy(p->xsave, m->xsave, n);
	memset(p->xsave + n, 0, p->xsave_bytes - n);
	return kvm_state_set_xsave(fd, p->xsave);
}

static bool vcpu_knows_smm(const struct kvm_vcpu_events *ev)
{
	return ev->smi.smm || ev->smi.pending || ev->smi.latched_init;
}

static enum err vcpu_write_events(int fd, const struct vcpu_image *m)
{
	struct kvm_vcpu_events ev = m->events, now = {0};
	enum err e;

	if ((e = kvm_state_get_events(fd, &now)) != ERR_OK)
		return e;
	ev.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
		    KVM_VCPUEVENT_VALID_SHADOW;
	/* Nothing to say about system management mode, so do not ask whether KVM has it; a
	 * guest that is reset in it must leave it, though. */
	if (!vcpu_knows_smm(&ev) && !vcpu_knows_smm(&now))
		ev.flags &= ~(uint32_t)KVM_VCPUEVENT_VALID_SMM;
	else
		ev.flags |= KVM_VCPUEVENT_VALID_SMM;
	/* KVM says so itself where it takes them.  One that is pending ends the machine as
	 * soon as it runs; one that a reset finds pending is over. */
	ev.flags &= ~(uint32_t)KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	if (now.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT)
		ev.flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	else if (ev.triple_fault.pending)
		return err_note(ERR_UNSUPPORTED, 0, "the guest was about to end by a triple fault, "
				"which this KVM cannot be told: use Linux 6.0 or later");
	return kvm_state_set_events(fd, &ev);
}

static enum err vcpu_write(const struct vcpu_plan *p, int fd, const struct vcpu_image *m)
{
	struct kvm_lapic_state lapic = {0};
	uint32_t before;
	enum err e;

	for (unsigned i = 0; i < LAPIC_REGISTERS; i++)
		memcpy(lapic.regs + 16 * i, m->lapic + 4 * i, 4);
	if ((e = kvm_state_get_mp_state(fd, &before)) != ERR_OK ||
	    (e = kvm_state_set_sregs2(fd, &m->sregs)) != ERR_OK ||
	    (e = kvm_state_set_regs(fd, &m->regs)) != ERR_OK ||
	    (e = vcpu_write_extended(p, fd, m)) != ERR_OK ||
	    (e = kvm_state_set_debugregs(fd, &m->debug)) != ERR_OK ||
	    (e = vcpu_plan_write_msrs(p, fd, m->msrs, m->msr_count)) != ERR_OK ||
	    (e = kvm_state_set_lapic(fd, &lapic)) != ERR_OK ||
	    (e = kvm_state_set_mp_state(fd, m->mp_state)) != ERR_OK)
		return e;
	return vcpu_write_events(fd, m);
}

bool vcpu_state_same_clock(uint64_t a, uint64_t b)
{
	uint64_t gap = a > b ? a - b : b - a;

	return gap <= a / 1000000 * TSC_SAME_PPM + a % 1000000 * TSC_SAME_PPM / 1000000;
}

/* Where the CPU can scale, the guest keeps the frequency it knows.  Asked is what the
 * vCPUs have now, not what the host has: a reset takes the scaling back. */
static enum err vcpu_scale_tsc(struct vcpu_plan *p, const struct vcpu_ref *vcpus, uint32_t count,
			       uint32_t khz)
{
	enum err e = ERR_OK;

	if (!p->has_tsc_control || khz == 0 || vcpu_state_same_clock(khz, p->guest_tsc_khz))
		return ERR_OK;
	if (vcpu_state_same_clock(khz, p->tsc_khz))
		khz = p->tsc_khz; /* the host's own needs no scaling */
	for (uint32_t i = 0; i < count && e == ERR_OK; i++)
		e = kvm_state_set_tsc_khz(vcpus[i].fd, khz);
	if (e == ERR_OK)
		p->guest_tsc_khz = khz;
	return e;
}

/* All images, and what must be alike in them. */
static enum err vcpu_get_all(const struct vcpu_plan *p, struct state_file *file, uint32_t count,
			     struct vcpu_image *m, uint64_t *tsc)
{
	enum err e;

	for (uint32_t i = 0; i < count; i++) {
		if ((e = vcpu_get(p, file, i, &m[i])) != ERR_OK)
			return e;
		if (m[i].tsc_khz != m[0].tsc_khz)
			return err_note(ERR_CORRUPT, 0, "state section vcpu.%u: a TSC of %u kHz, "
					"that of vCPU 0 has %u", i, m[i].tsc_khz, m[0].tsc_khz);
		tsc[i] = m[i].tsc;
	}
	return ERR_OK;
}

enum err vcpu_state_load(struct vcpu_plan *p, const struct vcpu_ref *vcpus, uint32_t count,
			 struct state_file *file, uint64_t *tsc)
{
	struct vcpu_image *m = calloc(count, sizeof(*m));
	enum err e;

	assert(count <= CONFIG_MAX_VCPUS);
	if (!m)
		return err_note(ERR_NOMEM, 0, "vCPU state: out of memory");
	e = vcpu_get_all(p, file, count, m, tsc);
	if (e == ERR_OK)
		e = vcpu_scale_tsc(p, vcpus, count, m[0].tsc_khz);
	for (uint32_t i = 0; i < count && e == ERR_OK; i++) {
		if ((e = vcpu_write(p, vcpus[i].fd, &m[i])) != ERR_OK)
			e = err_context(e, "loading vCPU %u", i);
		p->timer_initial[i] = le32_get(m[i].lapic + VCPU_LAPIC_TIMER_INITIAL / 4);
		p->timer_current[i] = le32_get(m[i].lapic + VCPU_LAPIC_TIMER_CURRENT / 4);
	}
	free(m);
	return e == ERR_OK ? vcpu_state_set_tsc(vcpus, count, tsc) : e;
}

/* ---- TSC ----
 *
 * A vCPU's TSC is the host's (scaled alike for all) plus its own offset.  One
 * reading of vCPU 0 gives the host part at an instant; everything else is offsets. */

static enum err vcpu_tsc_base(const struct vcpu_ref *vcpus, uint64_t *base)
{
	uint64_t tsc = 0, offset = 0;
	enum err e;

	if ((e = kvm_state_get_tsc_offset(vcpus[0].fd, &offset)) != ERR_OK ||
	    (e = kvm_state_get_msr(vcpus[0].fd, MSR_TSC, &tsc)) != ERR_OK)
		return e;
	*base = tsc - offset;
	return ERR_OK;
}

enum err vcpu_state_get_tsc(const struct vcpu_ref *vcpus, uint32_t count, uint64_t *tsc)
{
	uint64_t base = 0, offset = 0;
	enum err e = vcpu_tsc_base(vcpus, &base);

	for (uint32_t i = 0; i < count && e == ERR_OK; i++) {
		e = kvm_state_get_tsc_offset(vcpus[i].fd, &offset);
		tsc[i] = base + offset;
	}
	return e;
}

enum err vcpu_state_set_tsc(const struct vcpu_ref *vcpus, uint32_t count, const uint64_t *tsc)
{
	uint64_t base = 0;
	enum err e = vcpu_tsc_base(vcpus, &base);

	for (uint32_t i = 0; i < count && e == ERR_OK; i++)
		e = kvm_state_set_tsc_offset(vcpus[i].fd, tsc[i] - base);
	return e;
}

enum err vcpu_state_start(const struct vcpu_plan *p, const struct vcpu_ref *vcpus, uint32_t count,
			  const uint64_t *tsc)
{
	enum err e = ERR_OK;

	for (uint32_t i = 0; i < count && e == ERR_OK; i++)
		e = vcpu_lapic_restart_timer(&vcpus[i], p->timer_initial[i], p->timer_current[i]);
	return e == ERR_OK ? vcpu_state_set_tsc(vcpus, count, tsc) : e;
}
