/* SPDX-License-Identifier: Apache-2.0 */
/* test_vm: a whole machine, with guests of a few instructions, through all its
 * states.  Needs /dev/kvm; is skipped without. */
#include "hv/vm.h"

#include "base/clock.h"
#include "tests/unit/cm.h"
#include "tests/unit/hv/image.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define COM1 0x3f8
#define SLEEP 0x600
#define RESET 0x602
#define COUNTER 0x200000u
#define FLAG 0x300000u
#define RAM_BYTES (16ull << 20)
#define PATIENCE_NS (20 * NS_PER_SEC)

struct fixture {
	struct loop *loop;
	struct loop_timer *patience;
	struct vm_host host;
	struct vm_config config;
	struct vm *vm;
	unsigned events;
	enum vm_event_kind last;
	char text[2048];
};

static void on_event(void *arg, const struct vm_event *event)
{
	struct fixture *f = arg;

	f->events++;
	f->last = event->kind;
	snprintf(f->text, sizeof f->text, "%s", event->text);
	loop_stop(f->loop);
}

static void on_patience(void *arg)
{
	loop_stop(((struct fixture *)arg)->loop);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	*state = f;
	assert_ok(loop_create(&f->loop));
	assert_ok(loop_timer_create(f->loop, on_patience, f, &f->patience));
	f->host = (struct vm_host){
		.loop = f->loop,
		.kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC),
		.kernel_fd = -1,
		.initrd_fd = -1,
		.event = on_event,
		.arg = f,
	};
	for (int i = 0; i < 2; i++)
		assert_ok(console_create(f->loop, &f->host.console[i]));
	config_init(&f->config);
	strcpy(f->config.name, "test");
	f->config.memory_bytes = RAM_BYTES;
	f->config.vcpus = 2;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	vm_destroy(f->vm);
	for (int i = 0; i < 2; i++)
		console_destroy(f->host.console[i]);
	loop_destroy(f->loop);
	if (f->host.kernel_fd >= 0)
		close(f->host.kernel_fd);
	if (f->host.kvm_fd >= 0)
		close(f->host.kvm_fd);
	config_fini(&f->config);
	free(f);
	return 0;
}

/* A machine whose guest is this code, ready to run. */
static void boot(struct fixture *f, const struct buf *code)
{
	AUTO_BUF struct buf image = {0};

	if (f->host.kvm_fd < 0)
		skip();
	image_pvh(&image, code->data, (uint32_t)code->len, 65536);
	f->host.kernel_fd = image_file(image.data, image.len);
	assert_true(f->host.kernel_fd >= 0);
	assert_ok(vm_create(&f->config, &f->host, &f->vm));
	assert_int_equal(vm_state(f->vm), VM_CREATED);
	assert_ok(vm_boot(f->vm));
	assert_int_equal(vm_state(f->vm), VM_PAUSED);
}

/* Run until an event comes. */
static void run(struct fixture *f, enum vm_event_kind want)
{
	unsigned before = f->events;

	assert_ok(vm_resume(f->vm));
	loop_timer_set(f->patience, PATIENCE_NS);
	assert_ok(loop_run(f->loop));
	if (f->events == before)
		fail_msg("no event in time");
	assert_int_equal(f->last, want);
	assert_int_equal(vm_state(f->vm),
			 want == VM_EVENT_GUEST_PANIC ? VM_RUNNING : VM_PAUSED);
}

static void nap(uint64_t ns)
{
	const struct timespec t = {.tv_sec = 0, .tv_nsec = (long)ns};

	nanosleep(&t, NULL);
}

static uint32_t word(struct fixture *f, uint32_t at)
{
	uint8_t b[4];

	assert_ok(memory_read(vm_memory(f->vm), gpa(at), b, sizeof b));
	return le32_get(b);
}

/* Until the guest has counted on from there; how long that takes is the host's affair. */
static void await_count(struct fixture *f, uint32_t from)
{
	for (unsigned i = 0; word(f, COUNTER) <= from; i++) {
		assert_true(i < 20000);
		nap(1000000);
	}
}

static void code_power_off(struct buf *b)
{
	code_out8(b, SLEEP, 0x34);
	code_spin(b);
}

/* for (;;) ++*COUNTER */
static void code_count(struct buf *b)
{
	static const uint8_t inc[] = {0xff, 0x05, 0x00, 0x00, 0x20, 0x00, 0xeb, 0xf8};

	buf_put(b, inc, sizeof inc);
}

static void test_vm__speaks_and_switches_itself_off(void **state)
{
	struct fixture *f = *state;
	AUTO_BUF struct buf code = {0}, said = {0};
	struct vm_stats s;

	code_out8(&code, COM1, 'h');
	code_out8(&code, COM1, 'i');
	code_out8(&code, 0x1234, 0);
	code_power_off(&code);
	boot(f, &code);
	run(f, VM_EVENT_POWER_OFF);
	console_scrollback(f->host.console[0], &said);
	assert_string_equal(buf_str(&said), "hi");
	vm_stats(f->vm, &s);
	assert_int_equal(s.unclaimed.port_writes, 1);
	assert_int_equal(s.unclaimed.port_reads, 0);
	assert_true(s.exits >= 4);
}

static void test_vm__reset_is_power_on_again(void **state)
{
	struct fixture *f = *state;
	AUTO_BUF struct buf code = {0}, said = {0};
	struct vm_stats s;

	code_send32(&code, COUNTER); /* zeros, if RAM was cleared */
	code_store32(&code, COUNTER, 0x64636261);
	code_send32(&code, COUNTER);
	code_out8(&code, RESET, 1);
	code_spin(&code);
	boot(f, &code);
	for (int i = 0; i < 3; i++) {
		run(f, VM_EVENT_RESET);
		assert_ok(vm_reset(f->vm));
		assert_int_equal(vm_state(f->vm), VM_PAUSED);
		assert_int_equal(word(f, COUNTER), 0);
	}
	console_scrollback(f->host.console[0], &said);
	assert_int_equal(said.len, 24);
	for (size_t i = 0; i < 24; i += 8)
		assert_memory_equal(said.data + i, "\0\0\0\0abcd", 8);
	vm_stats(f->vm, &s);
	assert_int_equal(s.resets, 3);
}

static void test_vm__i8042_pulse_is_a_reset(void **state)
{
	struct fixture *f = *state;
	AUTO_BUF struct buf code = {0};

	code_out8(&code, 0x64, 0xfe);
	code_spin(&code);
	boot(f, &code);
	run(f, VM_EVENT_RESET);
}

static void test_vm__triple_fault_stays_until_reset(void **state)
{
	struct fixture *f = *state;
	AUTO_BUF struct buf code = {0};

	buf_put_le16(&code, 0x0b0f); /* ud2, and no table to handle it */
	boot(f, &code);
	run(f, VM_EVENT_TRIPLE_FAULT);
	/* On AMD the processor forgets where it was. */
	assert_non_null(strstr(f->text, "rip="));
	assert_non_null(strstr(f->text, "code="));
	run(f, VM_EVENT_TRIPLE_FAULT); /* it cannot go on */
	assert_ok(vm_reset(f->vm));
	run(f, VM_EVENT_TRIPLE_FAULT);
}

/* A guest that does nothing but say that it crashed. */
static void test_vm__panics_are_told_but_not_for_ever(void **state)
{
	static const uint8_t loop[] = {
		0xb9, 0x05, 0x01, 0x00, 0x40,	    /* mov ecx, HV_X64_MSR_CRASH_CTL */
		0xba, 0x00, 0x00, 0x00, 0x80,	    /* mov edx, notify */
		0x31, 0xc0,			    /* xor eax, eax */
		0x0f, 0x30,			    /* wrmsr */
		0xff, 0x05, 0x00, 0x00, 0x20, 0x00, /* inc dword [COUNTER] */
		0xeb, 0xf6};			    /* jmp wrmsr */
	struct fixture *f = *state;
	AUTO_BUF struct buf code = {0};

	buf_put(&code, loop, sizeof loop);
	boot(f, &code);
	for (unsigned start = 0; start < 2; start++) {
		f->events = 0;
		run(f, VM_EVENT_GUEST_PANIC);
		for (unsigned i = 0; i < 10 || word(f, COUNTER) < 4 * VM_PANICS_MAX; i++) {
			loop_timer_set(f->patience, 20 * NS_PER_MS);
			assert_ok(loop_run(f->loop));
		}
		assert_true(f->events >= 1 && f->events <= VM_PANICS_MAX);
		assert_int_equal(vm_state(f->vm), VM_RUNNING);
		assert_ok(vm_pause(f->vm));
		assert_ok(vm_reset(f->vm));
	}
}

static void test_vm__what_kvm_cannot_run_is_an_internal_error(void **state)
{
	static const uint8_t jump[] = {0xb8, 0x00, 0x00, 0x00, 0xd0, 0xff, 0xe0};
	struct fixture *f = *state;
	AUTO_BUF struct buf code = {0};

	buf_put(&code, jump, sizeof jump); /* to an address where no RAM is */
	boot(f, &code);
	run(f, VM_EVENT_INTERNAL_ERROR);
	assert_non_null(strstr(f->text, "rip=d0000000"));
	assert_non_null(strstr(f->text, "code="));
}

static void test_vm__pauses_at_any_instant(void **state)
{
	struct fixture *f = *state;
	AUTO_BUF struct buf code = {0};
	uint32_t last = 0;

	code_count(&code);
	boot(f, &code);
	for (int i = 0; i < 200; i++) {
		uint32_t now;

		assert_ok(vm_resume(f->vm));
		assert_int_equal(vm_state(f->vm), VM_RUNNING);
		nap((uint64_t)(i % 7) * 100000);
		assert_ok(vm_pause(f->vm));
		now = word(f, COUNTER);
		nap(100000);
		assert_int_equal(word(f, COUNTER), now); /* it stands */
		assert_true(now >= last);
		last = now;
	}
	assert_true(last > 1000);
	assert_int_equal(f->events, 0);
}

static void test_vm__an_access_is_never_done_twice(void **state)
{
	/* for (;;) { ++*COUNTER; out COM1, low byte of it } */
	static const uint8_t loop[] = {
		0x66, 0xba, 0xf8, 0x03,		    /* mov dx, COM1 */
		0xff, 0x05, 0x00, 0x00, 0x20, 0x00, /* inc dword [COUNTER] */
		0xa0, 0x00, 0x00, 0x20, 0x00,	    /* mov al, [COUNTER] */
		0xee,				    /* out dx, al */
		0xeb, 0xf2};			    /* jmp inc */
	struct fixture *f = *state;
	AUTO_BUF struct buf code = {0}, said = {0};

	buf_put(&code, loop, sizeof loop);
	boot(f, &code);
	for (int i = 0; i < 300; i++) {
		assert_ok(vm_resume(f->vm));
		nap(300000);
		assert_ok(vm_pause(f->vm));
	}
	console_scrollback(f->host.console[0], &said);
	assert_true(said.len > 1000);
	for (size_t i = 1; i < said.len; i++)
		if ((uint8_t)(said.data[i] - said.data[i - 1]) != 1)
			fail_msg("byte %zu of %zu is %u after %u", i, said.len, said.data[i],
				 said.data[i - 1]);
}

/* Copy all RAM and the state of f into a new machine. */
static void move_to(struct fixture *f, struct fixture *to)
{
	AUTO_BUF struct buf state = {0};
	uint8_t *ram = malloc(RAM_BYTES);

	assert_non_null(ram);
	assert_ok(vm_save(f->vm, &state));
	assert_ok(memory_read(vm_memory(f->vm), gpa(0), ram, RAM_BYTES));
	vm_destroy(f->vm);
	f->vm = NULL;
	assert_ok(vm_create(&to->config, &to->host, &to->vm));
	assert_ok(vm_check(to->vm, state.data, state.len));
	assert_ok(memory_write(vm_memory(to->vm), gpa(0), ram, RAM_BYTES));
	assert_ok(vm_load(to->vm, state.data, state.len));
	assert_int_equal(vm_state(to->vm), VM_PAUSED);
	free(ram);
}

static void test_vm__goes_on_in_another_machine(void **state)
{
	struct fixture *f = *state;
	AUTO_BUF struct buf code = {0};
	uint32_t last = 0;

	code_count(&code);
	boot(f, &code);
	for (int i = 0; i < 5; i++) {
		assert_ok(vm_resume(f->vm));
		await_count(f, last);
		assert_ok(vm_pause(f->vm));
		last = word(f, COUNTER);
		move_to(f, f);
		assert_int_equal(word(f, COUNTER), last);
	}
	/* What was loaded can be reset: its kernel is there. */
	assert_ok(vm_reset(f->vm));
	assert_int_equal(word(f, COUNTER), 0);
	assert_ok(vm_resume(f->vm));
	await_count(f, 0);
	assert_ok(vm_pause(f->vm));
}

static void test_vm__a_power_off_survives_pause_and_checkpoint(void **state)
{
	struct fixture *f = *state;
	AUTO_BUF struct buf code = {0};

	code_store32(&code, FLAG, 1);
	code_power_off(&code);
	boot(f, &code);
	assert_ok(vm_resume(f->vm));
	while (!word(f, FLAG))
		nap(1000000);
	nap(50000000); /* it is off by now, and the loop, not running, was not told */
	assert_ok(vm_pause(f->vm));
	move_to(f, f);
	assert_int_equal(f->events, 0);
	run(f, VM_EVENT_POWER_OFF);
}

/* An MSR below 0x40000200, with a value of 32 bits in each half. */
static void code_wrmsr(struct buf *b, uint32_t msr, uint32_t high, uint32_t low)
{
	buf_put_le8(b, 0xb9); /* mov ecx */
	buf_put_le32(b, msr);
	buf_put_le8(b, 0xba); /* mov edx */
	buf_put_le32(b, high);
	buf_put_le8(b, 0xb8); /* mov eax */
	buf_put_le32(b, low);
	buf_put_le8(b, 0x0f);
	buf_put_le8(b, 0x30);
}

static void test_vm__last_words_survive_pause_and_checkpoint(void **state)
{
	struct fixture *f = *state;
	AUTO_BUF struct buf code = {0};

	code_store32(&code, COUNTER, 0x7370756f); /* "oups" */
	code_wrmsr(&code, 0x40000103, 0, COUNTER);
	code_wrmsr(&code, 0x40000104, 0, 4);
	code_wrmsr(&code, 0x40000105, 0xc0000000, 0);
	code_store32(&code, FLAG, 1);
	code_spin(&code);
	boot(f, &code);
	assert_ok(vm_resume(f->vm));
	while (!word(f, FLAG))
		nap(1000000);
	assert_ok(vm_pause(f->vm)); /* it has panicked, and the loop, not running, was not told */
	move_to(f, f);
	assert_int_equal(f->events, 0);
	run(f, VM_EVENT_GUEST_PANIC);
	assert_string_equal(f->text, "oups");
}

static void test_vm__refuses_what_its_state_forbids(void **state)
{
	struct fixture *f = *state;
	AUTO_BUF struct buf code = {0}, image = {0};

	code_count(&code);
	if (f->host.kvm_fd < 0)
		skip();
	assert_ok(vm_create(&f->config, &f->host, &f->vm));
	assert_err(vm_resume(f->vm), ERR_FAILED);
	assert_err(vm_pause(f->vm), ERR_FAILED);
	assert_err(vm_save(f->vm, &image), ERR_BUSY);
	assert_err(vm_reset(f->vm), ERR_BUSY);
	assert_err(vm_load(f->vm, "garbage", 7), ERR_CORRUPT);
	assert_int_equal(vm_state(f->vm), VM_CREATED);
	vm_destroy(f->vm);
	boot(f, &code); /* a new one */
	assert_err(vm_boot(f->vm), ERR_BUSY);
	assert_err(vm_load(f->vm, "garbage", 7), ERR_BUSY);
	assert_ok(vm_resume(f->vm));
	assert_ok(vm_resume(f->vm));
	assert_err(vm_save(f->vm, &image), ERR_BUSY);
	assert_err(vm_reset(f->vm), ERR_BUSY);
	assert_int_equal(image.len, 0);
	/* and is destroyed while it runs */
}

static void test_vm__a_reset_that_fails_can_be_tried_again(void **state)
{
	struct fixture *f = *state;
	AUTO_BUF struct buf code = {0}, image = {0};

	code_power_off(&code);
	boot(f, &code);
	assert_int_equal(ftruncate(f->host.kernel_fd, 0), 0); /* someone's careless copy */
	assert_err(vm_reset(f->vm), ERR_USAGE);
	assert_err(vm_resume(f->vm), ERR_FAILED);
	image_pvh(&image, code.data, (uint32_t)code.len, 65536);
	assert_int_equal(pwrite(f->host.kernel_fd, image.data, image.len, 0), image.len);
	assert_ok(vm_reset(f->vm));
	run(f, VM_EVENT_POWER_OFF);
}

static void test_vm__a_bad_kernel_is_told(void **state)
{
	struct fixture *f = *state;

	if (f->host.kvm_fd < 0)
		skip();
	f->host.kernel_fd = image_file("no kernel", 9);
	assert_ok(vm_create(&f->config, &f->host, &f->vm));
	assert_err(vm_boot(f->vm), ERR_USAGE);
	assert_non_null(strstr(err_text(), "not a kernel"));
	assert_err(vm_resume(f->vm), ERR_FAILED);
}

static void test_vm__without_kvm_is_told(void **state)
{
	struct fixture *f = *state;
	struct vm_host host = f->host;

	host.kvm_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_err(vm_create(&f->config, &host, &f->vm), ERR_USAGE);
	assert_non_null(strstr(err_text(), "/dev/kvm"));
	close(host.kvm_fd);
}

#define VM_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		VM_TEST(test_vm__speaks_and_switches_itself_off),
		VM_TEST(test_vm__reset_is_power_on_again),
		VM_TEST(test_vm__i8042_pulse_is_a_reset),
		VM_TEST(test_vm__triple_fault_stays_until_reset),
		VM_TEST(test_vm__panics_are_told_but_not_for_ever),
		VM_TEST(test_vm__what_kvm_cannot_run_is_an_internal_error),
		VM_TEST(test_vm__pauses_at_any_instant),
		VM_TEST(test_vm__an_access_is_never_done_twice),
		VM_TEST(test_vm__goes_on_in_another_machine),
		VM_TEST(test_vm__a_power_off_survives_pause_and_checkpoint),
		VM_TEST(test_vm__last_words_survive_pause_and_checkpoint),
		VM_TEST(test_vm__refuses_what_its_state_forbids),
		VM_TEST(test_vm__a_reset_that_fails_can_be_tried_again),
		VM_TEST(test_vm__a_bad_kernel_is_told),
		VM_TEST(test_vm__without_kvm_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
