/* SPDX-License-Identifier: Apache-2.0 */
/* boot: descriptor tables, faults, and the start of every CPU in C.
 *
 * Source: AMD64 manual volume 2, chapters 4 (segmentation), 8 (exceptions), 12 (TSS). */
#include "rt/rt.h"
#include "rt/internal.h"

struct gate {
	uint16_t lo;
	uint16_t sel;
	uint8_t ist;
	uint8_t type;
	uint16_t mid;
	uint32_t hi;
	uint32_t zero;
};

struct tss {
	uint32_t reserved0;
	uint32_t rsp[6];
	uint32_t reserved1[2];
	uint32_t ist[14];
	uint32_t reserved2[2];
	uint16_t reserved3;
	uint16_t iomap;
};

struct __attribute__((packed)) table_ptr {
	uint16_t limit;
	uint64_t base;
};

enum { SEL_TSS = 0x30, DF_STACK = 2048 };

static uint64_t gdt[6 + 2 * CPUS_MAX] = {
	0,
	0x00af9b000000ffff,	/* 08: kernel code, 64 bits */
	0x00cf93000000ffff,	/* 10: kernel data */
	0x00cffb000000ffff,	/* 18: user code, 32 bits (SYSRET's place for it) */
	0x00cff3000000ffff,	/* 20: user data */
	0x00affb000000ffff,	/* 28: user code, 64 bits */
};
static struct gate idt[256];
/* 8 bytes before each TSS make its rsp0, at offset 4, naturally aligned. */
static struct {
	uint32_t pad;
	struct tss t;
} __attribute__((aligned(128))) tsss[CPUS_MAX];
static uint8_t df_stacks[CPUS_MAX][DF_STACK] __attribute__((aligned(16)));
static irq_fn *handlers[256];

struct cpu cpus[CPUS_MAX];
void (*smp_entry)(void);

struct cpu *cpu_this(void)
{
	uint64_t sp;

	__asm__ volatile("movq %%rsp, %0" : "=r"(sp));
	return *(struct cpu **)((sp - 1) & ~(uint64_t)(KSTACK_BYTES - 1));
}

static void gate_set(unsigned vec, const void *fn, uint8_t dpl, uint8_t ist)
{
	uint64_t a = (uint64_t)fn;

	idt[vec] = (struct gate){
		.lo = (uint16_t)a,
		.sel = 0x08,
		.ist = ist,
		.type = (uint8_t)(0x8eu | (unsigned)dpl << 5),
		.mid = (uint16_t)(a >> 16),
		.hi = (uint32_t)(a >> 32),
	};
}

static void idt_build(void)
{
	for (unsigned v = 0; v < 0x60; v++)
		gate_set(v, trap_stubs + 16 * v, 0, 0);
	gate_set(8, trap_stubs + 16 * 8, 0, 1);
	gate_set(0x80, user_gate, 3, 0);
	gate_set(VEC_SPURIOUS, trap_stubs + 16 * VEC_SPURIOUS, 0, 0);
}

static void tss_load(unsigned id)
{
	struct tss *t = &tsss[id].t;
	uint64_t a = (uint64_t)t, limit = sizeof *t - 1;
	uint64_t df = (uint64_t)df_stacks[id] + DF_STACK;

	t->iomap = (uint16_t)sizeof *t;	/* no bitmap: ports need ring 0 */
	t->ist[0] = (uint32_t)df;
	t->ist[1] = (uint32_t)(df >> 32);
	cpus[id].tss_rsp0 = (uint64_t *)(void *)t->rsp;
	*cpus[id].tss_rsp0 = (uint64_t)kstacks + KSTACK_BYTES * (id + 1u);
	gdt[6 + 2 * id] = limit | (a & 0xffffff) << 16 | 0x89ull << 40 | (a >> 24 & 0xff) << 56;
	gdt[7 + 2 * id] = a >> 32;
	__asm__ volatile("ltr %0" : : "r"((uint16_t)(SEL_TSS + 16 * id)));
}

static void tables_load(unsigned id)
{
	struct table_ptr g = { sizeof gdt - 1, (uint64_t)gdt };
	struct table_ptr i = { sizeof idt - 1, (uint64_t)idt };

	__asm__ volatile("lgdt %0\n\t"
			 "pushq $0x08\n\t"
			 "leaq 1f(%%rip), %%rax\n\t"
			 "pushq %%rax\n\t"
			 "lretq\n"
			 "1:\n\t"
			 "lidt %1"
			 :
			 : "m"(g), "m"(i)
			 : "rax", "memory");
	tss_load(id);
}

void irq_handler(unsigned vector, irq_fn *fn)
{
	handlers[vector] = fn;
}

static _Noreturn void fault_fatal(const struct frame *f)
{
	uint64_t cr2;

	__asm__ volatile("movq %%cr2, %0" : "=r"(cr2));
	fail("fault vector=%lu error=%lx rip=%lx cs=%lx rsp=%lx cr2=%lx", f->vector, f->error,
	     f->rip, f->cs, f->rsp, cr2);
}

/* Ring 3 was on its way back here, by an instruction that this machine does not have. */
static bool user_way_back(uint64_t rip)
{
	return rip == (uint64_t)user_gate_insn || rip == (uint64_t)user_syscall_insn ||
	       rip == (uint64_t)syscall_in_ring3;
}

static void fault(struct frame *f)
{
	struct cpu *c;

	if (f->vector == 8)	/* on a stack of its own: cpu_this() does not work there */
		fault_fatal(f);
	c = cpu_this();
	if (f->rip == (uint64_t)rdmsr_insn || f->rip == (uint64_t)wrmsr_insn) {
		f->rip = (uint64_t)msr_fixup;
		return;
	}
	if (f->vector == 6 && user_way_back(f->rip)) {
		c->no_gate++;
		user_leave(f->rdi, c);
	}
	if (c->catch_rip == 0)
		fault_fatal(f);
	c->catch_vector = f->vector;
	c->catch_error = f->error;
	c->faults++;
	f->rip = c->catch_rip;
	c->catch_rip = 0;
}

void trap(struct frame *f)
{
	if (f->vector < 32)
		fault(f);
	else if (handlers[f->vector] != NULL)
		handlers[f->vector](f);
	else if (f->vector != VEC_SPURIOUS)
		fail("interrupt on vector %lx that nobody asked for", f->vector);
}

void rt_main(uint64_t id)
{
	struct cpu *c = &cpus[id];

	*(struct cpu **)(void *)(kstacks + KSTACK_BYTES * id) = c;
	c->id = (uint32_t)id;
	if (id == 0) {
		guest_early();
		boot_info_copy();
		idt_build();
	}
	tables_load((unsigned)id);
	c->online = 1;
	if (id == 0) {
		guest_main();
	} else {
		lapic_init(false);
		smp_entry();
	}
	halt_forever();
}

__attribute__((weak)) void guest_early(void)
{
}
