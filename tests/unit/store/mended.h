/* SPDX-License-Identifier: Apache-2.0 */
/* mended: an archive with all that can be damaged in it, and where to heal it from: a copy file by
 * file, another archive, and files. */
#ifndef TESTS_STORE_MENDED_H
#define TESTS_STORE_MENDED_H

#include "tests/unit/store/bed.h"

#include "base/fs.h"

#define REFS 3
extern const char *const refs[REFS];

struct fixture {
	struct bed b;
	char mirror[300], other[300]; /* file by file; by archive_copy */
	char *file[REFS];	      /* the contents */
	struct content c[REFS];
	unsigned said;
	struct archive_repair_result result;
};

/* cmocka's. */
int mended_setup(void **state);
int mended_teardown(void **state);

void mended_open_at(const char *path, bool writable, struct archive **a);
/* All checkpoints into a new archive at `to`. */
void mended_copy_all(struct fixture *f, const char *to);
/* Repair, from another archive (NULL: none) and from `files` of the files. */
enum err mended_heal(struct fixture *f, const char *from, unsigned files);
/* Sound, right, and writable. */
void mended_check_whole(struct fixture *f);
void mended_begin_again(struct fixture *f);
/* Any file of the archive that is not empty. */
void mended_pick(struct fixture *f, uint64_t *seed, char *path, size_t size, size_t *bytes);
/* The largest pack; where the directories of a pack are, by its trailer. */
void mended_a_pack(const struct fixture *f, char *path, size_t size);
void mended_directories(const char *path, uint64_t at[2]);

/* Copy a checkpoint to f->other; what is there: sound, and so many checkpoints. */
enum err mended_copy_ref(struct fixture *f, const char *ref, struct archive_copy_result *r);
void mended_check_other(const struct fixture *f, uint64_t checkpoints);

/* A fault at the call that is `left` from now: for fs_fault_set. */
struct countdown {
	long left;
	int error;
};
void mended_strike(void *arg, enum fs_op op, const char *what, size_t len, struct fs_fault *fault);

/* Let the power go while work changes dir, at calls chosen by chance; what was before is in base.
 * After each, `after` is called. */
void mended_cut(struct fixture *f, const char *base, const char *dir,
		enum err (*work)(struct fixture *f), void (*after)(struct fixture *f));
/* The same, but only the process is killed: at every call where counts are full, else at some. */
void mended_kill(struct fixture *f, const char *base, const char *dir,
		 enum err (*work)(struct fixture *f), void (*after)(struct fixture *f));

#endif
