/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_HYPERV_H
#define HV_HYPERV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/hypercall.h"
#include "hv/memory.h"
#include "hv/state.h"
#include "hv/vmbus/synic.h"

/* hyperv: the synthetic MSRs, the hypercall page and the reference clock.
 *
 * Everything in 0x40000000..0x400001ff arrives here by KVM's MSR filter; a false
 * answer means #GP.  SynIC's own are passed on to hv/vmbus/synic.  Hypercalls are
 * HvPostMessage and HvSignalEvent; all others answer status 2, "invalid hypercall code".
 *
 * Reference time, in 100 ns, is one formula for MSR and TSC page:
 *   ref = ((guest_tsc * scale) >> 64) + offset,  scale = floor(2^64 * 10^7 / tsc_hz)
 * Threads: msr_read, msr_write, hypercall on the vCPU's own thread; the rest while
 * vCPUs are parked.
 * Source: Microsoft TLFS 6.0b, vmbus.md 5, 6, 8. */

#define HYPERV_MSR_FIRST 0x40000000u
#define HYPERV_MSR_COUNT 0x200u
#define HYPERV_CRASH_TEXT_BYTES 4096u

struct hyperv;

struct hyperv_host {
	struct memory *memory; /* borrowed */
	uint32_t vcpus;
	uint64_t tsc_hz;	 /* of the guest's TSC: KVM_GET_TSC_KHZ * 1000 */
	/* The guest's TSC now, on the thread of vCPU vp; false if KVM refuses. */
	bool (*guest_tsc)(void *arg, uint32_t vp, uint64_t *tsc);
	/* The guest crashed: text is printable UTF-8 of <= 4096 bytes, may be "".  On
	 * the thread of vCPU vp, with no lock held. */
	void (*panic)(void *arg, uint32_t vp, const char *text);
	struct synic *synic; /* borrowed; reset, saved and loaded with the rest */
	struct hypercall_host calls;
	void *arg;
};

extern const struct state_kind hyperv_state_kind;    /* section "hyperv".0 */
extern const struct state_kind hyperv_vp_state_kind; /* section "hyperv_vp".N */

MUST_USE enum err hyperv_create(const struct hyperv_host *host, struct hyperv **out);
void hyperv_destroy(struct hyperv *h); /* NULL allowed */
/* Power-on state; reference time starts at 0 when boot_tsc is the guest's TSC. */
void hyperv_reset(struct hyperv *h, uint64_t boot_tsc);

/* false: inject #GP. */
MUST_USE bool hyperv_msr_read(struct hyperv *h, uint32_t vp, uint32_t msr, uint64_t *value);
MUST_USE bool hyperv_msr_write(struct hyperv *h, uint32_t vp, uint32_t msr, uint64_t value);
/* Has the guest a hypercall page?  Without one the two ports are ordinary ones. */
bool hyperv_has_page(struct hyperv *h);
/* A 32-bit OUT to HYPERCALL_PORT_CALL by ring 0: rcx, rdx, r8 of the vCPU; returns its
 * RAX.  Other sizes or directions on that port are for the bus (all ones). */
MUST_USE uint64_t hyperv_hypercall(struct hyperv *h, uint64_t control, uint64_t input,
				   uint64_t output);
/* A 32-bit OUT to HYPERCALL_PORT_SIGNAL by ring 0 that no ioeventfd took; returns the status,
 * which the code of the page expects in RCX. */
MUST_USE uint64_t hyperv_signal(struct hyperv *h, uint32_t connection);
/* Reference time at a guest TSC value, 100 ns. */
uint64_t hyperv_reference_time(const struct hyperv *h, uint64_t guest_tsc);
/* Right before vCPUs run: vCPU 0's TSC is guest_tsc while this host's is host_tsc; the
 * guest's runs at guest_hz / host_hz times its speed. */
void hyperv_anchor(struct hyperv *h, uint64_t guest_tsc, uint64_t host_tsc, uint64_t guest_hz,
		   uint64_t host_hz);
/* Reference time when this host's TSC is host_tsc; any thread, no vCPU is asked.  As good
 * as the host's TSC is stable. */
uint64_t hyperv_time_at(struct hyperv *h, uint64_t host_tsc);

/* Sections hyperv.0, hyperv_vp.0..n-1 and synic.0..n-1, begun and ended here.  guest_tsc: of vCPU
 * 0 at the instant of the pause (the value in section vcpu.0). */
void hyperv_save(const struct hyperv *h, uint64_t guest_tsc, struct state_out *out);
/* tsc_hz: of the guest's TSC now, after vcpu_state_load.  Reference time goes on from
 * the saved instant.  Checks all before it changes any.  ERR_CORRUPT, ERR_VERSION,
 * ERR_NOTFOUND. */
MUST_USE enum err hyperv_load(struct hyperv *h, struct state_file *in, uint64_t tsc_hz);
/* Once after hyperv_load, when RAM is filled and vcpu_state_start has set the TSC, right
 * before vCPUs run: reference time goes on from the saved instant, if need be by a new
 * TSC page.  Nothing if nothing was loaded.  Calls guest_tsc for vCPU 0. */
MUST_USE enum err hyperv_loaded(struct hyperv *h);

#endif
