/* SPDX-License-Identifier: Apache-2.0 */
/* witness_fpu: register contents survive whatever happens in between.
 *
 * Two threads load all vector registers (ymm with AVX, else xmm), the x87 stack,
 * MXCSR and the x87 control word with values of their own, then spin and yield in
 * the same block of assembly, and compare.  No compiled code runs in between, so
 * what is compared is what the kernel and the machine below it kept.
 *
 * Threads: the two holders run for ever, at the pace the scheduler gives them. */
#include "witness.h"

#include <cpuid.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

enum { HOLDERS = 2, VECTORS = 16 };

struct block {
	_Alignas(32) uint8_t vectors[VECTORS][32];
	double stack[4];
	uint32_t mxcsr;
	uint16_t control, pad;
};

static atomic_ullong rounds[HOLDERS];
static bool has_avx;

/* Spins and yields, all between loading and storing; rbx counts down. */
#define SPIN                                                                                       \
	"1: mov $200, %%rax\n"                                                                     \
	"2: pause\n dec %%rax\n jnz 2b\n"                                                          \
	"mov %[yield], %%eax\n syscall\n"                                                          \
	"dec %%rbx\n jnz 1b\n"
#define LOAD_X87                                                                                   \
	"fninit\n fldcw %c[cw](%[in])\n ldmxcsr %c[mx](%[in])\n"                                   \
	"fldl %c[st](%[in])\n fldl 8+%c[st](%[in])\n"                                              \
	"fldl 16+%c[st](%[in])\n fldl 24+%c[st](%[in])\n"
#define STORE_X87                                                                                  \
	"fstpl 24+%c[st](%[out])\n fstpl 16+%c[st](%[out])\n"                                      \
	"fstpl 8+%c[st](%[out])\n fstpl %c[st](%[out])\n"                                          \
	"fnstcw %c[cw](%[out])\n stmxcsr %c[mx](%[out])\n fninit\n"
#define EACH(op, a, b, r)                                                                          \
	op(0, a, b, r) op(1, a, b, r) op(2, a, b, r) op(3, a, b, r) op(4, a, b, r) op(5, a, b, r)  \
	op(6, a, b, r) op(7, a, b, r) op(8, a, b, r) op(9, a, b, r) op(10, a, b, r)                \
	op(11, a, b, r) op(12, a, b, r) op(13, a, b, r) op(14, a, b, r) op(15, a, b, r)
#define LOAD(n, insn, size, reg) insn " 32*" #n "(%[in]), %%" reg #n "\n"
#define STORE(n, insn, size, reg) insn " %%" reg #n ", 32*" #n "(%[out])\n"
#define CLOBBERS                                                                                   \
	"rax", "rbx", "rcx", "r11", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4",        \
		"xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",        \
		"xmm14", "xmm15", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)",      \
		"st(7)"
#define OPERANDS                                                                                   \
	[in] "r"(in), [out] "r"(out), [yield] "i"(SYS_sched_yield),                                \
		[cw] "i"(offsetof(struct block, control)), [mx] "i"(offsetof(struct block, mxcsr)), \
		[st] "i"(offsetof(struct block, stack)), [n] "r"(spins)

static void
hold_sse(const struct block *in, struct block *out, uint64_t spins)
{
	uint32_t mxcsr = 0x1f80;

	__asm__ volatile("mov %[n], %%rbx\n" LOAD_X87 EACH(LOAD, "movdqa", 16, "xmm") SPIN EACH(
				 STORE, "movdqa", 16, "xmm") STORE_X87
			 :
			 : OPERANDS
			 : CLOBBERS);
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
}

static void
hold_avx(const struct block *in, struct block *out, uint64_t spins)
{
	uint32_t mxcsr = 0x1f80;

	__asm__ volatile("mov %[n], %%rbx\n" LOAD_X87 EACH(LOAD, "vmovdqa", 32, "ymm") SPIN EACH(
				 STORE, "vmovdqa", 32, "ymm") STORE_X87 "vzeroupper\n"
			 :
			 : OPERANDS
			 : CLOBBERS);
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
}

static void
compare(const struct block *in, const struct block *out, unsigned who)
{
	size_t width = has_avx ? 32 : 16;

	for (unsigned i = 0; i < VECTORS; i++)
		if (memcmp(in->vectors[i], out->vectors[i], width) != 0)
			witness_fail("fpu: holder %u: vector register %u changed", who, i);
	if (memcmp(in->stack, out->stack, sizeof in->stack) != 0)
		witness_fail("fpu: holder %u: the x87 stack changed", who);
	if (in->mxcsr != (out->mxcsr & ~0x3fu) || in->control != out->control)
		witness_fail("fpu: holder %u: mxcsr %x control %x became %x %x", who, in->mxcsr,
			     in->control, out->mxcsr, out->control);
}

static void *
hold(void *arg)
{
	unsigned who = (unsigned)(uintptr_t)arg;
	uint64_t random = who + 1;

	for (;;) {
		/* Rounding differs between the holders, precision is full. */
		struct block in = { .mxcsr = 0x1f80u | who << 13, .control = (uint16_t)(0x37f | who << 10) };
		struct block out = { .mxcsr = 0 };

		for (size_t i = 0; i < sizeof in.vectors; i++) {
			random = witness_mix(random);
			in.vectors[i / 32][i % 32] = (uint8_t)random;
		}
		for (size_t i = 0; i < 4; i++)
			in.stack[i] = (double)(random >> (i + 12));
		(has_avx ? hold_avx : hold_sse)(&in, &out, 20 + random % 100);
		compare(&in, &out, who);
		atomic_fetch_add(&rounds[who], 1);
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	}
	return NULL;
}

/* AVX is usable if the CPU has it and the kernel saves it (XCR0 bits 1 and 2). */
static bool
avx_usable(void)
{
	unsigned a, b, c, d, low, high;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX))
		return false;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (low & 6) == 6;
}

static double terms[8];

void
witness_fpu_init(uint64_t seed)
{
	has_avx = avx_usable();
	for (size_t i = 0; i < 8; i++)
		terms[i] = 1.0 + (double)(witness_mix(seed + i) >> 12) / 4503599627370496.0;
	for (unsigned i = 0; i < HOLDERS; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, hold, (void *)(uintptr_t)i) != 0)
			witness_fail("fpu: cannot start a thread");
	}
}

uint64_t
witness_fpu_step(unsigned step)
{
	uint64_t digest = step, bits, limit_ns = witness_now_ns() + 120000000000u;

	for (unsigned n = 0; n < 4000; n++)
		for (size_t i = 0; i < 8; i++) {
			/* A logistic map: every lost bit shows soon. */
			double x = terms[i] - 1.0;

			terms[i] = 1.0 + 3.99 * x * (1.0 - x);
		}
	for (size_t i = 0; i < 8; i++) {
		memcpy(&bits, &terms[i], sizeof bits);
		digest = witness_join(digest, bits);
	}
	/* The holders must have run since the last step: they have not died unseen. */
	for (unsigned i = 0; i < HOLDERS; i++) {
		while (atomic_load(&rounds[i]) == 0 && witness_now_ns() < limit_ns)
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		if (atomic_exchange(&rounds[i], 0) == 0)
			witness_fail("fpu: holder %u made no round in 120 s", i);
	}
	return digest;
}
