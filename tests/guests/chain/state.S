/* SPDX-License-Identifier: Apache-2.0 */
/* state: the parts of chain that live in registers for long stretches.
 *
 * The rounds are invertible (additions with carry, rotations, exclusive or, permutations) or chaotic
 * (x -> r * (x - x * x) in floating point), so that one wrong bit at any time changes the result. */

#define VEC_ST 512
#define VEC_MXCSR 640
#define VEC_FCW 644
#define HELD_FX_OUT 512
#define HELD_YMM_IN 1024
#define HELD_YMM_OUT 1536
#define HELD_REGS 2048

	.section .note.GNU-stack, "", @progbits
	.text

/* ADC and ROL leave a carry that the next round takes: DEC does not touch it. */
.macro MIX to from bits
	adcq \from, \to
	rolq $\bits, \from
.endm

/* void regs_hold(uint64_t s[14], uint64_t n) */
	.globl regs_hold
regs_hold:
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	pushq %rdi
	movq %rsi, %rcx
	movq (%rdi), %rax
	movq 8(%rdi), %rbx
	movq 16(%rdi), %rdx
	movq 24(%rdi), %rbp
	movq 32(%rdi), %rsi
	movq 40(%rdi), %r8
	movq 48(%rdi), %r9
	movq 56(%rdi), %r10
	movq 64(%rdi), %r11
	movq 72(%rdi), %r12
	movq 80(%rdi), %r13
	movq 88(%rdi), %r14
	movq 96(%rdi), %r15
	movq 104(%rdi), %rdi
	clc
1:	MIX %rbx, %rax, 7
	MIX %rdx, %rbx, 13
	MIX %rbp, %rdx, 29
	MIX %rsi, %rbp, 41
	MIX %rdi, %rsi, 3
	MIX %r8, %rdi, 17
	MIX %r9, %r8, 53
	MIX %r10, %r9, 31
	MIX %r11, %r10, 11
	MIX %r12, %r11, 47
	MIX %r13, %r12, 23
	MIX %r14, %r13, 59
	MIX %r15, %r14, 5
	MIX %rax, %r15, 37
	decq %rcx
	jnz 1b
	xchgq (%rsp), %rdi
	movq %rax, (%rdi)
	movq %rbx, 8(%rdi)
	movq %rdx, 16(%rdi)
	movq %rbp, 24(%rdi)
	movq %rsi, 32(%rdi)
	movq %r8, 40(%rdi)
	movq %r9, 48(%rdi)
	movq %r10, 56(%rdi)
	movq %r11, 64(%rdi)
	movq %r12, 72(%rdi)
	movq %r13, 80(%rdi)
	movq %r14, 88(%rdi)
	movq %r15, 96(%rdi)
	popq 104(%rdi)
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	ret

.macro X87_LOAD
	fninit
	fldcw VEC_FCW(%rdi)
	.irp i, 0, 1, 2, 3, 4, 5, 6, 7
	fldt VEC_ST + 16 * \i(%rdi)
	.endr
	ldmxcsr VEC_MXCSR(%rdi)
.endm

.macro X87_STORE
	.irp i, 7, 6, 5, 4, 3, 2, 1, 0
	fstpt VEC_ST + 16 * \i(%rdi)
	.endr
	fnstcw VEC_FCW(%rdi)
	stmxcsr VEC_MXCSR(%rdi)
.endm

/* Between computing and storing: regs_hold(regs, m) with all vector registers live; not for m = 0.
 * %rdi = v is kept; %rdx, the lane offset, too. */
.macro HOLD regs m
	testq \m, \m
	jz 2f
	pushq %rdi
	pushq %rdx
	movq \regs, %rdi
	movq \m, %rsi
	call regs_hold
	popq %rdx
	popq %rdi
2:
.endm

.macro AVX_MIX to from
	vxorps %ymm\from, %ymm\to, %ymm\to
	vpermilps $0x39, %ymm\to, %ymm\to
.endm

/* void vec_avx(struct vec *v, uint64_t n, uint64_t regs[14], uint64_t m) */
	.globl vec_avx
vec_avx:
	X87_LOAD
	.irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovups 32 * \i(%rdi), %ymm\i
	.endr
1:	AVX_MIX 0, 1
	AVX_MIX 1, 2
	AVX_MIX 2, 3
	AVX_MIX 3, 4
	AVX_MIX 4, 5
	AVX_MIX 5, 6
	AVX_MIX 6, 7
	AVX_MIX 7, 8
	AVX_MIX 8, 9
	AVX_MIX 9, 10
	AVX_MIX 10, 0
	vmulpd %ymm15, %ymm15, %ymm14
	vsubpd %ymm14, %ymm15, %ymm15
	vmulpd %ymm13, %ymm15, %ymm15
	vmulps %ymm12, %ymm12, %ymm14
	vsubps %ymm14, %ymm12, %ymm12
	vmulps %ymm11, %ymm12, %ymm12
	decq %rsi
	jnz 1b
	HOLD %rdx, %rcx
	.irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovups %ymm\i, 32 * \i(%rdi)
	.endr
	X87_STORE
	ret

.macro SSE_MIX to from
	xorps %xmm\from, %xmm\to
	shufps $0x39, %xmm\to, %xmm\to
.endm

/* void vec_sse(struct vec *v, uint64_t n, uint64_t lane_offset, uint64_t regs[14], uint64_t m) */
	.globl vec_sse
vec_sse:
	X87_LOAD
	.irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movups 32 * \i(%rdi, %rdx), %xmm\i
	.endr
1:	SSE_MIX 0, 1
	SSE_MIX 1, 2
	SSE_MIX 2, 3
	SSE_MIX 3, 4
	SSE_MIX 4, 5
	SSE_MIX 5, 6
	SSE_MIX 6, 7
	SSE_MIX 7, 8
	SSE_MIX 8, 9
	SSE_MIX 9, 10
	SSE_MIX 10, 0
	movaps %xmm15, %xmm14
	mulpd %xmm14, %xmm14
	subpd %xmm14, %xmm15
	mulpd %xmm13, %xmm15
	movaps %xmm12, %xmm14
	mulps %xmm14, %xmm14
	subps %xmm14, %xmm12
	mulps %xmm11, %xmm12
	decq %rsi
	jnz 1b
	HOLD %rcx, %r8
	.irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movups %xmm\i, 32 * \i(%rdi, %rdx)
	.endr
	X87_STORE
	ret

/* void held_run(struct held *h, uint64_t n, uint64_t extra, uint32_t avx)
 * FXRSTOR and FXSAVE are the vector instructions that even a software back end's emulator of ring 0
 * knows, so they carry x87, SSE and MXCSR everywhere; the upper halves of YMM where avx says so. */
	.globl held_run
held_run:
	pushq %rbx
	pushq %r12
	pushq %r13
	movq %rdi, %rbx
	movq %rdx, %r12
	movl %ecx, %r13d
	fxrstor64 (%rbx)
	testl %r13d, %r13d
	jz 1f
	.irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovups HELD_YMM_IN + 32 * \i(%rbx), %ymm\i
	.endr
1:	leaq HELD_REGS(%rbx), %rdi
	call regs_hold
	testq %r12, %r12
	jz 3f
2:	decq %r12
	jnz 2b
3:	testl %r13d, %r13d
	jz 4f
	.irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovups %ymm\i, HELD_YMM_OUT + 32 * \i(%rbx)
	.endr
4:	fxsave64 HELD_FX_OUT(%rbx)
	popq %r13
	popq %r12
	popq %rbx
	ret
