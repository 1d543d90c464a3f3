/* SPDX-License-Identifier: Apache-2.0 */
/* parttable: MBR and GPT, as far as finding ext file systems needs them.
 *
 * Format, MBR: sector 0 ends with 55 AA; from byte 446 four entries of 16 bytes: type at 4
 * (0xEE: there is a GPT), first sector at 8, sectors at 12.  Logical partitions are not
 * looked at.
 * Format, GPT: sector 1: "EFI PART"; at 72 the sector of the entries, at 80 their number, at 84
 * the size of one; entry: 16 bytes of type (zero: unused), first and last sector at 32 and 40.
 * Its checksums are not asked: a wrong table leads to a wrong place, where no file system
 * is, and file systems check themselves.
 * Format, ext2/3/4: superblock at byte 1024, magic EF53 at its byte 56.
 *
 * Sectors are of 512 bytes, as our disks have them.
 * Source: UEFI 2.10, 5.3; Linux Documentation/filesystems/ext4/super.rst. */
#include "cmd/bootfs/parttable.h"

#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"
#include "base/fs.h"

#define SECTOR 512u
#define MBR_ENTRIES 446u
#define MBR_ENTRY 16u
#define MBR_GPT 0xEEu
#define GPT_ENTRIES_MAX 128u
#define GPT_ENTRY_MIN 128u
#define GPT_ENTRY_MAX 4096u
#define EXT_MAGIC_AT (1024u + 56u)
#define EXT_MAGIC 0xEF53u

struct table {
	int disk;
	uint64_t disk_bytes;
	struct part *parts;
	unsigned count;
};

static enum err read_disk(const struct table *t, void *to, size_t len, uint64_t offset, bool *there)
{
	*there = offset <= t->disk_bytes && len <= t->disk_bytes - offset;
	return *there ? fs_read_at(t->disk, "disk", to, len, offset) : ERR_OK;
}

/* Keep it if it lies on the disk and looks like an ext file system. */
static enum err consider(struct table *t, uint64_t first, uint64_t sectors)
{
	uint64_t have = t->disk_bytes / SECTOR;
	uint8_t magic[2];
	bool there;

	if (t->count == PARTTABLE_MAX || first >= have || sectors == 0 || sectors > have - first)
		return ERR_OK;
	enum err e = read_disk(t, magic, sizeof(magic), first * SECTOR + EXT_MAGIC_AT, &there);
	if (e == ERR_OK && there && le16_get(magic) == EXT_MAGIC)
		t->parts[t->count++] = (struct part){.offset = first * SECTOR,
						     .bytes = sectors * SECTOR};
	return e;
}

static enum err read_gpt(struct table *t)
{
	uint8_t head[SECTOR], entry[GPT_ENTRY_MIN];
	bool there;
	enum err e = read_disk(t, head, sizeof(head), SECTOR, &there);

	if (e != ERR_OK || !there || memcmp(head, "EFI PART", 8) != 0)
		return e;
	uint64_t at = le64_get(head + 72);
	uint32_t n = le32_get(head + 80), size = le32_get(head + 84);
	if (n > GPT_ENTRIES_MAX)
		n = GPT_ENTRIES_MAX;
	if (size < GPT_ENTRY_MIN || size > GPT_ENTRY_MAX || at > t->disk_bytes / SECTOR)
		return ERR_OK;
	for (uint32_t i = 0; i < n && e == ERR_OK; i++) {
		e = read_disk(t, entry, sizeof(entry), at * SECTOR + (uint64_t)i * size, &there);
		if (e != ERR_OK || !there || bytes_zero(entry, 16))
			continue;
		uint64_t first = le64_get(entry + 32), last = le64_get(entry + 40);
		if (last >= first && last != UINT64_MAX)
			e = consider(t, first, last - first + 1);
	}
	return e;
}

static enum err read_mbr(struct table *t)
{
	uint8_t sector[SECTOR];
	bool there;
	enum err e = read_disk(t, sector, sizeof(sector), 0, &there);

	if (e != ERR_OK || !there || sector[510] != 0x55 || sector[511] != 0xAA)
		return e;
	for (unsigned i = 0; i < 4 && e == ERR_OK; i++) {
		const uint8_t *p = sector + MBR_ENTRIES + i * MBR_ENTRY;

		if (p[4] == MBR_GPT)
			return read_gpt(t);
		if (p[4] != 0)
			e = consider(t, le32_get(p + 8), le32_get(p + 12));
	}
	return e;
}

enum err parttable_read(int disk, uint64_t disk_bytes, struct part parts[PARTTABLE_MAX],
			unsigned *count)
{
	struct table t = {.disk = disk, .disk_bytes = disk_bytes, .parts = parts};
	enum err e = consider(&t, 0, disk_bytes / SECTOR);

	if (e == ERR_OK && t.count == 0)
		e = read_mbr(&t);
	*count = t.count;
	return e;
}
