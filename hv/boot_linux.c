/* SPDX-License-Identifier: Apache-2.0 */
/* boot_linux: bzImage by the 64-bit boot protocol; see boot.h.
 *
 * The file: a real-mode part of (setup_sects + 1) * 512 bytes, which holds the setup
 * header, then the protected-mode part.  We load the latter at the address that it
 * prefers, and enter it 0x200 bytes in, in long mode, with RSI at boot_params.
 *
 * Setup header, offsets in the file and in boot_params alike:
 *   1f1 setup_sects u8      202 "HdrS"             22c initrd_addr_max u32
 *   1f4 syssize u32 (16 B)  206 version u16        236 xloadflags u16 (bit 0: 64-bit entry)
 *   1fe 0xaa55              210 type_of_loader u8  238 cmdline_size u32
 *   201 length beyond 202   211 loadflags u8       258 pref_address u64, 260 init_size u32
 * Source: Linux Documentation/arch/x86/boot.rst and zero-page.rst. */
#include "hv/boot.h"

#include "base/bytes.h"
#include "base/units.h"

#include <stdlib.h>
#include <string.h>

enum {
	SETUP_START = 0x1f1,
	HEADER_BYTES = 0x290, /* as much of the file as we look at */
	SECTOR = 512,
	VERSION_MIN = 0x20c, /* has xloadflags */
	LOADED_HIGH = 1 << 0,
	KERNEL_64 = 1 << 0,
	ENTRY_64 = 0x200,

	PARAMS_RSDP = 0x70,
	PARAMS_E820_COUNT = 0x1e8,
	PARAMS_E820 = 0x2d0,
	E820_BYTES = 20,

	PD_ENTRIES = 512,
	PAGE_PRESENT_WRITE = 3,
	PAGE_LARGE = 1 << 7,
};

bool boot_linux_probe(const struct boot_image *image)
{
	uint8_t magic[4], flag[2];

	return image->bytes >= 0x206 && boot_image_read(image, 0x202, magic, 4) == ERR_OK &&
	       boot_image_read(image, 0x1fe, flag, 2) == ERR_OK && !memcmp(magic, "HdrS", 4) &&
	       le16_get(flag) == 0xaa55;
}

static enum err linux_check_kind(const uint8_t *h)
{
	uint16_t version = le16_get(h + 0x206);

	if (version < VERSION_MIN)
		return err_note(ERR_USAGE, 0,
				"the kernel speaks boot protocol %u.%02u: 2.12 (Linux 3.8) or "
				"newer is needed",
				version >> 8, version & 0xff);
	if (!(h[0x211] & LOADED_HIGH))
		return err_note(ERR_USAGE, 0, "the kernel is a zImage: a bzImage is needed");
	if (!(le16_get(h + 0x236) & KERNEL_64))
		return err_note(ERR_USAGE, 0,
				"the kernel is 32-bit only: one with a 64-bit entry is needed");
	return ERR_OK;
}

/* The protected-mode part as a segment. */
static enum err linux_segment(const struct boot_image *image, const uint8_t *h,
			      struct boot_segment *s)
{
	uint64_t sects = h[0x1f1] ? h[0x1f1] : 4;
	uint64_t payload = (uint64_t)le32_get(h + 0x1f4) * 16, left;

	s->file_offset = (sects + 1) * SECTOR;
	s->at = le64_get(h + 0x258);
	left = image->bytes > s->file_offset ? image->bytes - s->file_offset : 0;
	/* syssize counts in 16 bytes, rounded up. */
	if (payload <= ENTRY_64 || payload > left + 15)
		return err_note(ERR_USAGE, 0,
				"the kernel file is cut off: %llu bytes, and its header speaks of "
				"%llu",
				(unsigned long long)image->bytes,
				(unsigned long long)(s->file_offset + payload));
	s->bytes = payload < left ? payload : left;
	return ERR_OK;
}

static enum err linux_check_room(const uint8_t *h, const struct boot_room *room,
				 const struct boot_segment *s, uint64_t *end)
{
	uint64_t need = le32_get(h + 0x260);
	uint32_t cmdline_max = le32_get(h + 0x238);
	char has[UNITS_TEXT_BYTES], wants[UNITS_TEXT_BYTES];

	if (need < s->bytes)
		need = s->bytes;
	if (s->at < BOOT_KERNEL_MIN || s->at % MEMORY_PAGE_BYTES || s->at > MEMORY_HOLE_START)
		return err_note(ERR_USAGE, 0,
				"the kernel wants to be loaded at 0x%llx, which is not possible",
				(unsigned long long)s->at);
	*end = s->at + need;
	if (*end > room->low_bytes)
		return err_note(ERR_USAGE, 0,
				"the kernel needs %s of memory%s to start: the machine has %s",
				units_format_size(*end, wants),
				room->low_bytes == MEMORY_HOLE_START ? " below 3 GiB" : "",
				units_format_size(room->low_bytes, has));
	if (room->cmdline_bytes > cmdline_max)
		return err_note(ERR_USAGE, 0,
				"the command line is too long: %zu bytes, this kernel takes %u",
				room->cmdline_bytes, cmdline_max);
	return ERR_OK;
}

enum err boot_linux_plan(const struct boot_image *image, const struct boot_room *room,
			 struct boot_plan *out)
{
	uint8_t h[HEADER_BYTES];
	struct boot_segment *s = &out->segments[0];
	uint64_t end = 0;
	enum err e;

	if ((e = boot_image_read(image, 0, h, sizeof h)) != ERR_OK)
		return e;
	if ((e = linux_check_kind(h)) != ERR_OK)
		return e;
	if ((e = linux_segment(image, h, s)) != ERR_OK)
		return e;
	if ((e = linux_check_room(h, room, s, &end)) != ERR_OK)
		return e;
	out->linux64 = true;
	out->entry = s->at + ENTRY_64;
	out->segment_count = 1;
	out->setup_bytes = 0x202u + h[0x201] - SETUP_START;
	if (out->setup_bytes > sizeof out->setup)
		out->setup_bytes = sizeof out->setup;
	memcpy(out->setup, h + SETUP_START, out->setup_bytes);
	return boot_place_initrd(room, end, (uint64_t)le32_get(h + 0x22c) + 1, &out->initrd_at);
}

/* The first 4 GiB, one to one, by 2 MiB pages. */
static enum err linux_write_tables(struct memory *m)
{
	const size_t bytes = 6 * MEMORY_PAGE_BYTES;
	uint8_t *t = calloc(1, bytes), *pdpt, *pd;
	enum err e;

	if (!t)
		return err_note(ERR_NOMEM, 0, "page tables for the kernel: no memory");
	pdpt = t + MEMORY_PAGE_BYTES;
	pd = pdpt + MEMORY_PAGE_BYTES;
	le64_put(t, BOOT_PAGE_TABLES + MEMORY_PAGE_BYTES + PAGE_PRESENT_WRITE);
	for (uint64_t i = 0; i < 4; i++)
		le64_put(pdpt + 8 * i,
			 BOOT_PAGE_TABLES + (2 + i) * MEMORY_PAGE_BYTES + PAGE_PRESENT_WRITE);
	for (uint64_t i = 0; i < 4 * PD_ENTRIES; i++)
		le64_put(pd + 8 * i, i << 21 | PAGE_LARGE | PAGE_PRESENT_WRITE);
	e = memory_write(m, gpa(BOOT_PAGE_TABLES), t, bytes);
	free(t);
	return e;
}

enum err boot_linux_write(struct memory *m, const struct boot_plan *plan,
			  const struct boot_room *room, uint64_t rsdp)
{
	uint8_t p[MEMORY_PAGE_BYTES] = {0};
	struct boot_range map[BOOT_RANGES];
	unsigned n = boot_map(m, map);
	enum err e;

	memcpy(p + SETUP_START, plan->setup, plan->setup_bytes);
	le64_put(p + PARAMS_RSDP, rsdp);
	p[PARAMS_E820_COUNT] = (uint8_t)n;
	for (unsigned i = 0; i < n; i++) {
		uint8_t *entry = p + PARAMS_E820 + (size_t)i * E820_BYTES;

		le64_put(entry, map[i].base);
		le64_put(entry + 8, map[i].bytes);
		le32_put(entry + 16, map[i].type);
	}
	p[0x210] = 0xff; /* a loader without a number */
	le32_put(p + 0x218, (uint32_t)plan->initrd_at);
	le32_put(p + 0x21c, plan->initrd_at ? (uint32_t)room->initrd_bytes : 0);
	le32_put(p + 0x228, BOOT_CMDLINE);
	if ((e = linux_write_tables(m)) != ERR_OK)
		return e;
	return memory_write(m, gpa(BOOT_PARAMS), p, sizeof p);
}
