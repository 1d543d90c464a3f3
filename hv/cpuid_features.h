/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_CPUID_FEATURES_H
#define HV_CPUID_FEATURES_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "hv/cpuid.h"

/* cpuid_features: every CPUID register that holds feature bits, which of them may be
 * shown to guests, and their names.  Private to cpuid.c. */

enum cpuid_reg { EAX, EBX, ECX, EDX };

struct cpuid_feature_reg {
	uint32_t function, index;
	enum cpuid_reg reg;
	uint32_t host;	   /* may be shown with --cpu host */
	uint32_t level[3]; /* v2, v3, v4: shown, and required */
	uint32_t runtime;  /* follow topology or CR4: no part of comparisons */
};

extern const struct cpuid_feature_reg cpuid_features[];
extern const size_t cpuid_features_count;

/* A word for each of those bits, " avx2 sha_ni", appended (out NULL allowed); how many. */
unsigned cpuid_features_names(struct buf *out, const struct cpuid_feature_reg *f, uint32_t bits);

/* "Microsoft Hv", in leaf 0x40000000 */
#define CPUID_HYPERV_EBX 0x7263694Du
#define CPUID_HYPERV_ECX 0x666F736Fu
#define CPUID_HYPERV_EDX 0x76482074u

/* Is this leaf taken from KVM?  The others are made here or left out. */
bool cpuid_features_copied(uint32_t function);
/* May a machine have it?  KVM obeys leaves that ours do not have: they switch on
 * counters, and clocks and queues of its own, whose state would not be saved.
 * ERR_CORRUPT. */
MUST_USE enum err cpuid_features_check_leaf(const struct cpuid_leaf *l);

#endif
