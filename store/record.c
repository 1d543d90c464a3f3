/* SPDX-License-Identifier: Apache-2.0 */
/* record: 512 bytes with magic, version and digest, alone or in twin files.
 *
 * Format: record.h and FORMAT.md section 2. */
#include "store/record.h"

#include "base/bytes.h"
#include "base/digest.h"
#include "base/fs.h"

#include <string.h>

void record_begin(uint8_t rec[RECORD_BYTES], const char *magic)
{
	memset(rec, 0, RECORD_BYTES);
	memcpy(rec, magic, 8);
	le32_put(rec + 8, FORMAT_VERSION);
}

void record_seal(uint8_t rec[RECORD_BYTES])
{
	struct digest d;

	digest_of(rec, RECORD_BODY, &d);
	memcpy(rec + RECORD_BODY, d.b, DIGEST_BYTES);
}

static enum err other_version(uint32_t version, const char *what)
{
	return err_note(ERR_VERSION, 0,
			"%s: format version %08x, this program reads only %08x: use the program "
			"that wrote it",
			what, version, FORMAT_VERSION);
}

enum err record_check(const uint8_t rec[RECORD_BYTES], const char *magic, const char *what)
{
	uint32_t version = le32_get(rec + 8);
	struct digest d;

	digest_of(rec, RECORD_BODY, &d);
	if (memcmp(rec, magic, 8) != 0 || memcmp(rec + RECORD_BODY, d.b, DIGEST_BYTES) != 0)
		return err_note(ERR_CORRUPT, 0, "%s: damaged record", what);
	if (version != FORMAT_VERSION)
		return other_version(version, what);
	return ERR_OK;
}

enum err record_read_twin(int dirfd, const char *path, const char *magic,
			  uint8_t rec[RECORD_BYTES], bool *damaged)
{
	AUTO_BUF struct buf file = {0};
	enum err e = fs_read_file(dirfd, path, 16 * RECORD_BYTES, &file);
	uint32_t version[2];

	*damaged = false;
	if (e != ERR_OK)
		return e;
	if (file.len < 2 * RECORD_BYTES) {
		*damaged = true;
		buf_put_zero(&file, 2 * RECORD_BYTES - file.len);
		if ((e = buf_check(&file)) != ERR_OK)
			return e;
	}
	for (size_t i = 0; i < 2; i++) {
		const uint8_t *copy = file.data + i * RECORD_BYTES;

		version[i] = memcmp(copy, magic, 8) == 0 ? le32_get(copy + 8) : FORMAT_VERSION;
		e = record_check(copy, magic, path);
		if (e == ERR_CORRUPT)
			continue;
		memcpy(rec, copy, RECORD_BYTES);
		*damaged |= file.len != 2 * RECORD_BYTES ||
			    memcmp(file.data, file.data + RECORD_BYTES, RECORD_BYTES) != 0;
		return e;
	}
	/* A later layout may keep its digest elsewhere, but not its version. */
	if (version[0] != FORMAT_VERSION && version[0] == version[1])
		return other_version(version[0], path);
	return err_note(ERR_CORRUPT, 0, "%s: both copies of the record are damaged", path);
}

enum err record_write_twin(int dirfd, const char *path, const uint8_t rec[RECORD_BYTES])
{
	uint8_t two[2 * RECORD_BYTES];

	memcpy(two, rec, RECORD_BYTES);
	memcpy(two + RECORD_BYTES, rec, RECORD_BYTES);
	return fs_write_file(dirfd, path, two, sizeof(two), 0600);
}
