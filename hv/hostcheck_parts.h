/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_HOSTCHECK_PARTS_H
#define HV_HOSTCHECK_PARTS_H

#include "hv/hostcheck.h"

/* hostcheck_parts: the measurements of hostcheck.c, each filling its fields of *h.
 * Private.
 * What a host lacks is a result; errors are those of this program's own needs. */

/* Opens /dev/kvm: kvm, kvm_text, api_version, caps.  *kvm_fd: -1 if not usable, else
 * given. */
void hostcheck_kvm_open(struct hostcheck *h, int *kvm_fd);
/* Guest speed, exit cost, dirty log, TSC, MSRs, time of a state.  kvm_fd usable. */
MUST_USE enum err hostcheck_kvm_measure(struct hostcheck *h, int kvm_fd);
/* userfaultfd and huge pages. */
MUST_USE enum err hostcheck_memory_measure(struct hostcheck *h);

#endif
