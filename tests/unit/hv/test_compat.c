/* SPDX-License-Identifier: Apache-2.0 */
/* test_compat: images that do not fit are refused with every reason at once; and any of
 * them can be inspected. */
#include "tests/unit/hv/mini.h"

#include <jansson.h>

#include "hv/compat.h"
#include "hv/hyperv.h"
#include "hv/inspect.h"
#include "hv/memory.h"

static int kvm;

static const struct state_field extra_fields[] = {{1, STATE_U32, false, "value"}};
static const struct state_kind extra_kind = {"extra", 1, extra_fields, 1};
static const struct state_kind extra_newer = {"extra", 2, extra_fields, 1};

struct world {
	struct mini mini;
	uint8_t *ram;
	struct memory *memory;
	struct synic *synic;
	struct hyperv *hv;
	struct vm_config config;
	struct compat_section sections[2];
	struct compat_machine machine;
};

static bool on_tsc(void *arg, uint32_t vp, uint64_t *tsc)
{
	struct world *w = arg;

	return kvm_state_get_msr(w->mini.vcpus[vp].fd, 0x10, tsc) == ERR_OK;
}

static void on_panic(void *arg, uint32_t vp, const char *text)
{
	(void)arg, (void)vp, (void)text;
}

static void on_inject(void *arg, uint32_t vp, uint8_t vector)
{
	(void)arg, (void)vp, (void)vector;
}

static void world_open(struct world *w, uint32_t vcpus)
{
	struct hyperv_host host = {.vcpus = vcpus, .guest_tsc = on_tsc, .panic = on_panic,
				   .arg = w};

	memset(w, 0, sizeof(*w));
	w->ram = mini_memory();
	mini_open(&w->mini, kvm, vcpus, w->ram);
	assert_ok(memory_create(MEMORY_MIN_BYTES, &w->memory));
	host.memory = w->memory;
	host.tsc_hz = vcpu_plan_tsc_khz(w->mini.plan) * 1000ull;
	assert_ok(synic_create(&(struct synic_host){w->memory, vcpus, on_inject, w}, &w->synic));
	host.synic = w->synic;
	assert_ok(hyperv_create(&host, &w->hv));
	config_init(&w->config);
	strcpy(w->config.name, "x");
	w->config.vcpus = vcpus;
	w->sections[0] = (struct compat_section){&extra_kind, 0};
	w->machine = (struct compat_machine){.config = &w->config, .cpuid = w->mini.cpuid,
					     .plan = w->mini.plan, .sections = w->sections,
					     .section_count = 1};
}

static void world_close(struct world *w)
{
	hyperv_destroy(w->hv);
	synic_destroy(w->synic);
	memory_destroy(w->memory);
	mini_close(&w->mini);
	munmap(w->ram, MINI_MEMORY);
	config_fini(&w->config);
}

static void world_save(struct world *w, struct buf *blob)
{
	uint64_t tsc[MINI_MAX_VCPUS];
	struct state_out *o;
	const uint8_t *p;
	size_t len;

	assert_ok(state_out_create(&o));
	compat_save(&w->machine, o);
	cpuid_save(w->mini.cpuid, o);
	assert_ok(vm_state_save(w->mini.vm_fd, o));
	assert_ok(vcpu_state_save(w->mini.plan, w->mini.vcpus, w->mini.count, o, tsc));
	hyperv_save(w->hv, tsc[0], o);
	state_begin(o, &extra_kind, 0);
	state_put_u32(o, 1, 5);
	state_end(o);
	assert_ok(state_out_finish(o, &p, &len));
	buf_put(blob, p, len);
	state_out_destroy(o);
}

static enum err check(struct world *w, const struct buf *blob, struct buf *report)
{
	struct state_file *f;
	enum err e;

	assert_ok(state_open(blob->data, blob->len, &f));
	e = compat_check(&w->machine, f, report);
	state_close(f);
	return e;
}

/* Offset of a field's value in the blob; for tests that change it. */
static size_t value_at(const struct buf *blob, const char *kind, uint32_t instance, uint16_t tag)
{
	struct state_file *f;
	size_t found = 0;

	assert_ok(state_open(blob->data, blob->len, &f));
	for (size_t i = 0; i < state_sections(f); i++) {
		uint32_t n, version;
		struct state_raw raw;
		const char *name;
		size_t at = 0;

		state_section(f, i, &name, &n, &version);
		while (!strcmp(name, kind) && n == instance && state_next_field(f, i, &at, &raw))
			if (raw.tag == tag)
				found = (size_t)(raw.p - blob->data);
	}
	state_close(f);
	assert_true(found > 0);
	return found;
}

static void says(struct buf *report, const char *text)
{
	if (!strstr(buf_str(report), text))
		fail_msg("\"%s\" is not in:\n%s", text, buf_str(report));
}

static void test_compat__its_own_image_fits(void **state)
{
	AUTO_BUF struct buf blob = {0}, report = {0};
	struct world w;

	(void)state;
	world_open(&w, 3);
	world_save(&w, &blob);
	assert_ok(check(&w, &blob, &report));
	if (vcpu_plan_sets_tsc(w.mini.plan))
		assert_string_equal(buf_str(&report), "");
	else
		says(&report, "remark: this KVM cannot set a guest's TSC");
	world_close(&w);
}

static void test_compat__every_reason_is_named_at_once(void **state)
{
	AUTO_BUF struct buf blob = {0}, report = {0};
	struct world w, other;
	size_t at;

	(void)state;
	world_open(&w, 2);
	world_save(&w, &blob);
	world_open(&other, 3);
	other.config.memory_bytes = 1ull << 30;
	other.config.cpu = CONFIG_CPU_V2;
	other.sections[0].instance = 4;
	at = value_at(&blob, "vcpu", 1, 134) + 12 * 7; /* one of its MSRs */
	le32_put(blob.data + at, 0x0badbadb);
	le64_put(blob.data + at + 4, 1);
	at = value_at(&blob, "cpuid", 0, 1);
	for (; le32_get(blob.data + at) != 1; at += 28)
		;
	le32_put(blob.data + at + 20, le32_get(blob.data + at + 20) | 1 << 5); /* vmx */
	assert_err(check(&other, &blob, &report), ERR_VERSION);
	says(&report, "the image has 2 vCPUs, this machine 3\n");
	says(&report, "the image has 536870912 bytes of memory, this machine 1073741824\n");
	says(&report, "the image was made with --cpu host, this machine with x86-64-v2\n");
	says(&report, "lacks features of the image: vmx\n");
	says(&report, "MSRs that this host does not have: 0xbadbadb\n");
	says(&report, "the image has no extra.4, which this machine has\n");
	says(&report, "the image has a extra.0, which this machine has not\n");
	assert_non_null(strstr(err_text(), "the image does not fit: the image has 2 vCPUs"));
	world_close(&w);
	world_close(&other);
}

static void test_compat__another_makers_cpu_is_refused_for_that(void **state)
{
	AUTO_BUF struct buf blob = {0}, report = {0};
	struct world w;
	size_t machine, leaf;
	char ours[13];

	(void)state;
	world_open(&w, 1);
	world_save(&w, &blob);
	cpuid_vendor(w.mini.cpuid, ours);
	machine = value_at(&blob, "machine", 0, 4);
	leaf = value_at(&blob, "cpuid", 0, 1);
	if (!strcmp(ours, "GenuineIntel")) {
		memcpy(blob.data + machine, "AuthenticAMD", 12);
		memcpy(blob.data + leaf + 16, "AuthcAMDenti", 12);
	} else {
		memcpy(blob.data + machine, "GenuineIntel", 12);
		memcpy(blob.data + leaf + 16, "GenuntelineI", 12);
	}
	assert_err(check(&w, &blob, &report), ERR_VERSION);
	says(&report, strcmp(ours, "GenuineIntel") != 0
			      ? "the image is of a CPU by GenuineIntel, this host's CPU is by "
			      : "the image is of a CPU by AuthenticAMD, this host's CPU is by ");
	says(&report, ours);
	assert_null(strstr(buf_str(&report), "lacks features"));
	world_close(&w);
}

/* KVM would obey: counters by leaf 0xA, its own clock by its signature. */
static void test_compat__leaves_that_no_machine_has_are_refused(void **state)
{
	AUTO_BUF struct buf blob = {0}, report = {0};
	struct world w;
	size_t leaf, topology, hypervisor;

	(void)state;
	world_open(&w, 1);
	world_save(&w, &blob);
	leaf = value_at(&blob, "cpuid", 0, 1);
	for (topology = leaf; le32_get(blob.data + topology) != 0xB; topology += 28)
		;
	for (hypervisor = leaf; le32_get(blob.data + hypervisor) != 0x40000000; hypervisor += 28)
		;
	le32_put(blob.data + topology, 0xA);
	assert_err(check(&w, &blob, &report), ERR_CORRUPT);
	assert_non_null(strstr(err_text(), "leaf 0xa, which no machine has"));
	le32_put(blob.data + topology, 0xB);
	memcpy(blob.data + hypervisor + 16, "KVMKVMKVM\0\0\0", 12);
	assert_err(check(&w, &blob, &report), ERR_CORRUPT);
	assert_non_null(strstr(err_text(), "another hypervisor"));
	world_close(&w);
}

static void test_compat__other_versions_are_named(void **state)
{
	AUTO_BUF struct buf blob = {0}, report = {0};
	struct world w;

	(void)state;
	world_open(&w, 1);
	world_save(&w, &blob);
	w.sections[0].kind = &extra_newer;
	assert_err(check(&w, &blob, &report), ERR_VERSION);
	says(&report, "state section extra.0 has version 1, this program reads 2\n");
	world_close(&w);
}

static void test_compat__another_tsc_is_a_remark(void **state)
{
	AUTO_BUF struct buf blob = {0}, report = {0};
	struct world w;
	uint32_t khz;

	(void)state;
	world_open(&w, 1);
	khz = vcpu_plan_tsc_khz(w.mini.plan);
	world_save(&w, &blob);
	le32_put(blob.data + value_at(&blob, "machine", 0, 5), khz + khz / 1300);
	assert_ok(check(&w, &blob, &report));
	assert_null(strstr(buf_str(&report), "kHz"));
	le32_put(blob.data + value_at(&blob, "machine", 0, 5), khz / 2);
	assert_ok(check(&w, &blob, &report));
	says(&report, "remark: the guest's TSC ran at");
	world_close(&w);
}

static void test_compat__something_else_is_no_machine(void **state)
{
	AUTO_BUF struct buf report = {0}, blob = {0};
	struct state_out *o;
	const uint8_t *p;
	struct world w;
	size_t len;

	(void)state;
	world_open(&w, 1);
	assert_ok(state_out_create(&o));
	assert_ok(state_out_finish(o, &p, &len));
	buf_put(&blob, p, len);
	assert_err(check(&w, &blob, &report), ERR_CORRUPT);
	state_out_destroy(o);
	world_close(&w);
}

static void test_compat__is_inspected_as_text_and_json(void **state)
{
	AUTO_BUF struct buf blob = {0}, text = {0}, json = {0}, want = {0};
	struct kvm_regs regs;
	struct world w;
	json_t *root, *first, *fields;
	char vendor[13];

	(void)state;
	world_open(&w, 2);
	mini_start_vcpu(&w.mini, 1, 0xfeedface);
	assert_ok(kvm_state_get_regs(w.mini.vcpus[1].fd, &regs));
	world_save(&w, &blob);
	assert_ok(inspect_text(blob.data, blob.len, &text));
	says(&text, "vcpu.1 (version 1)\n  rax 0x0\n");
	says(&text, "\n  rdi 0xfeedface\n");
	says(&text, "\n  cs_selector 16 (0x10)\n");
	says(&text, "\n  memory_bytes 536870912\n");
	says(&text, "extra.0 (version 1, not known to this program)\n  tag_1 05000000\n");
	says(&text, "\n    c0000082 0x");
	assert_ok(inspect_json(blob.data, blob.len, &json));
	root = json_loads(buf_str(&json), JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(root);
	assert_int_equal(json_array_size(json_object_get(root, "sections")), 2 + 4 + 2 + 3 + 2 + 1);
	first = json_array_get(json_object_get(root, "sections"), 0);
	assert_string_equal(json_string_value(json_object_get(first, "kind")), "machine");
	fields = json_object_get(first, "fields");
	cpuid_vendor(w.mini.cpuid, vendor);
	assert_string_equal(json_string_value(json_object_get(fields, "vendor")), vendor);
	assert_int_equal(json_integer_value(json_object_get(fields, "vcpus")), 2);
	assert_string_equal(json_string_value(json_object_get(fields, "memory_bytes")),
			    "0x20000000");
	json_decref(root);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_compat__its_own_image_fits),
		cmocka_unit_test(test_compat__every_reason_is_named_at_once),
		cmocka_unit_test(test_compat__another_makers_cpu_is_refused_for_that),
		cmocka_unit_test(test_compat__leaves_that_no_machine_has_are_refused),
		cmocka_unit_test(test_compat__other_versions_are_named),
		cmocka_unit_test(test_compat__another_tsc_is_a_remark),
		cmocka_unit_test(test_compat__something_else_is_no_machine),
		cmocka_unit_test(test_compat__is_inspected_as_text_and_json),
	};

	kvm = mini_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
