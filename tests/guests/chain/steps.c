/* SPDX-License-Identifier: Apache-2.0 */
/* steps: one link of the chain.
 *
 * The large part of each step runs in ring 3, which is real hardware speed wherever there is any;
 * ring 0 has a smaller part, because a software back end interprets it.  Both parts go through the
 * same kinds of state, and the result does not depend on which vector instructions the machine has. */
#include "chain/chain.h"

enum {
	VEC_ROUNDS = 4000, REGS_ROUNDS = 100000, RING3_TOUCHES = 2048, RING3_DEPTH = 100,
	RING0_ROUNDS = 24, RING0_TOUCHES = 8, RING0_DEPTH = 4,
	RING0_IDLE = 200000,	/* idle rounds with live vectors, where ring 0 is fast */
};

uint64_t chain_shared[SHARED_WORDS];

static uint64_t rotl(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

/* ---- memory ---- */

static uint64_t touch(const struct chain_cpu *c, uint64_t v, unsigned times)
{
	uint64_t i;

	while (times-- > 0) {
		i = (mix64(v) >> 32) * c->mem_words >> 32;
		v = rotl(v, 7) ^ c->mem[i];
		c->mem[i] = v + i;
	}
	return v;
}

static void held_seed(struct held *h, uint64_t v);

static uint64_t fill_ring3(void *arg)
{
	struct chain_cpu *c = arg;
	uint64_t v = mix64(machine.seed * 64 + c->id);

	for (uint64_t i = 0; i < c->mem_words; i++) {
		v = v * 6364136223846793005 + 1442695040888963407;
		c->mem[i] = v;
	}
	held_seed(&c->held, v);
	return 0;
}

void step_prepare(struct chain_cpu *c)
{
	user_call(fill_ring3, c, false);
}

/* ---- stack ---- */

/* Each level keeps its words on the stack while the deeper ones run, and finds them again. */
__attribute__((noinline)) static uint64_t recurse(uint64_t v, unsigned depth)
{
	volatile uint64_t kept[4];

	for (unsigned i = 0; i < 4; i++)
		kept[i] = rotl(v, i + 1) + depth;
	if (depth > 0)
		v = recurse(mix64(v), depth - 1);
	for (unsigned i = 0; i < 4; i++)
		v = rotl(v, 9) ^ kept[i];
	return v;
}

/* ---- vectors in ring 3 ---- */

static void vec_seed(struct vec *x, uint64_t v)
{
	uint64_t *w = &x->ymm[0][0];

	for (unsigned i = 0; i < 64; i++)
		w[i] = mix64(v + i);
	for (unsigned i = 0; i < 4; i++) {
		x->ymm[15][i] = 0x3fe0000000000000 | (w[60 + i] >> 12 & ~1ull);	/* 0.5 .. 1 */
		x->ymm[14][i] = 0;
		x->ymm[13][i] = 0x400feb851eb851ec;				/* 3.99 */
		x->ymm[12][i] = 0x3f0000003f000000 | (w[48 + i] & 0x007ffffe007ffffe);
		x->ymm[11][i] = 0x407f5c29407f5c29;				/* 3.99, 3.99 */
	}
	for (unsigned i = 0; i < 8; i++) {
		x->st[i][0] = mix64(v + 64 + i) | 1ull << 63;
		x->st[i][1] = 0x3ff0 + (w[i] & 0x800f);	/* sign and some exponents */
	}
	x->mxcsr = 0x1f80 | (uint32_t)(v & 3) << 13;	/* one of four roundings, all masked */
	x->fcw = (uint16_t)(0x037f | (v >> 2 & 3) << 10);
}

static uint64_t vec_fold(const struct vec *x, uint64_t v)
{
	const uint64_t *w = &x->ymm[0][0];

	for (unsigned i = 0; i < 64; i++)
		v = (rotl(v, 11) ^ w[i]) * 0x9e3779b97f4a7c15;
	for (unsigned i = 0; i < 8; i++)
		v = (rotl(v, 11) ^ x->st[i][0] ^ (x->st[i][1] & 0xffff)) * 0x9e3779b97f4a7c15;
	return mix64(v ^ (uint64_t)x->mxcsr << 16 ^ x->fcw);
}

/* The FS and GS bases and TSC_AUX as ring 3 sees them. */
static const char *ring3_registers(const struct chain_cpu *c)
{
	uint64_t fs, gs;
	uint32_t aux;

	__asm__ volatile("movq %%fs:0, %0; movq %%gs:0, %1" : "=r"(fs), "=r"(gs));
	if (fs != c->fs_word)
		return "FS base in ring 3";
	if (gs != c->gs_word)
		return "GS base in ring 3";
	if (machine.rdtscp) {
		__asm__ volatile("rdtscp" : "=c"(aux) : : "rax", "rdx");
		if (aux != 0x5150 + c->id)
			return "TSC_AUX in ring 3";
	}
	return NULL;
}

/* ---- vectors in ring 0 ---- */

/* FXSAVE image: control words, eight x87 and sixteen SSE registers. */
static void held_seed(struct held *h, uint64_t v)
{
	h->fx_in[0] = 0x037f | 0xffull << 32;	/* FCW; FSW 0; all eight x87 registers in use */
	h->fx_in[1] = 0;
	h->fx_in[2] = 0;
	h->fx_in[3] = 0x1f80 | (v & 3) << 13;	/* MXCSR */
	for (unsigned i = 0; i < 8; i++) {
		h->fx_in[4 + 2 * i] = rotl(v, i) | 1ull << 63;
		h->fx_in[5 + 2 * i] = 0x3ff0 + i;
	}
	for (unsigned i = 0; i < 32; i++)
		h->fx_in[20 + i] = rotl(v, i + 1) + i;
	if (!machine.avx || !machine.ring0_full)
		return;
	for (unsigned i = 0; i < 16; i++) {
		h->ymm_in[i][0] = h->fx_in[20 + 2 * i];
		h->ymm_in[i][1] = h->fx_in[21 + 2 * i];
		h->ymm_in[i][2] = rotl(v, i + 33) + 5;
		h->ymm_in[i][3] = rotl(v, i + 17) + 9;
	}
}

/* The first difference between what was loaded and what was stored, or NULL.  Ring 3 looks; ring 0
 * says it. */
static const char *held_difference(const struct held *h)
{
	static const char *const names[] = { "an x87 register", "an XMM register" };

	if ((uint32_t)h->fx_in[3] != (uint32_t)h->fx_out[3])
		return "MXCSR";
	if ((h->fx_in[0] ^ h->fx_out[0]) & 0xffffffffff)
		return "the x87 control state";
	for (unsigned i = 4; i < 52; i++) {
		uint64_t mask = i < 20 && (i & 1) != 0 ? 0xffff : ~0ull;

		if ((h->fx_in[i] ^ h->fx_out[i]) & mask)
			return names[i >= 20];
	}
	if (!machine.avx || !machine.ring0_full)
		return NULL;
	for (unsigned i = 0; i < 64; i++)
		if (h->ymm_in[i / 4][i % 4] != h->ymm_out[i / 4][i % 4])
			return "a YMM register";
	return NULL;
}

static uint64_t stretch(void *arg)
{
	struct chain_cpu *c = arg;
	uint64_t v = c->value;

	c->user_error = held_difference(&c->held);
	if (c->user_error != NULL)
		return 0;
	vec_seed(&c->vec, v);
	c->regs[0] ^= v;
	if (machine.avx) {
		vec_avx(&c->vec, VEC_ROUNDS, c->regs, REGS_ROUNDS);
	} else {
		vec_sse(&c->vec, VEC_ROUNDS, 0, c->regs, REGS_ROUNDS);
		vec_sse(&c->vec, VEC_ROUNDS, 16, c->regs, 0);
	}
	v = vec_fold(&c->vec, v);
	v = touch(c, v, RING3_TOUCHES);
	v = recurse(v, RING3_DEPTH);
	__atomic_fetch_add(&chain_shared[v % SHARED_WORDS], v, __ATOMIC_SEQ_CST);
	c->user_error = ring3_registers(c);
	v = mix64(v ^ c->regs[0] ^ c->regs[7]);
	held_seed(&c->held, v);
	return v;
}

static uint64_t ring0_part(struct chain_cpu *c, uint64_t v)
{
	bool full = machine.ring0_full;

	c->held.regs[0] ^= v;
	held_run(&c->held, RING0_ROUNDS, full ? RING0_IDLE : 0, full && machine.avx);
	v ^= c->held.regs[0] + c->held.regs[9];
	v = touch(c, v, RING0_TOUCHES);
	return mix64(recurse(v, RING0_DEPTH));
}

void step_run(struct chain_cpu *c)
{
	c->value = ring0_part(c, c->value);
	c->value = user_call(stretch, c, (c->step & 1) != 0);
	if (c->user_error != NULL)
		fail("%s changed on cpu %u", c->user_error, c->id);
	if (c->step % 8 == 3)
		wait_irq();
	c->step++;
}
