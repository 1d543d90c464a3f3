/* SPDX-License-Identifier: Apache-2.0 */
/* sentinel: registers that hold values known from the start, compared over and over.
 *
 * Where this guest may choose the value, each CPU has its own, so that swapped vCPUs are seen too.
 * Interrupt controllers and the serial port hold chosen values in places that nothing else uses.
 *
 * Source: AMD64 manual volume 2, appendix A (MSRs); 82093AA and PC16550D data sheets. */
#include "chain/chain.h"

enum {
	LAPIC_TPR = 0x80, LAPIC_LDR = 0xd0, LAPIC_SVR = 0xf0, LVT_LINT0 = 0x350, LVT_ERROR = 0x370,
	LAPIC_LOW_PRIORITY = 0x10,	/* below every vector in use */
	UART = 0x3f8,
};

static const uint32_t fs_base = 0xc0000100, gs_base = 0xc0000101, kernel_gs_base = 0xc0000102,
		      tsc_aux = 0xc0000103;

static void add(struct chain_cpu *c, uint32_t msr)
{
	uint64_t v;

	if (c->nsentinels < SENTINELS_MAX && rdmsr_safe(msr, &v)) {
		c->sentinels[c->nsentinels].msr = msr;
		c->sentinels[c->nsentinels++].value = v;
	}
}

static void set(struct chain_cpu *c, uint32_t msr, uint64_t v)
{
	if (!wrmsr_safe(msr, v))
		fail("MSR %x cannot be written", msr);
	if (rdmsr(msr) != v)
		fail("MSR %x does not keep %lx but reads %lx", msr, v, rdmsr(msr));
	add(c, msr);
}

static void set_msrs(struct chain_cpu *c)
{
	static const uint32_t as_they_are[] = {
		0x1b,				/* APIC base */
		0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084,	/* EFER, SYSCALL */
		0xfe,				/* MTRRcap */
	};
	uint64_t id = c->id;

	c->fs_word = mix64(id + 1);
	c->gs_word = mix64(id + 77);
	set(c, fs_base, (uint64_t)&c->fs_word);
	set(c, gs_base, (uint64_t)&c->gs_word);
	set(c, kernel_gs_base, 0xffff800000c0de00 + id);
	set(c, 0x174, 0x0008 + 0x100 * id);		/* SYSENTER */
	set(c, 0x175, 0xffff8000deadb000 + id);
	set(c, 0x176, 0xffff8000feed0000 + id);
	set(c, 0x277, 0x0007040500070406);		/* PAT: entry 4 WP, entry 6 UC- as nobody uses */
	set(c, 0x2ff, 0xc06);				/* MTRRs on, write-back */
	set(c, 0x20e, 0x80000006 + (id << 12));		/* variable MTRR 7, not valid */
	if (machine.rdtscp)
		set(c, tsc_aux, 0x5150 + id);
	for (unsigned i = 0; i < sizeof as_they_are / sizeof as_they_are[0]; i++)
		add(c, as_they_are[i]);
	if (machine.hyperv) {
		add(c, 0x40000000);
		add(c, 0x40000001);
		add(c, 0x40000002);
		add(c, 0x40000021);
		add(c, 0x40000022);
		add(c, 0x40000023);
	}
}

static uint64_t cpuid_hash(void)
{
	static const struct { uint32_t leaf, sub; } leaves[] = {
		{ 0, 0 }, { 1, 0 }, { 7, 0 }, { 7, 1 }, { 0xd, 0 }, { 0xd, 1 }, { 0xd, 2 },
		{ 0x80000001, 0 }, { 0x80000008, 0 },
		{ 0x40000000, 0 }, { 0x40000001, 0 }, { 0x40000002, 0 }, { 0x40000003, 0 },
		{ 0x40000004, 0 }, { 0x40000005, 0 }, { 0x40000006, 0 },
	};
	uint64_t h = 0;

	for (unsigned i = 0; i < sizeof leaves / sizeof leaves[0]; i++) {
		struct cpuid r;

		if (leaves[i].leaf >> 28 == 4 && !machine.hyperv)
			continue;
		r = cpuid(leaves[i].leaf, leaves[i].sub);
		h = mix64(h ^ r.a ^ (uint64_t)r.b << 32);
		h = mix64(h ^ r.c ^ (uint64_t)r.d << 32);
	}
	return h;
}

static uint64_t cr0(void)
{
	uint64_t v;
	__asm__ volatile("movq %%cr0, %0" : "=r"(v));
	return v;
}

static uint64_t cr4(void)
{
	uint64_t v;
	__asm__ volatile("movq %%cr4, %0" : "=r"(v));
	return v;
}

static uint64_t debug_value(unsigned n, uint64_t id)
{
	return 0x00005a0000000000 + 0x1000 * id + 8 * n;
}

static void debug_set(uint64_t id)
{
	__asm__ volatile("movq %0, %%dr0" : : "r"(debug_value(0, id)));
	__asm__ volatile("movq %0, %%dr1" : : "r"(debug_value(1, id)));
	__asm__ volatile("movq %0, %%dr2" : : "r"(debug_value(2, id)));
	__asm__ volatile("movq %0, %%dr3" : : "r"(debug_value(3, id)));
}

static void debug_check(uint64_t id)
{
	uint64_t d[4];

	__asm__ volatile("movq %%dr0, %0" : "=r"(d[0]));
	__asm__ volatile("movq %%dr1, %0" : "=r"(d[1]));
	__asm__ volatile("movq %%dr2, %0" : "=r"(d[2]));
	__asm__ volatile("movq %%dr3, %0" : "=r"(d[3]));
	for (unsigned i = 0; i < 4; i++)
		if (d[i] != debug_value(i, id))
			fail("DR%u is %lx on cpu %lu", i, d[i], id);
}

static uint64_t xcr0_ring3(void *arg)
{
	uint32_t a, d;

	(void)arg;
	__asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return (uint64_t)d << 32 | a;
}

void sentinel_set(struct chain_cpu *c)
{
	set_msrs(c);
	debug_set(c->id);
	c->cr0 = cr0();
	c->cr4 = cr4();
	c->xcr0 = machine.xcr0 != 0 ? user_call(xcr0_ring3, NULL, false) : 0;
	c->cpuid_hash = cpuid_hash();
	lapic_write(LAPIC_TPR, LAPIC_LOW_PRIORITY);
	lapic_write(LAPIC_LDR, (c->id + 1) << 24);
	lapic_write(LVT_ERROR, 0x10040 + c->id);	/* masked */
	if (c->id == 0)
		outb(0xa5, UART + 7);
}

static void check_controllers(const struct chain_cpu *c)
{
	if (lapic_read(LAPIC_TPR) != LAPIC_LOW_PRIORITY)
		fail("LAPIC TPR is %x on cpu %u", lapic_read(LAPIC_TPR), c->id);
	if (lapic_read(LAPIC_LDR) != (c->id + 1) << 24)
		fail("LAPIC LDR is %x on cpu %u", lapic_read(LAPIC_LDR), c->id);
	if (lapic_read(LVT_ERROR) != 0x10040 + c->id)
		fail("LAPIC LVT error is %x on cpu %u", lapic_read(LVT_ERROR), c->id);
	if ((lapic_read(LVT_LINT0) & 0x10700) != (c->id == 0 ? 0x700 : 0x10000))
		fail("LAPIC LVT LINT0 is %x on cpu %u", lapic_read(LVT_LINT0), c->id);
	if ((lapic_read(LAPIC_SVR) & 0x1ff) != 0x1ff)
		fail("LAPIC SVR is %x on cpu %u", lapic_read(LAPIC_SVR), c->id);
	if (c->id != 0)
		return;
	if (inb(UART + 7) != 0xa5 || inb(UART + 3) != 0x03 || inb(UART + 4) != 0x0b ||
	    inb(UART + 1) != 0x03)
		fail("serial port registers SCR %x LCR %x MCR %x IER %x", inb(UART + 7),
		     inb(UART + 3), inb(UART + 4), inb(UART + 1));
	if ((inb(0x21) | 1) != 0xff || inb(0xa1) != 0xff)
		fail("PIC masks are %x %x", inb(0x21), inb(0xa1));
}

void sentinel_check(struct chain_cpu *c)
{
	uint64_t v;

	for (unsigned i = 0; i < c->nsentinels; i++) {
		v = rdmsr(c->sentinels[i].msr);
		if (v != c->sentinels[i].value)
			fail("MSR %x was %lx, is %lx on cpu %u", c->sentinels[i].msr,
			     c->sentinels[i].value, v, c->id);
	}
	debug_check(c->id);
	if (cr0() != c->cr0 || cr4() != c->cr4)
		fail("CR0 was %lx, is %lx; CR4 was %lx, is %lx on cpu %u", c->cr0, cr0(), c->cr4,
		     cr4(), c->id);
	v = machine.xcr0 != 0 ? user_call(xcr0_ring3, NULL, false) : 0;
	if (v != c->xcr0)
		fail("XCR0 was %lx, is %lx on cpu %u", c->xcr0, v, c->id);
	if (cpuid_hash() != c->cpuid_hash)
		fail("CPUID changed on cpu %u", c->id);
	check_controllers(c);
}

void reftime_check(struct chain_cpu *c)
{
	uint64_t before, by_msr, after;

	if (!machine.hyperv)
		return;
	if (!machine.tsc_page) {
		by_msr = before = after = rdmsr(0x40000020);
	} else {
		if (!hv_page_time(&before))
			fail("the reference TSC page became invalid on cpu %u", c->id);
		by_msr = rdmsr(0x40000020);
		if (!hv_page_time(&after))
			fail("the reference TSC page became invalid on cpu %u", c->id);
	}
	if (before < c->time_100ns)
		fail("reference time went back from %lu to %lu on cpu %u", c->time_100ns, before,
		     c->id);
	if (by_msr + 10 < before || by_msr > after + 10)
		fail("reference time: page %lu, register %lu, page %lu on cpu %u", before, by_msr,
		     after, c->id);
	c->time_100ns = after;
}
