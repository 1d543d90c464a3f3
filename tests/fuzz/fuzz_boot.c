/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_boot: kernel files of both kinds.
 *
 * Input: u16 MiB of low memory above 16, u16 bytes of command line, u32 KiB of initrd,
 * then the file.  A plan that is accepted must stay inside the file and inside RAM,
 * apart from the initrd, and is loaded for real where the machine is small. */
#include "hv/boot.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define HEAD_BYTES 8u
#define MIB (1ull << 20)

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_plan(const struct boot_plan *p, const struct boot_room *room, uint64_t bytes)
{
	uint64_t initrd_end = p->initrd_at + room->initrd_bytes;

	check(p->segment_count >= 1 && p->segment_count <= BOOT_SEGMENTS);
	check(p->setup_bytes <= sizeof p->setup);
	check(!p->initrd_at == !room->initrd_bytes);
	check(!p->initrd_at || (p->initrd_at % MEMORY_PAGE_BYTES == 0 &&
				initrd_end <= room->low_bytes && initrd_end > p->initrd_at));
	for (unsigned i = 0; i < p->segment_count; i++) {
		const struct boot_segment *s = &p->segments[i];

		check(s->at >= BOOT_KERNEL_MIN && s->at < room->low_bytes);
		check(s->bytes <= room->low_bytes - s->at);
		check(s->file_offset <= bytes && s->bytes <= bytes - s->file_offset);
		check(!p->initrd_at || s->at + s->bytes <= p->initrd_at);
	}
}

static void load(const uint8_t *data, size_t bytes)
{
	struct boot_request r = {.kernel_fd = memfd_create("fuzz", MFD_CLOEXEC), .initrd_fd = -1};
	struct boot_entry entry;
	struct memory *m = NULL;

	check(r.kernel_fd >= 0 && write(r.kernel_fd, data, bytes) == (ssize_t)bytes);
	check(memory_create(MEMORY_MIN_BYTES, &m) == ERR_OK);
	if (boot_load(m, &r, &entry) == ERR_OK)
		check(entry.rip >= BOOT_KERNEL_MIN && entry.rip < MEMORY_MIN_BYTES);
	memory_destroy(m);
	close(r.kernel_fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct boot_image image = {.fd = -1};
	struct boot_room room;
	struct boot_plan plan;

	if (size < HEAD_BYTES)
		return 0;
	room.low_bytes = (16 + le16_get(data) % 3057u) * MIB;
	room.cmdline_bytes = le16_get(data + 2);
	room.initrd_bytes = le32_get(data + 4) * 1024ull;
	image.data = data + HEAD_BYTES;
	image.bytes = size - HEAD_BYTES;
	if (boot_plan_make(&image, &room, &plan) != ERR_OK)
		return 0;
	check_plan(&plan, &room, image.bytes);
	if (room.low_bytes == MEMORY_MIN_BYTES && room.initrd_bytes == 0)
		load(image.data, (size_t)image.bytes);
	return 0;
}
