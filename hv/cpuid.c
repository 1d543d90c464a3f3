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
 * Topology: one package, one thread a core, APIC id = index.
 * Source: Intel SDM 2A (CPUID), AMD APM 3 appendix E, x86-64 psABI table 3.1,
 * Microsoft TLFS 6.0b section 2.4. */
#include "hv/cpuid.h"

#include <assert.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

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

enum reg { EAX, EBX, ECX, EDX };

static uint32_t *cpuid_reg(struct cpuid_leaf *l, enum reg r)
{
	uint32_t *regs[] = {&l->eax, &l->ebx, &l->ecx, &l->edx};

	return regs[r];
}

static uint32_t cpuid_reg_of(const struct cpuid_leaf *l, enum reg r)
{
	const uint32_t regs[] = {l->eax, l->ebx, l->ecx, l->edx};

	return regs[r];
}

/* ---- features ----
 *
 * Every register that holds feature bits, with the bits that may be shown at all
 * (`host`), and those of each named level. */

struct feature_reg {
	uint32_t function, index;
	enum reg reg;
	uint32_t host;	       /* may be shown with --cpu host */
	uint32_t level[3];     /* v2, v3, v4: shown, and required */
	uint32_t runtime;      /* follow topology or CR4: no part of comparisons */
};

#define B(n) (1u << (n))

#define F1C_V2 (B(0) | B(9) | B(13) | B(19) | B(20) | B(23) | B(21) | B(31))
#define F1C_V3 (F1C_V2 | B(12) | B(22) | B(26) | B(28) | B(29))
#define F7B_V3 (B(3) | B(5) | B(8))
#define F7B_V4 (F7B_V3 | B(16) | B(17) | B(28) | B(30) | B(31))
#define F1D_ALL (0x078BFBFFu & ~B(1)) /* without VME: of no use in 64-bit mode */
#define F8D_ALL (B(11) | B(20) | B(27) | B(29))

static const struct feature_reg features[] = {
	{1, 0, ECX,
	 ~(B(2) | B(3) | B(4) | B(5) | B(6) | B(7) | B(8) | B(10) | B(11) | B(14) | B(15) | B(18) |
	   B(24) | B(27)),
	 {F1C_V2, F1C_V3, F1C_V3}, B(27)},
	{1, 0, EDX, 0x178BFBFFu, {F1D_ALL, F1D_ALL, F1D_ALL}, B(28)},
	{7, 0, EBX, ~(B(2) | B(12) | B(14) | B(15) | B(25) | B(22)), {0, F7B_V3, F7B_V4}, 0},
	{7, 0, ECX,
	 ~(B(5) | B(7) | B(13) | B(23) | B(24) | B(29) | B(30) | B(31) | B(4)),
	 {0, 0, 0}, B(4)},
	{7, 0, EDX,
	 ~(B(5) | B(18) | B(19) | B(20) | B(22) | B(24) | B(25) | B(30)), {0, 0, 0}, 0},
	{7, 1, EAX, ~(B(17) | B(18) | B(19) | B(21) | B(3)), {0, 0, 0}, 0},
	{7, 1, EDX, ~(B(8) | B(13) | B(17) | B(18) | B(19)), {0, 0, 0}, 0},
	{7, 2, EDX, ~0u, {0, 0, 0}, 0},
	{0xD, 1, EAX, B(0) | B(1) | B(2), {0, 0, 0}, 0},
	{0x80000001, 0, ECX,
	 ~(B(2) | B(9) | B(10) | B(12) | B(13) | B(15) | B(19) | B(23) | B(24) | B(26) | B(27) |
	   B(28) | B(29)),
	 {B(0), B(0) | B(5), B(0) | B(5)}, B(1)},
	{0x80000001, 0, EDX, ~B(28), {F8D_ALL, F8D_ALL, F8D_ALL}, 0},
	{0x80000007, 0, EDX, 0, {0, 0, 0}, 0},
	{0x80000008, 0, EBX, ~(B(1) | B(4) | B(3) | B(6)), {0, 0, 0}, 0},
	{0x80000021, 0, EAX, ~0u, {0, 0, 0}, 0},
};
#define FEATURES (sizeof(features) / sizeof(features[0]))

/* On AMD, leaf 0x80000001 EDX repeats these bits of leaf 1 EDX. */
#define AMD_REPEATED 0x0183F3FFu

static const struct feature_name {
	uint32_t function, index;
	enum reg reg;
	const char *names; /* 32 words, bit 0 first; "-" has none */
} feature_names[] = {
	{1, 0, ECX,
	 "sse3 pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cnxt_id sdbg fma cx16 xtpr pdcm - "
	 "pcid dca sse4.1 sse4.2 x2apic movbe popcnt tsc_deadline aes xsave osxsave avx f16c rdrand "
	 "hypervisor"},
	{1, 0, EDX,
	 "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - ds "
	 "acpi mmx fxsr sse sse2 ss ht tm - pbe"},
	{7, 0, EBX,
	 "fsgsbase tsc_adjust sgx bmi1 hle avx2 fdp_excptn_only smep bmi2 erms invpcid rtm cqm "
	 "zero_fcs_fds mpx rdt_a avx512f avx512dq rdseed adx smap avx512ifma pcommit clflushopt clwb "
	 "intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl"},
	{7, 0, ECX,
	 "prefetchwt1 avx512vbmi umip pku ospke waitpkg avx512_vbmi2 shstk gfni vaes vpclmulqdq "
	 "avx512_vnni avx512_bitalg tme avx512_vpopcntdq - la57 - - - - - rdpid kl bus_lock_detect "
	 "cldemote - movdiri movdir64b enqcmd sgx_lc pks"},
	{7, 0, EDX,
	 "- - avx512_4vnniw avx512_4fmaps fsrm uintr - - avx512_vp2intersect srbds_ctrl md_clear "
	 "rtm_always_abort - - serialize - tsxldtrk - pconfig arch_lbr ibt - amx_bf16 avx512_fp16 "
	 "amx_tile amx_int8 spec_ctrl intel_stibp flush_l1d arch_capabilities core_capabilities "
	 "spec_ctrl_ssbd"},
	{7, 1, EAX,
	 "sha512 sm3 sm4 rao_int avx_vnni avx512_bf16 lass cmpccxadd arch_perfmon_ext - fzrm fsrs fsrc - "
	 "- - - fred lkgs wrmsrns nmi_source amx_fp16 hreset avx_ifma - - lam - - - - -"},
	{0xD, 1, EAX, "xsaveopt xsavec xgetbv1 xsaves - - - - - - - - - - - - - - - - - - - - - - - - - - "
		      "- -"},
	{0x80000001, 0, ECX,
	 "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop "
	 "skinit wdt - lwp fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - bpext ptsc "
	 "perfctr_llc mwaitx - -"},
	{0x80000001, 0, EDX,
	 "- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt pdpe1gb rdtscp - lm "
	 "3dnowext 3dnow"},
	{0x80000008, 0, EBX,
	 "clzero irperf xsaveerptr invlpgb rdpru - mba - mcommit wbnoinvd - - amd_ibpb wbinvd_int "
	 "amd_ibrs amd_stibp - amd_stibp_always_on - ppin - - - amd_ssbd virt_ssbd amd_ssb_no cppc - "
	 "amd_psfd btc_no ibpb_ret -"},
	{0x80000021, 0, EAX,
	 "no_nested_data_bp fsgs_non_serializing lfence_always_serializing - - - null_sel_clears_base "
	 "- autoibrs no_smm_ctl_msr fsrs fsrc - prefetch_ctl_msr - - - - - - - - - - - - - sbpb "
	 "ibpb_brtype srso_no srso_user_kernel_no -"},
};

static void cpuid_put_name(struct buf *out, const struct feature_reg *f, unsigned bit)
{
	static const char regs[4][4] = {"eax", "ebx", "ecx", "edx"};

	for (size_t i = 0; i < sizeof(feature_names) / sizeof(feature_names[0]); i++) {
		const struct feature_name *n = &feature_names[i];
		const char *p = n->names;

		if (n->function != f->function || n->index != f->index || n->reg != f->reg)
			continue;
		for (unsigned k = 0; k < bit; k++)
			p += strcspn(p, " ") + (p[strcspn(p, " ")] != 0);
		if (*p && *p != '-') {
			buf_printf(out, " %.*s", (int)strcspn(p, " "), p);
			return;
		}
	}
	buf_printf(out, " cpuid_%x_%x_%s_bit%u", f->function, f->index, regs[f->reg], bit);
}

static unsigned cpuid_put_names(struct buf *out, const struct feature_reg *f, uint32_t bits)
{
	unsigned n = 0;

	for (unsigned b = 0; b < 32; b++)
		if (bits & B(b)) {
			n++;
			if (out)
				cpuid_put_name(out, f, b);
		}
	return n;
}

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
	for (size_t i = 0; i < t->count; i++)
		if (t->leaves[i].function == function && t->leaves[i].index == index)
			return &t->leaves[i];
	return NULL;
}

const struct cpuid_leaf *cpuid_leaves(const struct cpuid_table *t, size_t *count)
{
	*count = t->count;
	return t->leaves;
}

static uint32_t cpuid_value(const struct cpuid_table *t, uint32_t function, uint32_t index,
			    enum reg reg)
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

/* Leaves that are copied from KVM at all; the others are made here or left out. */
static bool cpuid_unwanted(const struct cpuid_leaf *l)
{
	static const uint32_t kept[] = {
		0, 1, 2, 4, 6, 7, 0xD, 0x80000000, 0x80000001, 0x80000002, 0x80000003, 0x80000004,
		0x80000005, 0x80000006, 0x80000007, 0x80000008, 0x80000019, 0x8000001A, 0x8000001D,
		0x80000021,
	};

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (l->function == kept[i])
			return false;
	return true;
}

static bool cpuid_is_above_named(const struct cpuid_leaf *l)
{
	return l->function == 0x80000019 || l->function == 0x8000001A || l->function == 0x80000021;
}

static enum err cpuid_copy_supported(struct cpuid_table *t, const struct cpuid_leaf *leaves,
				     size_t count)
{
	for (size_t i = 0; i < count && t->count < MAX_LEAVES; i++) {
		struct cpuid_leaf l = leaves[i];

		l.flags &= KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		if (!cpuid_unwanted(&l))
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

	for (size_t i = 0; i < FEATURES; i++) {
		const struct feature_reg *f = &features[i];
		uint32_t need = f->level[cpu - CONFIG_CPU_V2];

		/* Ours to give: KVM need not list it. */
		if (f->function == 1 && f->reg == ECX)
			need &= ~B(31);
		n += cpuid_put_names(names, f,
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

	for (size_t i = 0; i < FEATURES; i++) {
		const struct feature_reg *f = &features[i];
		struct cpuid_leaf *l = cpuid_get(t, f->function, f->index);
		uint32_t mask = cpu == CONFIG_CPU_HOST ? f->host : f->level[cpu - CONFIG_CPU_V2];

		if (amd && f->function == 0x80000001 && f->reg == EDX)
			mask |= AMD_REPEATED;
		if (l)
			*cpuid_reg(l, f->reg) &= mask;
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

static bool cpuid_is_sub7(const struct cpuid_leaf *l)
{
	return l->function == 7 && l->index != 0;
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

static uint32_t cpuid_log2_up(uint32_t n)
{
	uint32_t bits = 0;

	while (1u << bits < n)
		bits++;
	return bits;
}

/* Caches: the last level is the package's, the others a core's. */
static void cpuid_caches(struct cpuid_table *t)
{
	uint32_t last = (1u << cpuid_log2_up(t->vcpus)) - 1;

	for (size_t i = 0; i < t->count; i++) {
		struct cpuid_leaf *l = &t->leaves[i];
		uint32_t level = l->eax >> 5 & 7;

		if (l->function != 4 && l->function != 0x8000001D)
			continue;
		if ((l->eax & 31) == 0)
			continue;
		l->eax &= 0x3FFF;
		l->eax |= (level >= 3 ? last : 0) << 14;
		if (l->function == 4)
			l->eax |= last << 26;
	}
}

static bool cpuid_topology(struct cpuid_table *t)
{
	uint32_t bits = cpuid_log2_up(t->vcpus);
	struct cpuid_leaf *l = cpuid_get(t, 1, 0);
	bool ok;

	l->ebx = (l->ebx & 0xFF00) | (1u << bits) << 16;
	l->ecx |= B(31);
	l->edx &= ~B(28);
	if (t->vcpus > 1)
		l->edx |= B(28);
	cpuid_caches(t);
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

/* Hyper-V without SynIC.  Privileges: 1 reference counter, 5 hypercall MSRs, 6 VP
 * index, 9 TSC page, 11 frequency MSRs; misc 8 frequency, 10 crash MSRs; hints 5
 * relaxed timing, 9 no auto-EOI. */
static bool cpuid_hyperv(struct cpuid_table *t)
{
	static const uint32_t leaves[][5] = {
		{0x40000000, 0x40000006, 0x7263694D, 0x666F736F, 0x76482074},
		{0x40000001, 0x31237648, 0, 0, 0},
		{0x40000002, 20348, 10 << 16, 0, 0},
		{0x40000003, B(1) | B(5) | B(6) | B(9) | B(11), 0, 0, B(8) | B(10)},
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
	if (cpu != CONFIG_CPU_HOST) {
		cpuid_drop(t, cpuid_is_above_named);
		cpuid_drop(t, cpuid_is_sub7);
	}
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
		const struct cpuid_leaf *l = &t->leaves[i];
		struct kvm_cpuid_entry2 *k = &c->entries[i];

		*k = (struct kvm_cpuid_entry2){.function = l->function, .index = l->index,
					       .flags = l->flags,	.eax = l->eax,
					       .ebx = l->ebx,		.ecx = l->ecx,
					       .edx = l->edx};
		if (l->function == 1)
			k->ebx = (k->ebx & 0xFFFFFF) | index << 24;
		else if (l->function == 0xB)
			k->edx = index;
		else if (l->function == 0x8000001E) {
			k->eax = index;
			k->ebx = (k->ebx & ~0xFFu) | index;
		}
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

	for (size_t i = 0; i < FEATURES; i++) {
		const struct feature_reg *f = &features[i];
		uint32_t want = cpuid_value(image, f->function, f->index, f->reg);
		uint32_t have = cpuid_value(host, f->function, f->index, f->reg);

		n += cpuid_put_names(names, f, want & ~have & ~f->runtime);
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
