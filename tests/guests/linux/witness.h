/* SPDX-License-Identifier: Apache-2.0 */
/* witness: a workload inside a Linux guest that knows the right answer.
 *
 * Each part below is given a step number, does a deterministic piece of work in
 * which it checks itself, and returns a digest of it.  The digests are chained:
 * whoever stops, copies or moves the machine in between must end with the same
 * chain.  What depends on the time that something took is checked, never chained.
 *
 * Threads: main() calls the parts' step functions; what a part starts by itself
 * is said there. */
#ifndef WITNESS_H
#define WITNESS_H

#include <stddef.h>
#include <stdint.h>

/* Ends everything with the line `witness: FAIL ...` and exit code 1.  Any thread. */
_Noreturn void witness_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* CLOCK_MONOTONIC in nanoseconds.  Any thread. */
uint64_t witness_now_ns(void);

/* A step of the splitmix64 generator: a good mix of all bits of x. */
static inline uint64_t
witness_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static inline uint64_t
witness_join(uint64_t chain, uint64_t digest)
{
	return witness_mix(chain ^ witness_mix(digest));
}

/* Memory: four threads each own a quarter of size_bytes, write at random places
 * and compare all of it with a checksum kept on the side. */
void witness_memory_init(uint64_t seed, size_t size_bytes);
uint64_t witness_memory_step(unsigned step);
uint64_t witness_memory_all(void); /* a last look at every word */

/* Registers: two threads hold known values in x87, SSE and AVX registers across
 * context switches, all the time; the step itself is a sum of doubles. */
void witness_fpu_init(uint64_t seed);
uint64_t witness_fpu_step(unsigned step);

/* Signals and timers: none is lost, none comes twice, none comes early.  Threads
 * watch that the clock neither goes back nor leaps more than max_jump_s. */
void witness_time_block(void); /* first of all: threads inherit what is blocked */
void witness_time_init(unsigned max_jump_s);
uint64_t witness_time_step(unsigned step);

/* Files in the current directory, and processes: written, renamed, read back. */
uint64_t witness_files_step(uint64_t seed, unsigned step);

#endif
