/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_bootfs: a whole disk that a hostile guest wrote, through partition table, libext2fs,
 * boot loader's configuration and files.
 *
 * Input: pieces of a disk of 96 KiB that is zero elsewhere: 4 bytes offset, 2 bytes length, the
 * bytes.  Whatever came in: an error, or a kernel within its bound; never a crash, and the
 * library's memory is given back.  (What the library itself does with hostile bytes is why
 * the product reads disks in a process of their own.) */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cmd/bootfs/bootpick.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define DISK_BYTES (96u << 10)
#define MAX_BYTES (64u << 10)

static void fill(uint8_t *disk, struct rd r)
{
	memset(disk, 0, DISK_BYTES);
	while (rd_left(&r) >= 6) {
		uint32_t at = rd_le32(&r) % DISK_BYTES;
		size_t n = rd_le16(&r);

		n = n > rd_left(&r) ? rd_left(&r) : n;
		n = n > DISK_BYTES - at ? DISK_BYTES - at : n;
		memcpy(disk + at, rd_bytes(&r, n), n);
	}
}

static void empty(int fd)
{
	int r = ftruncate(fd, 0);
	assert(r == 0);
	(void)r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static int disk = -1, kernel, initrd;
	static uint8_t *bytes;
	static struct bootpick pick;

	if (disk < 0) {
		disk = memfd_create("disk", 0);
		kernel = memfd_create("kernel", 0);
		initrd = memfd_create("initrd", 0);
		assert(disk >= 0 && ftruncate(disk, DISK_BYTES) == 0);
		bytes = mmap(NULL, DISK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, disk, 0);
		assert(bytes != MAP_FAILED);
	}
	fill(bytes, rd_make(data, len));
	empty(kernel);
	empty(initrd);
	if (bootpick_read(disk, DISK_BYTES, kernel, initrd, MAX_BYTES, &pick) == ERR_OK) {
		assert(pick.kernel_bytes > 0 && pick.kernel_bytes <= MAX_BYTES);
		assert(pick.initrd_bytes <= MAX_BYTES);
		assert(lseek(kernel, 0, SEEK_END) == (off_t)pick.kernel_bytes);
		assert(bootmenu_plain(pick.entry.kernel) && bootmenu_plain(pick.entry.cmdline));
	}
	return 0;
}
