/* SPDX-License-Identifier: Apache-2.0 */
/* fill: fills memory by a seed, prints its hash, and prints it again whenever asked.
 *
 * Every page is a function of seed, pattern and its own address, so a page that came back in another
 * place, or not at all, changes the hash.  Pages come from all RAM ranges of the memory map, in
 * order of address, without the first MiB and this image.  Filling and hashing run in ring 3, which
 * is fast even where ring 0 is emulated.
 *
 * The hash goes over the pages' words, every `word` of them, in order; it depends on the memory map
 * and the arguments, not on the machine's speed. */
#include "rt/rt.h"

enum { PAGE = 4096, WORDS = PAGE / 8 };

enum pattern { RANDOM, ZERO, TEXT, MIXED, FILE_LIKE };

static const char *const pattern_names[] = { "random", "zero", "text", "mixed", "file-like" };

static struct {
	enum pattern pattern;
	uint64_t seed, pages, touch;
	const struct range *ranges;
	unsigned nranges;
} job;

static volatile uint64_t asked;

static void on_byte(uint8_t b)
{
	(void)b;
	asked++;
}

/* ---- patterns ---- */

static void page_random(uint64_t *p, uint64_t v)
{
	for (unsigned i = 0; i < WORDS; i++) {
		v = v * 6364136223846793005 + 1442695040888963407;
		p[i] = v ^ v >> 29;
	}
}

/* Words of a small vocabulary: compresses well, is never the same twice. */
static void page_text(uint64_t *p, uint64_t v)
{
	static const char words[16][9] = {
		"memory  ", "pages   ", "of the  ", "machine ", "lifeboat", "carries ", "over to ",
		"another ", "archive ", "and is  ", "never   ", "lost,   ", "because ", "someone ",
		"checked ", "twice.\n ",
	};

	for (unsigned i = 0; i < WORDS; i++) {
		if (i % 16 == 0)
			v = mix64(v);
		memcpy(&p[i], words[v >> (i % 16 * 4) & 15], 8);
	}
}

/* Like a cached file: a run of 16 pages depends on the number of its file only, and files repeat. */
static void page_file(uint64_t *p, uint64_t index)
{
	uint64_t file = mix64(job.seed ^ index / 16) % 1000;

	if (file % 4 == 0)
		page_random(p, mix64(job.seed + file * 16 + index % 16));
	else
		page_text(p, mix64(job.seed + file * 16 + index % 16));
}

static void page_fill(uint64_t *p, uint64_t index)
{
	uint64_t own = mix64(job.seed ^ (uint64_t)p);
	enum pattern kind = job.pattern;

	if (kind == MIXED)	/* a third zero, the rest in turn */
		kind = own % 3 == 0 ? ZERO : own % 3 == 1 ? TEXT : RANDOM;
	if (kind == ZERO) {
		memset(p, 0, PAGE);
	} else if (kind == FILE_LIKE) {
		page_file(p, index);
	} else {
		if (kind == TEXT)
			page_text(p, own);
		else
			page_random(p, own);
		p[0] = (uint64_t)p;
		p[1] = job.seed;
	}
}

/* ---- the walk over the ranges ---- */

static uint64_t page_hash(const uint64_t *p, uint64_t h)
{
	uint64_t a = h, b = ~h, c = h << 1, d = h ^ 0x5bd1e995;

	for (unsigned i = 0; i < WORDS; i += 4) {
		a = (a ^ p[i]) * 0x9e3779b97f4a7c15;
		b = (b ^ p[i + 1]) * 0xbf58476d1ce4e5b9;
		c = (c ^ p[i + 2]) * 0x94d049bb133111eb;
		d = (d ^ p[i + 3]) * 0xd6e8feb86659fd93;
		a ^= a >> 31;
		b ^= b >> 30;
		c ^= c >> 29;
		d ^= d >> 28;
	}
	return mix64(a ^ mix64(b ^ mix64(c ^ mix64(d ^ (uint64_t)p))));
}

static uint64_t walk(bool filling)
{
	uint64_t index = 0, h = job.seed;

	for (unsigned r = 0; r < job.nranges; r++) {
		uint64_t end = job.ranges[r].start + job.ranges[r].bytes;

		for (uint64_t a = job.ranges[r].start; a < end && index < job.pages; a += PAGE) {
			uint64_t i = index++;

			if (i % job.touch != 0)
				continue;
			if (filling)
				page_fill((uint64_t *)a, i);
			else
				h = page_hash((const uint64_t *)a, h);
		}
	}
	return h;
}

static uint64_t walk_fill(void *arg)
{
	(void)arg;
	return walk(true);
}

static uint64_t walk_hash(void *arg)
{
	(void)arg;
	return walk(false);
}

/* ---- the job ---- */

static uint64_t pages_there_are(void)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < job.nranges; i++)
		n += job.ranges[i].bytes / PAGE;
	return n;
}

static void arguments(void)
{
	const char *p = arg_str("pattern", "random");
	uint64_t mib = arg_u64("mem", 0), all;

	for (job.pattern = RANDOM; job.pattern <= FILE_LIKE; job.pattern++)
		if (str_eq(p, pattern_names[job.pattern]))
			break;
	if (job.pattern > FILE_LIKE)
		fail("pattern=%s: random, zero, text, mixed or file-like", p);
	job.seed = arg_u64("seed", 1);
	job.touch = arg_u64("touch", 1);
	if (job.touch == 0)
		fail("touch must be at least 1");
	mem_map_all();
	job.ranges = mem_ranges(&job.nranges);
	all = pages_there_are();
	job.pages = mib == 0 ? all : mib * 256;
	if (job.pages > all)
		fail("mem=%lu: this machine has %lu MiB for it", mib, all / 256);
}

static void say_hash(void)
{
	print("fill: hash %016lx\n", user_call(walk_hash, NULL, false));
}

void guest_main(void)
{
	uint64_t served = 0;

	guest_name = "fill";
	arguments();
	irq_init();
	print("fill: %s seed=%lu pages=%lu touch=%lu\n", pattern_names[job.pattern], job.seed,
	      job.pages, job.touch);
	user_call(walk_fill, NULL, false);
	say_hash();
	if (arg_u64("off", 0) != 0)
		power_off();
	serial_irq_start(on_byte);
	for (;;) {
		irq_disable();
		if (served == asked) {
			wait_irq();
			continue;
		}
		served = asked;
		irq_enable();
		say_hash();
	}
}
