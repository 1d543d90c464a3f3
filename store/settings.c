/* SPDX-License-Identifier: Apache-2.0 */
/* settings: the archive's configuration.  Format: settings.h, FORMAT.md section 3. */
#include "store/settings.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fs.h"
#include "store/layout.h"

#include <string.h>

enum err settings_new(struct settings *c)
{
	memset(c, 0, sizeof(*c));
	c->created_ns = clock_real_ns();
	c->level = GROUP_LEVEL_DEFAULT;
	return layout_random(c->archive_id, sizeof(c->archive_id));
}

void settings_encode(const struct settings *c, uint8_t rec[RECORD_BYTES])
{
	record_begin(rec, SETTINGS_MAGIC);
	le32_put(rec + 12, PAGE_BYTES);
	memcpy(rec + 16, c->archive_id, 16);
	memcpy(rec + 32, c->domain_id, 16);
	le64_put(rec + 48, c->created_ns);
	le32_put(rec + 56, c->encrypted);
	le32_put(rec + 60, c->encrypted);
	le64_put(rec + 64, c->epoch);
	le32_put(rec + 72, (uint32_t)c->level);
	memcpy(rec + SETTINGS_SEALED_BYTES, c->seal.b, DIGEST_BYTES);
	record_seal(rec);
}

enum err settings_create(int root, const struct settings *c)
{
	uint8_t two[2 * RECORD_BYTES];

	settings_encode(c, two);
	memcpy(two + RECORD_BYTES, two, RECORD_BYTES);
	return fs_create_file(root, LAYOUT_CONFIG, two, sizeof(two), 0600);
}

enum err settings_decode(const uint8_t *rec, struct settings *c)
{
	uint32_t digest = le32_get(rec + 56), encryption = le32_get(rec + 60);
	uint64_t epoch = le64_get(rec + 64);

	memset(c, 0, sizeof(*c));
	if (le32_get(rec + 12) != PAGE_BYTES || digest > 1 || encryption != digest ||
	    epoch > UINT32_MAX || (epoch != 0) != (encryption != 0))
		return err_note(ERR_VERSION, 0, "the archive uses a page size, digest or "
						"encryption that this program does not know");
	memcpy(c->archive_id, rec + 16, 16);
	memcpy(c->domain_id, rec + 32, 16);
	c->created_ns = le64_get(rec + 48);
	c->encrypted = encryption != 0;
	c->epoch = (uint32_t)epoch;
	c->level = (int)(int32_t)le32_get(rec + 72);
	memcpy(c->seal.b, rec + SETTINGS_SEALED_BYTES, DIGEST_BYTES);
	if (!group_level_ok(c->level))
		return err_note(ERR_VERSION, 0, "the archive uses a level of compression that this "
						"program does not know");
	return ERR_OK;
}

enum err settings_read(int root, struct settings *c, bool *damaged)
{
	uint8_t rec[RECORD_BYTES];
	enum err e = record_read_twin(root, LAYOUT_CONFIG, SETTINGS_MAGIC, rec, damaged);

	return e == ERR_OK ? settings_decode(rec, c) : e;
}
