/* SPDX-License-Identifier: Apache-2.0 */
/* boot: what both kinds of kernel have in common; see boot.h.
 *
 * Source: Linux Documentation/arch/x86/boot.rst; Xen docs/misc/pvh.pandoc;
 * AMD64 manual volume 2, chapters 4 and 5. */
#include "hv/boot.h"

#include "base/bytes.h"
#include "base/fs.h"
#include "base/units.h"
#include "hv/kvm/kvm_state.h"

#include <string.h>

#define EBDA 0x9FC00ull
#define VIDEO 0xA0000ull
#define FIRMWARE 0xE0000ull
#define RESET_STUB 0xFFFF0u
#define GDT 0x500u

enum {
	CR0_PE = 1 << 0,
	CR0_ET = 1 << 4,
	CR4_PAE = 1 << 5,
	EFER_LME = 1 << 8,
	EFER_LMA = 1 << 10,
	RFLAGS_ALWAYS = 1 << 1,
	SELECTOR_CODE = 0x10,
	SELECTOR_DATA = 0x18,
	SELECTOR_TSS = 0x20,
	TYPE_CODE = 0xb, /* execute, read, accessed */
	TYPE_DATA = 0x3, /* read, write, accessed */
	TYPE_TSS = 0xb,	 /* busy */
};
#define CR0_PG (1ull << 31)

/* ---- the file ---- */

enum err boot_image_read(const struct boot_image *image, uint64_t offset, void *buf, size_t len)
{
	if (offset > image->bytes || len > image->bytes - offset)
		return err_note(ERR_USAGE, 0,
				"the kernel file is cut off: it needs %llu bytes at %llu, and has "
				"%llu in all",
				(unsigned long long)len, (unsigned long long)offset,
				(unsigned long long)image->bytes);
	if (!image->data)
		return fs_read_at(image->fd, "kernel", buf, len, offset);
	memcpy(buf, image->data + offset, len);
	return ERR_OK;
}

enum err boot_place_initrd(const struct boot_room *room, uint64_t floor, uint64_t ceiling,
			   uint64_t *at)
{
	const uint64_t mask = ~(uint64_t)(MEMORY_PAGE_BYTES - 1);
	char size[UNITS_TEXT_BYTES], space[UNITS_TEXT_BYTES];

	*at = 0;
	if (!room->initrd_bytes)
		return ERR_OK;
	if (ceiling > room->low_bytes)
		ceiling = room->low_bytes;
	floor = (floor + MEMORY_PAGE_BYTES - 1) & mask;
	if (floor >= ceiling || room->initrd_bytes > ceiling - floor ||
	    ((ceiling - room->initrd_bytes) & mask) < floor)
		return err_note(ERR_USAGE, 0,
				"the initrd (%s) does not fit: beside the kernel %s of memory are "
				"free for it: give the machine more memory",
				units_format_size(room->initrd_bytes, size),
				units_format_size(floor < ceiling ? ceiling - floor : 0, space));
	*at = (ceiling - room->initrd_bytes) & mask;
	return ERR_OK;
}

enum err boot_plan_make(const struct boot_image *kernel, const struct boot_room *room,
			struct boot_plan *out)
{
	memset(out, 0, sizeof *out);
	if (room->cmdline_bytes > BOOT_CMDLINE_MAX)
		return err_note(ERR_USAGE, 0, "the command line is too long: %zu bytes, %u allowed",
				room->cmdline_bytes, BOOT_CMDLINE_MAX);
	if (boot_linux_probe(kernel))
		return boot_linux_plan(kernel, room, out);
	if (boot_pvh_probe(kernel))
		return boot_pvh_plan(kernel, room, out);
	if (kernel->bytes == 0)
		return err_note(ERR_USAGE, 0, "the kernel file is empty");
	return err_note(ERR_USAGE, 0,
			"the kernel file is not a kernel: neither a Linux bzImage nor an ELF file "
			"with a PVH note");
}

/* ---- RAM ---- */

unsigned boot_map(const struct memory *m, struct boot_range out[BOOT_RANGES])
{
	unsigned slots, n = 0;
	const struct memory_slot *s = memory_slots(m, &slots);

	out[n++] = (struct boot_range){0, EBDA, BOOT_RAM};
	out[n++] = (struct boot_range){EBDA, VIDEO - EBDA, BOOT_RESERVED};
	out[n++] = (struct boot_range){FIRMWARE, BOOT_KERNEL_MIN - FIRMWARE, BOOT_RESERVED};
	out[n++] = (struct boot_range){BOOT_KERNEL_MIN, s[0].bytes - BOOT_KERNEL_MIN, BOOT_RAM};
	if (slots > 1)
		out[n++] = (struct boot_range){s[1].base.v, s[1].bytes, BOOT_RAM};
	return n;
}

static enum err boot_write_low(struct memory *m, const struct boot_request *r, size_t cmdline_bytes)
{
	static const uint64_t gdt[] = {
		0, 0,
		0x00AF9B000000FFFF, /* 64-bit code */
		0x00CF93000000FFFF, /* data */
	};
	/* mov dx, 0x602; mov al, 1; out dx, al; hlt; jmp to the hlt (vmbus.md 18) */
	static const uint8_t stub[] = {0xba, 0x02, 0x06, 0xb0, 0x01, 0xee, 0xf4, 0xeb, 0xfd};
	uint8_t bytes[sizeof gdt];
	enum err e;

	for (size_t i = 0; i < sizeof gdt / sizeof gdt[0]; i++)
		le64_put(bytes + 8 * i, gdt[i]);
	if ((e = memory_write(m, gpa(GDT), bytes, sizeof bytes)) != ERR_OK)
		return e;
	if ((e = memory_write(m, gpa(RESET_STUB), stub, sizeof stub)) != ERR_OK)
		return e;
	return memory_write(m, gpa(BOOT_CMDLINE), r->cmdline ? r->cmdline : "", cmdline_bytes + 1);
}

static enum err boot_load_files(struct memory *m, const struct boot_request *r,
				const struct boot_plan *plan, uint64_t initrd_bytes)
{
	enum err e;

	for (unsigned i = 0; i < plan->segment_count; i++) {
		const struct boot_segment *s = &plan->segments[i];

		e = memory_load_file(m, gpa(s->at), r->kernel_fd, s->file_offset, (size_t)s->bytes);
		if (e != ERR_OK)
			return err_context(e, "load the kernel");
	}
	if (!plan->initrd_at)
		return ERR_OK;
	e = memory_load_file(m, gpa(plan->initrd_at), r->initrd_fd, 0, (size_t)initrd_bytes);
	return e == ERR_OK ? e : err_context(e, "load the initrd");
}

enum err boot_load(struct memory *m, const struct boot_request *r, struct boot_entry *out)
{
	struct boot_image kernel = {.fd = r->kernel_fd};
	struct boot_room room = {.cmdline_bytes = r->cmdline ? strlen(r->cmdline) : 0};
	struct boot_plan plan;
	unsigned slots;
	enum err e;

	if (r->kernel_fd < 0)
		return err_note(ERR_USAGE, 0, "the machine has no kernel to start from");
	room.low_bytes = memory_slots(m, &slots)->bytes;
	if ((e = fs_size(r->kernel_fd, "kernel", &kernel.bytes)) != ERR_OK)
		return e;
	if (r->initrd_fd >= 0 &&
	    (e = fs_size(r->initrd_fd, "initrd", &room.initrd_bytes)) != ERR_OK)
		return e;
	if (r->initrd_fd >= 0 && room.initrd_bytes == 0)
		return err_note(ERR_USAGE, 0, "the initrd file is empty");
	if ((e = boot_plan_make(&kernel, &room, &plan)) != ERR_OK)
		return e;
	if ((e = boot_load_files(m, r, &plan, room.initrd_bytes)) != ERR_OK)
		return e;
	if ((e = boot_write_low(m, r, room.cmdline_bytes)) != ERR_OK)
		return e;
	out->linux64 = plan.linux64;
	out->rip = plan.entry;
	out->info = plan.linux64 ? BOOT_PARAMS : BOOT_START_INFO;
	return plan.linux64 ? boot_linux_write(m, &plan, &room, r->rsdp)
			    : boot_pvh_write(m, &plan, &room, r->rsdp);
}

/* ---- registers ---- */

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool linux64)
{
	bool code = type == TYPE_CODE;

	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.l = code && linux64,
		.db = !(code && linux64),
	};
}

enum err boot_set_registers(int vcpu_fd, const struct boot_entry *entry)
{
	struct kvm_regs r = {.rip = entry->rip, .rflags = RFLAGS_ALWAYS};
	struct kvm_sregs2 s;
	enum err e;

	if ((e = kvm_state_get_sregs2(vcpu_fd, &s)) != ERR_OK)
		return e;
	s.cs = segment(SELECTOR_CODE, TYPE_CODE, entry->linux64);
	s.ds = s.es = s.fs = s.gs = s.ss = segment(SELECTOR_DATA, TYPE_DATA, entry->linux64);
	s.tr = (struct kvm_segment){
		.limit = 0x67, .selector = SELECTOR_TSS, .type = TYPE_TSS, .present = 1};
	s.gdt = (struct kvm_dtable){.base = GDT, .limit = 31};
	s.idt = (struct kvm_dtable){.base = 0, .limit = 0};
	s.cr0 = CR0_PE | CR0_ET;
	if (entry->linux64) {
		s.cr0 |= CR0_PG;
		s.cr3 = BOOT_PAGE_TABLES;
		s.cr4 = CR4_PAE;
		s.efer = EFER_LME | EFER_LMA;
		r.rsi = entry->info;
	} else {
		r.rbx = entry->info;
	}
	if ((e = kvm_state_set_sregs2(vcpu_fd, &s)) != ERR_OK)
		return e;
	return kvm_state_set_regs(vcpu_fd, &r);
}
