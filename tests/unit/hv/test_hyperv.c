/* SPDX-License-Identifier: Apache-2.0 */
/* test_hyperv: what a guest's clock and crash report rely on. */
#include "hv/hyperv.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/cm.h"

#define HZ 2249998000ull

__extension__ typedef unsigned __int128 wide;

struct host {
	struct memory *memory;
	struct hyperv *hv;
	struct synic *synic;
	uint32_t connection, type;
	uint8_t message[240];
	size_t message_bytes;
	enum err answer;
	uint64_t tsc;
	unsigned panics;
	uint32_t panic_vp;
	char text[HYPERV_CRASH_TEXT_BYTES + 1];
};

static bool on_tsc(void *arg, uint32_t vp, uint64_t *tsc)
{
	(void)vp;
	*tsc = ((struct host *)arg)->tsc;
	return true;
}

static void on_panic(void *arg, uint32_t vp, const char *text)
{
	struct host *h = arg;

	h->panics++;
	h->panic_vp = vp;
	strcpy(h->text, text);
}

static void on_inject(void *arg, uint32_t vp, uint8_t vector)
{
	(void)arg, (void)vp, (void)vector;
}

static enum err on_post(void *arg, uint32_t connection, uint32_t type, const uint8_t *p, size_t len)
{
	struct host *h = arg;

	h->connection = connection;
	h->type = type;
	h->message_bytes = len;
	memcpy(h->message, p, len);
	return h->answer;
}

static enum err on_signal(void *arg, uint32_t connection)
{
	struct host *h = arg;

	h->connection = connection;
	return h->answer;
}

static void create(struct host *h, uint64_t hz)
{
	struct hyperv_host host = {.memory = h->memory, .vcpus = 2, .tsc_hz = hz,
				   .guest_tsc = on_tsc, .panic = on_panic, .arg = h,
				   .calls = {on_post, on_signal, h}};

	assert_ok(synic_create(&(struct synic_host){h->memory, 2, on_inject, h}, &h->synic));
	host.synic = h->synic;
	assert_ok(hyperv_create(&host, &h->hv));
}

static void destroy(struct host *h)
{
	hyperv_destroy(h->hv);
	synic_destroy(h->synic);
}

static int setup(void **state)
{
	struct host *h = calloc(1, sizeof(*h));

	assert_ok(memory_create(MEMORY_MIN_BYTES, &h->memory));
	create(h, HZ);
	*state = h;
	return 0;
}

static int teardown(void **state)
{
	struct host *h = *state;

	destroy(h);
	memory_destroy(h->memory);
	free(h);
	return 0;
}

static uint64_t get(struct host *h, uint32_t msr)
{
	uint64_t v = 0;

	if (!hyperv_msr_read(h->hv, 0, msr, &v))
		fail_msg("MSR %#x does not read", msr);
	return v;
}

static void put(struct host *h, uint32_t msr, uint64_t v)
{
	if (!hyperv_msr_write(h->hv, 0, msr, v))
		fail_msg("MSR %#x does not take %#llx", msr, (unsigned long long)v);
}

/* As a guest computes the time, from the page. */
static bool page_time(struct host *h, uint64_t page, uint64_t *time)
{
	uint8_t b[24];

	assert_ok(memory_read(h->memory, gpa(page), b, sizeof(b)));
	*time = (uint64_t)((wide)h->tsc * le64_get(b + 8) >> 64) + le64_get(b + 16);
	return le32_get(b) != 0;
}

static void test_hyperv__page_and_counter_never_disagree(void **state)
{
	struct host *h = *state;
	uint64_t time = 0;

	h->tsc = 777777;
	hyperv_reset(h->hv, h->tsc);
	assert_int_equal(get(h, 0x40000020), 0);
	put(h, 0x40000021, 0x3001);
	for (unsigned i = 0; i < 1000; i++) {
		h->tsc += 1234567891ull * (i + 1);
		assert_true(page_time(h, 0x3000, &time));
		assert_true(get(h, 0x40000020) == time);
	}
	h->tsc = 777777 + 3600 * HZ; /* one hour is one hour, to the microsecond */
	assert_in_range(get(h, 0x40000020), 36000000000ull - 10, 36000000000ull + 10);
}

static void save_load(struct host *from, struct host *to, uint64_t hz)
{
	struct state_out *o;
	struct state_file *f;
	const uint8_t *p;
	size_t len;

	assert_ok(state_out_create(&o));
	hyperv_save(from->hv, from->tsc, o);
	assert_ok(state_out_finish(o, &p, &len));
	assert_ok(state_open(p, len, &f));
	assert_ok(hyperv_load(to->hv, f, hz));
	state_close(f);
	state_out_destroy(o);
}

/* The clock after a move to a host with `hz` whose guest TSC shows `tsc` at resume. */
static void moves(struct host *h, uint64_t hz, uint64_t tsc, bool page_changes)
{
	struct host next = {.memory = h->memory};
	uint64_t before, time = 0;
	uint8_t page[24], after[24];

	put(h, 0x40000000, 0x8100000601c00000);
	put(h, 0x40000021, 0x5001);
	h->tsc = 123456789012345;
	before = get(h, 0x40000020);
	assert_ok(memory_read(h->memory, gpa(0x5000), page, sizeof(page)));
	create(&next, hz);
	save_load(h, &next, hz);
	next.tsc = tsc;
	assert_ok(hyperv_loaded(next.hv));
	assert_in_range(get(&next, 0x40000020), before, before + 1);
	assert_int_equal(get(&next, 0x40000000), 0x8100000601c00000);
	assert_int_equal(get(&next, 0x40000021), 0x5001);
	next.tsc += hz; /* a second later */
	assert_true(page_time(&next, 0x5000, &time));
	assert_true(time == get(&next, 0x40000020));
	/* As exact as the frequency that the clock goes by: 0.1 %. */
	assert_in_range(time - before, 9990000, 10010000);
	assert_ok(memory_read(h->memory, gpa(0x5000), after, sizeof(after)));
	assert_int_equal(memcmp(page, after, sizeof(page)) != 0, page_changes);
	if (page_changes)
		assert_int_not_equal(le32_get(page), le32_get(after));
	destroy(&next);
}

static void test_hyperv__time_goes_on_after_a_move(void **state)
{
	moves(*state, HZ, 123456789012345, false);
}

static void test_hyperv__calibration_noise_is_the_same_clock(void **state)
{
	moves(*state, HZ + HZ / 1250, 123456789012345, false);
}

static void test_hyperv__time_goes_on_at_another_frequency(void **state)
{
	moves(*state, 3600000000, 123456789012345, true);
}

static void test_hyperv__time_goes_on_if_the_tsc_cannot_be_set(void **state)
{
	moves(*state, HZ, 42, true);
	moves(*state, HZ, 123456789012345 + 3600 * HZ, true);
}

static void test_hyperv__saved_before_it_ran_is_saved_as_loaded(void **state)
{
	struct host *h = *state, next = {.memory = h->memory}, third = {.memory = h->memory};
	uint64_t before;

	h->tsc = 50 * HZ;
	before = get(h, 0x40000020);
	create(&next, 2 * HZ);
	create(&third, HZ);
	save_load(h, &next, 2 * HZ);
	next.tsc = 7;
	save_load(&next, &third, HZ);
	third.tsc = 50 * HZ;
	assert_ok(hyperv_loaded(third.hv));
	assert_true(get(&third, 0x40000020) == before);
	destroy(&next);
	destroy(&third);
}

static void test_hyperv__hypercall_page_needs_an_identity(void **state)
{
	struct host *h = *state;
	uint8_t code[8];

	put(h, 0x40000001, 0x6001);
	assert_int_equal(get(h, 0x40000001), 0x6000);
	put(h, 0x40000000, 1);
	put(h, 0x40000001, 0x6001);
	assert_int_equal(get(h, 0x40000001), 0x6001);
	assert_ok(memory_read(h->memory, gpa(0x6000), code, sizeof(code)));
	assert_memory_equal(code, "\xf3\x0f\x1e\xfa\x81\xf9\x5d\x00", 8);
	assert_true(hyperv_has_page(h->hv));
	put(h, 0x40000000, 0);
	assert_false(hyperv_has_page(h->hv));
	assert_int_equal(get(h, 0x40000001), 0x6000);
}

static void test_hyperv__messages_are_copied_and_checked(void **state)
{
	struct host *h = *state;
	uint8_t block[256] = {0};

	le32_put(block, 0xff000004); /* 24 bits count */
	le32_put(block + 8, 1);
	le32_put(block + 12, 240);
	block[255] = 7;
	assert_ok(memory_write(h->memory, gpa(0x9000), block, 256));
	assert_int_equal(hyperv_hypercall(h->hv, 0x5c, 0x9000, 0), 0);
	assert_int_equal(h->connection, 4);
	assert_int_equal(h->type, 1);
	assert_int_equal(h->message_bytes, 240);
	assert_int_equal(h->message[239], 7);
	h->answer = ERR_NOTFOUND;
	assert_int_equal(hyperv_hypercall(h->hv, 0x5c, 0x9000, 0), 18);
	h->answer = ERR_BUSY;
	assert_int_equal(hyperv_hypercall(h->hv, 0x5c, 0x9000, 0), 19);
	h->connection = 0;
	assert_int_equal(hyperv_hypercall(h->hv, 0x5c, 0x9001, 0), 4);
	assert_int_equal(hyperv_hypercall(h->hv, 0x1005c, 0x9000, 0), 3); /* fast */
	assert_int_equal(hyperv_hypercall(h->hv, 1ull << 32 | 0x5c, 0x9000, 0), 3);
	assert_int_equal(hyperv_hypercall(h->hv, 0x5c, MEMORY_MIN_BYTES, 0), 5);
	assert_int_equal(hyperv_hypercall(h->hv, 0x5c, UINT64_MAX - 7, 0), 5);
	le32_put(block + 12, 241);
	assert_ok(memory_write(h->memory, gpa(0x9000), block, 16));
	assert_int_equal(hyperv_hypercall(h->hv, 0x5c, 0x9000, 0), 5);
	assert_int_equal(hyperv_hypercall(h->hv, 0x5b, 0x9000, 0), 2);
	assert_int_equal(h->connection, 0);
}

static void test_hyperv__signals_by_register_and_by_memory(void **state)
{
	struct host *h = *state;
	uint8_t block[8] = {0x34, 0x12, 0, 0, 0, 0, 0, 0};

	assert_int_equal(hyperv_hypercall(h->hv, 0x1005d, 0x2001, 0), 0);
	assert_int_equal(h->connection, 0x2001);
	assert_int_equal(hyperv_hypercall(h->hv, 0x1005d, 1ull << 32 | 0x2002, 0), 5);
	assert_ok(memory_write(h->memory, gpa(0x9000), block, 8));
	assert_int_equal(hyperv_hypercall(h->hv, 0x5d, 0x9000, 0), 0);
	assert_int_equal(h->connection, 0x1234);
	h->answer = ERR_NOTFOUND;
	assert_int_equal(hyperv_signal(h->hv, 9), 18);
	assert_int_equal(h->connection, 9);
}

/* The page's code, interpreted: which port with what, by the control word. */
static void test_hyperv__only_fast_signals_without_flag_take_the_short_way(void **state)
{
	struct host *h = *state;
	uint8_t code[34];

	put(h, 0x40000000, 1);
	put(h, 0x40000001, 0x6001);
	assert_ok(memory_read(h->memory, gpa(0x6000), code, sizeof(code)));
	assert_int_equal(code[10], 0x75);
	assert_memory_equal(code + 12 + code[11], "\xe7\xe4\xc3", 3);
	assert_int_equal(code[19], 0x75);
	assert_memory_equal(code + 21 + code[20], "\xe7\xe4\xc3", 3);
	assert_memory_equal(code + 21, "\x89\xd0\x31\xc9\xe7\xe8\x89\xc8\xc3", 9);
	assert_int_equal(code[33], 0xcc);
}

static void test_hyperv__time_can_be_told_without_a_vcpu(void **state)
{
	struct host *h = *state;

	h->tsc = 40 * HZ;
	hyperv_anchor(h->hv, h->tsc, 1000, HZ, HZ);
	assert_true(hyperv_time_at(h->hv, 1000) == get(h, 0x40000020));
	h->tsc += HZ;
	assert_in_range(hyperv_time_at(h->hv, 1000 + HZ), get(h, 0x40000020) - 1,
			get(h, 0x40000020) + 1);
	hyperv_anchor(h->hv, h->tsc, 1000, HZ, 2 * HZ); /* a scaled guest */
	assert_in_range(hyperv_time_at(h->hv, 1000 + 2 * HZ), get(h, 0x40000020) + 9999999,
			get(h, 0x40000020) + 10000001);
}

static void test_hyperv__pages_outside_memory_fault(void **state)
{
	struct host *h = *state;

	put(h, 0x40000000, 1);
	assert_false(hyperv_msr_write(h->hv, 0, 0x40000001, MEMORY_MIN_BYTES | 1));
	assert_false(hyperv_msr_write(h->hv, 0, 0x40000021, 0xfffffffffffff001));
	assert_false(hyperv_msr_write(h->hv, 1, 0x40000073, MEMORY_HOLE_START | 1));
	assert_int_equal(get(h, 0x40000001), 0);
	assert_int_equal(get(h, 0x40000021), 0);
}

static void test_hyperv__only_what_is_offered_answers(void **state)
{
	static const uint32_t writable[] = {0x40000000, 0x40000001, 0x40000021, 0x40000073,
					    0x40000080, 0x40000082, 0x40000083, 0x40000084,
					    0x40000100, 0x40000101, 0x40000102, 0x40000103,
					    0x40000104, 0x40000105};
	static const uint32_t read_only[] = {0x40000002, 0x40000020, 0x40000022, 0x40000023,
					     0x40000081};
	struct host *h = *state;
	uint64_t v;

	for (uint32_t msr = HYPERV_MSR_FIRST; msr < HYPERV_MSR_FIRST + HYPERV_MSR_COUNT; msr++) {
		bool sint = msr >= 0x40000090 && msr <= 0x4000009f;
		bool w = sint, r = false;

		for (unsigned i = 0; i < sizeof(writable) / sizeof(writable[0]); i++)
			w = w || writable[i] == msr;
		for (unsigned i = 0; i < sizeof(read_only) / sizeof(read_only[0]); i++)
			r = r || read_only[i] == msr;
		if (hyperv_msr_read(h->hv, 1, msr, &v) != (w || r) ||
		    hyperv_msr_write(h->hv, 1, msr, sint ? 0x10000 : 0) != w)
			fail_msg("MSR %#x", msr);
	}
	assert_true(hyperv_msr_read(h->hv, 1, 0x40000002, &v));
	assert_int_equal(v, 1);
	assert_int_equal(get(h, 0x40000022), HZ);
	assert_int_equal(get(h, 0x40000023), 1000000000);
	assert_int_equal(get(h, 0x40000105), 0xc000000000000000);
}

static void test_hyperv__vp_assist_pages_are_per_vcpu_and_kept(void **state)
{
	struct host *h = *state, next = {.memory = h->memory};
	uint8_t b = 0xee;
	uint64_t v = 0;

	assert_ok(memory_write(h->memory, gpa(0x7abc), &b, 1));
	assert_true(hyperv_msr_write(h->hv, 1, 0x40000073, 0x7001));
	assert_ok(memory_read(h->memory, gpa(0x7abc), &b, 1));
	assert_int_equal(b, 0);
	assert_int_equal(get(h, 0x40000073), 0);
	create(&next, HZ);
	save_load(h, &next, HZ);
	assert_true(hyperv_msr_read(next.hv, 1, 0x40000073, &v));
	assert_int_equal(v, 0x7001);
	destroy(&next);
}

static void test_hyperv__a_panic_is_told_with_its_text(void **state)
{
	static const char log[] = "line 1\nline\t2 \x1b[31m \xff end";
	struct host *h = *state;

	assert_ok(memory_write(h->memory, gpa(0x8000), log, sizeof(log)));
	put(h, 0x40000103, 0x8000);
	put(h, 0x40000104, sizeof(log) + 100);
	put(h, 0x40000105, 1ull << 62); /* not a crash yet */
	assert_int_equal(h->panics, 0);
	assert_true(hyperv_msr_write(h->hv, 1, 0x40000105, 3ull << 62));
	assert_int_equal(h->panics, 1);
	assert_int_equal(h->panic_vp, 1);
	assert_string_equal(h->text, "line 1\nline\t2 ?[31m ? end");
}

static void test_hyperv__a_lying_panic_does_no_harm(void **state)
{
	struct host *h = *state;

	assert_ok(memory_zero(h->memory, gpa(0), 1 << 20));
	put(h, 0x40000103, 0xffffffffffffff00);
	put(h, 0x40000104, 4096);
	put(h, 0x40000105, 3ull << 62);
	assert_string_equal(h->text, "");
	put(h, 0x40000103, 0x10000);
	put(h, 0x40000104, 0xffffffffffffffff);
	assert_ok(memory_write(h->memory, gpa(0x10000), "abc", 3));
	for (unsigned i = 3; i < 8192; i++)
		assert_ok(memory_write(h->memory, gpa(0x10000 + i), "z", 1));
	put(h, 0x40000105, 3ull << 62);
	assert_int_equal(strlen(h->text), HYPERV_CRASH_TEXT_BYTES);
	assert_int_equal(h->panics, 2);
}

static void test_hyperv__a_state_that_contradicts_itself_is_refused(void **state)
{
	struct host *h = *state, next = {.memory = h->memory};
	struct state_out *o;
	struct state_file *f;
	const uint8_t *p;
	uint8_t *copy;
	size_t len, refused = 0;

	create(&next, HZ);
	put(h, 0x40000000, 1);
	put(h, 0x40000001, 0x6001);
	h->tsc = 99 * HZ;
	assert_ok(state_out_create(&o));
	hyperv_save(h->hv, h->tsc, o);
	assert_ok(state_out_finish(o, &p, &len));
	copy = malloc(len);
	for (size_t bit = 16 * 8; bit < len * 8; bit += 3) { /* any flipped bit: no crash */
		memcpy(copy, p, len);
		copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (state_open(copy, len, &f) != ERR_OK) {
			refused++;
			continue;
		}
		if (hyperv_load(next.hv, f, HZ) != ERR_OK)
			refused++;
		state_close(f);
	}
	assert_true(refused > len * 8 / 3 / 2);
	free(copy);
	state_out_destroy(o);
	destroy(&next);
}

static void test_hyperv__reset_is_power_on(void **state)
{
	struct host *h = *state;
	uint64_t v = 1;

	put(h, 0x40000000, 1);
	put(h, 0x40000021, 0x3001);
	put(h, 0x40000100, 5);
	assert_true(hyperv_msr_write(h->hv, 1, 0x40000073, 0x7001));
	h->tsc = 1000 * HZ;
	hyperv_reset(h->hv, h->tsc);
	assert_int_equal(get(h, 0x40000000), 0);
	assert_int_equal(get(h, 0x40000021), 0);
	assert_int_equal(get(h, 0x40000100), 0);
	assert_int_equal(get(h, 0x40000020), 0);
	assert_true(hyperv_msr_read(h->hv, 1, 0x40000073, &v));
	assert_int_equal(v, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_hyperv__page_and_counter_never_disagree),
		T(test_hyperv__time_goes_on_after_a_move),
		T(test_hyperv__calibration_noise_is_the_same_clock),
		T(test_hyperv__time_goes_on_at_another_frequency),
		T(test_hyperv__time_goes_on_if_the_tsc_cannot_be_set),
		T(test_hyperv__saved_before_it_ran_is_saved_as_loaded),
		T(test_hyperv__hypercall_page_needs_an_identity),
		T(test_hyperv__messages_are_copied_and_checked),
		T(test_hyperv__signals_by_register_and_by_memory),
		T(test_hyperv__only_fast_signals_without_flag_take_the_short_way),
		T(test_hyperv__time_can_be_told_without_a_vcpu),
		T(test_hyperv__pages_outside_memory_fault),
		T(test_hyperv__only_what_is_offered_answers),
		T(test_hyperv__vp_assist_pages_are_per_vcpu_and_kept),
		T(test_hyperv__a_panic_is_told_with_its_text),
		T(test_hyperv__a_lying_panic_does_no_harm),
		T(test_hyperv__a_state_that_contradicts_itself_is_refused),
		T(test_hyperv__reset_is_power_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
