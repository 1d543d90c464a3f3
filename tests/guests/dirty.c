/* SPDX-License-Identifier: Apache-2.0 */
/* dirty: writes to memory at a given rate and pattern, and knows its own longest gap.
 *
 * Ring 3 works in slices: it writes what is due by the TSC, looks at the clock again and again, and
 * keeps the longest time between two looks: what a pause, or a page fault served from far away, cost
 * this guest.  Time in ring 0, where a line is printed after each slice, is not looked at.
 * Every page carries a number and its complement by address; both are checked before each write, so
 * a page that came back old or foreign is found. */
#include "rt/rt.h"

enum { PAGE = 4096, WORDS = PAGE / 8 };

enum pattern { SEQUENTIAL, RANDOM, HOT };

static struct {
	uint64_t *mem;
	uint64_t pages, pages_per_s, slice_tsc;
	enum pattern pattern;
	uint64_t random;
	uint64_t written, gap_tsc;	/* of this slice */
	uint64_t next, bad_page;
} job = { .bad_page = ~0ull };

static uint64_t pick(void)
{
	uint64_t r;

	if (job.pattern == SEQUENTIAL)
		return job.next++ % job.pages;
	job.random = job.random * 6364136223846793005 + 1442695040888963407;
	r = job.random >> 32;
	if (job.pattern == HOT && r % 10 != 0)	/* nine writes of ten go to a tenth of the pages */
		return (r * (job.pages / 10 + 1) >> 32) % job.pages;
	return r * job.pages >> 32;
}

static void write_page(uint64_t i)
{
	uint64_t *p = job.mem + i * WORDS;
	uint64_t expect = p[0] == 0 ? 0 : p[0] ^ mix64((uint64_t)p);

	if (p[WORDS - 1] != expect)
		job.bad_page = i;
	p[0]++;
	p[WORDS - 1] = p[0] ^ mix64((uint64_t)p);
	job.written++;
}

static uint64_t slice(void *arg)
{
	uint64_t start = rdtsc(), last = start, now = start, due;

	(void)arg;
	while (now - start < job.slice_tsc && job.bad_page == ~0ull) {
		due = job.pages_per_s == 0
			      ? job.written + 16
			      : (now - start) / 1000 * job.pages_per_s / (tsc_hz / 1000);
		for (unsigned n = 0; n < 16 && job.written < due; n++)
			write_page(pick());
		now = rdtsc();
		if (now - last > job.gap_tsc)
			job.gap_tsc = now - last;
		last = now;
	}
	return 0;
}

static void arguments(void)
{
	const char *p = arg_str("pattern", "random");
	uint64_t mib = arg_u64("mem", 16);

	if (str_eq(p, "sequential"))
		job.pattern = SEQUENTIAL;
	else if (str_eq(p, "random"))
		job.pattern = RANDOM;
	else if (str_eq(p, "hot"))
		job.pattern = HOT;
	else
		fail("pattern=%s: sequential, random or hot", p);
	if (mib == 0)
		fail("mem must be at least 1");
	job.pages = mib * 256;
	job.pages_per_s = arg_u64("rate", 64) * 256;
	job.random = arg_u64("seed", 1);
	job.slice_tsc = tsc_hz / 1000 * arg_u64("slice_ms", 1000);
	job.mem = mem_take_dirty(mib << 20);
}

static uint64_t clear(void *arg)
{
	(void)arg;
	memset(job.mem, 0, job.pages * PAGE);
	return 0;
}

void guest_main(void)
{
	uint64_t slices, longest = 0;

	guest_name = "dirty";
	irq_init();
	timer_calibrate();
	arguments();
	slices = arg_u64("slices", 0);
	user_call(clear, NULL, false);
	print("dirty: pages=%lu rate=%lu pages/s\n", job.pages, job.pages_per_s);
	for (uint64_t n = 1; slices == 0 || n <= slices; n++) {
		job.written = 0;
		job.gap_tsc = 0;
		user_call(slice, NULL, false);
		if (job.bad_page != ~0ull)
			fail("page %lu holds what was not written there last", job.bad_page);
		if (job.gap_tsc > longest)
			longest = job.gap_tsc;
		print("dirty: slice %lu written=%lu gap_us=%lu longest_us=%lu\n", n, job.written,
		      job.gap_tsc / (tsc_hz / 1000000), longest / (tsc_hz / 1000000));
	}
	print("dirty: DONE longest_us=%lu\n", longest / (tsc_hz / 1000000));
	power_off();
}
