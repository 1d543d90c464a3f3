/* SPDX-License-Identifier: Apache-2.0 */
/* cpuid: the leaves of a machine, from what KVM supports and a baseline.
 *
 * What is never shown, on any baseline, and why:
 *   TSC deadline timer     the guest's TSC may have another frequency after a move
 *   invariant TSC          for the same reason; guests use the reference TSC page
 *   MONITOR, MWAITX, UMWAIT, VMX, SVM, SGX, SMX, PT, AMX, CET, PKS, XSAVES, UINTR,
 *   key locker, LBR, RDT, IBS, LWP
 *                          their state is not in what is saved, or KVM has none
 *   performance counters   (leaf 0xA, PERFCTR*, PDCM) they do not move between CPUs
 *   leaves above 0xD and 0x80000021, and 0x4xxxxxxx of KVM
 * A named baseline is what the x86-64 psABI says for that level, plus what 64-bit
 * systems take for granted, and nothing else: an image made with it fits every
 * host of the same vendor that satisfies the level.  The host's family, model and
 * brand string are shown; they ride in the image, as the complete leaves do.
 *
 * Source: Intel SDM 2A (CPUID), AMD APM 3 appendix E, x86-64 psABI table 3.1,
 * Microsoft TLFS 6.0b section 2.4. */
#include "hv/cpuid.h"

#include <assert.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#include "hv/cpuid_features.h"
#include "hv/cpuid_topology.h"
#include "hv/kvm/kvm_state.h"

enum { MAX_LEAVES = 128, LEAF_BYTES = 28 };

enum { TAG_LEAVES = 1 };

static const struct state_field cpuid_fields[] = {
	{TAG_LEAVES, STATE_CPUID, false, "leaves"},
};

const struct state_kind cpuid_state_kind = {
	.kind = "cpuid", .version = 1, .fields = cpuid_fields, .count = 1,
};

struct cpuid_table {
	size_t count;
	uint32_t vcpus;
	struct cpuid_leaf leaves[MAX_LEAVES];
};

static uint32_t *cpuid_reg_in(struct cpuid_leaf *l, enum cpuid_reg r)
{
	uint32_t *regs[] = {&l->eax, &l->ebx, &l->ecx, &l->edx};

	return regs[r];
}

static uint32_t cpuid_reg_of(const struct cpuid_leaf *l, enum cpuid_reg r)
{
	const uint32_t regs[] = {l->eax, l->ebx, l->ecx, l->edx};

	return regs[r];
}

#define B(n) (1u << (n))

/* On AMD, leaf 0x80000001 EDX repeats these bits of leaf 1 EDX. */
#define AMD_REPEATED 0x0183F3FFu

/* ---- look-up ---- */

static struct cpuid_leaf *cpuid_get(struct cpuid_table *t, uint32_t function, uint32_t index)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->leaves[i].function == function && t->leaves[i].index == index)
			return &t->leaves[i];
	return NULL;
}

const struct cpuid_leaf *cpuid_find(const struct cpuid_table *t, uint32_t function, uint32_t index)
{
	return cpuid_get((struct cpuid_table *)(uintptr_t)t, function, index);
}

const struct cpuid_leaf *cpuid_leaves(const struct cpuid_table *t, size_t *count)
{
	*count = t->count;
	return t->leaves;
}

static uint32_t cpuid_value(const struct cpuid_table *t, uint32_t function, uint32_t index,
			    enum cpuid_reg reg)
{
	const struct cpuid_leaf *l = cpuid_find(t, function, index);

	return l ? cpuid_reg_of(l, reg) : 0;
}

/* The leaf, made (all zero) if it is not there; NULL if the table is full. */
static struct cpuid_leaf *cpuid_need(struct cpuid_table *t, uint32_t function, uint32_t index,
				     bool indexed)
{
	struct cpuid_leaf *l = cpuid_get(t, function, index);

	if (l || t->count == MAX_LEAVES)
		return l;
	l = &t->leaves[t->count++];
	*l = (struct cpuid_leaf){.function = function,
				 .index = index,
				 .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0};
	return l;
}

static bool cpuid_put(struct cpuid_table *t, uint32_t function, uint32_t index, bool indexed,
		      const uint32_t regs[4])
{
	struct cpuid_leaf *l = cpuid_need(t, function, index, indexed);

	if (!l)
		return false;
	l->eax = regs[0];
	l->ebx = regs[1];
	l->ecx = regs[2];
	l->edx = regs[3];
	return true;
}

static void cpuid_drop(struct cpuid_table *t, bool (*doomed)(const struct cpuid_leaf *))
{
	size_t n = 0;

	for (size_t i = 0; i < t->count; i++)
		if (!doomed(&t->leaves[i]))
			t->leaves[n++] = t->leaves[i];
	t->count = n;
}

void cpuid_vendor(const struct cpuid_table *t, char out[13])
{
	const struct cpuid_leaf *l = cpuid_find(t, 0, 0);
	size_t n = 0;

	out[0] = 0;
	if (!l)
		return;
	le32_put(out, l->ebx);
	le32_put(out + 4, l->edx);
	le32_put(out + 8, l->ecx);
	while (n < 12 && out[n] >= ' ' && out[n] <= '~')
		n++;
	out[n] = 0;
}

static bool cpuid_is_amd(const struct cpuid_table *t)
{
	char vendor[13];

	cpuid_vendor(t, vendor);
	return !strcmp(vendor, "AuthenticAMD") || !strcmp(vendor, "HygonGenuine");
}

uint64_t cpuid_xcr0(const struct cpuid_table *t)
{
	if (!(cpuid_value(t, 1, 0, ECX) & B(26)))
		return 0;
	return cpuid_value(t, 0xD, 0, EAX) | (uint64_t)cpuid_value(t, 0xD, 0, EDX) << 32;
}

/* ---- building ---- */

static bool cpuid_is_above_named(const struct cpuid_leaf *l)
{
	return l->function == 0x80000019 || l->function == 0x8000001A ||
	       l->function == 0x80000021 || (l->function == 7 && l->index != 0);
}

static enum err cpuid_copy_supported(struct cpuid_table *t, const struct cpuid_leaf *leaves,
				     size_t count)
{
	for (size_t i = 0; i < count && t->count < MAX_LEAVES; i++) {
		struct cpuid_leaf l = leaves[i];

		l.flags &= KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		if (cpuid_features_copied(l.function))
			t->leaves[t->count++] = l;
	}
	if (!cpuid_find(t, 0, 0) || !cpuid_find(t, 1, 0) || !cpuid_find(t, 0x80000001, 0))
		return err_note(ERR_UNSUPPORTED, 0, "KVM_GET_SUPPORTED_CPUID lacks basic leaves");
	return ERR_OK;
}

/* What KVM supports here (given; free()). */
static enum err cpuid_supported(int kvm_fd, struct cpuid_leaf **out, size_t *count)
{
	struct kvm_cpuid2 *c = NULL;
	enum err e = kvm_state_supported_cpuid(kvm_fd, &c);

	if (e != ERR_OK)
		return e;
	*count = c->nent;
	*out = calloc(c->nent ? c->nent : 1, sizeof(**out));
	for (uint32_t i = 0; *out && i < c->nent; i++) {
		const struct kvm_cpuid_entry2 *k = &c->entries[i];

		(*out)[i] = (struct cpuid_leaf){k->function, k->index, k->flags, k->eax,
						k->ebx,	     k->ecx,   k->edx};
	}
	free(c);
	return *out ? ERR_OK : err_note(ERR_NOMEM, 0, "CPUID: out of memory");
}

/* Everything of the level that KVM does not support here, by name. */
static unsigned cpuid_lacks(const struct cpuid_table *t, enum config_cpu cpu, struct buf *names)
{
	uint32_t need_xcr0 = cpu == CONFIG_CPU_V4 ? 0xE7 : cpu == CONFIG_CPU_V3 ? 7 : 0;
	unsigned n = 0;

	for (size_t i = 0; i < cpuid_features_count; i++) {
		const struct cpuid_feature_reg *f = &cpuid_features[i];
		uint32_t need = f->level[cpu - CONFIG_CPU_V2];

		/* Ours to give: KVM need not list it. */
		if (f->function == 1 && f->reg == ECX)
			need &= ~B(31);
		n += cpuid_features_names(names, f,
				     need & ~cpuid_value(t, f->function, f->index, f->reg));
	}
	if (need_xcr0 & ~cpuid_value(t, 0xD, 0, EAX)) {
		n++;
		if (names)
			buf_printf(names, " xcr0_%#x", need_xcr0);
	}
	return n;
}

static void cpuid_mask_features(struct cpuid_table *t, enum config_cpu cpu)
{
	bool amd = cpuid_is_amd(t);

	for (size_t i = 0; i < cpuid_features_count; i++) {
		const struct cpuid_feature_reg *f = &cpuid_features[i];
		struct cpuid_leaf *l = cpuid_get(t, f->function, f->index);
		uint32_t mask = cpu == CONFIG_CPU_HOST ? f->host : f->level[cpu - CONFIG_CPU_V2];

		if (amd && f->function == 0x80000001 && f->reg == EDX)
			mask |= AMD_REPEATED;
		if (l)
			*cpuid_reg_in(l, f->reg) &= mask;
	}
}

/* Registers that are no feature bits but must not tell more than the table does. */
static void cpuid_mask_rest(struct cpuid_table *t, enum config_cpu cpu)
{
	struct cpuid_leaf *l;

	for (size_t i = 0; i < t->count; i++) {
		l = &t->leaves[i];
		if (l->function == 6) /* only: the LAPIC timer always runs */
			*l = (struct cpuid_leaf){.function = 6, .eax = l->eax & B(2)};
		else if (l->function == 7 && l->index == 0)
			l->eax = 0;
		else if (l->function == 7)
			l->ebx = l->ecx = 0;
		else if (l->function == 0x80000001)
			l->ebx = 0;
		else if (l->function == 0x80000007)
			l->eax = l->ebx = l->ecx = 0;
	}
	if ((l = cpuid_get(t, 7, 0)) && cpu == CONFIG_CPU_HOST)
		l->eax = cpuid_find(t, 7, 2) ? 2 : cpuid_find(t, 7, 1) ? 1 : 0;
}

static bool cpuid_is_xsave(const struct cpuid_leaf *l)
{
	return l->function == 0xD;
}

/* Extended states: x87, SSE, AVX, AVX-512 (3), PKRU; nothing supervisor. */
static void cpuid_xsave(struct cpuid_table *t, enum config_cpu cpu)
{
	static const uint32_t allowed[] = {
		[CONFIG_CPU_HOST] = 0x2E7, [CONFIG_CPU_V2] = 0, [CONFIG_CPU_V3] = 7,
		[CONFIG_CPU_V4] = 0xE7};
	struct cpuid_leaf *l = cpuid_get(t, 0xD, 0);
	uint32_t xcr0 = l ? l->eax & allowed[cpu] : 0, size = 576;
	size_t n = 0;

	if (!(cpuid_value(t, 1, 0, ECX) & B(26)) || (xcr0 & 3) != 3) {
		cpuid_drop(t, cpuid_is_xsave);
		if ((l = cpuid_get(t, 1, 0)))
			l->ecx &= ~(B(12) | B(26) | B(28) | B(29));
		return;
	}
	for (size_t i = 0; i < t->count; i++) {
		l = &t->leaves[i];
		if (l->function == 0xD && l->index >= 2) {
			if (l->index >= 32 || !(xcr0 >> l->index & 1))
				continue; /* drops it */
			if (l->ebx + l->eax > size)
				size = l->ebx + l->eax;
		}
		t->leaves[n++] = *l;
	}
	t->count = n;
	l = cpuid_get(t, 0xD, 0);
	*l = (struct cpuid_leaf){0xD, 0, l->flags, xcr0, size, size, 0};
	if ((l = cpuid_get(t, 0xD, 1)))
		l->ebx = l->ecx = l->edx = 0;
}

static bool cpuid_topology(struct cpuid_table *t)
{
	uint32_t bits = cpuid_topology_bits(t->vcpus);
	struct cpuid_leaf *l = cpuid_get(t, 1, 0);
	bool ok;

	l->ebx = (l->ebx & 0xFF00) | (1u << bits) << 16;
	l->ecx |= B(31);
	l->edx &= ~B(28);
	if (t->vcpus > 1)
		l->edx |= B(28);
	for (size_t i = 0; i < t->count; i++)
		cpuid_topology_cache(&t->leaves[i], t->vcpus);
	ok = cpuid_put(t, 0xB, 0, true, (uint32_t[]){0, 1, 1 << 8, 0}) &&
	     cpuid_put(t, 0xB, 1, true, (uint32_t[]){bits, t->vcpus, 2 << 8 | 1, 0}) &&
	     cpuid_put(t, 0xB, 2, true, (uint32_t[]){0, 0, 2, 0});
	if ((l = cpuid_get(t, 0x80000008, 0)))
		l->ecx = l->edx = 0;
	if (!cpuid_is_amd(t))
		return ok;
	if (l)
		l->ecx = (t->vcpus - 1) | bits << 12;
	l = cpuid_get(t, 0x80000001, 0);
	l->ecx &= ~B(1);
	if (t->vcpus > 1)
		l->ecx |= B(1);
	if (l->ecx & B(22))
		ok = ok && cpuid_put(t, 0x8000001E, 0, false, (uint32_t[]){0, 0, 0, 0});
	return ok;
}

static void cpuid_limits(struct cpuid_table *t, enum config_cpu cpu)
{
	struct cpuid_leaf *basic = cpuid_get(t, 0, 0), *ext = cpuid_get(t, 0x80000000, 0);
	struct cpuid_leaf *sizes = cpuid_get(t, 0x80000008, 0);
	uint32_t top = 0x80000000;

	basic->eax = cpuid_find(t, 0xD, 0) ? 0xD : 0xB;
	for (size_t i = 0; i < t->count; i++)
		if (t->leaves[i].function > top)
			top = t->leaves[i].function;
	if (ext)
		ext->eax = top;
	if (!sizes || cpu == CONFIG_CPU_HOST)
		return;
	/* 40 bits of physical and 48 of linear address, if the host has them. */
	if ((sizes->eax & 0xFF) > 40)
		sizes->eax = (sizes->eax & ~0xFFu) | 40;
	if ((sizes->eax >> 8 & 0xFF) > 48)
		sizes->eax = (sizes->eax & ~0xFF00u) | 48 << 8;
	sizes->eax &= 0xFFFF;
}

/* Hyper-V.  Privileges: 1 reference counter, 2 SynIC MSRs, 5 hypercall MSRs, 6 VP index,
 * 9 TSC page, 11 frequency MSRs; high 4 post messages, 5 signal events; misc 8 frequency,
 * 10 crash MSRs; hints 5 relaxed timing, 9 no auto-EOI. */
static bool cpuid_hyperv(struct cpuid_table *t)
{
	static const uint32_t leaves[][5] = {
		{0x40000000, 0x40000006, CPUID_HYPERV_EBX, CPUID_HYPERV_ECX, CPUID_HYPERV_EDX},
		{0x40000001, 0x31237648, 0, 0, 0},
		{0x40000002, 20348, 10 << 16, 0, 0},
		{0x40000003, B(1) | B(2) | B(5) | B(6) | B(9) | B(11), B(4) | B(5), 0,
		 B(8) | B(10)},
		{0x40000004, B(5) | B(9), 0xFFFFFFFF, 0, 0},
		{0x40000005, CONFIG_MAX_VCPUS, 0, 0, 0},
		{0x40000006, 0, 0, 0, 0},
	};

	for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++)
		if (!cpuid_put(t, leaves[i][0], 0, false, &leaves[i][1]))
			return false;
	return true;
}

static enum err cpuid_fill(struct cpuid_table *t, enum config_cpu cpu,
			   const struct cpuid_leaf *supported, size_t count)
{
	AUTO_BUF struct buf names = {0};
	enum err e;

	if ((e = cpuid_copy_supported(t, supported, count)) != ERR_OK)
		return e;
	if (cpu != CONFIG_CPU_HOST && cpuid_lacks(t, cpu, &names) > 0)
		return err_note(ERR_UNSUPPORTED, 0, "this host is no %s: it lacks%s",
				config_cpu_name(cpu), buf_str(&names));
	if (cpu != CONFIG_CPU_HOST)
		cpuid_drop(t, cpuid_is_above_named);
	cpuid_mask_features(t, cpu);
	cpuid_mask_rest(t, cpu);
	cpuid_xsave(t, cpu);
	if (!cpuid_topology(t) || !cpuid_hyperv(t))
		return err_note(ERR_UNSUPPORTED, 0, "KVM_GET_SUPPORTED_CPUID: more leaves than "
						    "this program can take");
	cpuid_limits(t, cpu);
	return ERR_OK;
}

static int cpuid_compare(const void *a, const void *b)
{
	const struct cpuid_leaf *x = a, *y = b;

	if (x->function != y->function)
		return x->function < y->function ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

enum err cpuid_build_from(const struct cpuid_leaf *supported, size_t count, enum config_cpu cpu,
			  uint32_t vcpus, struct cpuid_table **out)
{
	struct cpuid_table *t = calloc(1, sizeof(*t));
	enum err e;

	if (!t)
		return err_note(ERR_NOMEM, 0, "CPUID: out of memory");
	assert(vcpus >= 1 && vcpus <= CONFIG_MAX_VCPUS);
	t->vcpus = vcpus;
	if ((e = cpuid_fill(t, cpu, supported, count)) != ERR_OK) {
		cpuid_destroy(t);
		return e;
	}
	qsort(t->leaves, t->count, sizeof(t->leaves[0]), cpuid_compare);
	*out = t;
	return ERR_OK;
}

enum err cpuid_build(int kvm_fd, enum config_cpu cpu, uint32_t vcpus, struct cpuid_table **out)
{
	struct cpuid_leaf *supported = NULL;
	size_t count = 0;
	enum err e = cpuid_supported(kvm_fd, &supported, &count);

	if (e == ERR_OK)
		e = cpuid_build_from(supported, count, cpu, vcpus, out);
	free(supported);
	return e;
}

void cpuid_destroy(struct cpuid_table *t)
{
	free(t);
}

enum err cpuid_apply(const struct cpuid_table *t, int vcpu_fd, uint32_t index)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + t->count * sizeof(c->entries[0]));
	enum err e;

	if (!c)
		return err_note(ERR_NOMEM, 0, "CPUID: out of memory");
	c->nent = (uint32_t)t->count;
	for (size_t i = 0; i < t->count; i++) {
		struct cpuid_leaf l = t->leaves[i];

		cpuid_topology_vcpu(&l, index);
		c->entries[i] = (struct kvm_cpuid_entry2){
			.function = l.function, .index = l.index, .flags = l.flags, .eax = l.eax,
			.ebx = l.ebx, .ecx = l.ecx, .edx = l.edx};
	}
	e = kvm_state_set_cpuid2(vcpu_fd, c);
	free(c);
	return e;
}

/* ---- state ---- */

void cpuid_save(const struct cpuid_table *t, struct state_out *out)
{
	uint8_t raw[MAX_LEAVES * LEAF_BYTES], *p = raw;

	for (size_t i = 0; i < t->count; i++, p += LEAF_BYTES) {
		const struct cpuid_leaf *l = &t->leaves[i];
		const uint32_t v[] = {l->function, l->index, l->flags, l->eax,
				      l->ebx,	   l->ecx,   l->edx};

		for (size_t k = 0; k < 7; k++)
			le32_put(p + 4 * k, v[k]);
	}
	state_begin(out, &cpuid_state_kind, 0);
	state_put_bytes(out, TAG_LEAVES, raw, t->count * LEAF_BYTES);
	state_end(out);
}

static enum err cpuid_parse(struct cpuid_table *t, const uint8_t *p, size_t len)
{
	enum err e;

	if (len % LEAF_BYTES != 0 || len / LEAF_BYTES > MAX_LEAVES)
		return err_note(ERR_CORRUPT, 0, "state section cpuid.0: a malformed list of leaves");
	t->count = len / LEAF_BYTES;
	for (size_t i = 0; i < t->count; i++, p += LEAF_BYTES) {
		t->leaves[i] = (struct cpuid_leaf){
			le32_get(p),	  le32_get(p + 4),  le32_get(p + 8), le32_get(p + 12),
			le32_get(p + 16), le32_get(p + 20), le32_get(p + 24)};
		if (t->leaves[i].flags & ~(uint32_t)KVM_CPUID_FLAG_SIGNIFCANT_INDEX)
			return err_note(ERR_CORRUPT, 0, "state section cpuid.0: unknown flags");
		if (i > 0 && cpuid_compare(&t->leaves[i - 1], &t->leaves[i]) >= 0)
			return err_note(ERR_CORRUPT, 0,
					"state section cpuid.0: leaves out of order");
		if ((e = cpuid_features_check_leaf(&t->leaves[i])) != ERR_OK)
			return e;
	}
	if (!cpuid_find(t, 0, 0) || !cpuid_find(t, 1, 0) || !cpuid_find(t, 0xB, 1))
		return err_note(ERR_CORRUPT, 0, "state section cpuid.0 lacks basic leaves");
	t->vcpus = cpuid_find(t, 0xB, 1)->ebx;
	return ERR_OK;
}

enum err cpuid_from_state(struct state_file *file, struct cpuid_table **out)
{
	struct cpuid_table *t;
	struct state_in *in;
	const uint8_t *p = NULL;
	size_t len = 0;
	enum err e;

	if ((e = state_find(file, &cpuid_state_kind, 0, &in)) != ERR_OK ||
	    (e = state_get_bytes(in, TAG_LEAVES, &p, &len)) != ERR_OK)
		return e;
	t = calloc(1, sizeof(*t));
	if (!t)
		return err_note(ERR_NOMEM, 0, "CPUID: out of memory");
	if ((e = cpuid_parse(t, p, len)) != ERR_OK) {
		cpuid_destroy(t);
		return e;
	}
	*out = t;
	return ERR_OK;
}

/* ---- comparison ---- */

bool cpuid_equal(const struct cpuid_table *a, const struct cpuid_table *b)
{
	return a->count == b->count &&
	       !memcmp(a->leaves, b->leaves, a->count * sizeof(a->leaves[0]));
}

uint32_t cpuid_vcpus(const struct cpuid_table *t)
{
	return t->vcpus;
}

unsigned cpuid_missing(const struct cpuid_table *image, const struct cpuid_table *host,
		       struct buf *names)
{
	unsigned n = 0;

	for (size_t i = 0; i < cpuid_features_count; i++) {
		const struct cpuid_feature_reg *f = &cpuid_features[i];
		uint32_t want = cpuid_value(image, f->function, f->index, f->reg);
		uint32_t have = cpuid_value(host, f->function, f->index, f->reg);

		n += cpuid_features_names(names, f, want & ~have & ~f->runtime);
	}
	return n;
}

enum err cpuid_host_baseline(int kvm_fd, enum config_cpu *out, struct buf *missing)
{
	struct cpuid_table *t = calloc(1, sizeof(*t));
	struct cpuid_leaf *supported = NULL;
	size_t count = 0;
	enum err e;

	if (!t)
		return err_note(ERR_NOMEM, 0, "CPUID: out of memory");
	if ((e = cpuid_supported(kvm_fd, &supported, &count)) == ERR_OK &&
	    (e = cpuid_copy_supported(t, supported, count)) == ERR_OK) {
		*out = CONFIG_CPU_HOST;
		for (enum config_cpu c = CONFIG_CPU_V2; c <= CONFIG_CPU_V4; c++) {
			if (cpuid_lacks(t, c, missing) > 0)
				break;
			*out = c;
		}
	}
	free(supported);
	cpuid_destroy(t);
	return e;
}
