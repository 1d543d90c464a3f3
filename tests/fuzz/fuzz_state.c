/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_state: a machine state as an image might hold it, through everything that reads
 * one without KVM: structure, every field of every kind by its table, CPUID, Hyper-V. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hv/cpuid.h"
#include "hv/hyperv.h"
#include "hv/inspect.h"
#include "hv/memory.h"
#include "hv/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static bool on_tsc(void *arg, uint32_t vp, uint64_t *tsc)
{
	(void)arg, (void)vp;
	*tsc = 12345678;
	return true;
}

static void on_panic(void *arg, uint32_t vp, const char *text)
{
	(void)arg, (void)vp, (void)text;
}

/* Ask for a field by its type; what it says matters less than that it stays inside. */
static void ask(struct state_in *in, const struct state_field *f)
{
	uint64_t sum = 0, v64 = 0;
	const uint8_t *p = NULL;
	uint32_t v32 = 0;
	uint16_t v16 = 0;
	uint8_t v8 = 0;
	size_t len = 0;
	enum err e;

	switch (f->type) {
	case STATE_U8:
		e = state_get_u8(in, f->tag, &v8);
		break;
	case STATE_U16:
		e = state_get_u16(in, f->tag, &v16);
		break;
	case STATE_U32:
		e = state_get_u32(in, f->tag, &v32);
		break;
	case STATE_U64:
		e = state_get_u64(in, f->tag, &v64);
		break;
	default:
		e = state_get_bytes(in, f->tag, &p, &len);
		for (size_t i = 0; i < len; i++)
			sum += p[i];
	}
	must(e == ERR_OK || e == ERR_CORRUPT);
	__asm__ volatile("" : : "r"(sum));
}

static void every_field(struct state_file *f)
{
	for (size_t i = 0; i < state_sections(f); i++) {
		const struct state_kind *kind;
		uint32_t instance, version;
		struct state_in *in;
		const char *name;

		state_section(f, i, &name, &instance, &version);
		kind = inspect_kind(name);
		if (!kind || state_find(f, kind, instance, &in) != ERR_OK)
			continue;
		for (size_t k = 0; k < kind->count; k++)
			ask(in, &kind->fields[k]);
	}
}

static void through_hyperv(struct state_file *f)
{
	static struct memory *memory;
	struct hyperv_host host = {NULL, 1, 2000000000, on_tsc, on_panic, NULL};
	struct hyperv *h;
	uint64_t v;

	if (!memory)
		must(memory_create(MEMORY_MIN_BYTES, &memory) == ERR_OK);
	host.memory = memory;
	must(hyperv_create(&host, &h) == ERR_OK);
	if (hyperv_load(h, f, 3000000000) == ERR_OK) {
		must(hyperv_loaded(h) == ERR_OK); /* what was taken can be lived with */
		must(hyperv_msr_read(h, 0, 0x40000020, &v));
	}
	hyperv_destroy(h);
}

static void through_cpuid(struct state_file *f)
{
	struct cpuid_table *t;
	char vendor[13];

	if (cpuid_from_state(f, &t) != ERR_OK)
		return;
	cpuid_vendor(t, vendor);
	must(strlen(vendor) <= 12);
	(void)cpuid_xcr0(t);
	must(cpuid_missing(t, t, NULL) == 0);
	cpuid_destroy(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct state_file *f;

	if (state_open(data, size, &f) != ERR_OK)
		return 0;
	every_field(f);
	through_cpuid(f);
	through_hyperv(f);
	state_close(f);
	return 0;
}
