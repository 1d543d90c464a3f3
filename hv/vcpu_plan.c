/* SPDX-License-Identifier: Apache-2.0 */
/* vcpu_plan: which MSRs there are, what else this KVM can, and MSRs to and fro.
 *
 * MSRs: every one that KVM lists and lets us read, and those it does not list
 * although they are state: MTRRs, machine check banks, AMD's DE_CFG.  Not saved:
 * the TSC (by offset), KVM's and Hyper-V's synthetic ones (ours: hyperv.c).
 * An MSR which already has the wanted value is not written; KVMs differ in what
 * they let be written, and such a write could only fail or do nothing.  One that
 * must change and does not is an error that names it.
 *
 * Source: Linux Documentation/virt/kvm/api.rst. */
#include "hv/vcpu_plan.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hv/kvm/kvm_state.h"

enum {
	MSR_TSC = 0x10,
	MSR_KVM_WALL_CLOCK_OLD = 0x11,
	MSR_KVM_SYSTEM_TIME_OLD = 0x12,
	MSRS_PER_CALL = 256, /* KVM's own limit */
	XSAVE_MAX_BYTES = 1 << 16,
};

static bool vcpu_plan_is_ours(uint32_t index)
{
	return index == MSR_TSC || index == MSR_KVM_WALL_CLOCK_OLD ||
	       index == MSR_KVM_SYSTEM_TIME_OLD || index >> 16 == 0x4000 || index >> 16 == 0x4b56;
}

static void vcpu_plan_add(struct vcpu_plan *p, uint32_t index)
{
	if (vcpu_plan_is_ours(index) || p->msr_count == VCPU_PLAN_MAX_MSRS)
		return;
	for (size_t i = 0; i < p->msr_count; i++)
		if (p->msrs[i] == index)
			return;
	p->msrs[p->msr_count++] = index;
}

static void vcpu_plan_add_unlisted(struct vcpu_plan *p)
{
	static const uint32_t fixed[] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b,
					 0x26c, 0x26d, 0x26e, 0x26f, 0x2ff, 0xc0011029};

	for (uint32_t i = 0x200; i < 0x210; i++) /* variable MTRRs */
		vcpu_plan_add(p, i);
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		vcpu_plan_add(p, fixed[i]);
	for (uint32_t i = 0x400; i < 0x480; i++) /* machine check banks */
		vcpu_plan_add(p, i);
}

static int vcpu_plan_compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* KVM's values of up to MSRS_PER_CALL MSRs; readable: how many from the first on. */
static enum err vcpu_plan_fetch(const struct vcpu_plan *p, int fd, const uint32_t *index,
			       uint32_t count, uint32_t *readable)
{
	assert(count <= MSRS_PER_CALL);
	memset(p->batch, 0, sizeof(*p->batch));
	p->batch->nmsrs = count;
	for (uint32_t i = 0; i < count; i++)
		p->batch->entries[i] = (struct kvm_msr_entry){.index = index[i]};
	return kvm_state_get_msrs(fd, p->batch, readable);
}

/* Keep only what this KVM lets us read. */
static enum err vcpu_plan_probe(struct vcpu_plan *p, int fd)
{
	size_t at = 0;
	enum err e;

	while (at < p->msr_count) {
		size_t left = p->msr_count - at;
		uint32_t n = left < MSRS_PER_CALL ? (uint32_t)left : MSRS_PER_CALL, got = 0;

		if ((e = vcpu_plan_fetch(p, fd, p->msrs + at, n, &got)) != ERR_OK)
			return e;
		at += got;
		if (got == n)
			continue;
		memmove(p->msrs + at, p->msrs + at + 1,
			(p->msr_count - at - 1) * sizeof(p->msrs[0]));
		p->msr_count--;
	}
	qsort(p->msrs, p->msr_count, sizeof(p->msrs[0]), vcpu_plan_compare);
	return ERR_OK;
}

static enum err vcpu_plan_check_kvm(int vm_fd, int vcpu_fd)
{
	static const struct {
		long cap;
		const char *name;
	} needed[] = {
		{KVM_CAP_XSAVE2, "KVM_CAP_XSAVE2"},	    {KVM_CAP_SREGS2, "KVM_CAP_SREGS2"},
		{KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"},   {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
		{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},	    {KVM_CAP_GET_TSC_KHZ, "KVM_CAP_GET_TSC_KHZ"},
	};
	AUTO_BUF struct buf lacks = {0};
	uint64_t offset;

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (kvm_state_extension(vm_fd, needed[i].cap) <= 0)
			buf_printf(&lacks, " %s", needed[i].name);
	if (kvm_state_get_tsc_offset(vcpu_fd, &offset) != ERR_OK)
		buf_put_str(&lacks, " KVM_VCPU_TSC_OFFSET");
	if (lacks.len > 0)
		return err_note(ERR_UNSUPPORTED, 0,
				"this KVM cannot save all of a vCPU: it lacks%s: use Linux 5.17 or "
				"later", buf_str(&lacks));
	return ERR_OK;
}

/* Software back ends take an offset and do nothing with it. */
static enum err vcpu_plan_probe_tsc(struct vcpu_plan *p, int fd)
{
	uint64_t before = 0, after = 0;
	enum err e;

	if ((e = kvm_state_get_tsc_offset(fd, &before)) != ERR_OK ||
	    (e = kvm_state_set_tsc_offset(fd, before + 1)) != ERR_OK ||
	    (e = kvm_state_get_tsc_offset(fd, &after)) != ERR_OK)
		return e;
	p->sets_tsc = after == before + 1;
	return kvm_state_set_tsc_offset(fd, before);
}

static enum err vcpu_plan_fill(struct vcpu_plan *p, int kvm_fd, int vm_fd, int vcpu_fd)
{
	struct kvm_msr_list *list = NULL;
	int xsave = kvm_state_extension(vm_fd, KVM_CAP_XSAVE2);
	enum err e;

	if ((e = vcpu_plan_check_kvm(vm_fd, vcpu_fd)) != ERR_OK ||
	    (e = kvm_state_get_tsc_khz(vcpu_fd, &p->tsc_khz)) != ERR_OK ||
	    (e = kvm_state_msr_list(kvm_fd, &list)) != ERR_OK)
		return e;
	for (uint32_t i = 0; i < list->nmsrs; i++)
		vcpu_plan_add(p, list->indices[i]);
	free(list);
	p->guest_tsc_khz = p->tsc_khz;
	vcpu_plan_add_unlisted(p);
	p->xsave_bytes = xsave > 4096 ? (size_t)xsave : 4096;
	p->has_xcrs = kvm_state_extension(vm_fd, KVM_CAP_XCRS) > 0;
	p->has_tsc_control = kvm_state_extension(vm_fd, KVM_CAP_TSC_CONTROL) > 0;
	if ((e = vcpu_plan_probe_tsc(p, vcpu_fd)) != ERR_OK)
		return e;
	__builtin_cpu_init();
	p->timer_in_vmcs = __builtin_cpu_is("intel");
	if (p->xsave_bytes > XSAVE_MAX_BYTES)
		return err_note(ERR_UNSUPPORTED, 0, "this KVM has %zu bytes of extended state",
				p->xsave_bytes);
	p->xsave = calloc(1, p->xsave_bytes);
	p->msr_bytes = calloc(VCPU_PLAN_MAX_MSRS, VCPU_PLAN_MSR_BYTES);
	p->batch = calloc(1, sizeof(*p->batch) + MSRS_PER_CALL * sizeof(p->batch->entries[0]));
	if (!p->xsave || !p->msr_bytes || !p->batch)
		return err_note(ERR_NOMEM, 0, "vCPU state: out of memory");
	return vcpu_plan_probe(p, vcpu_fd);
}

enum err vcpu_plan_create(int kvm_fd, int vm_fd, int vcpu_fd, struct vcpu_plan **out)
{
	struct vcpu_plan *p = calloc(1, sizeof(*p));
	enum err e;

	if (!p)
		return err_note(ERR_NOMEM, 0, "vCPU state: out of memory");
	if ((e = vcpu_plan_fill(p, kvm_fd, vm_fd, vcpu_fd)) != ERR_OK) {
		vcpu_plan_destroy(p);
		return e;
	}
	*out = p;
	return ERR_OK;
}

void vcpu_plan_destroy(struct vcpu_plan *p)
{
	if (!p)
		return;
	free(p->xsave);
	free(p->batch);
	free(p->msr_bytes);
	free(p);
}

const uint32_t *vcpu_plan_msrs(const struct vcpu_plan *p, size_t *count)
{
	*count = p->msr_count;
	return p->msrs;
}

size_t vcpu_plan_xsave_bytes(const struct vcpu_plan *p)
{
	return p->xsave_bytes;
}

uint32_t vcpu_plan_tsc_khz(const struct vcpu_plan *p)
{
	return p->tsc_khz;
}

uint32_t vcpu_plan_guest_tsc_khz(const struct vcpu_plan *p)
{
	return p->guest_tsc_khz;
}

bool vcpu_plan_sets_tsc(const struct vcpu_plan *p)
{
	return p->sets_tsc;
}

bool vcpu_plan_scales_tsc(const struct vcpu_plan *p)
{
	return p->has_tsc_control;
}

/* ---- MSRs ---- */

bool vcpu_plan_has_msr(const struct vcpu_plan *p, uint32_t index)
{
	return bsearch(&index, p->msrs, p->msr_count, sizeof(p->msrs[0]), vcpu_plan_compare);
}

enum err vcpu_plan_read_msrs(const struct vcpu_plan *p, int fd)
{
	uint8_t *out = p->msr_bytes;
	enum err e;

	for (size_t at = 0; at < p->msr_count;) {
		size_t left = p->msr_count - at;
		uint32_t n = left < MSRS_PER_CALL ? (uint32_t)left : MSRS_PER_CALL, got = 0;

		if ((e = vcpu_plan_fetch(p, fd, p->msrs + at, n, &got)) != ERR_OK)
			return e;
		if (got < n)
			return err_note(ERR_IO, 0, "KVM_GET_MSRS: MSR %#x can no longer be read",
					p->msrs[at + got]);
		for (uint32_t i = 0; i < n; i++, out += VCPU_PLAN_MSR_BYTES) {
			le32_put(out, p->batch->entries[i].index);
			le64_put(out + 4, p->batch->entries[i].data);
		}
		at += n;
	}
	return ERR_OK;
}

/* Of entries [0, n) of the batch, as KVM holds them now, keep those that the image
 * wants otherwise, with the value it wants. */
static uint32_t vcpu_plan_differing(const struct vcpu_plan *p, uint32_t n,
				     const uint64_t *wanted)
{
	uint32_t changed = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct kvm_msr_entry entry = p->batch->entries[i];

		if (entry.data == wanted[i])
			continue;
		entry.data = wanted[i];
		p->batch->entries[changed++] = entry;
	}
	p->batch->nmsrs = changed;
	return changed;
}

static enum err vcpu_plan_write_batch(const struct vcpu_plan *p, int fd, const uint32_t *index,
				 const uint64_t *wanted, uint32_t n)
{
	uint32_t got = 0, changed;
	enum err e;

	if ((e = vcpu_plan_fetch(p, fd, index, n, &got)) != ERR_OK)
		return e;
	if (got < n)
		return err_note(ERR_VERSION, 0, "MSR %#x cannot be read on this host", index[got]);
	changed = vcpu_plan_differing(p, n, wanted);
	if (changed == 0)
		return ERR_OK;
	if ((e = kvm_state_set_msrs(fd, p->batch, &got)) != ERR_OK)
		return e;
	if (got < changed)
		return err_note(ERR_VERSION, 0, "MSR %#x does not take the value %#llx on this host",
				p->batch->entries[got].index,
				(unsigned long long)p->batch->entries[got].data);
	return ERR_OK;
}

enum err vcpu_plan_write_msrs(const struct vcpu_plan *p, int fd, const uint8_t *bytes,
			      size_t count)
{
	uint32_t index[MSRS_PER_CALL], n = 0;
	uint64_t wanted[MSRS_PER_CALL];
	enum err e;

	for (size_t i = 0; i < count; i++) {
		const uint8_t *at = bytes + i * VCPU_PLAN_MSR_BYTES;

		index[n] = le32_get(at);
		wanted[n] = le64_get(at + 4);
		if (!vcpu_plan_has_msr(p, index[n])) {
			/* Unknown here; 0 is what an unused MSR holds. */
			if (wanted[n] != 0)
				return err_note(ERR_VERSION, 0,
						"MSR %#x (value %#llx) does not exist on this host",
						index[n], (unsigned long long)wanted[n]);
			continue;
		}
		if (++n < MSRS_PER_CALL)
			continue;
		if ((e = vcpu_plan_write_batch(p, fd, index, wanted, n)) != ERR_OK)
			return e;
		n = 0;
	}
	return n > 0 ? vcpu_plan_write_batch(p, fd, index, wanted, n) : ERR_OK;
}
