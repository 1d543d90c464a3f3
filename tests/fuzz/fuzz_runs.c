/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_runs: a block of runs.  Input: first page (8), pages (8), runs (2), block.
 *
 * What is accepted lies within the block's range, ascends, and encodes to the same
 * bytes again. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "store/runs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
	if (!condition)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_BUF struct buf again = {0};
	struct rd r = rd_make(data, size);
	uint64_t first = rd_le64(&r) >> 12, end = first + (rd_le64(&r) >> 12), at = first;
	uint32_t n = rd_le16(&r);
	size_t len = rd_left(&r);
	struct runs_at position = {.page = first};
	struct run *runs;

	if (r.overrun || len > RUNS_BLOCK_MAX || n == 0 || n > len / 4)
		return 0;
	runs = malloc(n * sizeof(*runs));
	if (!runs)
		return 0;
	if (runs_decode(r.p, len, first, end, n, runs) == ERR_OK) {
		for (uint32_t i = 0; i < n; i++) {
			check(runs[i].count > 0 && runs[i].page >= at);
			at = runs[i].page + runs[i].count;
			check(at <= end);
			runs_put(&again, &position, &runs[i]);
		}
		check(buf_check(&again) == ERR_OK && again.len == len);
		check(memcmp(again.data, r.p, len) == 0);
	}
	free(runs);
	return 0;
}
