/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_config: a configuration that is accepted is valid, and its own JSON gives the
 * same one again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hv/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_BUF struct buf first = {0}, second = {0};
	struct vm_config c, again;

	if (config_from_json(data, size, &c) != ERR_OK)
		return 0;
	if (config_check(&c) != ERR_OK || config_to_json(&c, &first) != ERR_OK ||
	    config_from_json(first.data, first.len, &again) != ERR_OK ||
	    config_to_json(&again, &second) != ERR_OK || first.len != second.len ||
	    memcmp(first.data, second.data, first.len) != 0)
		abort();
	config_fini(&c);
	config_fini(&again);
	return 0;
}
