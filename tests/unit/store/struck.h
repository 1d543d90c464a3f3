/* SPDX-License-Identifier: Apache-2.0 */
/* struck: work on an archive, over and over, in a child of which the Nth call to the file system
 * fails, is cut short, is the last one, or the last one before the power goes. */
#ifndef TESTS_STORE_STRUCK_H
#define TESTS_STORE_STRUCK_H

#include "tests/unit/store/bed.h"

enum struck_mode { COUNT, KILL, CUT, FAIL_ONCE, FAIL_ALWAYS, FULL, SHORT };

/* What the child tells. */
struct struck_told {
	unsigned calls;
	bool removed;	    /* a removal was reported as done */
	unsigned committed; /* number of the checkpoint whose commit was reported as done; 0: none */
	enum err result;
	char note[ERR_NOTE_BYTES];
};

struct struck {
	struct bed b;
	char base[300]; /* the archive as it is before each try */
	enum struck_mode mode;
	unsigned stop_at;
	struct struck_told *told;
	/* In the child, with the archive open for writing by one thread. */
	enum err (*work)(struct struck *s, struct archive *a);
	/* Checks the archive after each try: told is what the child said. */
	void (*after)(struct struck *s);
};

/* A bed of its own for *s; later, what its archive holds is what each try begins with. */
bool struck_begin(struct struck *s);
void struck_keep(struct struck *s);
void struck_end(struct struck *s);

/* Undisturbed: the number of calls. */
unsigned struck_count(struct struck *s);
/* Strike at every N in that mode, or, where bed_count scales permille of a thousand down, at that
 * part of them, by chance. */
void struck_every(struct struck *s, enum struck_mode mode, unsigned permille);
/* Cut the power at every N: keeping only what was synced, and (mixed: so often) some of the rest. */
void struck_every_cut(struct struck *s, unsigned permille, unsigned mixed);

/* The hook of the child, for tests that strike at something else. */
void struck_hook(void *arg, enum fs_op op, const char *what, size_t len, struct fs_fault *fault);

#endif
