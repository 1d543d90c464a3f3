/* SPDX-License-Identifier: Apache-2.0 */
/* layout: names of the archive's files, made and parsed.
 *
 * Parsing is strict and total: a name either is exactly what the maker would
 * produce, or it is no name of ours. */
#include "store/layout.h"

#include "base/bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define TEMP_PREFIX "tmp-"
#define PACK_SUFFIX ".pack"
#define FORWARD_SUFFIX ".forward"

const char *const layout_parts[] = {LAYOUT_MANIFESTS, LAYOUT_PACKS,  LAYOUT_NUMBERS,
				    LAYOUT_INDEX,     LAYOUT_PINS,   LAYOUT_LEASES,
				    LAYOUT_CONDEMNED, LAYOUT_FORWARDS, LAYOUT_KEYS};
const size_t layout_part_count = sizeof(layout_parts) / sizeof(layout_parts[0]);

bool layout_part_needed(const char *part, bool writable)
{
	return strcmp(part, LAYOUT_MANIFESTS) == 0 ||
	       (writable && (strcmp(part, LAYOUT_PACKS) == 0 || strcmp(part, LAYOUT_NUMBERS) == 0));
}

enum err layout_random(void *p, size_t len)
{
	uint8_t *b = p;

	while (len) {
		ssize_t n = getrandom(b, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(errno, "get random bytes");
		b += n;
		len -= (size_t)n;
	}
	return ERR_OK;
}

void layout_pack_id(const struct writer_id *w, uint32_t sequence, struct pack_id *out)
{
	memcpy(out->b, w->b, WRITER_ID_BYTES);
	le32_put(out->b + WRITER_ID_BYTES, sequence);
}

void layout_pack_path(const struct pack_id *id, char out[LAYOUT_PATH_BYTES])
{
	char hex[2 * PACK_ID_BYTES + 1];

	bytes_hex(id->b, PACK_ID_BYTES, hex);
	snprintf(out, LAYOUT_PATH_BYTES, LAYOUT_PACKS "/%s" PACK_SUFFIX, hex);
}

/* Lower-case hex only: one id has one name. */
static bool unhex_exact(const char *text, void *out, size_t len)
{
	char again[2 * PACK_ID_BYTES + 1];

	if (!bytes_unhex(text, out, len))
		return false;
	bytes_hex(out, len, again);
	return strcmp(text, again) == 0;
}

static bool pack_name_parse(const char *file, const char *suffix, struct pack_id *out)
{
	char hex[2 * PACK_ID_BYTES + 1];

	if (strlen(file) != sizeof(hex) - 1 + strlen(suffix) ||
	    strcmp(file + sizeof(hex) - 1, suffix) != 0)
		return false;
	memcpy(hex, file, sizeof(hex) - 1);
	hex[sizeof(hex) - 1] = '\0';
	return unhex_exact(hex, out->b, PACK_ID_BYTES);
}

bool layout_pack_parse(const char *file, struct pack_id *out)
{
	return pack_name_parse(file, PACK_SUFFIX, out);
}

void layout_condemned_path(const struct pack_id *id, bool forward, char out[LAYOUT_PATH_BYTES])
{
	char hex[2 * PACK_ID_BYTES + 1];

	bytes_hex(id->b, PACK_ID_BYTES, hex);
	snprintf(out, LAYOUT_PATH_BYTES, LAYOUT_CONDEMNED "/%s%s", hex,
		 forward ? FORWARD_SUFFIX : PACK_SUFFIX);
}

bool layout_condemned_parse(const char *file, struct pack_id *id, bool *forward)
{
	*forward = pack_name_parse(file, FORWARD_SUFFIX, id);
	return *forward || pack_name_parse(file, PACK_SUFFIX, id);
}

void layout_forward_path(const struct pack_id *id, char out[LAYOUT_PATH_BYTES])
{
	char hex[2 * PACK_ID_BYTES + 1];

	bytes_hex(id->b, PACK_ID_BYTES, hex);
	snprintf(out, LAYOUT_PATH_BYTES, LAYOUT_FORWARDS "/%s", hex);
}

bool layout_forward_parse(const char *file, struct pack_id *out)
{
	return pack_name_parse(file, "", out);
}

void layout_id_path(const char *dir, uint64_t id, char out[LAYOUT_PATH_BYTES])
{
	snprintf(out, LAYOUT_PATH_BYTES, "%s/%016" PRIx64, dir, id);
}

bool layout_id_parse(const char *file, uint64_t *id)
{
	uint8_t b[8];

	if (strlen(file) != 2 * sizeof(b) || !unhex_exact(file, b, sizeof(b)))
		return false;
	*id = 0;
	for (size_t i = 0; i < sizeof(b); i++)
		*id = *id << 8 | b[i];
	return true;
}

void layout_temp_path(const struct writer_id *w, char out[LAYOUT_PATH_BYTES])
{
	char hex[2 * WRITER_ID_BYTES + 1];

	bytes_hex(w->b, WRITER_ID_BYTES, hex);
	snprintf(out, LAYOUT_PATH_BYTES, LAYOUT_MANIFESTS "/" TEMP_PREFIX "%s", hex);
}

bool layout_temp_parse(const char *file, struct writer_id *out)
{
	size_t skip = strlen(TEMP_PREFIX);

	if (strncmp(file, TEMP_PREFIX, skip) != 0 || strlen(file + skip) != 2 * WRITER_ID_BYTES)
		return false;
	return unhex_exact(file + skip, out->b, WRITER_ID_BYTES);
}

void layout_manifest_path(const char *name, uint64_t number, char out[LAYOUT_PATH_BYTES])
{
	snprintf(out, LAYOUT_PATH_BYTES, LAYOUT_MANIFESTS "/%s@%" PRIu64, name, number);
}

bool layout_manifest_parse(const char *file, char name[ARCHIVE_NAME_BYTES], uint64_t *number)
{
	const char *at = strchr(file, '@');
	uint64_t n = 0;

	if (!at || at == file || (size_t)(at - file) >= ARCHIVE_NAME_BYTES)
		return false;
	memcpy(name, file, (size_t)(at - file));
	name[at - file] = '\0';
	if (!layout_name_ok(name) || at[1] < '1' || at[1] > '9')
		return false;
	for (const char *p = at + 1; *p; p++) {
		uint64_t digit = (uint64_t)(*p - '0');

		if (*p < '0' || *p > '9' || n > (UINT64_MAX - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*number = n;
	return true;
}

void layout_number_path(const char *name, char out[LAYOUT_PATH_BYTES])
{
	snprintf(out, LAYOUT_PATH_BYTES, LAYOUT_NUMBERS "/%s", name);
}

bool layout_name_ok(const char *name)
{
	size_t n = 0;

	for (; name[n]; n++) {
		char c = name[n];
		bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

		if (n >= ARCHIVE_NAME_BYTES - 1 || (!alnum && (c != '-' || n == 0)))
			return false;
	}
	return n > 0;
}
