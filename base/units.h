/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_UNITS_H
#define BASE_UNITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* units: what people type and read.  ERR_USAGE with a sentence on bad input. */

/* "512M", "4G", "1.5T", "4096": binary multiples, K M G T P, optional "iB" or "B". */
MUST_USE enum err units_size(const char *text, uint64_t *bytes);
/* "90s", "15m", "6h", "7d", "500ms"; a bare number is refused except "0". */
MUST_USE enum err units_duration(const char *text, uint64_t *ns);
/* Whole decimal number within [min, max]; `what` names it in the sentence. */
MUST_USE enum err units_number(const char *text, const char *what, uint64_t min, uint64_t max,
			       uint64_t *value);

#define UNITS_TEXT_BYTES 24
/* "1.5 GiB", "640 KiB", "17 B"; returns out. */
const char *units_format_size(uint64_t bytes, char out[UNITS_TEXT_BYTES]);
/* "1.25 s", "3.1 ms", "40 us", "2m10s", "3h05m" */
const char *units_format_duration(uint64_t ns, char out[UNITS_TEXT_BYTES]);

#endif
