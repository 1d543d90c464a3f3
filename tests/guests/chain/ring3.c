/* SPDX-License-Identifier: Apache-2.0 */
/* ring3: everything privileged must fault in ring 3, hypercalls included.
 *
 * Each attempt says where to go on before it tries; trap() goes there and leaves the vector in
 * struct cpu.  VMCALL and VMMCALL may also come back with a negative result in RAX: a plain
 * hypervisor refuses by that, and nothing has happened then either. */
#include "chain/chain.h"

enum { UD = 6, GP = 13, NO_FAULT = 255 };

static struct table_ptr {
	uint16_t limit;
	uint16_t base[4];
} table;

/* Try insn with RAX..RDX as given; c->catch_vector says what came of it. */
#define TRY(insn, a, cc, d)                                                     \
	do {                                                                    \
		uint64_t ax = (a), cx = (cc), dx = (d);                         \
		c->catch_vector = NO_FAULT;                                     \
		__asm__ volatile("movq %%rsp, %%r15\n\t"                        \
				 "leaq 771f(%%rip), %%r14\n\t"                  \
				 "movq %%r14, %[rip]\n\t" insn "\n"             \
				 "771:\tmovq %%r15, %%rsp\n\t"                  \
				 "movq $0, %[rip]"                              \
				 : [rip] "+m"(c->catch_rip), "+a"(ax), "+c"(cx), "+d"(dx) \
				 : "b"(page), [tab] "m"(table)                  \
				 : "rsi", "rdi", "r8", "r9", "r10", "r11", "r14", "r15", "memory", \
				   "cc");                                       \
		rax = ax;                                                       \
	} while (0)

#define MUST_FAULT(name, insn, a, cc, d)                                        \
	do {                                                                    \
		TRY(insn, a, cc, d);                                            \
		(void)rax;                                                      \
		if (c->catch_vector != GP && c->catch_vector != UD)             \
			return name;                                            \
		count++;                                                        \
	} while (0)

/* The hypercall page, or its like where there is no Hyper-V, at %rbx. */
static const char *hypercalls(struct cpu *c, void *page, uint64_t *faults)
{
	uint64_t rax, count = 0;

	if (machine.hyperv) {
		MUST_FAULT("hypercall HvPostMessage", "call *%%rbx", 0, 0x5c, 0);
		MUST_FAULT("hypercall HvSignalEvent, fast", "call *%%rbx", 0, 0x1005d, 1);
		MUST_FAULT("hypercall, unknown code", "call *%%rbx", 0, 0x7ffe, 0);
	}
	MUST_FAULT("out to the hypercall port", "outl %%eax, $0xe4", 0, 0x5c, 0);
	MUST_FAULT("out to the signal port", "outl %%eax, $0xe8", 1, 0, 0);
	TRY("vmmcall", 0x7ffe, 0x7ffe, 0);
	if (c->catch_vector == NO_FAULT && (int64_t)rax >= 0)
		return "vmmcall";
	count += c->catch_vector != NO_FAULT;
	TRY("vmcall", 0x7ffe, 0x7ffe, 0);
	if (c->catch_vector == NO_FAULT && (int64_t)rax >= 0)
		return "vmcall";
	count += c->catch_vector != NO_FAULT;
	*faults += count;
	return NULL;
}

static const char *privileged(struct cpu *c, void *page, uint64_t *faults)
{
	uint64_t rax, count = 0;

	MUST_FAULT("hlt", "hlt", 0, 0, 0);
	MUST_FAULT("cli", "cli", 0, 0, 0);
	MUST_FAULT("sti", "sti", 0, 0, 0);
	MUST_FAULT("clts", "clts", 0, 0, 0);
	MUST_FAULT("mov from cr0", "movq %%cr0, %%rax", 0, 0, 0);
	MUST_FAULT("mov from cr3", "movq %%cr3, %%rax", 0, 0, 0);
	MUST_FAULT("mov to cr3", "movq %%rax, %%cr3", 0, 0, 0);
	MUST_FAULT("mov to cr4", "movq %%rax, %%cr4", 0, 0, 0);
	MUST_FAULT("mov to cr8", "movq %%rax, %%cr8", 0, 0, 0);
	MUST_FAULT("mov to dr0", "movq %%rax, %%dr0", 0, 0, 0);
	MUST_FAULT("mov from dr7", "movq %%dr7, %%rax", 0, 0, 0);
	MUST_FAULT("lgdt", "lgdt %[tab]", 0, 0, 0);
	MUST_FAULT("lidt", "lidt %[tab]", 0, 0, 0);
	MUST_FAULT("ltr", "ltr %%ax", 0x30, 0, 0);
	MUST_FAULT("lldt", "lldt %%ax", 0, 0, 0);
	MUST_FAULT("lmsw", "lmsw %%ax", 0x31, 0, 0);
	MUST_FAULT("invlpg", "invlpg (%%rbx)", 0, 0, 0);
	MUST_FAULT("invd", "invd", 0, 0, 0);
	MUST_FAULT("wbinvd", "wbinvd", 0, 0, 0);
	MUST_FAULT("swapgs", "swapgs", 0, 0, 0);
	MUST_FAULT("sysretq", "sysretq", 0, (uint64_t)page, 0x202);
	MUST_FAULT("xsetbv", "xsetbv", 7, 0, 0);
	MUST_FAULT("inb", "inb %%dx, %%al", 0, 0, 0x3fd);
	MUST_FAULT("outb", "outb %%al, %%dx", 0x34, 0, 0x600);
	MUST_FAULT("insb", "leaq 8(%%rsp), %%rdi; subq $256, %%rdi; insb", 0, 0, 0x3fd);
	*faults += count;
	return NULL;
}

static const char *model_registers(struct cpu *c, void *page, uint64_t *faults)
{
	uint64_t rax, count = 0;

	MUST_FAULT("rdmsr of EFER", "rdmsr", 0, 0xc0000080, 0);
	MUST_FAULT("wrmsr of EFER", "wrmsr", 0, 0xc0000080, 0);
	MUST_FAULT("rdmsr of APIC base", "rdmsr", 0, 0x1b, 0);
	MUST_FAULT("rdmsr of Hyper-V's guest id", "rdmsr", 0, 0x40000000, 0);
	MUST_FAULT("wrmsr of Hyper-V's guest id", "wrmsr", 0, 0x40000000, 0);
	MUST_FAULT("wrmsr of Hyper-V's hypercall page", "wrmsr", 0, 0x40000001, 0);
	MUST_FAULT("rdmsr of Hyper-V's reference time", "rdmsr", 0, 0x40000020, 0);
	MUST_FAULT("wrmsr of Hyper-V's TSC page", "wrmsr", 0, 0x40000021, 0);
	MUST_FAULT("wrmsr of Hyper-V's crash register", "wrmsr", 0, 0x40000105, 0x80000000);
	*faults += count;
	return NULL;
}

/* POPF in ring 3 leaves the interrupt flag alone, without a fault. */
static const char *interrupt_flag(void)
{
	uint64_t f;

	__asm__ volatile("pushfq; andq $~0x200, (%%rsp); popfq; pushfq; popq %0" : "=r"(f) : : "cc");
	return (f & 0x200) != 0 ? NULL : "popf cleared the interrupt flag";
}

static uint64_t attempts(void *arg)
{
	struct cpu *c = arg;
	struct chain_cpu *cc = c->guest;
	void *page = hv_hypercall_page();

	cc->user_error = privileged(c, page, &cc->ring3_faults);
	if (cc->user_error == NULL)
		cc->user_error = model_registers(c, page, &cc->ring3_faults);
	if (cc->user_error == NULL)
		cc->user_error = hypercalls(c, page, &cc->ring3_faults);
	if (cc->user_error == NULL)
		cc->user_error = interrupt_flag();
	return 0;
}

void ring3_check(struct chain_cpu *c)
{
	struct cpu *cpu = cpu_this();
	uint64_t status;

	c->ring3_faults = 0;
	user_call(attempts, cpu, false);
	if (c->user_error != NULL)
		fail("ring 3 was allowed: %s (vector %lu) on cpu %u", c->user_error,
		     cpu->catch_vector, c->id);
	if (!machine.hyperv)
		return;
	status = hv_hypercall(0x7ffe, 0, 0);
	if ((status & 0xffff) != 2)
		fail("an unknown hypercall from ring 0 gave %lx, not 2", status);
}
