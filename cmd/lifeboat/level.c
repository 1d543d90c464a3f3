/* SPDX-License-Identifier: Apache-2.0 */
/* level: words and numbers for levels of compression.
 *
 * What the words mean was chosen by what docs/BENCHMARKS.md measured on memory and disks in
 * groups of 64 KiB, beside level 1: -1 is a quarter faster and an eighth larger, 9 a tenth
 * smaller at a fifth of the speed; 10 to 12 gain nothing more, and from 13 on it is minutes a
 * gigabyte. */
#include "cmd/lifeboat/level.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *word;
	int level;
} words[] = {{"fast", -1}, {"default", 1}, {"best", 9}};

enum err level_parse(const char *word, int *level)
{
	char *end;
	long n;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		*level = words[i].level;
		if (strcmp(word, words[i].word) == 0)
			return ERR_OK;
	}
	errno = 0;
	n = strtol(word, &end, 10);
	if (errno || end == word || *end || n < ARCHIVE_LEVEL_MIN || n > ARCHIVE_LEVEL_MAX || n == 0)
		return err_note(ERR_USAGE, 0,
				"--compression %s: say fast, default, best, or a level of zstd from %d "
				"to %d, but not 0",
				word, ARCHIVE_LEVEL_MIN, ARCHIVE_LEVEL_MAX);
	*level = (int)n;
	return ERR_OK;
}

enum err level_apply(const char *word, struct archive *a)
{
	int level;
	enum err e = word ? level_parse(word, &level) : ERR_OK;

	return word && e == ERR_OK ? archive_compress(a, level) : e;
}
