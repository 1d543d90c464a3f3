/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_inspect: whatever state_open accepts can be shown, and its JSON is JSON. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

#include "hv/inspect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_BUF struct buf text = {0}, json = {0};
	enum err a, b;
	json_t *root;

	if (size > 1 << 16)
		return 0;
	a = inspect_text(data, size, &text);
	b = inspect_json(data, size, &json);
	if (a != b)
		abort();
	if (a != ERR_OK)
		return 0;
	root = json_loadb((const char *)json.data, json.len, JSON_REJECT_DUPLICATES, NULL);
	if (!root)
		abort();
	json_decref(root);
	return 0;
}
