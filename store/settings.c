/* SPDX-License-Identifier: Apache-2.0 */
/* settings: the archive's configuration.  Format: settings.h, FORMAT.md section 3. */
#include "store/settings.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fs.h"
#include "store/layout.h"
#include "store/record.h"

#include <string.h>

enum err settings_create(int root)
{
	uint8_t two[2 * RECORD_BYTES], id[16];
	enum err e = layout_random(id, sizeof(id));

	if (e != ERR_OK)
		return e;
	record_begin(two, SETTINGS_MAGIC);
	le32_put(two + 12, PAGE_BYTES);
	memcpy(two + 16, id, sizeof(id));
	memcpy(two + 32, id, sizeof(id));
	le64_put(two + 48, clock_real_ns());
	record_seal(two);
	memcpy(two + RECORD_BYTES, two, RECORD_BYTES);
	return fs_create_file(root, LAYOUT_CONFIG, two, sizeof(two), 0600);
}

enum err settings_decode(const uint8_t *rec, struct settings *c)
{
	if (le32_get(rec + 12) != PAGE_BYTES || le32_get(rec + 56) != 0 ||
	    le32_get(rec + 60) != 0 || le64_get(rec + 64) != 0)
		return err_note(ERR_VERSION, 0, "the archive uses a page size, digest or "
						"encryption that this program does not know");
	memcpy(c->archive_id, rec + 16, 16);
	memcpy(c->domain_id, rec + 32, 16);
	c->created_ns = le64_get(rec + 48);
	return ERR_OK;
}

enum err settings_read(int root, struct settings *c, bool *damaged)
{
	uint8_t rec[RECORD_BYTES];
	enum err e = record_read_twin(root, LAYOUT_CONFIG, SETTINGS_MAGIC, rec, damaged);

	return e == ERR_OK ? settings_decode(rec, c) : e;
}
