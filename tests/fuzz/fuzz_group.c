/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_group: the stored form of a group.  Input: codec (1), pages (1), stored form.
 *
 * Whatever it says, it fills exactly its pages or is refused. */
#include <stdlib.h>

#include "store/group.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct group_codec *codec;
	unsigned n;
	uint8_t *pages;

	if (size < 2 || size - 2 > GROUP_BYTES)
		return 0;
	if (!codec && group_codec_create(&codec) != ERR_OK)
		return 0;
	n = 1 + data[1] % GROUP_PAGES;
	pages = malloc((size_t)n * PAGE_BYTES); /* exact, so that a sanitizer sees its end */
	if (pages)
		(void)!group_decode(codec, data + 2, (uint32_t)(size - 2), data[0] % 4, n, pages);
	free(pages);
	return 0;
}
