/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_BOOT_H
#define HV_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/memory.h"

/* boot: from a kernel file to a machine that is about to run its first instruction.
 *
 * Two kinds: a Linux bzImage, entered by the 64-bit boot protocol (boot_linux.c),
 * and an ELF64 file with a PVH note, entered in 32-bit protected mode (boot_pvh.c).
 * Kernels are hostile input: a plan is made from the file's headers and checked
 * against the machine before any byte is loaded.
 *
 * Low memory at entry:
 *   0x00500  GDT                         0x09000  page tables (6 pages)
 *   0x06000  PVH start info, map         0x20000  command line
 *   0x07000  Linux boot_params           0xE0000  ACPI (acpi.h)
 *   0xFFFF0  reset stub: what a guest that restarts by the old real-mode way runs
 *   0x100000 and above: kernel; initrd as high as possible below 3 GiB
 * Errors: ERR_USAGE for a file that is no kernel, is cut off, or does not fit. */

#define BOOT_START_INFO 0x6000u
#define BOOT_PARAMS 0x7000u
#define BOOT_PAGE_TABLES 0x9000u
#define BOOT_CMDLINE 0x20000u
#define BOOT_CMDLINE_MAX 0xFFFFu
#define BOOT_KERNEL_MIN 0x100000u

/* A kernel as bytes or as a descriptor (data NULL); all borrowed. */
struct boot_image {
	int fd;
	const uint8_t *data;
	uint64_t bytes;
};

/* What has to fit around the kernel. */
struct boot_room {
	uint64_t low_bytes; /* RAM below the hole */
	uint64_t initrd_bytes;
	size_t cmdline_bytes; /* without the NUL */
};

#define BOOT_SEGMENTS 32u
#define BOOT_SETUP_BYTES 0x9Fu /* of boot_params: 0x1f1 .. 0x290 */

struct boot_segment {
	uint64_t at, file_offset, bytes; /* RAM is zero, so no more is to be filled */
};

struct boot_plan {
	bool linux64; /* else PVH */
	uint64_t entry;
	struct boot_segment segments[BOOT_SEGMENTS];
	unsigned segment_count;
	uint64_t initrd_at; /* 0: none */
	uint8_t setup[BOOT_SETUP_BYTES]; /* Linux: its setup header */
	size_t setup_bytes;
};

/* Reads only headers.  Any thread. */
MUST_USE enum err boot_plan_make(const struct boot_image *kernel, const struct boot_room *room,
				 struct boot_plan *out);

struct boot_request { /* all borrowed */
	int kernel_fd, initrd_fd; /* initrd -1: none */
	const char *cmdline;	  /* NULL: empty */
	uint64_t rsdp;
};

struct boot_entry {
	bool linux64;
	uint64_t rip;
	uint64_t info; /* boot_params or start info */
};

/* Fill RAM, which is all zero.  After an error it is in no particular state. */
MUST_USE enum err boot_load(struct memory *m, const struct boot_request *request,
			    struct boot_entry *out);
/* Registers of the boot processor, which is in its power-on state. */
MUST_USE enum err boot_set_registers(int vcpu_fd, const struct boot_entry *entry);

/* ---- between boot.c and its two kinds ---- */

enum boot_ram { BOOT_RAM = 1, BOOT_RESERVED = 2 }; /* e820 types */
struct boot_range {
	uint64_t base, bytes;
	enum boot_ram type;
};
#define BOOT_RANGES 5u
/* The memory map for the guest; returns how many ranges. */
unsigned boot_map(const struct memory *m, struct boot_range out[BOOT_RANGES]);

/* Exactly len bytes of the image.  ERR_USAGE "cut off" if it ends before. */
MUST_USE enum err boot_image_read(const struct boot_image *image, uint64_t offset, void *buf,
				  size_t len);
/* Page-aligned place for the initrd, as high as possible in [floor, ceiling). */
MUST_USE enum err boot_place_initrd(const struct boot_room *room, uint64_t floor,
				    uint64_t ceiling, uint64_t *at);

/* Is it one, by its first bytes? */
bool boot_linux_probe(const struct boot_image *image);
bool boot_pvh_probe(const struct boot_image *image);
MUST_USE enum err boot_linux_plan(const struct boot_image *image, const struct boot_room *room,
				  struct boot_plan *out);
MUST_USE enum err boot_pvh_plan(const struct boot_image *image, const struct boot_room *room,
				struct boot_plan *out);
/* Write boot_params and page tables, or the start info. */
MUST_USE enum err boot_linux_write(struct memory *m, const struct boot_plan *plan,
				   const struct boot_room *room, uint64_t rsdp);
MUST_USE enum err boot_pvh_write(struct memory *m, const struct boot_plan *plan,
				 const struct boot_room *room, uint64_t rsdp);

#endif
