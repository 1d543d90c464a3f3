/* SPDX-License-Identifier: Apache-2.0 */
/* replay: runs a fuzz target without libFuzzer.
 *
 * usage: fuzz_X [--runs=N] [--seed=S] [FILE-OR-DIRECTORY]...
 *
 * Each file is given to the target as it is; then N inputs that are made from the
 * files (or from nothing) by seeded mutation: bits, bytes, numbers of importance,
 * cut, grown, and spliced with another file.  A target that wants to reach behind a
 * digest repairs it itself.  The seed is printed, so that a find can be repeated. */
#include <dirent.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define INPUT_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	uint8_t *data;
	size_t size;
};

static struct input *corpus;
static size_t n_corpus;
static uint64_t state;

static uint64_t rnd(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return below ? state % below : 0;
}

static void add_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	struct input in = {.data = malloc(INPUT_MAX)};

	if (!f || !in.data) {
		perror(path);
		exit(2);
	}
	in.size = fread(in.data, 1, INPUT_MAX, f);
	fclose(f);
	corpus = realloc(corpus, (n_corpus + 1) * sizeof(*corpus));
	if (!corpus)
		exit(2);
	corpus[n_corpus++] = in;
}

static void add(const char *path)
{
	struct dirent *e;
	struct stat st;
	DIR *d;

	if (stat(path, &st) != 0)
		return; /* a target may have no corpus */
	if (!S_ISDIR(st.st_mode)) {
		add_file(path);
		return;
	}
	if (!(d = opendir(path)))
		return;
	while ((e = readdir(d)) != NULL) {
		char file[4096];

		if (e->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
		add_file(file);
	}
	closedir(d);
}

static void number(uint8_t *data, size_t size)
{
	static const uint64_t numbers[] = {0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff,
					   0x80000000, 0xffffffff, INT64_MAX, UINT64_MAX};
	uint64_t v = numbers[rnd(sizeof(numbers) / sizeof(numbers[0]))] + rnd(3) - 1;
	size_t width = 1u << rnd(4), at;

	if (size < width)
		return;
	at = rnd(size - width + 1);
	for (size_t i = 0; i < width; i++)
		data[at + i] = (uint8_t)(v >> 8 * i);
}

static size_t mutate(uint8_t *data, size_t size)
{
	const struct input *other;

	switch (rnd(7)) {
	case 0:
		if (size)
			data[rnd(size)] ^= (uint8_t)(1u << rnd(8));
		return size;
	case 1:
		if (size)
			data[rnd(size)] = (uint8_t)rnd(256);
		return size;
	case 2:
		number(data, size);
		return size;
	case 3:
		return rnd(size + 1);
	case 4:
		for (uint64_t n = rnd(64); n && size < INPUT_MAX; n--)
			data[size++] = (uint8_t)rnd(256);
		return size;
	case 5:
		if (size > 8) {
			size_t from = rnd(size), to = rnd(size), n = rnd(size / 4 + 1);

			n = n > size - from ? size - from : n;
			n = n > size - to ? size - to : n;
			memmove(data + to, data + from, n);
		}
		return size;
	default:
		if (!n_corpus || !size)
			return size;
		other = &corpus[rnd(n_corpus)];
		if (other->size) {
			size_t at = rnd(size), n = rnd(other->size);

			n = n > size - at ? size - at : n;
			memcpy(data + at, other->data + rnd(other->size - n + 1), n);
		}
		return size;
	}
}

static void run(uint64_t runs)
{
	uint8_t *data = malloc(INPUT_MAX);

	if (!data)
		exit(2);
	for (uint64_t i = 0; i < runs; i++) {
		size_t size = 0;
		uint8_t *exact;

		if (n_corpus && rnd(50)) {
			const struct input *in = &corpus[rnd(n_corpus)];

			memcpy(data, in->data, size = in->size);
		}
		for (uint64_t n = 1 + rnd(6); n; n--)
			size = mutate(data, size);
		exact = malloc(size ? size : 1); /* so that a sanitizer sees its end */
		if (!exact)
			exit(2);
		memcpy(exact, data, size);
		LLVMFuzzerTestOneInput(exact, size);
		free(exact);
	}
	free(data);
}

int main(int argc, char **argv)
{
	uint64_t runs = 20000, seed = (uint64_t)time(NULL) ^ (uint64_t)getpid() << 20;

	if (getenv("LIFEBOAT_SEED"))
		seed = strtoull(getenv("LIFEBOAT_SEED"), NULL, 0);
	for (int i = 1; i < argc; i++) {
		if (strncmp(argv[i], "--runs=", 7) == 0)
			runs = strtoull(argv[i] + 7, NULL, 10);
		else if (strncmp(argv[i], "--seed=", 7) == 0)
			seed = strtoull(argv[i] + 7, NULL, 0);
		else
			add(argv[i]);
	}
	state = seed ? seed : 1;
	printf("seed: --seed=%" PRIu64 ", %zu inputs, %" PRIu64 " runs\n", seed, n_corpus, runs);
	fflush(stdout);
	for (size_t i = 0; i < n_corpus; i++)
		LLVMFuzzerTestOneInput(corpus[i].data, corpus[i].size);
	run(runs);
	for (size_t i = 0; i < n_corpus; i++)
		free(corpus[i].data);
	free(corpus);
	return 0;
}
