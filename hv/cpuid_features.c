/* SPDX-License-Identifier: Apache-2.0 */
/* cpuid_features: the tables of CPUID feature bits; what is never shown, and why, is
 * said in cpuid.c.
 *
 * Source: Intel SDM 2A (CPUID), AMD APM 3 appendix E, x86-64 psABI table 3.1. */
#include "hv/cpuid_features.h"

#include <string.h>

#define B(n) (1u << (n))

#define F1C_V2 (B(0) | B(9) | B(13) | B(19) | B(20) | B(23) | B(21) | B(31))
#define F1C_V3 (F1C_V2 | B(12) | B(22) | B(26) | B(28) | B(29))
#define F7B_V3 (B(3) | B(5) | B(8))
#define F7B_V4 (F7B_V3 | B(16) | B(17) | B(28) | B(30) | B(31))
#define F1D_ALL (0x078BFBFFu & ~B(1)) /* without VME: of no use in 64-bit mode */
#define F8D_ALL (B(11) | B(20) | B(27) | B(29))

const struct cpuid_feature_reg cpuid_features[] = {
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
const size_t cpuid_features_count = sizeof(cpuid_features) / sizeof(cpuid_features[0]);

static const struct feature_name {
	uint32_t function, index;
	enum cpuid_reg reg;
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

static void cpuid_features_name(struct buf *out, const struct cpuid_feature_reg *f, unsigned bit)
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

unsigned cpuid_features_names(struct buf *out, const struct cpuid_feature_reg *f, uint32_t bits)
{
	unsigned n = 0;

	for (unsigned b = 0; b < 32; b++)
		if (bits & B(b)) {
			n++;
			if (out)
				cpuid_features_name(out, f, b);
		}
	return n;
}

/* ---- leaves ---- */

bool cpuid_features_copied(uint32_t function)
{
	static const uint32_t copied[] = {
		0, 1, 2, 4, 6, 7, 0xD, 0x80000000, 0x80000001, 0x80000002, 0x80000003, 0x80000004,
		0x80000005, 0x80000006, 0x80000007, 0x80000008, 0x80000019, 0x8000001A, 0x8000001D,
		0x80000021,
	};

	for (size_t i = 0; i < sizeof(copied) / sizeof(copied[0]); i++)
		if (function == copied[i])
			return true;
	return false;
}

enum err cpuid_features_check_leaf(const struct cpuid_leaf *l)
{
	bool hyperv = l->function >= 0x40000000 && l->function <= 0x40000006;

	if (!cpuid_features_copied(l->function) && !hyperv && l->function != 0xB &&
	    l->function != 0x8000001E)
		return err_note(ERR_CORRUPT, 0, "state section cpuid.0 has leaf %#x, which no "
				"machine has", l->function);
	if (l->function == 0x40000000 &&
	    (l->ebx != CPUID_HYPERV_EBX || l->ecx != CPUID_HYPERV_ECX || l->edx != CPUID_HYPERV_EDX))
		return err_note(ERR_CORRUPT, 0, "state section cpuid.0 names another hypervisor "
				"than machines have");
	return ERR_OK;
}
