/* SPDX-License-Identifier: Apache-2.0 */
/* compat: everything about a state that could keep it from running here, asked
 * before anything is changed.
 *
 * Of different makers' CPUs nothing more is compared: features, MSRs and the layout
 * of extended state differ as a matter of course, and one sentence says it all.
 *
 * TSC frequency is never a reason to refuse: the reference TSC page hides a change
 * from its users, the TSC-deadline timer is hidden, and where the CPU can scale the
 * guest does not even see one.  A change is a remark, because user programs in the
 * guest that count with the TSC itself will see it. */
#include "hv/compat.h"

#include <stdio.h>
#include <string.h>

#include "hv/hyperv.h"
#include "hv/vm_state.h"
#include "hv/vmbus/synic.h"

enum { TAG_VCPUS = 1, TAG_MEMORY, TAG_CPU, TAG_VENDOR, TAG_TSC_KHZ, TAG_XCR0, TAG_XSAVE_BYTES };

static const struct state_field machine_fields[] = {
	{TAG_VCPUS, STATE_U32, false, "vcpus"},
	{TAG_MEMORY, STATE_U64, false, "memory_bytes"},
	{TAG_CPU, STATE_TEXT, false, "cpu"},
	{TAG_VENDOR, STATE_TEXT, false, "vendor"},
	{TAG_TSC_KHZ, STATE_U32, false, "tsc_khz"},
	{TAG_XCR0, STATE_U64, false, "xcr0"},
	{TAG_XSAVE_BYTES, STATE_U32, false, "xsave_bytes"},
};

const struct state_kind compat_state_kind = {
	.kind = "machine", .version = 1, .fields = machine_fields,
	.count = sizeof(machine_fields) / sizeof(machine_fields[0])};

enum { WORD_BYTES = 32 };

struct machine { /* section "machine".0 of an image */
	uint32_t vcpus, tsc_khz, xsave_bytes;
	uint64_t memory_bytes, xcr0;
	char cpu[WORD_BYTES], vendor[WORD_BYTES];
};

void compat_save(const struct compat_machine *m, struct state_out *out)
{
	const char *cpu = config_cpu_name(m->config->cpu);
	char vendor[13];

	cpuid_vendor(m->cpuid, vendor);
	state_begin(out, &compat_state_kind, 0);
	state_put_u32(out, TAG_VCPUS, m->config->vcpus);
	state_put_u64(out, TAG_MEMORY, m->config->memory_bytes);
	state_put_bytes(out, TAG_CPU, cpu, strlen(cpu));
	state_put_bytes(out, TAG_VENDOR, vendor, strlen(vendor));
	state_put_u32(out, TAG_TSC_KHZ, vcpu_plan_guest_tsc_khz(m->plan));
	state_put_u64(out, TAG_XCR0, cpuid_xcr0(m->cpuid));
	state_put_u32(out, TAG_XSAVE_BYTES, (uint32_t)vcpu_plan_xsave_bytes(m->plan));
	state_end(out);
}

static enum err compat_word(struct state_in *in, uint16_t tag, char out[WORD_BYTES])
{
	const uint8_t *p = NULL;
	size_t len = 0;
	enum err e = state_get_bytes(in, tag, &p, &len);

	if (e != ERR_OK)
		return e;
	if (len >= WORD_BYTES || memchr(p, 0, len))
		return err_note(ERR_CORRUPT, 0, "state section machine.0: a malformed word");
	memcpy(out, p, len);
	out[len] = 0;
	for (size_t i = 0; i < len; i++)
		if (out[i] < ' ' || out[i] > '~')
			out[i] = '?';
	return ERR_OK;
}

static enum err compat_read(struct state_file *file, struct machine *m)
{
	struct state_in *in;
	enum err e;

	memset(m, 0, sizeof(*m));
	if ((e = state_find(file, &compat_state_kind, 0, &in)) != ERR_OK ||
	    (e = state_get_u32(in, TAG_VCPUS, &m->vcpus)) != ERR_OK ||
	    (e = state_get_u64(in, TAG_MEMORY, &m->memory_bytes)) != ERR_OK ||
	    (e = compat_word(in, TAG_CPU, m->cpu)) != ERR_OK ||
	    (e = compat_word(in, TAG_VENDOR, m->vendor)) != ERR_OK ||
	    (e = state_get_u32(in, TAG_TSC_KHZ, &m->tsc_khz)) != ERR_OK ||
	    (e = state_get_u64(in, TAG_XCR0, &m->xcr0)) != ERR_OK ||
	    (e = state_get_u32(in, TAG_XSAVE_BYTES, &m->xsave_bytes)) != ERR_OK)
		return e;
	if (m->vcpus < 1 || m->vcpus > CONFIG_MAX_VCPUS)
		return err_note(ERR_CORRUPT, 0, "state section machine.0: %u vCPUs", m->vcpus);
	return ERR_OK;
}

/* ---- the findings ---- */

struct judge {
	const struct compat_machine *m;
	struct state_file *file;
	struct machine image;
	struct cpuid_table *cpuid; /* of the image; NULL if that section is missing */
	struct buf *report;
	unsigned count; /* findings that refuse */
};

static void compat_finding(struct judge *j, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void compat_finding(struct judge *j, const char *fmt, ...)
{
	char text[ERR_NOTE_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	buf_printf(j->report, "%s\n", text);
	j->count++;
}

static void compat_config(struct judge *j)
{
	const struct vm_config *c = j->m->config;
	const char *cpu = config_cpu_name(c->cpu);

	if (j->image.vcpus != c->vcpus)
		compat_finding(j, "the image has %u vCPUs, this machine %u", j->image.vcpus,
			       c->vcpus);
	if (j->image.memory_bytes != c->memory_bytes)
		compat_finding(j, "the image has %llu bytes of memory, this machine %llu",
			       (unsigned long long)j->image.memory_bytes,
			       (unsigned long long)c->memory_bytes);
	if (strcmp(j->image.cpu, cpu) != 0)
		compat_finding(j, "the image was made with --cpu %s, this machine with %s",
			       j->image.cpu, cpu);
}

/* Where an extended state lies must be the same for its bytes to mean the same. */
static void compat_xsave(struct judge *j)
{
	uint64_t wants = cpuid_xcr0(j->cpuid), has = cpuid_xcr0(j->m->cpuid);

	if (wants != j->image.xcr0)
		compat_finding(j, "the image contradicts itself about its extended states (XCR0 "
			       "%#llx, %#llx)", (unsigned long long)wants,
			       (unsigned long long)j->image.xcr0);
	if (wants & ~has)
		compat_finding(j, "the image has extended states %#llx (bits of XCR0) that this "
			       "host does not give", (unsigned long long)(wants & ~has));
	for (uint32_t i = 2; i < 32; i++) {
		const struct cpuid_leaf *a = cpuid_find(j->cpuid, 0xD, i);
		const struct cpuid_leaf *b = cpuid_find(j->m->cpuid, 0xD, i);

		if (((wants & has) >> i & 1) &&
		    (!a || !b || a->eax != b->eax || a->ebx != b->ebx))
			compat_finding(j, "extended state %u lies elsewhere in the save area of "
				       "this host's CPU", i);
	}
}

static void compat_addresses(struct judge *j)
{
	static const char *const kind[] = {"physical", "linear"};
	const struct cpuid_leaf *a = cpuid_find(j->cpuid, 0x80000008, 0);
	const struct cpuid_leaf *b = cpuid_find(j->m->cpuid, 0x80000008, 0);

	for (unsigned i = 0; a && b && i < 2; i++)
		if ((a->eax >> 8 * i & 0xFF) > (b->eax >> 8 * i & 0xFF))
			compat_finding(j, "the image has %u bits of %s address, this host %u",
				       a->eax >> 8 * i & 0xFF, kind[i], b->eax >> 8 * i & 0xFF);
}

static void compat_msrs(struct judge *j)
{
	AUTO_BUF struct buf names = {0};
	unsigned n = 0;

	for (uint32_t i = 0; i < j->image.vcpus && n == 0; i++)
		n = vcpu_state_foreign_msrs(j->m->plan, j->file, i, &names);
	if (n > 0)
		compat_finding(j, "the image uses MSRs that this host does not have:%s",
			       buf_str(&names));
}

static void compat_cpu(struct judge *j)
{
	AUTO_BUF struct buf names = {0};
	char theirs[13], ours[13];

	cpuid_vendor(j->m->cpuid, ours);
	if (strcmp(j->image.vendor, ours) != 0) {
		compat_finding(j, "the image is of a CPU by %s, this host's CPU is by %s",
			       j->image.vendor, ours);
		return;
	}
	if (!j->cpuid)
		return;
	cpuid_vendor(j->cpuid, theirs);
	if (strcmp(theirs, ours) != 0 || cpuid_vcpus(j->cpuid) != j->image.vcpus)
		compat_finding(j, "the image contradicts itself about its CPU (%s, %u vCPUs in its "
			       "CPUID)", theirs, cpuid_vcpus(j->cpuid));
	if (cpuid_missing(j->cpuid, j->m->cpuid, &names) > 0)
		compat_finding(j, "this host's CPU (--cpu %s) lacks features of the image:%s",
			       config_cpu_name(j->m->config->cpu), buf_str(&names));
	compat_addresses(j);
	compat_xsave(j);
	compat_msrs(j);
}

static void compat_tsc(struct judge *j)
{
	uint32_t here = vcpu_plan_tsc_khz(j->m->plan), there = j->image.tsc_khz;

	if (!vcpu_plan_sets_tsc(j->m->plan))
		buf_put_str(j->report, "remark: this KVM cannot set a guest's TSC: the guest's "
				       "clock goes on, its TSC jumps\n");
	if (vcpu_state_same_clock(there, here))
		return;
	buf_printf(j->report, "remark: the guest's TSC ran at %u kHz, this host's runs at %u kHz: ",
		   there, here);
	buf_put_str(j->report, vcpu_plan_scales_tsc(j->m->plan)
				       ? "it is scaled\n"
				       : "its clock follows, programs in it that count with the "
					 "TSC itself do not\n");
}

/* ---- sections ---- */

/* The sections of every machine of `vcpus` vCPUs, beside those of its devices;
 * false after the last. */
static bool compat_own_section(size_t i, uint32_t vcpus, struct compat_section *out)
{
	const struct compat_section fixed[] = {
		{&compat_state_kind, 0},    {&cpuid_state_kind, 0},
		{&vm_state_pic_kind, 0},    {&vm_state_pic_kind, 1},
		{&vm_state_ioapic_kind, 0}, {&vm_state_pit_kind, 0},
		{&hyperv_state_kind, 0},
	};
	const size_t n = sizeof(fixed) / sizeof(fixed[0]);

	if (i < n)
		*out = fixed[i];
	else if (i < n + vcpus)
		*out = (struct compat_section){&vcpu_state_kind, (uint32_t)(i - n)};
	else if (i < n + 2 * (size_t)vcpus)
		*out = (struct compat_section){&hyperv_vp_state_kind, (uint32_t)(i - n - vcpus)};
	else if (i < n + 3 * (size_t)vcpus)
		*out = (struct compat_section){&synic_state_kind, (uint32_t)(i - n - 2 * vcpus)};
	else
		return false;
	return true;
}

/* The i-th section that the image must have. */
static bool compat_expected(const struct judge *j, size_t i, struct compat_section *out)
{
	if (i < j->m->section_count) {
		*out = j->m->sections[i];
		return true;
	}
	return compat_own_section(i - j->m->section_count, j->image.vcpus, out);
}

static void compat_sections(struct judge *j)
{
	struct compat_section want;
	struct state_in *in;

	for (size_t i = 0; compat_expected(j, i, &want); i++) {
		enum err e = state_find(j->file, want.kind, want.instance, &in);

		if (e == ERR_NOTFOUND)
			compat_finding(j, "the image has no %s.%u, which this machine has",
				       want.kind->kind, want.instance);
		else if (e != ERR_OK)
			compat_finding(j, "%s", err_text());
	}
	for (size_t k = 0; k < state_sections(j->file); k++) {
		uint32_t instance, version;
		const char *kind;
		bool known = false;

		state_section(j->file, k, &kind, &instance, &version);
		for (size_t i = 0; !known && compat_expected(j, i, &want); i++)
			known = want.instance == instance && !strcmp(want.kind->kind, kind);
		if (!known)
			compat_finding(j, "the image has a %s.%u, which this machine has not",
				       kind, instance);
	}
}

/* ---- all of it ---- */

/* The note: as many findings as fit, and how many more there are. */
static enum err compat_refuse(const struct judge *j)
{
	AUTO_BUF struct buf note = {0};
	const char *p = buf_str(j->report);
	unsigned told = 0;

	for (size_t n; *p; p += n + (p[n] != 0)) {
		n = strcspn(p, "\n");
		if (!strncmp(p, "remark: ", 8))
			continue;
		if (told > 0 && note.len + n > ERR_NOTE_BYTES - 100)
			break;
		buf_printf(&note, "%s%.*s", told ? "; " : "", (int)n, p);
		told++;
	}
	if (told < j->count)
		buf_printf(&note, "; and %u more", j->count - told);
	return err_note(ERR_VERSION, 0, "the image does not fit: %s", buf_str(&note));
}

enum err compat_check(const struct compat_machine *m, struct state_file *file, struct buf *report)
{
	AUTO_BUF struct buf own = {0};
	struct judge j = {.m = m, .file = file, .report = &own};
	enum err e;

	if ((e = compat_read(file, &j.image)) != ERR_OK)
		return e == ERR_NOTFOUND ? err_note(ERR_CORRUPT, 0, "it is no machine's state: it "
						    "has no section machine.0") : e;
	e = cpuid_from_state(file, &j.cpuid);
	if (e != ERR_OK && e != ERR_NOTFOUND && e != ERR_VERSION)
		return e;
	compat_config(&j);
	compat_cpu(&j);
	compat_sections(&j);
	compat_tsc(&j);
	cpuid_destroy(j.cpuid);
	if ((e = buf_check(&own)) != ERR_OK)
		return e;
	buf_put(report, own.data, own.len);
	return j.count > 0 ? compat_refuse(&j) : buf_check(report);
}
