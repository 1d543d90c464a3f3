/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_MEMORY_H
#define HV_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* memory: the only door to guest RAM.
 *
 * RAM is one host mapping; `offset` counts in it from 0, with the hole below
 * 4 GiB closed up, and is also the position in an image's stream "ram".
 *
 *   guest physical            offset
 *   0 .. low_bytes            0 .. low_bytes            low_bytes = min(size, 3 GiB)
 *   3 GiB .. 4 GiB            (hole: devices, ACPI's and KVM's own pages)
 *   4 GiB .. 4 GiB + rest     low_bytes .. size
 *
 * KVM logs only the guest's own writes, so every write by our code goes through
 * here and is marked in the device dirty map *after* the bytes have landed.
 * Nobody keeps a raw pointer into RAM.
 * Threads: read, write and translation from any thread; the rest by the owner
 * of the VM while vCPUs are parked. */

struct gpa { uint64_t v; };
static inline struct gpa gpa(uint64_t v) { return (struct gpa){v}; }

#define MEMORY_PAGE_BYTES 4096u
#define MEMORY_HOLE_START 0xC0000000ull
#define MEMORY_HOLE_END 0x100000000ull
#define MEMORY_MIN_BYTES (16ull << 20)
#define MEMORY_MAX_BYTES (1ull << 40)

struct memory;

struct memory_slot { /* one KVM memory slot */
	struct gpa base;
	uint64_t offset, bytes;
};

/* RAM of `bytes` (multiple of 4 KiB, MIN..MAX), all zero, huge pages where the
 * host gives them.  ERR_NOMEM, ERR_USAGE. */
MUST_USE enum err memory_create(uint64_t bytes, struct memory **out);
void memory_destroy(struct memory *m); /* NULL allowed */
uint64_t memory_bytes(const struct memory *m);
/* 1 or 2 slots; borrowed for the life of m. */
const struct memory_slot *memory_slots(const struct memory *m, unsigned *count);
/* Host address of offset 0; for KVM_SET_USER_MEMORY_REGION and for telling the
 * keeper, not for access. */
uintptr_t memory_host_base(const struct memory *m);

/* Copy len bytes of RAM.  ERR_GUEST if any byte is outside RAM (nothing written
 * then; buf unspecified).  A range may not cross the hole. */
MUST_USE enum err memory_read(const struct memory *m, struct gpa at, void *buf, size_t len);
MUST_USE enum err memory_write(struct memory *m, struct gpa at, const void *buf, size_t len);
MUST_USE enum err memory_zero(struct memory *m, struct gpa at, size_t len);
/* Fill RAM from a file (kernel, initrd) without a bounce buffer. */
MUST_USE enum err memory_load_file(struct memory *m, struct gpa at, int fd, uint64_t file_offset,
				   size_t len);
/* Atomic 32-bit access at a 4-byte aligned address (rings, SynIC pages). */
MUST_USE enum err memory_store32_release(struct memory *m, struct gpa at, uint32_t v);
MUST_USE enum err memory_load32_acquire(const struct memory *m, struct gpa at, uint32_t *v);
/* Set bits, as a full barrier; *before: the value that was there. */
MUST_USE enum err memory_or32(struct memory *m, struct gpa at, uint32_t bits, uint32_t *before);
/* For I/O that the kernel does straight into or out of RAM (hv/block): where [at, at+len)
 * is.  For the life of that one request only, which is done before devices are quiet.
 * Once bytes have landed there: memory_landed.  ERR_GUEST. */
struct iovec;
MUST_USE enum err memory_io(struct memory *m, struct gpa at, size_t len, struct iovec *out);
void memory_landed(struct memory *m, struct gpa at, size_t len);
/* ERR_GUEST if not all of [at, at+len) is RAM. */
MUST_USE enum err memory_offset(const struct memory *m, struct gpa at, size_t len,
				uint64_t *offset);
/* All RAM zero again, its pages given back to the host (reset). */
MUST_USE enum err memory_clear(struct memory *m);

/* The device dirty map, for hv/dirty: pages that our code wrote while `on`.
 * Switching it on starts with an empty map.  Owner of the VM, vCPUs parked. */
void memory_track(struct memory *m, bool on);
/* OR the map into bits (one bit per page by offset, a multiple of 64 pages) and
 * empty it.  Any thread. */
void memory_take_written(struct memory *m, uint64_t *bits);

#endif
