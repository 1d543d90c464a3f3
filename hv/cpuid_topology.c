/* SPDX-License-Identifier: Apache-2.0 */
/* cpuid_topology: the numbers in leaves that depend on how many vCPUs there are and
 * which one asks.
 *
 * Source: Intel SDM 2A (leaves 1, 4, 0xB), AMD APM 3 (leaves 0x8000001D, 0x8000001E). */
#include "hv/cpuid_topology.h"

uint32_t cpuid_topology_bits(uint32_t vcpus)
{
	uint32_t bits = 0;

	while (1u << bits < vcpus)
		bits++;
	return bits;
}

void cpuid_topology_cache(struct cpuid_leaf *l, uint32_t vcpus)
{
	uint32_t last = (1u << cpuid_topology_bits(vcpus)) - 1;
	uint32_t level = l->eax >> 5 & 7;

	if ((l->function != 4 && l->function != 0x8000001D) || (l->eax & 31) == 0)
		return;
	l->eax &= 0x3FFF;
	l->eax |= (level >= 3 ? last : 0) << 14;
	if (l->function == 4)
		l->eax |= last << 26;
}

void cpuid_topology_vcpu(struct cpuid_leaf *l, uint32_t index)
{
	if (l->function == 1) {
		l->ebx = (l->ebx & 0xFFFFFF) | index << 24;
	} else if (l->function == 0xB) {
		l->edx = index;
	} else if (l->function == 0x8000001E) {
		l->eax = index;
		l->ebx = (l->ebx & ~0xFFu) | index;
	}
}
