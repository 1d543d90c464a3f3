/* SPDX-License-Identifier: Apache-2.0 */
/* crt0: from the PVH entry (32 bits, paging off) to C in long mode; the same for the other CPUs
 * from their SIPI; the interrupt stubs; the way into ring 3 and back.
 *
 * The first 4 GiB are identity mapped by tables that are part of the image, so that start-up costs
 * no loop: one instruction costs most of a microsecond where ring 0 is emulated.  Everything is
 * user accessible: ring 3 code and its data need no second mapping, and what ring 3 must not do is
 * a matter of privilege, not of pages, in these tests.
 *
 * No swapgs: the CPU's own structure is found by the stack (each kernel stack is 16 KiB, aligned,
 * its lowest word points to struct cpu), and each CPU has its own SYSCALL entry.  So FS, GS and
 * KERNEL_GS bases are free to hold values that nothing but a lost register changes.
 *
 * Source: Xen's x86/HVM direct boot ABI; AMD64 manual volume 2, chapters 4, 8, 14. */

#define KSTACK 16384
#define CPU_USER_KSP 0
#define CPU_TSS_RSP0 8
#define CPUS_MAX 32

	.section .note.Xen, "a", @note
	.balign 4
	.long 4
	.long 8
	.long 18		/* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.quad pvh_entry

	.section .data.pages, "aw"
	.balign 4096
	.globl boot_pml4, boot_pdpt
boot_pml4:
	.quad boot_pdpt + 7
	.fill 511, 8, 0
boot_pdpt:
	.quad boot_pd + 0x0007
	.quad boot_pd + 0x1007
	.quad boot_pd + 0x2007
	.quad boot_pd + 0x3007
	.fill 508, 8, 0
boot_pd:
	.set addr, 0
	.rept 1536
	.quad addr + 0x87
	.set addr, addr + 0x200000
	.endr
	.rept 512		/* 3..4 GiB: devices, not cached */
	.quad addr + 0x9f
	.set addr, addr + 0x200000
	.endr

	.section .data, "aw"
	.balign 16
boot_gdt:
	.quad 0
	.quad 0x00cf9b000000ffff	/* 08: 32-bit code */
	.quad 0x00cf93000000ffff	/* 10: data */
	.quad 0x00af9b000000ffff	/* 18: 64-bit code */
boot_gdtr:
	.word . - boot_gdt - 1
	.quad boot_gdt
	.balign 8
	.globl pvh_start_info
pvh_start_info:
	.quad 0
	.globl ap_next_id
ap_next_id:			/* the id of the CPU that is being started */
	.quad 0

	.section .bss.stacks, "aw", @nobits
	.balign KSTACK
	.globl kstacks
kstacks:
	.skip KSTACK * CPUS_MAX

	.section .text.boot, "ax"
	.code32
	.globl pvh_entry
pvh_entry:
	cli
	cld
	movl %ebx, pvh_start_info
	xorl %ebx, %ebx
enter_long:			/* %ebx: id of this CPU */
	movl %cr4, %eax
	orl $0x620, %eax	/* PAE, OSFXSR, OSXMMEXCPT */
	movl %eax, %cr4
	movl $boot_pml4, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x100, %eax	/* LME */
	wrmsr
	movl %cr0, %eax
	andl $~0x6000000c, %eax	/* caches on, no EM, no TS */
	orl $0x80010023, %eax	/* PG, WP, NE, MP, PE */
	movl %eax, %cr0
	lgdtl boot_gdtr
	ljmpl $0x18, $1f

	.code64
1:	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %eax, %eax
	movl %eax, %fs
	movl %eax, %gs
	movl %ebx, %ebx
	movq %rbx, %rax
	incq %rax
	imulq $KSTACK, %rax, %rax
	leaq kstacks(%rax), %rsp
	xorl %ebp, %ebp
	movq %rbx, %rdi
	call rt_main		/* (id of this CPU) */
2:	cli
	hlt
	jmp 2b

/* The other CPUs start here, in real mode, copied to a page below 1 MiB whose number the SIPI held;
 * %cs:0 is the start of that page. */
	.globl trampoline, trampoline_end
	.balign 16
	.code16
trampoline:
	cli
	cld
	movw %cs, %ax
	movw %ax, %ds
	lgdtl (tramp_gdtr - trampoline)
	movl %cr0, %eax
	andl $~0x60000000, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $8, $ap_entry32
	.balign 8
tramp_gdtr:
	.word 31
	.long boot_gdt
trampoline_end:

	.code32
ap_entry32:
	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl ap_next_id, %ebx
	jmp enter_long

	.code64
	.section .text, "ax"

/* 256 stubs of 16 bytes: push an error code where the CPU does not, push the vector. */
	.balign 16
	.globl trap_stubs
trap_stubs:
	.set vec, 0
	.rept 256
	.balign 16
	.if (vec == 8) || (vec >= 10 && vec <= 14) || (vec == 17) || (vec == 21) || (vec == 29) || (vec == 30)
	.else
	pushq $0
	.endif
	pushq $vec
	jmp trap_common
	.set vec, vec + 1
	.endr

trap_common:
	pushq %rax
	pushq %rbx
	pushq %rcx
	pushq %rdx
	pushq %rsi
	pushq %rdi
	pushq %rbp
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, %rdi
	movq %rsp, %rbp
	andq $-16, %rsp
	cld
	call trap		/* (struct frame *) */
	movq %rbp, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rbp
	popq %rdi
	popq %rsi
	popq %rdx
	popq %rcx
	popq %rbx
	popq %rax
	addq $16, %rsp
	iretq

/* uint64_t user_enter(fn, arg, user stack top, struct cpu *, entry) */
	.globl user_enter
user_enter:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	pushfq
	movq %rsp, CPU_USER_KSP(%rcx)
	movq CPU_TSS_RSP0(%rcx), %rax
	movq %rsp, (%rax)
	pushq $0x23
	pushq %rdx
	pushq $0x202
	pushq $0x2b
	pushq %r8
	iretq

/* Ring 3 begins here, with fn and arg as arguments.  An emulator of ring 3 that knows neither INT
 * nor SYSCALL raises #UD there; trap() recognises the two places and comes back all the same. */
	.globl user_by_gate, user_by_syscall, user_gate_insn, user_syscall_insn
user_by_gate:
	movq %rdi, %rax
	movq %rsi, %rdi
	call *%rax
	movq %rax, %rdi
user_gate_insn:
	int $0x80
	ud2
user_by_syscall:
	movq %rdi, %rax
	movq %rsi, %rdi
	call *%rax
	movq %rax, %rdi
user_syscall_insn:
	syscall
	ud2

/* The gate 0x80: %rdi is the result of ring 3's function.  The stack is the one that user_enter
 * left, so dropping what was pushed on it is coming back. */
	.globl user_gate
user_gate:
	movq %rsp, %rcx
	decq %rcx
	andq $-KSTACK, %rcx
	movq (%rcx), %rcx
user_back:
	movq CPU_USER_KSP(%rcx), %rsp
	movq %rdi, %rax
	popfq
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	cld
	ret

/* user_leave(result, struct cpu *): the same from C, when the way back faulted. */
	.globl user_leave
user_leave:
	movq %rsi, %rcx
	jmp user_back

/* One SYSCALL entry of 32 bytes for each CPU.  A software back end was met that comes here without
 * leaving ring 3; then the undefined opcode brings us to ring 0. */
	.globl syscall_in_ring3
syscall_in_ring3:
	ud2
	.balign 32
	.globl syscall_stubs
syscall_stubs:
	.set id, 0
	.rept CPUS_MAX
	.balign 32
	movl %cs, %ecx
	testb $3, %cl
	jnz syscall_in_ring3
	movq $kstacks + KSTACK * id, %rcx
	movq (%rcx), %rcx
	jmp user_back
	.set id, id + 1
	.endr

/* bool rdmsr_safe(msr, uint64_t *v) and bool wrmsr_safe(msr, v): trap() looks these labels up. */
	.globl rdmsr_safe, wrmsr_safe, rdmsr_insn, wrmsr_insn, msr_fixup
rdmsr_safe:
	movl %edi, %ecx
rdmsr_insn:
	rdmsr
	shlq $32, %rdx
	orq %rdx, %rax
	movq %rax, (%rsi)
	movl $1, %eax
	ret
wrmsr_safe:
	movl %edi, %ecx
	movl %esi, %eax
	movq %rsi, %rdx
	shrq $32, %rdx
wrmsr_insn:
	wrmsr
	movl $1, %eax
	ret
msr_fixup:
	xorl %eax, %eax
	ret

/* A loop of 2 * %rdi instructions, for ring0_cycles(). */
	.globl count_down
count_down:
	decq %rdi
	jnz count_down
	ret

	.section .note.GNU-stack, "", @progbits
