/* SPDX-License-Identifier: Apache-2.0 */
/* chain: the self-checking guest.  What its files share.
 *
 * Every CPU computes a chain of 64-bit values, each from the one before, through every kind of state
 * that a checkpoint must carry: general registers and the carry flag, x87, SSE and AVX registers,
 * MXCSR, memory, stack; in ring 0 and in ring 3.  Timer and serial interrupts run beside it and do
 * not take part in it, so the last value depends on seed, steps, mem and cpus only.  State that is
 * not computed with (model-specific registers, debug registers, controllers) is set to known values
 * at the start and compared again and again.
 *
 * Threads: struct chain_cpu belongs to its CPU; only the fields under "interrupts" are written by
 * that CPU's handlers, and read by any. */
#ifndef GUEST_CHAIN_H
#define GUEST_CHAIN_H

#include "rt/rt.h"

enum { REGS = 14, SENTINELS_MAX = 24, CPUID_LEAVES = 12, SHARED_WORDS = 64 };

/* ---- vectors (vector.c, state.S) ---- */

/* What ring 3 computes with.  state.S knows this layout. */
struct vec {
	uint64_t ymm[16][4];
	uint64_t st[8][2];	/* 80 bits used of each */
	uint32_t mxcsr;
	uint16_t fcw;
	uint16_t pad[29];
};

/* What ring 0 holds: FXSAVE images and whole YMM registers, in and out.  state.S knows this layout. */
struct held {
	uint64_t fx_in[64];
	uint64_t fx_out[64];
	uint64_t ymm_in[16][4];
	uint64_t ymm_out[16][4];
	uint64_t regs[REGS];
	uint64_t pad[2];
};

/* n rounds over fourteen general registers and the carry flag, loaded from s and stored there. */
void regs_hold(uint64_t s[REGS], uint64_t n);
/* Load all vector registers and the x87 stack from v, compute n rounds, hold what came out while
 * regs_hold(regs, m) runs (m may be 0), store.  By AVX; or by SSE, for the 16-byte lane at offset 0 or
 * 16 of each register.  Both give the same result. */
void vec_avx(struct vec *v, uint64_t n, uint64_t regs[REGS], uint64_t m);
void vec_sse(struct vec *v, uint64_t n, uint64_t lane_offset, uint64_t regs[REGS], uint64_t m);
/* Load every register from the images, run n rounds of regs_hold and extra idle rounds, store. */
void held_run(struct held *h, uint64_t n, uint64_t extra, uint32_t avx);

/* ---- timers (timers.c) ---- */

/* Watches a counter that must keep moving.  Time counts in slices of at most 100 ms between two
 * looks, so that a jump of the clock (a pause, a restore) is not mistaken for a lost timer. */
struct watch {
	uint64_t count, stalled_tsc, last_tsc;
};

/* True once count has stood still for 5 s. */
bool watch_stalled(struct watch *w, uint64_t count);

struct chain_cpu {
	struct vec vec;
	struct held held;
	uint64_t regs[REGS];
	uint64_t value, step;
	uint64_t *mem;
	uint64_t mem_words;
	uint32_t id;
	volatile uint32_t done;
	const char *user_error;	/* what ring 3 found wrong */
	struct { uint32_t msr; uint64_t value; } sentinels[SENTINELS_MAX];
	uint32_t nsentinels;
	uint64_t cr0, cr4, xcr0, efer, tpr, cpuid_hash, fs_word, gs_word;
	uint64_t time_100ns;	/* last reference time seen */
	uint64_t ring3_faults;

	/* interrupts */
	volatile uint64_t oneshot, periodic;
	uint64_t run;		/* shots since the mode changed */
	bool is_periodic;
	uint64_t random;

	/* watchdogs */
	struct watch watch_own, watch_neighbour, watch_pit, watch_serial;
} __attribute__((aligned(64)));

/* What this machine is; set once on the boot CPU. */
struct machine {
	bool hyperv, tsc_page, avx, rdtscp, ring0_emulated, ring0_full;
	uint64_t xcr0, ring0_cycles;
	unsigned ncpus;
	uint64_t seed, steps, every, ring3_every;
	uint64_t tick_ticks;
};

extern struct machine machine;
extern struct chain_cpu chain_cpus[CPUS_MAX];
extern uint64_t chain_shared[SHARED_WORDS];
extern volatile uint64_t pit_count;

struct chain_cpu *chain_this(void);

/* Print one line "chain: ... #n"; n counts the lines of all CPUs.  Any CPU, interrupts on. */
__attribute__((format(printf, 1, 2))) void chain_line(const char *fmt, ...);

void timers_start_boot(void);	/* PIT and handlers; boot CPU */
void timers_start(struct chain_cpu *c);
/* fail() if a timer of this or the next CPU, the PIT or the serial interrupt was lost. */
void timers_check(struct chain_cpu *c);

/* ---- the steps (steps.c) ---- */

void step_run(struct chain_cpu *c);
/* Fill c's memory from the seed, and what the first step takes; ring 3 does it. */
void step_prepare(struct chain_cpu *c);

/* ---- known values (sentinel.c) ---- */

void sentinel_set(struct chain_cpu *c);
void sentinel_check(struct chain_cpu *c);
/* Reference time: monotonic, and the page agrees with the register. */
void reftime_check(struct chain_cpu *c);

/* ---- what ring 3 must not do (ring3.c) ---- */

/* fail() unless everything privileged faults in ring 3; the number of faults goes to c. */
void ring3_check(struct chain_cpu *c);

#endif
