/* SPDX-License-Identifier: Apache-2.0 */
/* test_ring: packets arrive whole and in order, signals are given when and only when the
 * other side waits, and indices that cannot be are refused. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "hv/vmbus/ring.h"
#include "hv/vmbus/spec.h"
#include "tests/unit/cm.h"

#define PAGES 3u
#define BYTES ((PAGES - 1) * 4096)

static struct memory *memory;
static uint64_t page[PAGES] = {0x5000, 0x9000, 0x7000}; /* none follows another */

static int setup(void **state)
{
	(void)state;
	assert_ok(memory_create(MEMORY_MIN_BYTES, &memory));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	memory_destroy(memory);
	return 0;
}

static void set(uint32_t field, uint32_t v)
{
	assert_ok(memory_store32_release(memory, gpa(page[0] + field), v));
}

static uint32_t get(uint32_t field)
{
	uint32_t v = 0;

	assert_ok(memory_load32_acquire(memory, gpa(page[0] + field), &v));
	return v;
}

static struct ring attach(bool reader)
{
	struct ring r;

	assert_ok(ring_attach(&r, memory, page, PAGES, reader));
	return r;
}

/* A packet of `len` bytes whose payload says what it is. */
static void make(uint8_t *p, size_t len, uint8_t number)
{
	memset(p, number, len);
	le16_put(p, 6);
	le16_put(p + 2, 2);
	le16_put(p + 4, (uint16_t)(len / 8));
}

static bool put(struct ring *r, size_t len, uint8_t number, bool *signal)
{
	uint8_t p[8192];
	const struct ring_piece pieces[] = {{p, 16}, {p + 16, len - 16}};
	bool written = false;

	make(p, len, number);
	assert_ok(ring_write(r, pieces, 2, &written, signal));
	return written;
}

static size_t take(struct ring *r, uint8_t *p, bool *signal)
{
	size_t len = 0;

	assert_ok(ring_read(r, p, 8192, &len, signal));
	return len;
}

/* Two ends on the same pages: what one writes the other reads, at every offset. */
static void test_ring__packets_go_round_whole(void **state)
{
	struct ring w = attach(false), r = attach(true);
	uint8_t p[8192], want[8192];
	bool signal;

	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		size_t len = 16 + i * 8 % 2000;

		assert_true(put(&w, len, (uint8_t)i, &signal));
		assert_true(signal); /* it was empty */
		assert_int_equal(take(&r, p, &signal), len);
		make(want, len, (uint8_t)i);
		assert_memory_equal(p, want, len);
		assert_int_equal(take(&r, p, &signal), 0);
	}
}

static void test_ring__lengths_are_padded_to_8(void **state)
{
	struct ring w = attach(false), r = attach(true);
	uint8_t p[64] = {6, 0, 2, 0, 3, 0};
	const struct ring_piece piece = {p, 19};
	bool written, signal;
	size_t len;

	(void)state;
	assert_ok(ring_write(&w, &piece, 1, &written, &signal));
	assert_int_equal(get(0), 32);
	assert_ok(ring_read(&r, p, sizeof(p), &len, &signal));
	assert_int_equal(len, 24);
}

static void test_ring__a_writer_signals_only_who_waits(void **state)
{
	struct ring w = attach(false);
	bool signal;

	(void)state;
	set(8, 1); /* the reader is busy: masked */
	assert_true(put(&w, 64, 1, &signal));
	assert_false(signal);
	set(8, 0);
	assert_true(put(&w, 64, 1, &signal)); /* it was not empty */
	assert_false(signal);
	set(4, get(0)); /* all read */
	assert_true(put(&w, 64, 1, &signal));
	assert_true(signal);
}

static void test_ring__a_full_ring_says_what_it_waits_for(void **state)
{
	struct ring w = attach(false), r = attach(true);
	unsigned n = 0;
	uint8_t p[8192];
	bool signal, waited = false;

	(void)state;
	while (put(&w, 1000, (uint8_t)n, &signal))
		n++;
	assert_int_equal(n, BYTES / 1008);
	assert_int_equal(get(12), 1008);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(take(&r, p, &signal), 1000);
		assert_int_equal(p[16], i);
		/* Exactly when the packet begins to fit. */
		assert_int_equal(signal, i == 0);
		waited = waited || signal;
	}
	assert_true(waited);
	assert_true(put(&w, 1000, 9, &signal));
	assert_int_equal(get(12), 0);
}

static void test_ring__it_is_never_quite_full(void **state)
{
	struct ring w = attach(false);
	const uint8_t p[BYTES] = {0};
	const struct ring_piece fits = {p, BYTES - 16}, exactly = {p, BYTES - 8};
	bool written, signal;

	(void)state;
	assert_err(ring_write(&w, &exactly, 1, &written, &signal), ERR_USAGE);
	assert_ok(ring_write(&w, &fits, 1, &written, &signal));
	assert_true(written);
}

static void test_ring__masking_and_looking_again(void **state)
{
	struct ring w = attach(false), r = attach(true);
	bool signal, more = true;

	(void)state;
	assert_ok(ring_mask(&r, true));
	assert_int_equal(get(8), 1);
	assert_true(put(&w, 64, 1, &signal));
	assert_false(signal);
	assert_ok(ring_mask(&r, false));
	assert_ok(ring_pending(&r, &more)); /* what came in between is not lost */
	assert_true(more);
}

static void test_ring__impossible_indices_are_refused(void **state)
{
	static const uint32_t bad[] = {BYTES, BYTES + 8, 4, 1, UINT32_MAX, 0x80000000};
	struct ring r, w;
	uint8_t p[64];
	bool yes, signal;
	size_t len;

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		set(0, 0);
		set(4, 0);
		r = attach(true);
		w = attach(false);
		set(0, bad[i]);
		set(4, bad[i]);
		assert_err(ring_read(&r, p, sizeof(p), &len, &signal), ERR_GUEST);
		assert_err(ring_pending(&r, &yes), ERR_GUEST);
		assert_err(ring_write(&w, &(struct ring_piece){p, 16}, 1, &yes, &signal), ERR_GUEST);
		assert_err(ring_attach(&r, memory, page, PAGES, true), ERR_GUEST);
		assert_err(ring_attach(&r, memory, page, PAGES, false), ERR_GUEST);
		assert_err(ring_restore(&r, memory, page, PAGES, true, bad[i]), ERR_GUEST);
	}
	assert_err(ring_restore(&r, memory, page, 1, true, 0), ERR_GUEST);
}

static void test_ring__impossible_packets_are_refused(void **state)
{
	static const struct {
		uint16_t offset8, len8;
		uint32_t written;
	} bad[] = {{2, 2, 8}, {2, 2, 16}, {1, 2, 24}, {3, 2, 24}, {2, 1, 24}, {2, 3, 24}, {2, 0, 24},
		   {2, 9, 80}, {0xffff, 0xffff, 4096}, {2, 0xffff, BYTES - 8}};
	uint8_t p[64];
	bool signal;
	size_t len;

	(void)state;
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct ring r;

		set(0, 0);
		set(4, 0);
		r = attach(true);
		make(p, 16, 0);
		le16_put(p + 2, bad[i].offset8);
		le16_put(p + 4, bad[i].len8);
		assert_ok(memory_write(memory, gpa(page[1]), p, 16));
		set(0, bad[i].written);
		assert_err(ring_read(&r, p, sizeof(p), &len, &signal), ERR_GUEST);
		assert_int_equal(len, 0);
		assert_int_equal(get(4), 0); /* nothing was consumed */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(test_ring__##name, setup, teardown)
		T(packets_go_round_whole),
		T(lengths_are_padded_to_8),
		T(a_writer_signals_only_who_waits),
		T(a_full_ring_says_what_it_waits_for),
		T(it_is_never_quite_full),
		T(masking_and_looking_again),
		T(impossible_indices_are_refused),
		T(impossible_packets_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
