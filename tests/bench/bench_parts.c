/* SPDX-License-Identifier: Apache-2.0 */
/* bench_parts: what each part of a checkpoint and of a restore costs, alone, on one core.
 *
 * usage: bench_parts IMAGE [MIB [LEVEL]]
 *
 * IMAGE is a raw image of memory (memory_image.py makes one); its zero pages are left
 * out.  Every part runs over the same bytes with the functions that the archive itself
 * uses, and is measured in seconds of CPU, so that other work on the machine matters
 * little.  The sum is what no arrangement of threads can go below; divided by the CPUs it
 * is the best that a checkpoint, or a restore, can do here.  JSON on standard output:
 * seconds of CPU a GB (10^9 bytes that are not zero). */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/thread.h"
#include "store/cipher.h"
#include "store/group.h"
#include "store/mac.h"

#define MIB (1ull << 20)
#define BLOCK (1u << 20) /* as capture reads and restore places */

static uint8_t *image, *copy, *expanded;
static size_t bytes, groups;
static uint8_t **stored;
static uint32_t *lengths;
static uint8_t *codecs;
static struct group_codec *codec;
static struct mac *mac;
static struct group_sum_key sum_key;
static int level = GROUP_LEVEL_DEFAULT;
static const uint8_t key[CIPHER_KEY_BYTES];
static uint8_t nonce[CIPHER_NONCE_BYTES];

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "bench_parts: %s: %s\n", what, err_text());
	exit(1);
}

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *room(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fail("memory");
	(void)madvise(p, size, MADV_HUGEPAGE);
	return p;
}

/* Its pages that are not zero, one after the other; whole groups only. */
static void load(const char *path, size_t max)
{
	uint8_t page[PAGE_BYTES];
	FILE *f = fopen(path, "rb");

	if (!f)
		fail(path);
	image = room(max);
	while (bytes < max && fread(page, 1, sizeof(page), f) == sizeof(page)) {
		if (bytes_zero(page, sizeof(page)))
			continue;
		memcpy(image + bytes, page, sizeof(page));
		bytes += sizeof(page);
	}
	fclose(f);
	bytes -= bytes % BLOCK;
	groups = bytes / GROUP_BYTES;
}

/* ---- the parts ---- */

static void transfer(uint8_t *far, bool write)
{
	for (size_t at = 0; at < bytes; at += BLOCK) {
		struct iovec here = {image + at, BLOCK}, there = {far + at, BLOCK};
		ssize_t n = write ? process_vm_writev(getpid(), &here, 1, &there, 1, 0)
				  : process_vm_readv(getpid(), &there, 1, &here, 1, 0);

		if (n != BLOCK)
			fail("process_vm_*");
	}
}

static void read_guest(void)
{
	for (size_t at = 0; at < bytes; at += BLOCK) { /* into one buffer, as capture does */
		struct iovec here = {image + at, BLOCK}, there = {copy, BLOCK};

		if (process_vm_readv(getpid(), &there, 1, &here, 1, 0) != BLOCK)
			fail("process_vm_readv");
	}
}

static void place(void)
{
	uint8_t *fresh = room(bytes);

	transfer(fresh, true);
	munmap(fresh, bytes);
}

static void hash(void)
{
	struct digest d;

	for (size_t at = 0; at < bytes; at += PAGE_BYTES)
		mac_of(mac, image + at, PAGE_BYTES, &d);
}

static void sum(void)
{
	struct group_sum s;

	for (size_t at = 0; at < bytes; at += PAGE_BYTES)
		group_sum(codec, &sum_key, image + at, &s);
}

static void compress(void)
{
	for (size_t g = 0; g < groups; g++) {
		const uint8_t *from;
		uint8_t *out = copy + g * GROUP_STORED_MAX;

		if (group_encode(codec, level, image + g * GROUP_BYTES, GROUP_PAGES, out, &from,
				 &lengths[g], &codecs[g]) != ERR_OK)
			fail("compress");
		stored[g] = out;
		if (from != out)
			memcpy(out, from, lengths[g]);
	}
}

static void expand(void)
{
	for (size_t g = 0; g < groups; g++)
		if (group_decode(codec, stored[g], lengths[g], codecs[g], GROUP_PAGES, expanded) !=
		    ERR_OK)
			fail("expand");
}

static void seal(void)
{
	for (size_t g = 0; g < groups; g++)
		if (cipher_seal(key, nonce, NULL, 0, stored[g], lengths[g], stored[g]) != ERR_OK)
			fail("seal");
}

static void unseal(void)
{
	for (size_t g = 0; g < groups; g++)
		if (cipher_open(key, nonce, NULL, 0, stored[g], lengths[g] + CIPHER_TAG_BYTES,
				stored[g]) != ERR_OK)
			fail("open");
}

static double measure(void (*part)(void))
{
	double start = cpu_seconds();

	part();
	return (cpu_seconds() - start) / ((double)bytes / 1e9);
}

int main(int argc, char **argv)
{
	double c_read, c_hash, c_sum, c_compress, c_expand, c_seal, c_open, c_place;
	unsigned cpus = thread_cpus();

	if (argc < 2 || argc > 4) {
		fprintf(stderr, "usage: bench_parts IMAGE [MIB [LEVEL]]\n");
		return 2;
	}
	if (argc == 4)
		level = atoi(argv[3]);
	load(argv[1], (argc >= 3 ? strtoul(argv[2], NULL, 10) : 512) * MIB);
	copy = room((groups + 1) * GROUP_STORED_MAX);
	expanded = room(GROUP_BYTES);
	stored = calloc(groups, sizeof(*stored));
	lengths = calloc(groups, sizeof(*lengths));
	codecs = calloc(groups, 1);
	if (!groups || !stored || !lengths || !codecs || group_codec_create(&codec) != ERR_OK ||
	    mac_create(key, &mac) != ERR_OK)
		fail("set up");
	c_read = measure(read_guest);
	c_hash = measure(hash);
	c_sum = measure(sum);
	c_compress = measure(compress);
	c_expand = measure(expand);
	c_seal = measure(seal);
	c_open = measure(unseal);
	c_place = measure(place);
	double save = c_read + c_hash + c_sum + c_compress + c_expand + c_sum + c_seal + c_open;
	double load_s = c_open + c_expand + c_place;
	printf("{\"bytes\": %zu, \"level\": %d, \"cpus\": %u, \"read_guest_s\": %.3f, "
	       "\"hmac_sha256_s\": %.3f, "
	       "\"sum_s\": %.3f, \"zstd_s\": %.3f, \"expand_s\": %.3f, \"seal_s\": %.3f, "
	       "\"open_s\": %.3f, \"place_s\": %.3f, \"checkpoint_s\": %.3f, "
	       "\"checkpoint_best_gb_s\": %.3f, \"restore_s\": %.3f, \"restore_best_gb_s\": "
	       "%.3f}\n",
	       bytes, level, cpus, c_read, c_hash, c_sum, c_compress, c_expand, c_seal, c_open,
	       c_place, save, cpus / save, load_s, cpus / load_s);
	return 0;
}
