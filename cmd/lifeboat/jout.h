/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_JOUT_H
#define CMD_LIFEBOAT_JOUT_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"
#include "store/archive.h"

/* jout: JSON documents for people's programs: stable keys, units in the names. */

/* Print the document, indented, with a newline; takes it.  NULL (a failed
 * json_pack) is ERR_NOMEM. */
MUST_USE enum err jout_print(json_t *document);

/* A string from an archive or a guest; bytes that are not UTF-8 become '?'. */
json_t *jout_text(const char *text);

/* 2^63 and more do not fit into JSON integers here: those become the largest. */
json_int_t jout_int(uint64_t v);

/* A checkpoint as an object: "checkpoint", "vm", "number", "digest", "created", "label",
 * "logical_bytes", "nonzero_bytes", "stored_bytes", "damaged", and of a copy "copy_of". */
json_t *jout_checkpoint(const struct checkpoint_info *info);

/* Is this listing entry a damaged one (digest all zero)? */
bool jout_damaged(const struct checkpoint_info *info);

#endif
