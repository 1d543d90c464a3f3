/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_CPUID_H
#define HV_CPUID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "hv/config.h"
#include "hv/state.h"

/* cpuid: what the guest's processors say they are.
 *
 * A table is what KVM supports on this host, filtered: to the named baseline, to
 * what we can save, and without any hypervisor leaf of KVM; with our own
 * hypervisor leaves (vmbus.md 4) and with topology leaves that agree for all
 * vCPUs.  It holds the leaves of vCPU 0; cpuid_apply writes the APIC ids of the
 * others into its copy.  The complete table is the section "cpuid" of an image.
 * Threads: a table never changes after creation; any thread. */

struct cpuid_table;

struct cpuid_leaf { /* one leaf as KVM takes it */
	uint32_t function, index, flags;
	uint32_t eax, ebx, ecx, edx;
};

extern const struct state_kind cpuid_state_kind;

/* The table for a new machine.  kvm_fd: /dev/kvm, borrowed.  vcpus 1..32.
 * ERR_UNSUPPORTED if this host lacks something the baseline needs (each lack is
 * named) or KVM itself cannot be used so. */
MUST_USE enum err cpuid_build(int kvm_fd, enum config_cpu cpu, uint32_t vcpus,
			      struct cpuid_table **out);
/* The same from a list of supported leaves instead of KVM's; for tests, and for asking
 * what another host could be. */
MUST_USE enum err cpuid_build_from(const struct cpuid_leaf *supported, size_t count,
				   enum config_cpu cpu, uint32_t vcpus, struct cpuid_table **out);
void cpuid_destroy(struct cpuid_table *t); /* NULL allowed */

/* KVM_SET_CPUID2 for vCPU `index` (= its APIC id); before its first run. */
MUST_USE enum err cpuid_apply(const struct cpuid_table *t, int vcpu_fd, uint32_t index);

/* Section "cpuid".0, begun and ended here. */
void cpuid_save(const struct cpuid_table *t, struct state_out *out);
/* A table as an image recorded it (given).  Checks form, and that it is of the kind that
 * is made here; compat.h says whether this host can be it.  ERR_CORRUPT, ERR_VERSION. */
MUST_USE enum err cpuid_from_state(struct state_file *file, struct cpuid_table **out);

const struct cpuid_leaf *cpuid_leaves(const struct cpuid_table *t, size_t *count);
/* NULL if absent.  Borrowed for the life of t. */
const struct cpuid_leaf *cpuid_find(const struct cpuid_table *t, uint32_t function,
				    uint32_t index);
/* "AuthenticAMD", "GenuineIntel", ... */
void cpuid_vendor(const struct cpuid_table *t, char out[13]);
/* Extended states that the guest may enable (leaf 0xD.0), 0 without XSAVE. */
uint64_t cpuid_xcr0(const struct cpuid_table *t);
/* Number of vCPUs that its topology leaves describe. */
uint32_t cpuid_vcpus(const struct cpuid_table *t);
bool cpuid_equal(const struct cpuid_table *a, const struct cpuid_table *b);
/* Features that `image` promises and `host` does not have, as words with a space
 * before each (" avx2 sha_ni"), appended; returns how many. */
unsigned cpuid_missing(const struct cpuid_table *image, const struct cpuid_table *host,
		       struct buf *names);
/* The best baseline that this host satisfies: CONFIG_CPU_V4, V3, V2, or HOST if it
 * is below v2.  missing (NULL allowed): names of what it lacks for the next one. */
MUST_USE enum err cpuid_host_baseline(int kvm_fd, enum config_cpu *out, struct buf *missing);

#endif
