/* SPDX-License-Identifier: Apache-2.0 */
/* memory: what the loader said about RAM, and the identity map above 4 GiB.
 *
 * Pages for ourselves come from the start of the first range behind the image, so they exist on
 * every machine that could load it.
 *
 * Source: Xen public/arch-x86/hvm/start_info.h (layout of hvm_start_info, version 1). */
#include "rt/rt.h"

#include "rt/internal.h"

enum { RANGES_MAX = 32, RAM = 1 };

static const uint64_t first_mib = 0x100000, four_gib = 1ull << 32, one_gib = 1ull << 30;
static struct range ranges[RANGES_MAX];
static unsigned nranges;

struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};

struct memmap_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};


static void range_add(uint64_t start, uint64_t end)
{
	uint64_t low = (uint64_t)_image_end;

	if (start < first_mib)
		start = first_mib;
	if (start < low && end > (uint64_t)_image_start)
		start = low;
	start = (start + 4095) & ~4095ull;
	end &= ~4095ull;
	if (start < end && nranges < RANGES_MAX)
		ranges[nranges++] = (struct range){ start, end - start };
}

void boot_info_copy(void)
{
	const struct start_info *si = (const struct start_info *)pvh_start_info;
	const struct memmap_entry *m;

	if (si->magic != 0x336ec578)
		fail("no hvm_start_info at %lx", pvh_start_info);
	cmdline_set((const char *)si->cmdline);
	if (si->version < 1)
		return;
	m = (const struct memmap_entry *)si->memmap;
	for (uint32_t i = 0; i < si->memmap_entries; i++)
		if (m[i].type == RAM)
			range_add(m[i].addr, m[i].addr + m[i].size);
}

const struct range *mem_ranges(unsigned *n)
{
	*n = nranges;
	return ranges;
}

void *mem_take_dirty(uint64_t bytes)
{
	void *p;

	bytes = (bytes + 4095) & ~4095ull;
	if (nranges == 0 || ranges[0].bytes < bytes || ranges[0].start + bytes > four_gib)
		fail("not enough memory for %lu bytes", bytes);
	p = (void *)ranges[0].start;
	ranges[0].start += bytes;
	ranges[0].bytes -= bytes;
	return p;
}

void *mem_take(uint64_t bytes)
{
	return memset(mem_take_dirty(bytes), 0, bytes);
}

static void map_gib(uint64_t gib, bool huge)
{
	uint64_t *pd;

	if (gib >= 512)
		fail("memory above 512 GiB");
	if (boot_pdpt[gib] != 0)
		return;
	if (huge) {
		boot_pdpt[gib] = gib * one_gib | 0x87;
		return;
	}
	pd = mem_take(4096);
	for (uint64_t i = 0; i < 512; i++)
		pd[i] = (gib * one_gib + (i << 21)) | 0x87;
	boot_pdpt[gib] = (uint64_t)pd | 7;
}

void mem_map_all(void)
{
	bool huge = (cpuid(0x80000001, 0).d >> 26 & 1) != 0;

	for (unsigned i = 0; i < nranges; i++) {
		uint64_t end = ranges[i].start + ranges[i].bytes;

		for (uint64_t g = ranges[i].start / one_gib; g * one_gib < end; g++)
			map_gib(g, huge);
	}
}
