/* SPDX-License-Identifier: Apache-2.0 */
/* test_vcpu_plan: a guest's TSC frequency through saves, loads and resets, and what
 * a reset must not leave behind, on /dev/kvm. */
#include "hv/vcpu_plan.h"

#include "tests/unit/hv/mini.h"

static int kvm;

static struct state_file *save(struct mini *m, struct state_out **out, uint64_t *tsc)
{
	struct state_file *file;
	const uint8_t *p;
	size_t len;

	assert_ok(state_out_create(out));
	assert_ok(vcpu_state_save(m->plan, m->vcpus, m->count, *out, tsc));
	assert_ok(state_out_finish(*out, &p, &len));
	assert_ok(state_open(p, len, &file));
	return file;
}

enum { TAG_TSC_KHZ = 132 };

static void assert_khz(struct mini *m, struct state_file *file, uint32_t expect)
{
	for (uint32_t i = 0; i < m->count; i++) {
		struct state_in *in;
		uint32_t saved = 0, now = 0;

		assert_ok(state_find(file, &vcpu_state_kind, i, &in));
		assert_ok(state_get_u32(in, TAG_TSC_KHZ, &saved));
		assert_ok(kvm_state_get_tsc_khz(m->vcpus[i].fd, &now));
		assert_int_equal(saved, expect);
		assert_int_equal(now, expect);
	}
}

/* A guest whose TSC is scaled keeps its frequency over the next save and load, too, and
 * loses it when it goes back to power-on.  The ioctl plays a CPU that can scale: every
 * KVM takes a frequency above the host's. */
static void test_vcpu_plan__a_scaled_tsc_is_saved_and_taken_back(void **state)
{
	uint8_t *mem = mini_memory();
	uint64_t tsc[MINI_MAX_VCPUS];
	struct state_out *out[3];
	struct state_file *power_on, *fast, *again;
	uint32_t host;
	struct mini m;

	(void)state;
	mini_open(&m, kvm, 2, mem);
	host = vcpu_plan_tsc_khz(m.plan);
	m.plan->has_tsc_control = true;
	power_on = save(&m, &out[0], tsc);
	assert_khz(&m, power_on, host);
	m.plan->guest_tsc_khz = 2 * host;
	fast = save(&m, &out[1], tsc);
	m.plan->guest_tsc_khz = host;
	assert_ok(vcpu_state_load(m.plan, m.vcpus, m.count, fast, tsc));
	again = save(&m, &out[2], tsc);
	assert_khz(&m, again, 2 * host);
	assert_int_equal(vcpu_plan_guest_tsc_khz(m.plan), 2 * host);
	assert_ok(vcpu_state_load(m.plan, m.vcpus, m.count, power_on, tsc));
	assert_khz(&m, power_on, host);
	state_close(power_on);
	state_close(fast);
	state_close(again);
	for (unsigned i = 0; i < 3; i++)
		state_out_destroy(out[i]);
	mini_close(&m);
	munmap(mem, MINI_MEMORY);
}

/* One clock for all: vCPUs of different frequencies cannot have been saved by us. */
static void test_vcpu_plan__different_frequencies_are_refused(void **state)
{
	static const uint8_t field[] = {TAG_TSC_KHZ, 0, 0, 0, 4, 0, 0, 0};
	uint8_t *mem = mini_memory(), *copy = NULL;
	uint64_t tsc[MINI_MAX_VCPUS];
	struct state_out *out;
	struct state_file *file;
	const uint8_t *p;
	size_t len = 0;
	struct mini m;

	(void)state;
	mini_open(&m, kvm, 2, mem);
	file = save(&m, &out, tsc);
	state_close(file);
	assert_ok(state_out_finish(out, &p, &len));
	copy = malloc(len);
	assert_non_null(copy);
	memcpy(copy, p, len);
	for (size_t i = len - sizeof(field) - 4; i > 0; i--) {
		if (memcmp(copy + i, field, sizeof(field)) == 0) { /* that of the last vCPU */
			copy[i + sizeof(field)] ^= 1;
			break;
		}
	}
	assert_ok(state_open(copy, len, &file));
	assert_int_equal(vcpu_state_load(m.plan, m.vcpus, m.count, file, tsc), ERR_CORRUPT);
	state_close(file);
	state_out_destroy(out);
	free(copy);
	mini_close(&m);
	munmap(mem, MINI_MEMORY);
}

/* Wake vCPU 1, which is not running at the moment. */
__asm__(".pushsection .rodata\n"
	".global guest_waker, guest_waker_end\n"
	"guest_waker:\n"
	"	mov $0xfee00000, %ebx\n"
	"	movl $0x1ff, 0xf0(%rbx)\n"
	"	movl $0x01000000, 0x310(%rbx)\n"
	"	movl $0x4500, 0x300(%rbx)\n" /* INIT */
	"	movl $0x01000000, 0x310(%rbx)\n"
	"	movl $0x4610, 0x300(%rbx)\n" /* start at 0x10000 */
	"	out %al, $0xf4\n"
	"	hlt\n"
	"guest_waker_end:\n"
	".popsection\n");
extern const uint8_t guest_waker[], guest_waker_end[];

/* After a reset the other processors wait, whatever was on its way to them. */
static void test_vcpu_plan__a_wake_up_call_ends_with_its_machine(void **state)
{
	uint8_t *mem = mini_memory();
	uint64_t tsc[MINI_MAX_VCPUS];
	struct state_file *power_on;
	struct state_out *out;
	uint32_t mp = 99;
	struct mini m;

	(void)state;
	mini_fill(mem, guest_waker, (size_t)(guest_waker_end - guest_waker), 0);
	for (int reset = 0; reset < 2; reset++) {
		mini_open(&m, kvm, 2, mem);
		power_on = save(&m, &out, tsc);
		mini_start_vcpu(&m, 0, 0);
		assert_true(mini_run(&m, 0, 10000000000ull));
		if (reset)
			assert_ok(vcpu_state_load(m.plan, m.vcpus, m.count, power_on, tsc));
		assert_ok(kvm_state_get_mp_state(m.vcpus[1].fd, &mp));
		assert_int_equal(mp, reset ? KVM_MP_STATE_UNINITIALIZED : KVM_MP_STATE_RUNNABLE);
		state_close(power_on);
		state_out_destroy(out);
		mini_close(&m);
	}
	munmap(mem, MINI_MEMORY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vcpu_plan__a_scaled_tsc_is_saved_and_taken_back),
		cmocka_unit_test(test_vcpu_plan__different_frequencies_are_refused),
		cmocka_unit_test(test_vcpu_plan__a_wake_up_call_ends_with_its_machine),
	};

	kvm = mini_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
