/* SPDX-License-Identifier: Apache-2.0 */
/* test_dirty: pages that a real guest and our own code write are found, once.
 * Needs /dev/kvm; is skipped without. */
#include "hv/dirty.h"

#include "hv/boot.h"
#include "hv/kvm/kvm.h"
#include "tests/unit/cm.h"
#include "tests/unit/hv/image.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>

#define RAM_BYTES ((3ull << 30) + (32ull << 20)) /* two slots */
#define DONE_PORT 0x80
#define WORDS (RAM_BYTES / 4096 / 64)

struct fixture {
	int kvm_fd, vm_fd, vcpu_fd;
	struct kvm_run *run;
	size_t run_bytes;
	struct memory *m;
	struct dirty *d;
	uint64_t *bits;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	*state = f;
	f->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (f->kvm_fd < 0)
		return 0; /* each test skips */
	assert_ok(kvm_vm_create(f->kvm_fd, 0xfffbd000, 0xfffbc000, &f->vm_fd));
	assert_ok(memory_create(RAM_BYTES, &f->m));
	assert_ok(dirty_create(f->m, f->vm_fd, &f->d));
	assert_ok(kvm_vcpu_create(f->kvm_fd, f->vm_fd, 0, &f->vcpu_fd, &f->run, &f->run_bytes));
	assert_int_equal(dirty_words(f->d), WORDS);
	f->bits = calloc(WORDS, sizeof *f->bits);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->kvm_fd >= 0) {
		kvm_vcpu_close(f->vcpu_fd, f->run, f->run_bytes);
		dirty_destroy(f->d);
		close(f->vm_fd);
		memory_destroy(f->m);
		close(f->kvm_fd);
	}
	free(f->bits);
	free(f);
	return 0;
}

static void need_kvm(const struct fixture *f)
{
	if (f->kvm_fd < 0)
		skip();
}

/* Run a guest that writes one word at each address. */
static void guest_writes(struct fixture *f, const uint32_t *at, size_t n)
{
	static const struct boot_entry entry = {.rip = 0x100000};
	AUTO_BUF struct buf code = {0};

	for (size_t i = 0; i < n; i++)
		code_store32(&code, at[i], 0x55aa0000u + (uint32_t)i);
	code_out8(&code, DONE_PORT, 0);
	assert_ok(memory_write(f->m, gpa(0x100000), code.data, code.len));
	assert_ok(boot_set_registers(f->vcpu_fd, &entry));
	for (;;) {
		assert_int_equal(kvm_run(f->vcpu_fd), 0);
		if (f->run->exit_reason == KVM_EXIT_IO && f->run->io.port == DONE_PORT)
			return;
		fail_msg("the guest came back with exit %u", f->run->exit_reason);
	}
}

static unsigned fetch(struct fixture *f)
{
	unsigned n = 0;

	memset(f->bits, 0, WORDS * sizeof *f->bits);
	assert_ok(dirty_fetch(f->d, f->bits));
	for (size_t i = 0; i < WORDS; i++)
		n += (unsigned)__builtin_popcountll(f->bits[i]);
	return n;
}

static bool dirty(const struct fixture *f, uint64_t address)
{
	return f->bits[address / 4096 / 64] >> address / 4096 % 64 & 1;
}

static void test_dirty__finds_guest_writes_once(void **state)
{
	static const uint32_t first[] = {0x200000, 0x201ffc, 0x400000, 0xbffff000, 0xbf000000};
	static const uint32_t second[] = {0x201000, 0x600000};
	struct fixture *f = *state;

	need_kvm(f);
	guest_writes(f, first, 5); /* before the start: not recorded */
	assert_ok(dirty_start(f->d));
	assert_int_equal(fetch(f), 0);
	guest_writes(f, first, 5);
	assert_int_equal(fetch(f), 6); /* and the page of its code, written by us */
	for (size_t i = 0; i < 5; i++)
		assert_true(dirty(f, first[i]));
	assert_true(dirty(f, 0x100000));
	assert_int_equal(fetch(f), 0);
	guest_writes(f, second, 2);
	assert_int_equal(fetch(f), 3);
	assert_true(dirty(f, second[0]) && dirty(f, second[1]));
	assert_false(dirty(f, 0x200000));
	assert_int_equal(fetch(f), 0);
}

static void test_dirty__finds_our_writes_above_the_hole(void **state)
{
	struct fixture *f = *state;
	uint8_t data[5000] = {1};

	need_kvm(f);
	assert_ok(dirty_start(f->d));
	assert_ok(memory_write(f->m, gpa((4ull << 30) + 0x3ffe), data, sizeof data));
	assert_int_equal(fetch(f), 3);
	for (uint64_t page = 3; page < 6; page++)
		assert_true(dirty(f, (3ull << 30) + page * 4096)); /* by offset */
	assert_int_equal(fetch(f), 0);
}

static void test_dirty__stops_and_starts_empty(void **state)
{
	static const uint32_t at[] = {0x200000, 0x300000};
	struct fixture *f = *state;

	need_kvm(f);
	assert_ok(dirty_start(f->d));
	guest_writes(f, at, 2);
	assert_ok(dirty_stop(f->d));
	guest_writes(f, at, 2);
	assert_ok(dirty_start(f->d));
	assert_int_equal(fetch(f), 0);
	guest_writes(f, at, 2);
	assert_ok(dirty_start(f->d)); /* again: anew */
	assert_int_equal(fetch(f), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_dirty__finds_guest_writes_once, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_dirty__finds_our_writes_above_the_hole, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_dirty__stops_and_starts_empty, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
