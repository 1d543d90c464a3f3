/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_keep: forwards, pins, leases and what is condemned.  The first byte chooses; digests are
 * repaired, so that what is behind them is reached.  A forward that is accepted leads each
 * of its slots into a pack. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "store/condemn.h"
#include "store/forward.h"
#include "store/lease.h"
#include "store/pin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
	if (!condition)
		abort();
}

static void leads(const struct forward *f)
{
	for (uint32_t slot = f->first; slot < f->end; slot++) {
		const struct pack_ref *target;
		uint32_t at, count;

		if (forward_find(f, slot, &target, &at, &count) != ERR_OK)
			continue;
		check(target >= f->target && target < f->target + f->n_targets);
		check(count > 0 && slot + count <= f->end && at + count <= target->slots);
	}
}

static void forward(const uint8_t *p, size_t len)
{
	uint8_t *copy;
	struct forward f;
	struct digest d;

	if (len < FORWARD_FIXED)
		return;
	copy = malloc(len);
	check(copy != NULL);
	memcpy(copy, p, len);
	memcpy(copy, FORWARD_MAGIC, 8);
	le32_put(copy + 8, FORMAT_VERSION);
	digest_of(copy + RECORD_BYTES, len - RECORD_BYTES, &d);
	memcpy(copy + 100, d.b, sizeof(d));
	record_seal(copy);
	if (forward_decode(copy, len, &f) == ERR_OK) {
		check(forward_bytes(&f) == len);
		leads(&f);
		forward_fini(&f);
	}
	free(copy);
}

static void record(const uint8_t *p, size_t len, unsigned kind)
{
	static const char *const magics[] = {PIN_MAGIC, LEASE_MAGIC, CONDEMN_MAGIC};
	uint8_t rec[RECORD_BYTES] = {0}, again[RECORD_BYTES] = {0};
	struct archive_pin pin;
	struct lease_info lease;
	struct condemned c;

	memcpy(rec, p, len < RECORD_BODY ? len : RECORD_BODY);
	memcpy(rec, magics[kind], 8);
	le32_put(rec + 8, FORMAT_VERSION);
	record_seal(rec);
	memset(&pin, 0, sizeof(pin));
	if (kind == 0 && pin_decode(rec, &pin) == ERR_OK)
		pin_encode(&pin, again);
	else if (kind == 1 && lease_decode(rec, &lease) == ERR_OK)
		lease_encode(&lease, again);
	else if (kind == 2 && condemned_decode(rec, &c) == ERR_OK)
		condemned_encode(&c, again);
	else
		return;
	if (kind != 1) /* what follows the end of a lease's text is not looked at */
		check(memcmp(rec, again, sizeof(rec)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] % 4 == 3)
		forward(data + 1, size - 1);
	else
		record(data + 1, size - 1, data[0] % 4);
	return 0;
}
