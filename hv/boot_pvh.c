/* SPDX-License-Identifier: Apache-2.0 */
/* boot_pvh: ELF64 with a note that names its 32-bit physical entry; see boot.h.
 *
 * ELF64 header: class at 4, byte order at 5, type at 16, machine at 18, program
 * headers at u64 32, their size at 54 and number at 56.  Program header (56 bytes):
 * type, flags u32; offset, vaddr, paddr, filesz, memsz, align u64.
 * Note: name size, description size, type u32; name and description, each padded
 * to 4 bytes.  Ours: name "Xen", type 18, description an address of 4 or 8 bytes.
 *
 * Start info at entry (EBX): magic, version, flags, modules u32; module list, command
 * line, RSDP, memory map u64; map entries, 0 u32.  Module: address, size, command
 * line, 0 u64.  Map entry: address, size u64; type, 0 u32.
 * Source: ELF-64 object file format; Xen docs/misc/pvh.pandoc and
 * xen/include/public/arch-x86/hvm/start_info.h. */
#include "hv/boot.h"

#include "base/bytes.h"
#include "base/units.h"

#include <stdlib.h>
#include <string.h>

enum {
	ELF_HEADER = 64,
	PROGRAM_HEADER = 56,
	CLASS_64 = 2,
	LITTLE_ENDIAN_DATA = 1,
	TYPE_EXEC = 2,
	MACHINE_X86_64 = 62,
	SEGMENT_LOAD = 1,
	SEGMENT_NOTE = 4,
	NOTE_PHYS32_ENTRY = 18,
	NOTES_MAX = 65536, /* of one segment: more is not looked at */
	HEADERS_MAX = 64,

	START_MAGIC = 0x336ec578,
	START_VERSION = 1,
	START_BYTES = 56,
	MODULE_BYTES = 32,
	MAP_BYTES = 24,
};

struct pvh_header {
	uint32_t type;
	uint64_t offset, paddr, filesz, memsz;
};

bool boot_pvh_probe(const struct boot_image *image)
{
	uint8_t magic[4];

	return image->bytes >= sizeof magic && boot_image_read(image, 0, magic, 4) == ERR_OK &&
	       !memcmp(magic, "\177ELF", 4);
}

static struct pvh_header pvh_header(const uint8_t *p)
{
	return (struct pvh_header){
		.type = le32_get(p),
		.offset = le64_get(p + 8),
		.paddr = le64_get(p + 24),
		.filesz = le64_get(p + 32),
		.memsz = le64_get(p + 40),
	};
}

static enum err pvh_check_elf(const uint8_t *h)
{
	unsigned count = le16_get(h + 56);

	if (h[4] != CLASS_64)
		return err_note(ERR_USAGE, 0,
				"the kernel is a 32-bit ELF file: a 64-bit one is needed");
	if (h[5] != LITTLE_ENDIAN_DATA || le16_get(h + 16) != TYPE_EXEC ||
	    le16_get(h + 18) != MACHINE_X86_64)
		return err_note(ERR_USAGE, 0,
				"the kernel file is an ELF file, but not an x86-64 kernel");
	if (le16_get(h + 54) != PROGRAM_HEADER || count == 0 || count > HEADERS_MAX)
		return err_note(ERR_USAGE, 0,
				"the kernel's ELF header is damaged: %u program headers of %u "
				"bytes",
				count, le16_get(h + 54));
	return ERR_OK;
}

/* A LOAD segment into the plan. */
static enum err pvh_segment(const struct boot_image *image, const struct boot_room *room,
			    const struct pvh_header *h, struct boot_plan *out)
{
	char has[UNITS_TEXT_BYTES];

	if (h->memsz == 0)
		return ERR_OK;
	if (h->filesz > h->memsz || h->paddr + h->memsz < h->paddr || h->paddr < BOOT_KERNEL_MIN)
		return err_note(ERR_USAGE, 0,
				"the kernel's segment at 0x%llx (%llu bytes, %llu in the file) is "
				"not possible",
				(unsigned long long)h->paddr, (unsigned long long)h->memsz,
				(unsigned long long)h->filesz);
	if (h->paddr + h->memsz > room->low_bytes)
		return err_note(ERR_USAGE, 0,
				"the kernel's segment at 0x%llx (%llu bytes) does not fit into "
				"memory: the machine has %s%s",
				(unsigned long long)h->paddr, (unsigned long long)h->memsz,
				units_format_size(room->low_bytes, has),
				room->low_bytes == MEMORY_HOLE_START ? " below 3 GiB" : "");
	if (h->offset > image->bytes || h->filesz > image->bytes - h->offset)
		return err_note(ERR_USAGE, 0,
				"the kernel file is cut off: a segment ends at %llu, the file at "
				"%llu",
				(unsigned long long)(h->offset + h->filesz),
				(unsigned long long)image->bytes);
	if (h->filesz == 0)
		return ERR_OK;
	if (out->segment_count == BOOT_SEGMENTS)
		return err_note(ERR_USAGE, 0, "the kernel has more than %u segments",
				BOOT_SEGMENTS);
	out->segments[out->segment_count++] = (struct boot_segment){
		.at = h->paddr, .file_offset = h->offset, .bytes = h->filesz};
	return ERR_OK;
}

/* Look through one segment of notes; *entry is set if ours is among them. */
static enum err pvh_notes(const struct boot_image *image, const struct pvh_header *h,
			  uint64_t *entry)
{
	size_t bytes = h->filesz < NOTES_MAX ? (size_t)h->filesz : NOTES_MAX;
	uint8_t *notes = malloc(bytes ? bytes : 1);
	struct rd r = rd_make(notes, bytes);
	enum err e;

	if (!notes)
		return err_note(ERR_NOMEM, 0, "notes of the kernel: no memory");
	e = boot_image_read(image, h->offset, notes, bytes);
	while (e == ERR_OK && rd_left(&r) >= 12) {
		uint32_t name_bytes = rd_le32(&r), desc_bytes = rd_le32(&r), type = rd_le32(&r);
		const uint8_t *name = rd_bytes(&r, ((size_t)name_bytes + 3) & ~(size_t)3);
		size_t padded = ((size_t)desc_bytes + 3) & ~(size_t)3;
		const uint8_t *desc;

		/* The last description may lack its padding. */
		desc = rd_bytes(&r, padded <= rd_left(&r) ? padded : desc_bytes);
		if (!name || !desc)
			break;
		if (type != NOTE_PHYS32_ENTRY || name_bytes != 4 || memcmp(name, "Xen", 4))
			continue;
		if (desc_bytes == 4 || desc_bytes == 8)
			*entry = desc_bytes == 4 ? le32_get(desc) : le64_get(desc);
	}
	free(notes);
	return e;
}

static enum err pvh_headers(const struct boot_image *image, const struct boot_room *room,
			    const uint8_t *table, unsigned count, uint64_t *end,
			    struct boot_plan *out)
{
	enum err e = ERR_OK;
	bool inside = false;

	for (unsigned i = 0; i < count && e == ERR_OK; i++) {
		struct pvh_header h = pvh_header(table + (size_t)i * PROGRAM_HEADER);

		if (h.type == SEGMENT_NOTE)
			e = pvh_notes(image, &h, &out->entry);
		if (h.type != SEGMENT_LOAD)
			continue;
		e = pvh_segment(image, room, &h, out);
		if (e == ERR_OK && h.memsz && h.paddr + h.memsz > *end)
			*end = h.paddr + h.memsz;
	}
	if (e != ERR_OK)
		return e;
	if (out->entry == 0)
		return err_note(ERR_USAGE, 0,
				"the kernel file is an ELF file without a PVH note: it cannot be "
				"started directly");
	for (unsigned i = 0; i < out->segment_count; i++)
		inside = inside || out->entry - out->segments[i].at < out->segments[i].bytes;
	if (!inside)
		return err_note(ERR_USAGE, 0, "the kernel's PVH entry 0x%llx is outside of it",
				(unsigned long long)out->entry);
	return ERR_OK;
}

enum err boot_pvh_plan(const struct boot_image *image, const struct boot_room *room,
		       struct boot_plan *out)
{
	uint8_t h[ELF_HEADER], table[HEADERS_MAX * PROGRAM_HEADER];
	uint64_t end = BOOT_KERNEL_MIN;
	unsigned count;
	enum err e;

	if ((e = boot_image_read(image, 0, h, sizeof h)) != ERR_OK)
		return e;
	if ((e = pvh_check_elf(h)) != ERR_OK)
		return e;
	count = le16_get(h + 56);
	e = boot_image_read(image, le64_get(h + 32), table, (size_t)count * PROGRAM_HEADER);
	if (e != ERR_OK)
		return e;
	if ((e = pvh_headers(image, room, table, count, &end, out)) != ERR_OK)
		return e;
	return boot_place_initrd(room, end, MEMORY_HOLE_START, &out->initrd_at);
}

/* Start info, then the module, then the map, in one page. */
enum err boot_pvh_write(struct memory *m, const struct boot_plan *plan,
			const struct boot_room *room, uint64_t rsdp)
{
	const uint32_t module_at = START_BYTES, map_at = START_BYTES + MODULE_BYTES;
	uint8_t p[START_BYTES + MODULE_BYTES + BOOT_RANGES * MAP_BYTES] = {0};
	struct boot_range map[BOOT_RANGES];
	unsigned n = boot_map(m, map);

	le32_put(p, START_MAGIC);
	le32_put(p + 4, START_VERSION);
	if (plan->initrd_at) {
		le32_put(p + 12, 1);
		le64_put(p + 16, BOOT_START_INFO + module_at);
		le64_put(p + module_at, plan->initrd_at);
		le64_put(p + module_at + 8, room->initrd_bytes);
	}
	le64_put(p + 24, BOOT_CMDLINE);
	le64_put(p + 32, rsdp);
	le64_put(p + 40, BOOT_START_INFO + map_at);
	le32_put(p + 48, n);
	for (unsigned i = 0; i < n; i++) {
		uint8_t *entry = p + map_at + (size_t)i * MAP_BYTES;

		le64_put(entry, map[i].base);
		le64_put(entry + 8, map[i].bytes);
		le32_put(entry + 16, map[i].type);
	}
	return memory_write(m, gpa(BOOT_START_INFO), p, sizeof p);
}
