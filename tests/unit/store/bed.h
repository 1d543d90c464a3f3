/* SPDX-License-Identifier: Apache-2.0 */
/* bed: a directory of its own for each test, contents to put into archives, and
 * comparisons. */
#ifndef TESTS_STORE_BED_H
#define TESTS_STORE_BED_H

#include "tests/unit/cm.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fs.h"
#include "store/archive.h"

struct bed {
	char dir[256];	   /* made by bed_setup, removed by bed_teardown */
	char archive[300]; /* dir/archive */
	bool plain;	   /* not encrypted */
};

/* cmocka's setup and teardown; *state is the bed. */
int bed_setup(void **state);
int bed_setup_plain(void **state); /* the same, not encrypted */
int bed_teardown(void **state);
void bed_make(struct bed *b);
/* Make an archive at path, encrypted with the key that bed_options gives unless b->plain. */
enum err bed_init(const struct bed *b, const char *path);
/* The same, sharing the dedup domain of b->archive. */
enum err bed_init_sharing(const struct bed *b, const char *path);
struct archive_options bed_options(const struct bed *b, bool writable);
void bed_remove(const char *path); /* like rm -r; missing is fine */
void bed_copy(const char *from, const char *to); /* like cp -r */

/* A small generator; the same everywhere. */
uint64_t bed_random(uint64_t *state);
/* The seed of this run: LIFEBOAT_SEED or new; printed. */
uint64_t bed_seed(void);
/* n scaled by LIFEBOAT_COUNT_SCALE, or by LIFEBOAT_COUNTS: 25 for full, 0.08 for quick, 0.3
 * else; at least 1. */
unsigned bed_count(unsigned n);

/* Bytes like those of memory: zero, text, code-like, random and repeated pages. */
struct content {
	uint8_t *data;
	size_t len;
};
void content_make(struct content *c, uint64_t seed, size_t len);
void content_change(struct content *c, uint64_t seed, unsigned percent);
void content_free(struct content *c);

enum err bed_open(const struct bed *b, bool writable, struct archive **out);
/* Commit content as stream "ram" of NAME; the number in *number if not NULL. */
enum err bed_put(struct archive *a, const char *name, const struct content *c, uint64_t *number);
/* Open, put, close. */
enum err bed_put_once(const struct bed *b, const char *name, const struct content *c,
		      uint64_t *number);
/* Read "ram" of NAME@N whole, by archive_read_all, and compare: ERR_FAILED if the bytes
 * are wrong, which must never be. */
enum err bed_check(struct archive *a, const char *ref, const struct content *c);
enum err bed_check_once(const struct bed *b, const char *ref, const struct content *c);
/* Verify; the first finding is printed if any and loud. */
enum err bed_verify(const struct bed *b, bool loud, struct archive_damage *first);

/* db@1, web@1 and web@2, whose contents are given in c. */
#define BED_FILLED 3
bool bed_put_three(const struct bed *b, struct content c[BED_FILLED]);
/* The same, and a pack that was rewritten, so that they are reached by a forward; and a pin. */
bool bed_fill(const struct bed *b, struct content c[BED_FILLED]);

/* Open, remove NAME@N (or the newest of NAME) or collect, close. */
enum err bed_remove_once(const struct bed *b, const char *ref);
enum err bed_gc_once(const struct bed *b, unsigned threshold, struct archive_gc_result *result);

/* Files below path as a list of paths relative to it, given (each and the array). */
size_t bed_files(const char *path, char ***files);
/* How many there are in a part of the archive ("packs") whose paths contain mark. */
size_t bed_files_in(const struct bed *b, const char *part, const char *mark);
uint64_t bed_file_size(const char *path);
void bed_flip(const char *path, uint64_t bit);

#endif
