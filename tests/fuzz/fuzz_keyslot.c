/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_keyslot: a slot of keys/ with its digest repaired, and the text of a key file.
 *
 * What is accepted of a slot must encode to the same bytes again. */
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "store/archive_key.h"
#include "store/keyslot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void slot(const uint8_t *p, size_t len)
{
	uint8_t in[KEYSLOT_BYTES] = {0}, again[KEYSLOT_BYTES];
	size_t body = KEYSLOT_BYTES - DIGEST_BYTES;
	struct keyslot s;
	struct digest d;

	memcpy(in, p, len < body ? len : body);
	digest_of(in, body, &d);
	memcpy(in + body, d.b, DIGEST_BYTES);
	if (keyslot_decode(in, "it", &s) != ERR_OK)
		return;
	keyslot_encode(&s, again);
	if (memcmp(in, again, sizeof(in)) != 0 || s.log2_n > KEYSLOT_LOG2_N_MAX)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct archive_key *key;

	if (size == 0)
		return 0;
	if (data[0] % 4)
		slot(data + 1, size - 1);
	else if (archive_key_from_text(data + 1, size - 1, "it", &key) == ERR_OK)
		archive_key_close(key);
	return 0;
}
