/* SPDX-License-Identifier: Apache-2.0 */
/* witness_files: files that are written, renamed and read again several steps
 * later, and a child process a step that must not change its parent's memory.
 *
 * A file's contents follow from the seed and its step alone, so that the reader
 * knows them without having kept them. */
#include "witness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KEPT = 12, WORDS = 16384 };

static uint64_t words[WORDS], back[WORDS];

static size_t
contents(uint64_t seed, unsigned step)
{
	uint64_t x = witness_join(seed, step);
	size_t n = 1 + (size_t)(x % WORDS);

	for (size_t i = 0; i < n; i++) {
		x = witness_mix(x);
		words[i] = x;
	}
	return n * sizeof words[0];
}

static void
write_file(uint64_t seed, unsigned step)
{
	char new[32], name[32];
	size_t size = contents(seed, step);
	int fd;

	snprintf(new, sizeof new, "new.%u", step);
	snprintf(name, sizeof name, "file.%u", step);
	fd = open(new, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0)
		witness_fail("files: %s: %s", new, strerror(errno));
	for (size_t at = 0; at < size;) {
		ssize_t n = write(fd, (const char *)words + at, size - at);

		if (n <= 0)
			witness_fail("files: write %s: %s", new, strerror(errno));
		at += (size_t)n;
	}
	if (fsync(fd) != 0 || close(fd) != 0 || rename(new, name) != 0)
		witness_fail("files: %s: %s", name, strerror(errno));
	if (access(new, F_OK) == 0)
		witness_fail("files: %s is still there after its rename", new);
}

static uint64_t
read_file(uint64_t seed, unsigned step)
{
	char name[32];
	size_t size = contents(seed, step), at = 0;
	uint64_t digest = size;
	ssize_t n;
	int fd;

	snprintf(name, sizeof name, "file.%u", step);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		witness_fail("files: %s: %s", name, strerror(errno));
	while (at < sizeof back && (n = read(fd, (char *)back + at, sizeof back - at)) > 0)
		at += (size_t)n;
	close(fd);
	if (at != size || memcmp(words, back, size) != 0)
		witness_fail("files: %s has other contents than were written", name);
	for (size_t i = 0; i < size / sizeof words[0]; i += 16)
		digest = witness_join(digest, back[i]);
	return digest;
}

/* A child scribbles over its copy of `words` and answers through a pipe. */
static uint64_t
child_step(unsigned step)
{
	uint64_t before = witness_join(words[0], words[WORDS - 1]), answer = 0;
	int ends[2], status;
	pid_t child;

	if (pipe(ends) != 0 || (child = fork()) < 0)
		witness_fail("processes: %s", strerror(errno));
	if (child == 0) {
		uint64_t sum = step;

		for (size_t i = 0; i < WORDS; i++) {
			words[i] = ~words[i];
			sum = witness_join(sum, i);
		}
		_exit(write(ends[1], &sum, sizeof sum) == sizeof sum ? (int)(step % 100) : 255);
	}
	close(ends[1]);
	if (read(ends[0], &answer, sizeof answer) != sizeof answer)
		witness_fail("processes: the child of step %u said nothing", step);
	close(ends[0]);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			witness_fail("processes: waitpid: %s", strerror(errno));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != (int)(step % 100))
		witness_fail("processes: the child of step %u ended with status %x", step, status);
	if (witness_join(words[0], words[WORDS - 1]) != before)
		witness_fail("processes: a child changed its parent's memory");
	return answer;
}

uint64_t
witness_files_step(uint64_t seed, unsigned step)
{
	uint64_t digest;
	char name[32];

	write_file(seed, step);
	digest = read_file(seed, step > KEPT / 2 ? step - KEPT / 2 : step);
	if (step > KEPT) {
		digest = witness_join(digest, read_file(seed, step - KEPT));
		snprintf(name, sizeof name, "file.%u", step - KEPT);
		if (unlink(name) != 0)
			witness_fail("files: unlink %s: %s", name, strerror(errno));
	}
	return witness_join(digest, child_step(step));
}
