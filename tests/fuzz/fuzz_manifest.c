/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_manifest: the root of a manifest, with its digest repaired.
 *
 * What is accepted must encode to the same bytes again, and nothing in it may point
 * outside of itself. */
#include <stdlib.h>
#include <string.h>

#include "store/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
	if (!condition)
		abort();
}

static void check_tables(const struct manifest *m)
{
	for (uint32_t s = 0; s < m->n_streams; s++) {
		const struct manifest_stream *t = &m->stream[s];
		uint64_t after = 0;

		check(layout_name_ok(t->info.name));
		check((uint64_t)t->first_block + t->blocks <= m->n_blocks);
		for (uint32_t b = t->first_block; b < t->first_block + t->blocks; b++) {
			check(m->block[b].first >= after && m->block[b].end <= t->pages);
			check(m->block[b].bytes <= RUNS_BLOCK_MAX);
			after = m->block[b].end;
		}
	}
	for (uint32_t p = 0; p < m->n_packs; p++)
		check(m->pack[p].slots > 0 && m->pack[p].slots <= PACK_PAGES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct crypt *crypt;
	AUTO_BUF struct buf again = {0};
	struct manifest m;
	struct digest d;
	uint8_t *root;

	if (!crypt)
		check(crypt_create_plain((const uint8_t[16]){1}, &crypt) == ERR_OK);
	if (size < 16 || size > (1u << 20))
		return 0;
	root = malloc(size + DIGEST_BYTES);
	if (!root)
		return 0;
	memcpy(root, data, size);
	le32_put(root + 12, (uint32_t)(size + DIGEST_BYTES));
	digest_of(root, size, &d);
	memcpy(root + size, d.b, DIGEST_BYTES);
	if (manifest_decode(root, size + DIGEST_BYTES, crypt, &m) == ERR_OK) {
		check_tables(&m);
		check(manifest_encode(&m, &again) == ERR_OK);
		check(again.len == size + DIGEST_BYTES);
		check(memcmp(again.data, root, again.len) == 0);
		manifest_fini(&m);
	}
	free(root);
	return 0;
}
