/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_pack: the directory of a pack, its header and its trailer.
 *
 * The first byte chooses; digests are repaired, so that what is behind them is
 * reached.  What is accepted must be consistent: every slot has its group. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "store/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
	if (!condition)
		abort();
}

static void directory(const uint8_t *p, size_t len)
{
	struct pack_id id = {{0}};
	struct pack_dir dir;
	uint64_t end = RECORD_BYTES;

	if (len >= 40)
		memcpy(id.b, p + 24, sizeof(id.b));
	if (pack_dir_decode(p, len, &id, len % 2 * CIPHER_TAG_BYTES, &dir) != ERR_OK)
		return;
	for (uint32_t i = 0; i < dir.slots; i++) {
		const struct pack_group *g = pack_dir_find(&dir, i);

		check(i >= g->first_slot && i < g->first_slot + g->pages);
	}
	for (uint32_t i = 0; i < dir.groups; i++) {
		check(dir.group[i].offset == end);
		end += dir.group[i].stored_bytes;
	}
	check(end == dir.data_end);
	pack_dir_fini(&dir);
}

static void trailer(const uint8_t *p, size_t len)
{
	uint8_t rec[RECORD_BYTES] = {0}, again[RECORD_BYTES];
	struct pack_ref ref;

	memcpy(rec, p, len < RECORD_BODY ? len : RECORD_BODY);
	record_seal(rec);
	if (pack_trailer_decode(rec, "it", &ref) != ERR_OK)
		return;
	check(ref.slots > 0 && ref.slots <= PACK_PAGES);
	check(pack_file_bytes(&ref) > ref.dir_offset + 2ull * ref.dir_bytes);
	pack_trailer_encode(&ref, again);
	check(memcmp(again + RECORD_FIELDS, rec + RECORD_FIELDS, PACK_REF_BYTES) == 0);
}

static void header(const uint8_t *p, size_t len)
{
	static const struct pack_id id = {{1, 2, 3}};
	static const uint8_t archive_id[16] = {4, 5, 6};
	static struct crypt *crypt;
	uint8_t rec[RECORD_BYTES] = {0}, want[RECORD_BYTES];

	if (!crypt)
		check(crypt_create_plain(archive_id, &crypt) == ERR_OK);
	memcpy(rec, p, len < RECORD_BODY ? len : RECORD_BODY);
	record_seal(rec);
	pack_header_encode(&id, crypt, 0, want);
	check((pack_header_check(rec, &id, crypt, 0, "it") == ERR_OK) ==
	      (memcmp(rec, want, sizeof(rec)) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	switch (data[0] % 4) {
	case 0:
	case 1:
		directory(data + 1, size - 1);
		break;
	case 2:
		trailer(data + 1, size - 1);
		break;
	default:
		header(data + 1, size - 1);
	}
	return 0;
}
