/* SPDX-License-Identifier: Apache-2.0 */
/* kvm: checked ioctls; see kvm.h.
 *
 * Source: Linux Documentation/virt/kvm/api.rst. */
#include "hv/kvm/kvm.h"

#include "base/bytes.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MSI_ADDRESS 0xFEE00000u

/* What we cannot do without.  minimum: least acceptable value, or mask if `mask`. */
static const struct need {
	unsigned long cap;
	int minimum;
	bool mask;
	const char *name;
} needs[] = {
	{KVM_CAP_USER_MEMORY, 1, false, "user memory"},
	{KVM_CAP_IRQCHIP, 1, false, "in-kernel interrupt controllers"},
	{KVM_CAP_PIT2, 1, false, "in-kernel PIT"},
	{KVM_CAP_SET_TSS_ADDR, 1, false, "SET_TSS_ADDR"},
	{KVM_CAP_SET_IDENTITY_MAP_ADDR, 1, false, "SET_IDENTITY_MAP_ADDR"},
	{KVM_CAP_IMMEDIATE_EXIT, 1, false, "immediate exit"},
	{KVM_CAP_SYNC_REGS, KVM_SYNC_X86_REGS, true, "synchronised registers"},
	{KVM_CAP_X86_USER_SPACE_MSR, 1, false, "user-space MSRs (Linux 5.10)"},
	{KVM_CAP_X86_MSR_FILTER, 1, false, "MSR filter (Linux 5.10)"},
	{KVM_CAP_GET_TSC_KHZ, 1, false, "TSC frequency"},
	{KVM_CAP_SIGNAL_MSI, 1, false, "message-signalled interrupts"},
	{KVM_CAP_IOEVENTFD, 1, false, "ioeventfd"},
	{KVM_CAP_SREGS2, 1, false, "SREGS2 (Linux 5.14)"},
	{KVM_CAP_MP_STATE, 1, false, "MP state"},
	{KVM_CAP_VCPU_EVENTS, 1, false, "vCPU events"},
	{KVM_CAP_DEBUGREGS, 1, false, "debug registers"},
	{KVM_CAP_XSAVE, 1, false, "XSAVE state"},
	{KVM_CAP_XCRS, 1, false, "XCR state"},
	{KVM_CAP_PIT_STATE2, 1, false, "PIT state"},
};

int kvm_cap(int fd, unsigned long cap)
{
	int v = ioctl(fd, KVM_CHECK_EXTENSION, cap);

	return v > 0 ? v : 0;
}

enum err kvm_check(int kvm_fd)
{
	AUTO_BUF struct buf missing = {0};
	int version = ioctl(kvm_fd, KVM_GET_API_VERSION, 0ul);

	if (version < 0)
		return err_note(ERR_USAGE, errno, "the descriptor for KVM is not /dev/kvm");
	if (version != KVM_API_VERSION)
		return err_note(ERR_UNSUPPORTED, 0, "KVM speaks API version %d: %d is needed",
				version, KVM_API_VERSION);
	for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
		int v = kvm_cap(kvm_fd, needs[i].cap);

		if (needs[i].mask ? (v & needs[i].minimum) == needs[i].minimum
				  : v >= needs[i].minimum)
			continue;
		buf_printf(&missing, "%s%s", missing.len ? ", " : "", needs[i].name);
	}
	if (missing.len || missing.failed)
		return err_note(ERR_UNSUPPORTED, 0, "this host's KVM lacks: %s", buf_str(&missing));
	return ERR_OK;
}

enum err kvm_check_vcpus(int kvm_fd, uint32_t vcpus)
{
	int max = kvm_cap(kvm_fd, KVM_CAP_MAX_VCPUS);

	if (max > 0 && vcpus > (uint32_t)max)
		return err_note(ERR_UNSUPPORTED, 0,
				"%u vCPUs are too many for this host's KVM: it allows %d", vcpus,
				max);
	return ERR_OK;
}

enum err kvm_vm_create(int kvm_fd, uint64_t tss, uint64_t identity_map, int *vm_fd)
{
	struct kvm_enable_cap faults = {.cap = KVM_CAP_X86_TRIPLE_FAULT_EVENT, .args = {1}};
	int fd = ioctl(kvm_fd, KVM_CREATE_VM, 0ul);

	if (fd < 0)
		return err_sys(errno, "create a VM");
	if (ioctl(fd, KVM_SET_TSS_ADDR, (unsigned long)tss) < 0 ||
	    ioctl(fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0) {
		int error = errno;

		close(fd);
		return err_sys(error, "place KVM's own pages");
	}
	/* Without it (before Linux 6.0) a pending triple fault is in no state. */
	if (kvm_cap(fd, KVM_CAP_X86_TRIPLE_FAULT_EVENT) &&
	    ioctl(fd, KVM_ENABLE_CAP, &faults) < 0) {
		int error = errno;

		close(fd);
		return err_sys(error, "switch triple faults as events on");
	}
	*vm_fd = fd;
	return ERR_OK;
}

enum err kvm_vm_create_chips(int vm_fd)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};

	if (ioctl(vm_fd, KVM_CREATE_IRQCHIP, 0ul) < 0)
		return err_sys(errno, "create the interrupt controllers");
	if (ioctl(vm_fd, KVM_CREATE_PIT2, &pit) < 0)
		return err_sys(errno, "create the PIT");
	return ERR_OK;
}

enum err kvm_vm_trap_msrs(int vm_fd, uint32_t base, uint32_t count)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X86_USER_SPACE_MSR,
		.args = {KVM_MSR_EXIT_REASON_FILTER | KVM_MSR_EXIT_REASON_UNKNOWN},
	};
	static uint8_t none[512]; /* a zero bit denies, which means: exits; only read */
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
		.ranges = {{
			.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
			.base = base,
			.nmsrs = count,
			.bitmap = none,
		}},
	};

	assert(count % 8 == 0 && count / 8 <= sizeof none);
	if (ioctl(vm_fd, KVM_ENABLE_CAP, &cap) < 0)
		return err_sys(errno, "switch user-space MSRs on");
	if (ioctl(vm_fd, KVM_X86_SET_MSR_FILTER, &filter) < 0)
		return err_sys(errno, "set the MSR filter");
	return ERR_OK;
}

enum err kvm_vm_set_slot(int vm_fd, uint32_t slot, uint64_t gpa, uint64_t bytes, uintptr_t host,
			 bool log)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot,
		.flags = log ? KVM_MEM_LOG_DIRTY_PAGES : 0,
		.guest_phys_addr = gpa,
		.memory_size = bytes,
		.userspace_addr = host,
	};

	if (ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &r) < 0)
		return err_sys(errno, "set memory slot %u (%llu bytes at guest address 0x%llx)",
			       slot, (unsigned long long)bytes, (unsigned long long)gpa);
	return ERR_OK;
}

enum err kvm_vm_irq_line(int vm_fd, uint32_t gsi, bool level)
{
	struct kvm_irq_level l = {.irq = gsi, .level = level};

	if (ioctl(vm_fd, KVM_IRQ_LINE, &l) < 0)
		return err_sys(errno, "set interrupt line %u", gsi);
	return ERR_OK;
}

enum err kvm_vm_signal_msi(int vm_fd, uint32_t apic_id, uint8_t vector)
{
	struct kvm_msi msi = {.address_lo = MSI_ADDRESS | apic_id << 12, .data = vector};

	/* 0: the guest has no such LAPIC at the moment, as on real hardware. */
	if (ioctl(vm_fd, KVM_SIGNAL_MSI, &msi) < 0)
		return err_sys(errno, "raise interrupt %u of processor %u", vector, apic_id);
	return ERR_OK;
}

enum err kvm_vm_ioeventfd(int vm_fd, uint16_t port, uint32_t value, int fd, bool on)
{
	struct kvm_ioeventfd io = {
		.datamatch = value,
		.addr = port,
		.len = sizeof value,
		.fd = fd,
		.flags = KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH,
	};

	if (!on)
		io.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	if (ioctl(vm_fd, KVM_IOEVENTFD, &io) < 0)
		return err_sys(errno, "%s events of port 0x%x, value 0x%x",
			       on ? "listen to" : "stop listening to", port, value);
	return ERR_OK;
}

enum err kvm_vm_manual_dirty(int vm_fd)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE},
	};

	if (ioctl(vm_fd, KVM_ENABLE_CAP, &cap) < 0)
		return err_sys(errno, "switch manual dirty-log protection on");
	return ERR_OK;
}

enum err kvm_vm_get_dirty(int vm_fd, uint32_t slot, uint64_t *bits)
{
	struct kvm_dirty_log l = {.slot = slot, .dirty_bitmap = bits};

	if (ioctl(vm_fd, KVM_GET_DIRTY_LOG, &l) < 0)
		return err_sys(errno, "read the dirty log of memory slot %u", slot);
	return ERR_OK;
}

enum err kvm_vm_clear_dirty(int vm_fd, uint32_t slot, uint64_t first, uint32_t count,
			    const uint64_t *bits)
{
	/* The kernel only reads the bitmap; its header has no const. */
	union { const uint64_t *in; void *out; } b = {.in = bits};
	struct kvm_clear_dirty_log l = {
		.slot = slot, .first_page = first, .num_pages = count, .dirty_bitmap = b.out};

	if (ioctl(vm_fd, KVM_CLEAR_DIRTY_LOG, &l) < 0)
		return err_sys(errno, "clear the dirty log of memory slot %u at page %llu", slot,
			       (unsigned long long)first);
	return ERR_OK;
}

enum err kvm_vcpu_create(int kvm_fd, int vm_fd, uint32_t index, int *vcpu_fd,
			 struct kvm_run **run, size_t *run_bytes)
{
	int bytes = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0ul);
	int fd;
	void *p;

	if (bytes < (int)sizeof(struct kvm_run))
		return err_sys(errno, "ask for the size of a vCPU's shared structure");
	fd = ioctl(vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (fd < 0)
		return err_sys(errno, "create vCPU %u", index);
	p = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		int error = errno;

		close(fd);
		return err_sys(error, "map the shared structure of vCPU %u", index);
	}
	*vcpu_fd = fd;
	*run = p;
	*run_bytes = (size_t)bytes;
	return ERR_OK;
}

void kvm_vcpu_close(int vcpu_fd, struct kvm_run *run, size_t run_bytes)
{
	if (run)
		munmap(run, run_bytes);
	if (vcpu_fd >= 0)
		close(vcpu_fd);
}

int kvm_run(int vcpu_fd)
{
	return ioctl(vcpu_fd, KVM_RUN, 0ul) < 0 ? errno : 0;
}

bool kvm_vcpu_translate(int vcpu_fd, uint64_t linear, uint64_t *physical)
{
	struct kvm_translation t = {.linear_address = linear};

	if (ioctl(vcpu_fd, KVM_TRANSLATE, &t) < 0 || !t.valid)
		return false;
	*physical = t.physical_address;
	return true;
}
