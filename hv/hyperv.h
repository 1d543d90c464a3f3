/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_HYPERV_H
#define HV_HYPERV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/memory.h"
#include "hv/state.h"

/* hyperv: the synthetic MSRs, the hypercall page and the reference clock.
 *
 * Everything in 0x40000000..0x400001ff arrives here by KVM's MSR filter; a false
 * answer means #GP.  SynIC is not offered yet (its MSRs are #GP, its CPUID bits
 * clear).  Hypercalls all answer status 2, "invalid hypercall code".
 *
 * Reference time, in 100 ns, is one formula for MSR and TSC page:
 *   ref = ((guest_tsc * scale) >> 64) + offset,  scale = floor(2^64 * 10^7 / tsc_hz)
 * Threads: msr_read, msr_write, hypercall on the vCPU's own thread; the rest while
 * vCPUs are parked.
 * Source: Microsoft TLFS 6.0b, vmbus.md 5, 6, 8. */

#define HYPERV_MSR_FIRST 0x40000000u
#define HYPERV_MSR_COUNT 0x200u
#define HYPERV_PORT_HYPERCALL 0xE4u
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
/* A 32-bit OUT to HYPERV_PORT_HYPERCALL: rcx, rdx, r8 of the vCPU; returns its RAX.
 * Other sizes or directions on that port are for the bus (all ones). */
MUST_USE uint64_t hyperv_hypercall(struct hyperv *h, uint32_t vp, uint64_t control,
				   uint64_t input, uint64_t output);
/* Reference time at a guest TSC value, 100 ns. */
uint64_t hyperv_reference_time(const struct hyperv *h, uint64_t guest_tsc);

/* Sections hyperv.0 and hyperv_vp.0..n-1, begun and ended here.  guest_tsc: of vCPU
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
