/* SPDX-License-Identifier: Apache-2.0 */
/* witness_memory: random writes, checked by sums that are kept on the side.
 *
 * A word w at index i weighs mix(w + i * odd).  The sum of the weights of a
 * region is updated at each write and compared with a full count of one region
 * a step, so a word lost, changed, moved, or brought back from an earlier time
 * is found, by sums that live in another place than the words.
 *
 * Threads: four, one per slice; each touches its own slice only, and main waits
 * for all of them in each step. */
#include "witness.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

enum { THREADS = 4, REGIONS = 16, WRITES = 20000 };

struct slice {
	uint64_t *words;
	size_t count; /* a multiple of REGIONS */
	uint64_t random;
	uint64_t sums[REGIONS];
	uint64_t digest; /* of the step */
	unsigned number;
};

static struct slice slices[THREADS];
static pthread_barrier_t begin, end;
static unsigned current_step;

static uint64_t
weight(uint64_t word, size_t index)
{
	return witness_mix(word + index * 0xd1342543de82ef95u);
}

static void
count_region(struct slice *s, size_t region, const char *when)
{
	size_t n = s->count / REGIONS;
	uint64_t sum = 0;

	for (size_t i = region * n; i < (region + 1) * n; i++)
		sum += weight(s->words[i], i);
	if (sum != s->sums[region])
		witness_fail("memory: slice %u region %zu has sum %016llx, not %016llx, %s", s->number,
			     region, (unsigned long long)sum, (unsigned long long)s->sums[region], when);
}

static void
write_at_random(struct slice *s)
{
	for (unsigned i = 0; i < WRITES; i++) {
		size_t at, region;
		uint64_t old, new;

		s->random = witness_mix(s->random);
		at = (size_t)(s->random % s->count);
		region = at / (s->count / REGIONS);
		old = s->words[at];
		new = witness_join(old, s->random);
		s->words[at] = new;
		s->sums[region] += weight(new, at) - weight(old, at);
		s->digest = witness_join(s->digest, old);
	}
}

static void *
run_slice(void *arg)
{
	struct slice *s = arg;

	for (;;) {
		pthread_barrier_wait(&begin);
		s->digest = s->random;
		count_region(s, current_step % REGIONS, "before the writes of a step");
		write_at_random(s);
		count_region(s, current_step % REGIONS, "after the writes of a step");
		s->digest = witness_join(s->digest, s->sums[current_step % REGIONS]);
		pthread_barrier_wait(&end);
	}
	return NULL;
}

static void
fill(struct slice *s, uint64_t seed)
{
	for (size_t i = 0; i < s->count; i++) {
		s->words[i] = witness_mix(seed + i);
		s->sums[i / (s->count / REGIONS)] += weight(s->words[i], i);
	}
	s->random = witness_mix(seed);
}

void
witness_memory_init(uint64_t seed, size_t size_bytes)
{
	size_t each = size_bytes / THREADS;

	pthread_barrier_init(&begin, NULL, THREADS + 1);
	pthread_barrier_init(&end, NULL, THREADS + 1);
	for (unsigned i = 0; i < THREADS; i++) {
		struct slice *s = &slices[i];
		pthread_t thread;

		s->number = i;
		s->count = each / sizeof(uint64_t) / REGIONS * REGIONS;
		s->words = mmap(NULL, each, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (s->words == MAP_FAILED)
			witness_fail("memory: no %zu bytes", each);
		fill(s, witness_join(seed, i + 1));
		if (pthread_create(&thread, NULL, run_slice, s) != 0)
			witness_fail("memory: cannot start a thread");
	}
}

uint64_t
witness_memory_step(unsigned step)
{
	uint64_t digest = step;

	current_step = step;
	pthread_barrier_wait(&begin);
	pthread_barrier_wait(&end);
	for (unsigned i = 0; i < THREADS; i++)
		digest = witness_join(digest, slices[i].digest);
	return digest;
}

uint64_t
witness_memory_all(void)
{
	uint64_t digest = 0;

	for (unsigned i = 0; i < THREADS; i++)
		for (size_t r = 0; r < REGIONS; r++) {
			count_region(&slices[i], r, "at the end");
			digest = witness_join(digest, slices[i].sums[r]);
		}
	return digest;
}
