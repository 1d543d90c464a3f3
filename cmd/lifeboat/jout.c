/* SPDX-License-Identifier: Apache-2.0 */
/* jout: JSON documents for people's programs. */
#include "cmd/lifeboat/jout.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "cmd/lifeboat/cli.h"

enum err jout_print(json_t *document)
{
	char *text = document ? json_dumps(document, JSON_INDENT(2)) : NULL;

	json_decref(document);
	if (!text)
		return err_note(ERR_NOMEM, 0, "make a JSON document");
	cli_print("%s\n", text);
	free(text);
	return ERR_OK;
}

json_t *jout_text(const char *text)
{
	json_t *s = json_string(text);

	if (s)
		return s;
	char *copy = strdup(text);
	if (!copy)
		return NULL;
	for (char *p = copy; *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	s = json_string(copy);
	free(copy);
	return s;
}

json_int_t jout_int(uint64_t v)
{
	return v > INT64_MAX ? INT64_MAX : (json_int_t)v;
}

bool jout_damaged(const struct checkpoint_info *info)
{
	return bytes_zero(info->digest.b, sizeof(info->digest.b));
}

static json_t *elsewhere(const struct checkpoint_parent *p)
{
	char hex[2 * DIGEST_BYTES + 1];

	bytes_hex(p->digest.b, sizeof(p->digest.b), hex);
	return json_pack("{s:o, s:s}", "checkpoint",
			 json_sprintf("%s@%llu", p->name, (unsigned long long)p->number), "digest",
			 hex);
}

json_t *jout_checkpoint(const struct checkpoint_info *info)
{
	char hex[2 * DIGEST_BYTES + 1], time[21];
	json_t *name = json_sprintf("%s@%llu", info->name, (unsigned long long)info->number);

	if (jout_damaged(info))
		return json_pack("{s:o, s:s, s:I, s:b}", "checkpoint", name, "vm", info->name,
				 "number", jout_int(info->number), "damaged", 1);
	bytes_hex(info->digest.b, sizeof(info->digest.b), hex);
	clock_rfc3339(info->created_ns, time);
	json_t *d = json_pack("{s:o, s:s, s:I, s:s, s:s, s:o, s:I, s:I, s:I, s:b}", "checkpoint",
			      name, "vm", info->name, "number", jout_int(info->number), "digest",
			      hex, "created", time, "label", jout_text(info->label),
			      "logical_bytes", jout_int(info->logical_bytes), "nonzero_bytes",
			      jout_int(info->nonzero_bytes), "stored_bytes",
			      jout_int(info->stored_bytes), "damaged", 0);
	if (d && info->origin.number)
		json_object_set_new(d, "copy_of", elsewhere(&info->origin));
	return d;
}
