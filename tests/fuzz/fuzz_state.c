/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_state: a machine state as an image might hold it, through everything that reads
 * one without KVM: structure, every field of every kind by its table, CPUID, Hyper-V. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hv/cpuid.h"
#include "hv/hyperv.h"
#include "hv/inspect.h"
#include "hv/vmbus/vmbus.h"
#include "hv/vsp/heartbeat.h"
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

static void on_inject(void *arg, uint32_t vp, uint8_t vector)
{
	(void)arg, (void)vp, (void)vector;
}

static enum err on_ioevent(void *arg, uint32_t connection, int fd, bool on)
{
	(void)arg, (void)connection, (void)fd, (void)on;
	return ERR_OK;
}

static void on_changed(void *arg, bool healthy)
{
	(void)arg, (void)healthy;
}

static void through_bus(struct state_file *f, const struct vmbus_host *host)
{
	struct heartbeat *heartbeat;
	struct state_out *out;
	struct vmbus *bus;

	must(vmbus_create(host, &bus) == ERR_OK);
	must(heartbeat_create(bus, NULL, on_changed, NULL, &heartbeat) == ERR_OK);
	must(state_out_create(&out) == ERR_OK);
	if (vmbus_load(bus, f) == ERR_OK) {
		vmbus_resume(bus);
		vmbus_work(bus);
		must(vmbus_quiesce(bus) == ERR_OK);
		must(vmbus_save(bus, out) == ERR_OK);
		vmbus_reset(bus);
	}
	state_out_destroy(out);
	vmbus_destroy(bus);
	heartbeat_destroy(heartbeat);
}

static void through_hyperv(struct state_file *f)
{
	static struct memory *memory;
	struct hyperv_host host = {.vcpus = 1, .tsc_hz = 2000000000, .guest_tsc = on_tsc,
				   .panic = on_panic};
	struct vmbus_host bus = {.vcpus = 1, .ioevent = on_ioevent};
	struct hyperv *h;
	uint64_t v;

	if (!memory)
		must(memory_create(MEMORY_MIN_BYTES, &memory) == ERR_OK);
	host.memory = memory;
	must(synic_create(&(struct synic_host){memory, 1, on_inject, NULL}, &host.synic) == ERR_OK);
	must(hyperv_create(&host, &h) == ERR_OK);
	if (hyperv_load(h, f, 3000000000) == ERR_OK) {
		must(hyperv_loaded(h) == ERR_OK); /* what was taken can be lived with */
		must(hyperv_msr_read(h, 0, 0x40000020, &v));
	}
	bus.memory = memory;
	bus.synic = host.synic;
	through_bus(f, &bus);
	hyperv_destroy(h);
	synic_destroy(host.synic);
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
