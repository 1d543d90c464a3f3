/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_INSPECT_H
#define HV_INSPECT_H

#include <stddef.h>

#include "base/bytes.h"
#include "base/err.h"
#include "hv/state.h"

/* inspect: a state for people (text) and programs (JSON), by the field tables that
 * saving and loading use.  Any thread.  The blob is hostile: ERR_CORRUPT, ERR_VERSION. */

/* Every kind there is; NULL if there is none of that name. */
const struct state_kind *inspect_kind(const char *name);
/* "vcpu.0 (version 1)" and "  rax_... value" lines, appended. */
MUST_USE enum err inspect_text(const void *state, size_t len, struct buf *out);
/* {"format": N, "sections": [{"kind", "instance", "version", "fields": {...}}]}, appended;
 * 64-bit numbers are hex strings ("0x1f"), bytes are hex. */
MUST_USE enum err inspect_json(const void *state, size_t len, struct buf *out);

#endif
