/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_record: configuration and number records, and file names.  The first byte
 * chooses.  Accepted names are exactly those that would be made again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/settings.h"
#include "store/layout.h"
#include "store/number.h"
#include "store/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
	if (!condition)
		abort();
}

static void names(const char *text)
{
	char name[ARCHIVE_NAME_BYTES], path[LAYOUT_PATH_BYTES];
	struct writer_id w;
	struct pack_id p;
	uint64_t n;

	if (layout_manifest_parse(text, name, &n)) {
		layout_manifest_path(name, n, path);
		check(strcmp(path + strlen(LAYOUT_MANIFESTS) + 1, text) == 0);
	}
	if (layout_pack_parse(text, &p)) {
		layout_pack_path(&p, path);
		check(strcmp(path + strlen(LAYOUT_PACKS) + 1, text) == 0);
	}
	if (layout_temp_parse(text, &w)) {
		layout_temp_path(&w, path);
		check(strcmp(path + strlen(LAYOUT_MANIFESTS) + 1, text) == 0);
	}
	if (layout_name_ok(text))
		check(strlen(text) < ARCHIVE_NAME_BYTES && !strchr(text, '/'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t rec[RECORD_BYTES] = {0};
	struct settings c;
	uint64_t number;
	char *text;

	if (size == 0)
		return 0;
	memcpy(rec, data + 1, size - 1 < RECORD_BODY ? size - 1 : RECORD_BODY);
	if (data[0] % 2) {
		record_seal(rec);
		if (record_check(rec, SETTINGS_MAGIC, "it") == ERR_OK)
			(void)!settings_decode(rec, &c);
		if (record_check(rec, "LBNUMBER", "it") == ERR_OK)
			(void)!number_decode(rec, "web", &number);
		return 0;
	}
	text = malloc(size);
	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	names(text);
	free(text);
	return 0;
}
