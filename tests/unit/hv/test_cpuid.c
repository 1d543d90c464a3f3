/* SPDX-License-Identifier: Apache-2.0 */
/* test_cpuid: what guests are told, on made-up hosts of both makers; and natively that
 * this KVM takes it. */
#include "hv/cpuid.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/kvm/kvm.h"
#include "tests/unit/cm.h"

#define INDEXED 1u

/* An AMD CPU with everything up to AVX2, and things that must not be shown. */
static const struct cpuid_leaf amd[] = {
	{0, 0, 0, 0x10, 0x68747541, 0x444d4163, 0x69746e65},
	{1, 0, 0, 0x00a20f10, 0x00100800, 0xfffa3203 | 1 << 3 | 1 << 24, 0x178bfbff},
	{5, 0, 0, 0x40, 0x40, 3, 0},
	{6, 0, 0, 0xffffffff, 1, 1, 1},
	{7, 0, INDEXED, 1, 0x219c97a9 | 1 << 8, 0x0040068c | 1u << 31, 0x10},
	{7, 1, INDEXED, 0x00200020, 0, 0, 0},
	{0xA, 0, 0, 0x07300404, 0, 0, 0x603},
	{0xD, 0, INDEXED, 0x207, 2440, 2440, 0},
	{0xD, 1, INDEXED, 0xf, 0x988, 0x1800, 0},
	{0xD, 2, INDEXED, 256, 576, 0, 0},
	{0xD, 9, INDEXED, 8, 2432, 0, 0},
	{0xD, 11, INDEXED, 16, 0, 1, 0},
	{0x40000000, 0, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d},
	{0x40000001, 0, 0, 0x01007efb, 0, 0, 0},
	{0x80000000, 0, 0, 0x80000028, 0x68747541, 0x444d4163, 0x69746e65},
	{0x80000001, 0, 0, 0x00a20f10, 0x40000000, 0x75c237ff, 0x2fd3fbff},
	{0x80000002, 0, 0, 0x20444d41, 0x657a7952, 0, 0},
	{0x80000007, 0, 0, 0, 0, 0, 0x100},
	{0x80000008, 0, 0, 0x3030, 0x111ef657, 0x700f, 0x10007},
	{0x8000000A, 0, 0, 1, 8, 0, 0x119b9cff},
	{0x8000001D, 0, INDEXED, 0x4121, 0x1c0003f, 0x3f, 0},
	{0x8000001D, 3, INDEXED, 0x3c163, 0x3c0003f, 0x7fff, 1},
	{0x8000001F, 0, 0, 1, 0, 0, 0},
	{0x80000021, 0, 0, 0x18000265, 0, 6, 0},
};
/* An Intel CPU with AVX-512, AMX, VMX, PT. */
static const struct cpuid_leaf intel[] = {
	{0, 0, 0, 0x20, 0x756e6547, 0x6c65746e, 0x49656e69},
	{1, 0, 0, 0x000806f8, 0x00400800, 0xfffef3bf, 0xbfebfbff},
	{2, 0, 0, 0xfeff01, 0xf0, 0, 0},
	{4, 1, INDEXED, 0xfc004121, 0x02c0003f, 0x3f, 0},
	{4, 3, INDEXED, 0xfc0fc163, 0x0380003f, 0xffff, 4},
	{7, 0, INDEXED, 2, 0xf3bfbfff, 0xfbc17f7e, 0xbfd14412},
	{7, 1, INDEXED, 0x00201c30, 0, 0, 0x40000},
	{0xD, 0, INDEXED, 0x602e7, 11008, 11008, 0},
	{0xD, 1, INDEXED, 0x1f, 0, 0x1900, 0},
	{0xD, 2, INDEXED, 256, 576, 0, 0},
	{0xD, 5, INDEXED, 64, 1088, 0, 0},
	{0xD, 6, INDEXED, 512, 1152, 0, 0},
	{0xD, 7, INDEXED, 1024, 1664, 0, 0},
	{0xD, 9, INDEXED, 8, 2688, 0, 0},
	{0xD, 17, INDEXED, 64, 2752, 2, 0},
	{0xD, 18, INDEXED, 8192, 2816, 6, 0},
	{0x12, 0, INDEXED, 3, 0, 0, 0},
	{0x14, 0, INDEXED, 1, 0, 0, 0},
	{0x1D, 0, INDEXED, 1, 0, 0, 0},
	{0x80000000, 0, 0, 0x80000008, 0, 0, 0},
	{0x80000001, 0, 0, 0, 0, 0x121, 0x2c100800},
	{0x80000008, 0, 0, 0x3934, 0, 0, 0},
};
#define N(a) (sizeof(a) / sizeof((a)[0]))

static struct cpuid_table *build(const struct cpuid_leaf *l, size_t n, enum config_cpu cpu,
				 uint32_t vcpus)
{
	struct cpuid_table *t = NULL;

	assert_ok(cpuid_build_from(l, n, cpu, vcpus, &t));
	return t;
}

static struct cpuid_leaf leaf(const struct cpuid_table *t, uint32_t function, uint32_t index)
{
	const struct cpuid_leaf *l = cpuid_find(t, function, index);

	return l ? *l : (struct cpuid_leaf){0};
}

static void hidden_everywhere(const struct cpuid_table *t)
{
	struct cpuid_leaf one = leaf(t, 1, 0), seven = leaf(t, 7, 0);
	size_t n;
	const struct cpuid_leaf *l = cpuid_leaves(t, &n);

	/* MONITOR, VMX, SMX, TSC deadline; SVM; SGX, PT; AMX, CET, PKS, WAITPKG; XSAVES. */
	assert_int_equal(one.ecx & (1 << 3 | 1 << 5 | 1 << 6 | 1 << 15 | 1 << 24), 0);
	assert_int_equal(leaf(t, 0x80000001, 0).ecx & (1 << 2 | 1 << 10 | 1 << 23 | 1 << 29), 0);
	assert_int_equal(seven.ebx & (1 << 2 | 1 << 25), 0);
	assert_int_equal(seven.ecx & (1u << 31 | 1 << 7 | 1 << 5), 0);
	assert_int_equal(seven.edx & (1 << 20 | 1 << 22 | 1 << 24 | 1 << 25), 0);
	assert_int_equal(leaf(t, 0xD, 1).eax & 8, 0);
	assert_int_equal(leaf(t, 0x80000007, 0).edx, 0); /* invariant TSC */
	assert_int_equal(leaf(t, 6, 0).eax & ~4u, 0);
	for (size_t i = 0; i < n; i++) {
		assert_false(l[i].function > 0xD && l[i].function < 0x40000000);
		assert_false(l[i].function == 0xA || l[i].function == 5);
		assert_false(l[i].function == 0x8000000A || l[i].function == 0x8000001F);
	}
	assert_true(one.ecx >> 31); /* hypervisor */
	assert_true(leaf(t, 0, 0).eax <= 0xD);
}

static void test_cpuid__what_cannot_be_saved_is_hidden(void **state)
{
	static const struct { const struct cpuid_leaf *l; size_t n; enum config_cpu top; } hosts[] = {
		{amd, N(amd), CONFIG_CPU_V3}, {intel, N(intel), CONFIG_CPU_V4}};

	(void)state;
	for (unsigned h = 0; h < 2; h++)
		for (enum config_cpu c = CONFIG_CPU_HOST; c <= hosts[h].top; c++) {
			struct cpuid_table *t = build(hosts[h].l, hosts[h].n, c, 4);

			hidden_everywhere(t);
			cpuid_destroy(t);
		}
}

static void test_cpuid__a_level_is_exactly_that_level(void **state)
{
	struct cpuid_table *t = build(intel, N(intel), CONFIG_CPU_V3, 2);

	(void)state;
	assert_int_equal(leaf(t, 1, 0).ecx, 0xb0000000 | 1u << 26 | 1 << 23 | 1 << 22 | 1 << 21 |
						    3 << 19 | 1 << 13 | 1 << 12 | 1 << 9 | 1);
	assert_int_equal(leaf(t, 7, 0).ebx, 1 << 3 | 1 << 5 | 1 << 8);
	assert_int_equal(leaf(t, 7, 0).ecx | leaf(t, 7, 0).edx | leaf(t, 7, 0).eax, 0);
	assert_int_equal(cpuid_xcr0(t), 7);
	assert_int_equal(leaf(t, 0xD, 0).ecx, 576 + 256);
	assert_null(cpuid_find(t, 0xD, 5));
	assert_null(cpuid_find(t, 7, 1));
	cpuid_destroy(t);
	t = build(intel, N(intel), CONFIG_CPU_V4, 2);
	assert_int_equal(cpuid_xcr0(t), 0xe7);
	assert_int_equal(leaf(t, 0xD, 0).ecx, 1664 + 1024);
	cpuid_destroy(t);
	t = build(amd, N(amd), CONFIG_CPU_V2, 2);
	assert_int_equal(cpuid_xcr0(t), 0);
	assert_int_equal(leaf(t, 1, 0).ecx & (1 << 26 | 1 << 28), 0);
	assert_null(cpuid_find(t, 0xD, 0));
	assert_int_equal(leaf(t, 0x80000008, 0).eax, 0x3028);
	cpuid_destroy(t);
}

static void test_cpuid__host_keeps_what_can_be_saved(void **state)
{
	struct cpuid_table *t = build(amd, N(amd), CONFIG_CPU_HOST, 1);

	(void)state;
	assert_true(leaf(t, 1, 0).ecx >> 25 & 1);  /* AES */
	assert_true(leaf(t, 7, 0).ebx >> 29 & 1);  /* SHA */
	assert_int_equal(cpuid_xcr0(t), 0x207);
	assert_int_equal(leaf(t, 0xD, 0).ecx, 2440);
	assert_null(cpuid_find(t, 0xD, 11));
	assert_int_equal(leaf(t, 0x80000002, 0).eax, 0x20444d41);
	assert_int_equal(leaf(t, 0x80000008, 0).eax, 0x3030);
	cpuid_destroy(t);
	t = build(intel, N(intel), CONFIG_CPU_HOST, 1);
	assert_int_equal(cpuid_xcr0(t), 0x2e7); /* no AMX */
	assert_int_equal(leaf(t, 0xD, 0).ecx, 2688 + 8);
	cpuid_destroy(t);
}

static void test_cpuid__a_host_below_a_level_is_refused_by_name(void **state)
{
	struct cpuid_table *t = NULL;

	(void)state;
	assert_err(cpuid_build_from(amd, N(amd), CONFIG_CPU_V4, 1, &t), ERR_UNSUPPORTED);
	assert_non_null(strstr(err_text(), "x86-64-v4"));
	for (const char *const *w = (const char *const[]){"avx512f", "avx512dq", "avx512cd",
							  "avx512bw", "avx512vl", NULL}; *w; w++)
		if (!strstr(err_text(), *w))
			fail_msg("%s is not named in: %s", *w, err_text());
}

static void test_cpuid__topology_agrees_for_any_number_of_vcpus(void **state)
{
	(void)state;
	for (uint32_t n = 1; n <= CONFIG_MAX_VCPUS; n++) {
		struct cpuid_table *a = build(amd, N(amd), CONFIG_CPU_HOST, n);
		struct cpuid_table *i = build(intel, N(intel), CONFIG_CPU_HOST, n);
		uint32_t bits = leaf(i, 0xB, 1).eax;

		assert_true(1u << bits >= n && (bits == 0 || 1u << (bits - 1) < n));
		assert_int_equal(leaf(i, 0xB, 1).ebx & 0xffff, n);
		assert_int_equal(leaf(i, 0xB, 0).ebx, 1);
		assert_int_equal(leaf(i, 1, 0).ebx >> 16 & 0xff, 1u << bits);
		assert_int_equal(leaf(i, 1, 0).edx >> 28 & 1, n > 1);
		assert_int_equal(leaf(i, 4, 3).eax >> 26, (1u << bits) - 1);
		assert_int_equal(leaf(i, 4, 3).eax >> 14 & 0xfff, (1u << bits) - 1);
		assert_int_equal(leaf(i, 4, 1).eax >> 14 & 0xfff, 0);
		assert_int_equal(leaf(a, 0x80000008, 0).ecx & 0xff, n - 1);
		assert_int_equal(leaf(a, 0x80000008, 0).ecx >> 12 & 0xf, bits);
		assert_int_equal(leaf(a, 0x80000001, 0).ecx >> 1 & 1, n > 1);
		assert_int_equal(leaf(a, 0x8000001D, 3).eax >> 14 & 0xfff, (1u << bits) - 1);
		assert_int_equal(cpuid_vcpus(a), n);
		cpuid_destroy(a);
		cpuid_destroy(i);
	}
}

static void test_cpuid__hyperv_promises_what_is_answered(void **state)
{
	struct cpuid_table *t = build(amd, N(amd), CONFIG_CPU_HOST, 1);

	(void)state;
	assert_true(leaf(t, 0x40000000, 0).eax >= 0x40000005);
	assert_int_equal(leaf(t, 0x40000000, 0).ebx, 0x7263694d);
	assert_int_equal(leaf(t, 0x40000001, 0).eax, 0x31237648);
	assert_int_equal(leaf(t, 0x40000003, 0).eax, 0xa66); /* no timers */
	assert_int_equal(leaf(t, 0x40000003, 0).ebx, 0x30); /* messages and events */
	assert_int_equal(leaf(t, 0x40000003, 0).edx, 0x500);
	assert_int_equal(leaf(t, 0x40000004, 0).eax, 0x220);
	cpuid_destroy(t);
}

static void test_cpuid__goes_through_the_state_unchanged(void **state)
{
	struct cpuid_table *t = build(intel, N(intel), CONFIG_CPU_HOST, 7), *back = NULL;
	struct state_out *o;
	struct state_file *f;
	const uint8_t *p;
	uint8_t *copy;
	size_t len;

	(void)state;
	assert_ok(state_out_create(&o));
	cpuid_save(t, o);
	assert_ok(state_out_finish(o, &p, &len));
	assert_ok(state_open(p, len, &f));
	assert_ok(cpuid_from_state(f, &back));
	assert_true(cpuid_equal(t, back));
	assert_int_equal(cpuid_vcpus(back), 7);
	state_close(f);
	cpuid_destroy(back);
	copy = malloc(len);
	memcpy(copy, p, len);
	memcpy(copy + 16 + 32 + 8 + 28, p + 16 + 32 + 8, 28); /* the first leaf twice */
	assert_ok(state_open(copy, len, &f));
	assert_err(cpuid_from_state(f, &back), ERR_CORRUPT);
	state_close(f);
	free(copy);
	state_out_destroy(o);
	cpuid_destroy(t);
}

static void test_cpuid__missing_features_have_names(void **state)
{
	struct cpuid_table *rich = build(intel, N(intel), CONFIG_CPU_V4, 1);
	struct cpuid_table *poor = build(intel, N(intel), CONFIG_CPU_V2, 1);
	AUTO_BUF struct buf names = {0};

	(void)state;
	assert_int_equal(cpuid_missing(poor, rich, &names), 0);
	assert_int_equal(cpuid_missing(rich, poor, &names), 5 + 3 + 5 + 1);
	assert_string_equal(buf_str(&names), " fma movbe xsave avx f16c bmi1 avx2 bmi2 avx512f "
					     "avx512dq avx512cd avx512bw avx512vl abm");
	cpuid_destroy(rich);
	cpuid_destroy(poor);
}

static void test_cpuid__this_kvm_takes_it(void **state)
{
	AUTO_BUF struct buf missing = {0};
	enum config_cpu best = CONFIG_CPU_HOST;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, vcpu;

	(void)state;
	if (kvm < 0) {
		printf("  skipped: /dev/kvm: %s\n", strerror(errno));
		skip();
	}
	assert_ok(cpuid_host_baseline(kvm, &best, &missing));
	for (enum config_cpu c = CONFIG_CPU_HOST; c <= best; c++) {
		struct cpuid_table *t = NULL;
		struct kvm_run *run;
		size_t bytes;

		assert_ok(cpuid_build(kvm, c, 32, &t));
		assert_ok(kvm_vm_create(kvm, 0xfffbd000, 0xfffbc000, &vm));
		assert_ok(kvm_vm_create_chips(vm));
		for (uint32_t i = 0; i < 32; i += 31) {
			assert_ok(kvm_vcpu_create(kvm, vm, i, &vcpu, &run, &bytes));
			assert_ok(cpuid_apply(t, vcpu, i));
			kvm_vcpu_close(vcpu, run, bytes);
		}
		close(vm);
		cpuid_destroy(t);
	}
	close(kvm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpuid__what_cannot_be_saved_is_hidden),
		cmocka_unit_test(test_cpuid__a_level_is_exactly_that_level),
		cmocka_unit_test(test_cpuid__host_keeps_what_can_be_saved),
		cmocka_unit_test(test_cpuid__a_host_below_a_level_is_refused_by_name),
		cmocka_unit_test(test_cpuid__topology_agrees_for_any_number_of_vcpus),
		cmocka_unit_test(test_cpuid__hyperv_promises_what_is_answered),
		cmocka_unit_test(test_cpuid__goes_through_the_state_unchanged),
		cmocka_unit_test(test_cpuid__missing_features_have_names),
		cmocka_unit_test(test_cpuid__this_kvm_takes_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
