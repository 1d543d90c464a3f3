/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_COMPAT_H
#define HV_COMPAT_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "hv/config.h"
#include "hv/cpuid.h"
#include "hv/state.h"
#include "hv/vcpu_state.h"

/* compat: does a state fit this host and this machine?  Asked before anything is
 * changed, and answered with everything that does not fit, at once. */

extern const struct state_kind compat_state_kind; /* section "machine".0 */

struct compat_section { /* a section that this machine can load */
	const struct state_kind *kind;
	uint32_t instance;
};

struct compat_machine { /* all borrowed */
	const struct vm_config *config;
	const struct cpuid_table *cpuid; /* built on this host for this config */
	const struct vcpu_plan *plan;
	/* Devices and whatever else the VM saves beside machine, cpuid, vcpu, pic, ioapic,
	 * pit, hyperv, hyperv_vp, synic (known here). */
	const struct compat_section *sections;
	size_t section_count;
};

/* Section "machine".0, begun and ended here. */
void compat_save(const struct compat_machine *m, struct state_out *out);

/* ERR_OK: it fits; report (appended) may hold remarks, one sentence a line.
 * ERR_VERSION: it does not; report holds every reason, one sentence a line, and the
 * note as many as it has room for.  ERR_CORRUPT if the state is malformed. */
MUST_USE enum err compat_check(const struct compat_machine *m, struct state_file *file,
			       struct buf *report);

#endif
