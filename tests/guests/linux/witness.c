/* SPDX-License-Identifier: Apache-2.0 */
/* witness: runs the parts of the workload step by step and says how it went.
 *
 *   witness [seed=N] [steps=N] [mem=MIB] [jump=SECONDS] [pace=MS] [mode=work|demo]
 *
 * Lines of output:   witness: step K chain=HEX
 *                    witness: OK chain=HEX steps=N      or     witness: FAIL WHAT
 * In the mode demo, one line a second for ever: demo: tick N uptime S chain=HEX */
#include "witness.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct options {
	uint64_t seed, steps, mem_mib, jump_s, pace_ms;
	bool demo;
};

void
witness_fail(const char *format, ...)
{
	char text[512];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	dprintf(STDOUT_FILENO, "witness: FAIL %s\n", n < 0 ? format : text);
	_exit(1);
}

uint64_t
witness_now_ns(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_MONOTONIC, &t) != 0)
		witness_fail("clock_gettime: %s", strerror(errno));
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void
parse(int argc, char **argv, struct options *o)
{
	const struct {
		const char *key;
		uint64_t *value, min, max;
	} known[] = {
		{ "seed=", &o->seed, 0, UINT64_MAX },
		{ "steps=", &o->steps, 1, 1000000 },
		{ "mem=", &o->mem_mib, 1, 1 << 20 },
		{ "jump=", &o->jump_s, 1, 1 << 20 },
		{ "pace=", &o->pace_ms, 0, 1 << 20 },
	};

	for (int i = 1; i < argc; i++) {
		bool found = strcmp(argv[i], "mode=work") == 0;

		if (strcmp(argv[i], "mode=demo") == 0)
			found = o->demo = true;
		for (size_t k = 0; !found && k < sizeof known / sizeof known[0]; k++) {
			size_t n = strlen(known[k].key);
			char *end;

			if (strncmp(argv[i], known[k].key, n) != 0)
				continue;
			errno = 0;
			*known[k].value = strtoull(argv[i] + n, &end, 0);
			found = errno == 0 && *end == '\0' && end != argv[i] + n &&
				*known[k].value >= known[k].min && *known[k].value <= known[k].max;
		}
		if (!found)
			witness_fail("option %s is not known or out of range", argv[i]);
	}
}

static void
sleep_until(uint64_t when_ns)
{
	struct timespec t = { .tv_sec = (time_t)(when_ns / 1000000000u),
			      .tv_nsec = (long)(when_ns % 1000000000u) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		continue;
}

static void
work(const struct options *o)
{
	uint64_t chain = witness_mix(o->seed);
	uint64_t next_ns = witness_now_ns();

	witness_time_block();
	witness_memory_init(o->seed, (size_t)o->mem_mib << 20);
	witness_fpu_init(o->seed);
	witness_time_init((unsigned)o->jump_s);
	for (unsigned step = 1; step <= o->steps; step++) {
		chain = witness_join(chain, witness_memory_step(step));
		chain = witness_join(chain, witness_fpu_step(step));
		chain = witness_join(chain, witness_time_step(step));
		chain = witness_join(chain, witness_files_step(o->seed, step));
		printf("witness: step %u chain=%016llx\n", step, (unsigned long long)chain);
		next_ns += o->pace_ms * 1000000u;
		if (o->pace_ms != 0)
			sleep_until(next_ns);
	}
	chain = witness_join(chain, witness_memory_all());
	printf("witness: OK chain=%016llx steps=%llu\n", (unsigned long long)chain,
	       (unsigned long long)o->steps);
}

/* A counter that a person watches: each tick goes over all of a buffer, so that
 * a chain which goes on rightly after a restore says something. */
static void
demo(const struct options *o)
{
	size_t words = ((size_t)o->mem_mib << 20) / sizeof(uint64_t);
	uint64_t *buffer = malloc(words * sizeof *buffer), chain = witness_mix(o->seed);
	uint64_t next_ns = witness_now_ns();

	if (buffer == NULL)
		witness_fail("no memory for %llu MiB", (unsigned long long)o->mem_mib);
	for (size_t i = 0; i < words; i++)
		buffer[i] = witness_mix(chain + i);
	for (unsigned tick = 1;; tick++) {
		struct timespec up;

		for (size_t i = 0; i < words; i += 64) {
			chain = witness_join(chain, buffer[i]);
			buffer[i] = chain;
		}
		clock_gettime(CLOCK_BOOTTIME, &up);
		printf("demo: tick %u uptime %lld chain=%016llx\n", tick, (long long)up.tv_sec,
		       (unsigned long long)chain);
		next_ns += 1000000000u;
		sleep_until(next_ns);
	}
}

int
main(int argc, char **argv)
{
	struct options o = { .seed = 1, .steps = 40, .mem_mib = 32, .jump_s = 60 };

	setvbuf(stdout, NULL, _IOLBF, 0);
	parse(argc, argv, &o);
	if (o.demo)
		demo(&o);
	work(&o);
	fflush(stdout);
	_exit(0); /* the watching threads never end by themselves */
}
