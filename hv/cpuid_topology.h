/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_CPUID_TOPOLOGY_H
#define HV_CPUID_TOPOLOGY_H

#include <stdint.h>

#include "hv/cpuid.h"

/* cpuid_topology: one package of n cores with one thread each; APIC id = index.
 * Private to cpuid.c. */

/* Bits of an APIC id for that many vCPUs. */
uint32_t cpuid_topology_bits(uint32_t vcpus);
/* If l describes a cache: shared by the package at the last level, else a core's own. */
void cpuid_topology_cache(struct cpuid_leaf *l, uint32_t vcpus);
/* If l tells an APIC id: that of vCPU `index`. */
void cpuid_topology_vcpu(struct cpuid_leaf *l, uint32_t index);

#endif
