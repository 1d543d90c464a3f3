/* SPDX-License-Identifier: Apache-2.0 */
/* test_synic: no message is lost or doubled, no interrupt is missing, every source works. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "hv/vmbus/synic.h"
#include "tests/unit/cm.h"

#define SIMP 0x10000u
#define SIEFP 0x11000u

struct bench {
	struct memory *memory;
	struct synic *s;
	unsigned interrupts[2][256], room;
};

static void on_inject(void *arg, uint32_t vp, uint8_t vector)
{
	((struct bench *)arg)->interrupts[vp][vector]++;
}

static void on_room(void *arg)
{
	((struct bench *)arg)->room++;
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_ok(memory_create(MEMORY_MIN_BYTES, &b->memory));
	assert_ok(synic_create(&(struct synic_host){b->memory, 2, on_inject, b}, &b->s));
	synic_set_room(b->s, on_room, b);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	synic_destroy(b->s);
	memory_destroy(b->memory);
	free(b);
	return 0;
}

static void put(struct bench *b, uint32_t msr, uint64_t v)
{
	if (!synic_msr_write(b->s, 0, msr, v))
		fail_msg("MSR %#x does not take %#llx", msr, (unsigned long long)v);
}

static void on(struct bench *b, unsigned sint, uint8_t vector)
{
	put(b, 0x40000083, SIMP | 1);
	put(b, 0x40000082, SIEFP | 1);
	put(b, 0x40000090 + sint, vector);
	put(b, 0x40000080, 1);
}

static uint32_t get(struct bench *b, uint64_t at)
{
	uint8_t w[4];

	assert_ok(memory_read(b->memory, gpa(at), w, 4));
	return le32_get(w);
}

static void set(struct bench *b, uint64_t at, uint32_t v)
{
	uint8_t w[4];

	le32_put(w, v);
	assert_ok(memory_write(b->memory, gpa(at), w, 4));
}

static void post(struct bench *b, unsigned sint, uint32_t value)
{
	uint8_t p[4];

	le32_put(p, value);
	assert_ok(synic_post(b->s, 0, sint, 7, p, 4));
}

static void test_synic__messages_come_in_order_by_every_source(void **state)
{
	struct bench *b = *state;

	for (unsigned sint = 0; sint < 16; sint++) {
		uint64_t slot = SIMP + 256 * sint;

		on(b, sint, (uint8_t)(0x40 + sint));
		for (uint32_t i = 0; i < 50; i++)
			post(b, sint, i);
		for (uint32_t i = 0; i < 50; i++) {
			assert_int_equal(get(b, slot), 7);
			assert_int_equal(get(b, slot + 4) & 0xff, 4);
			assert_int_equal(get(b, slot + 16), i);
			set(b, slot, 0);
			assert_int_equal(!!(get(b, slot + 4) & 0x100), i < 49);
			if (i < 49)
				put(b, 0x40000084, 0);
		}
		put(b, 0x40000084, 0);
		assert_int_equal(get(b, slot), 0);
		assert_int_equal(b->interrupts[0][0x40 + sint], 50);
	}
}

static void test_synic__a_full_slot_asks_for_eom(void **state)
{
	struct bench *b = *state;

	on(b, 2, 0xf3);
	post(b, 2, 1);
	assert_int_equal(get(b, SIMP + 512 + 4) & 0x100, 0); /* nothing waits */
	post(b, 2, 2);
	assert_int_equal(get(b, SIMP + 512 + 4) & 0x100, 0x100);
	assert_int_equal(b->interrupts[0][0xf3], 1);
}

static void test_synic__what_waits_comes_when_it_is_switched_on(void **state)
{
	struct bench *b = *state;

	post(b, 5, 11);
	on(b, 5, 0x50);
	assert_int_equal(get(b, SIMP + 5 * 256 + 16), 11);
	assert_int_equal(b->interrupts[0][0x50], 1);
}

static void test_synic__masked_and_polled_sources_do_not_interrupt(void **state)
{
	struct bench *b = *state;

	on(b, 3, 0x60);
	put(b, 0x40000093, 0x10060);
	post(b, 3, 1);
	synic_signal(b->s, 0, 3, 9);
	put(b, 0x40000094, 0x40061);
	post(b, 4, 1);
	assert_int_equal(b->interrupts[0][0x60] + b->interrupts[0][0x61], 0);
	assert_int_equal(get(b, SIMP + 3 * 256), 7);
	assert_int_equal(get(b, SIMP + 4 * 256), 7);
	assert_int_equal(get(b, SIEFP + 3 * 256), 1 << 9);
}

static void test_synic__flags_interrupt_once_until_taken(void **state)
{
	struct bench *b = *state;

	synic_signal(b->s, 0, 2, 5); /* off: nobody hears it */
	on(b, 2, 0xf3);
	for (unsigned i = 0; i < 3; i++)
		synic_signal(b->s, 0, 2, 2047);
	assert_int_equal(b->interrupts[0][0xf3], 1);
	assert_int_equal(get(b, SIEFP + 2 * 256 + 252), 1u << 31);
	set(b, SIEFP + 2 * 256 + 252, 0);
	synic_signal(b->s, 0, 2, 2047);
	synic_signal(b->s, 0, 2, 0);
	assert_int_equal(b->interrupts[0][0xf3], 3);
	assert_int_equal(b->interrupts[1][0xf3], 0);
}

static void test_synic__pages_are_checked_and_come_empty(void **state)
{
	struct bench *b = *state;

	set(b, SIMP + 512, 9);
	assert_false(synic_msr_write(b->s, 0, 0x40000083, MEMORY_MIN_BYTES | 1));
	assert_false(synic_msr_write(b->s, 0, 0x40000082, 0xfffffffffffff001));
	put(b, 0x40000083, SIMP | 1);
	assert_int_equal(get(b, SIMP + 512), 0);
	set(b, SIMP + 512, 9);
	put(b, 0x40000083, SIMP | 1); /* the same again: it keeps what is in it */
	assert_int_equal(get(b, SIMP + 512), 9);
}

static void test_synic__sources_that_cannot_be_are_refused(void **state)
{
	struct bench *b = *state;
	uint64_t v;

	assert_false(synic_msr_write(b->s, 0, 0x40000090, 15)); /* an exception's vector */
	assert_false(synic_msr_write(b->s, 0, 0x40000090, 0x200f3)); /* auto-EOI */
	assert_false(synic_msr_write(b->s, 0, 0x40000081, 1));
	assert_false(synic_msr_read(b->s, 0, 0x40000085, &v));
	assert_true(synic_msr_read(b->s, 0, 0x40000090, &v));
	assert_int_equal(v, 0x10000);
	assert_true(synic_msr_read(b->s, 0, 0x40000081, &v));
	assert_int_equal(v, 1);
}

static void test_synic__what_waits_is_bounded_and_room_is_told(void **state)
{
	struct bench *b = *state;
	unsigned n = 0;
	uint8_t p[4] = {0};

	on(b, 2, 0xf3);
	while (synic_post(b->s, 0, 2, 1, p, 4) == ERR_OK)
		assert_true(++n <= 2 * SYNIC_QUEUE_MAX);
	assert_int_equal(n, SYNIC_QUEUE_MAX + 1);
	assert_true(synic_congested(b->s, 0, 2));
	assert_false(synic_congested(b->s, 1, 2));
	while (synic_congested(b->s, 0, 2)) {
		assert_int_equal(b->room, 0);
		set(b, SIMP + 512, 0);
		put(b, 0x40000084, 0);
	}
	assert_int_equal(b->room, 1);
	synic_drop(b->s, 0, 2);
	set(b, SIMP + 512, 0);
	put(b, 0x40000084, 0);
	assert_int_equal(get(b, SIMP + 512), 0);
}

static void test_synic__a_checkpoint_keeps_what_waits(void **state)
{
	struct bench *b = *state, next = {.memory = b->memory};
	struct state_out *out;
	struct state_file *file;
	const uint8_t *p;
	size_t len;
	uint64_t v = 0;

	on(b, 2, 0xf3);
	for (uint32_t i = 0; i < 5; i++)
		post(b, 2, i);
	post(b, 9, 77);
	assert_ok(state_out_create(&out));
	synic_save(b->s, out);
	assert_ok(state_out_finish(out, &p, &len));
	assert_ok(synic_create(&(struct synic_host){b->memory, 2, on_inject, &next}, &next.s));
	assert_ok(state_open(p, len, &file));
	assert_ok(synic_load(next.s, file));
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(get(b, SIMP + 512 + 16), i);
		set(b, SIMP + 512, 0);
		assert_true(synic_msr_write(next.s, 0, 0x40000084, 0));
	}
	assert_int_equal(next.interrupts[0][0xf3], 4); /* the first came before */
	assert_int_equal(get(b, SIMP + 9 * 256 + 16), 77);
	assert_true(synic_msr_read(next.s, 0, 0x40000092, &v));
	assert_int_equal(v, 0xf3);
	state_close(file);
	state_out_destroy(out);
	synic_destroy(next.s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(test_synic__##name, setup, teardown)
		T(messages_come_in_order_by_every_source),
		T(a_full_slot_asks_for_eom),
		T(what_waits_comes_when_it_is_switched_on),
		T(masked_and_polled_sources_do_not_interrupt),
		T(flags_interrupt_once_until_taken),
		T(pages_are_checked_and_come_empty),
		T(sources_that_cannot_be_are_refused),
		T(what_waits_is_bounded_and_room_is_told),
		T(a_checkpoint_keeps_what_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
