/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_HOSTCHECK_H
#define HV_HOSTCHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "hv/config.h"

/* hostcheck: what this host can do for machines, measured and not believed.
 *
 * Takes about a third of a second; uses throw-away VMs and <= 64 MiB.  Nothing stays
 * behind.  One thread. */

enum hostcheck_kvm {
	HOSTCHECK_KVM_OK,
	HOSTCHECK_KVM_ABSENT,	  /* no device node */
	HOSTCHECK_KVM_NO_DRIVER,  /* node without a driver behind it */
	HOSTCHECK_KVM_FORBIDDEN,  /* no permission */
	HOSTCHECK_KVM_BUSY,	  /* opens, but another hypervisor has the CPU */
	HOSTCHECK_KVM_UNUSABLE,	  /* wrong API version, or needed capabilities are missing */
};

enum hostcheck_uffd { HOSTCHECK_UFFD_NONE, HOSTCHECK_UFFD_USER_ONLY, HOSTCHECK_UFFD_FULL };

#define HOSTCHECK_MAX_CAPS 32

struct hostcheck_cap {
	const char *name; /* "KVM_CAP_XSAVE2", static */
	bool needed, present;
	int value;
};

struct hostcheck {
	enum hostcheck_kvm kvm;
	char kvm_text[256]; /* a sentence if kvm is not OK */
	int api_version;
	struct hostcheck_cap caps[HOSTCHECK_MAX_CAPS];
	unsigned cap_count;

	/* Guest code: rate of a small loop, cost of a port exit.  0 = not measured. */
	double guest_loops_per_s, host_loops_per_s, exit_ns;
	bool hardware_virtualization; /* guest code runs at the host's own speed */
	bool svm, vmx;		      /* CPU flags seen from here */

	bool dirty_log;
	double dirty_log_ns_per_gib; /* to fetch the bitmap */
	bool dirty_manual_protect;
	uint32_t dirty_ring_entries; /* 0 = none */

	enum hostcheck_uffd uffd;
	bool uffd_missing, uffd_missing_shmem, uffd_minor_shmem, uffd_wp_anon, uffd_wp_shmem;
	char uffd_text[160]; /* why not, if not */

	bool thp_anon, thp_shmem; /* a 2 MiB page really came */
	char thp_mode[32], thp_shmem_mode[32];

	char vendor[13], model[49];
	enum config_cpu baseline; /* best named one; HOST = below x86-64-v2 */
	char baseline_missing[256];
	bool tsc_scaling, tsc_offset;
	uint32_t tsc_khz;
	bool tsc_invariant;

	uint32_t msr_count;	/* that KVM lists */
	double state_us_per_vcpu; /* saving one; 0 = not measured */
};

/* Never fails for what a host lacks: that is the result.  ERR_NOMEM, ERR_IO. */
MUST_USE enum err hostcheck_run(struct hostcheck *out);
/* True if `lifeboat run` can work here. */
bool hostcheck_usable(const struct hostcheck *h);
/* Consequences in sentences, one a line, most serious first; appended. */
void hostcheck_explain(const struct hostcheck *h, struct buf *out);

#endif
