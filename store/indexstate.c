/* SPDX-License-Identifier: Apache-2.0 */
/* indexstate: one record, replaced whole; see index.c for the order of changes. */
#include "store/indexstate.h"

#include "base/fs.h"
#include "store/record.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define STATE LAYOUT_INDEX "/state"
#define LOCK LAYOUT_INDEX "/lock"
#define STATE_MAGIC "LBINDEXS"
#define RUN_FIELDS 16u
#define RUNS_AT 44u

_Static_assert(RUNS_AT + RUNSET_MAX * RUN_FIELDS <= RECORD_BYTES - DIGEST_BYTES, "runs fit");

enum err indexstate_lock(int root, int *fd)
{
	enum err e = fs_mkdir(root, LAYOUT_INDEX, 0700);

	if (e != ERR_OK && e != ERR_BUSY)
		return e;
	if ((e = fs_open(root, LOCK, O_RDWR | O_CREAT, 0600, fd)) != ERR_OK)
		return e;
	return fs_lock(*fd, LOCK, true, true);
}

enum err indexstate_prune(int root, const struct runset *s, const struct runset *named)
{
	char **names, path[LAYOUT_PATH_BYTES], keep[LAYOUT_PATH_BYTES];
	size_t n;
	enum err e = fs_list(root, LAYOUT_INDEX, &names, &n);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		size_t len = strlen(names[i]);
		bool run = strncmp(names[i], "run-", 4) == 0, kept = false;

		if (len > 64 || (!run && (len < 4 || strcmp(names[i] + len - 4, ".tmp") != 0)))
			continue;
		snprintf(path, sizeof(path), LAYOUT_INDEX "/%s", names[i]);
		for (uint32_t k = 0; run && k < s->n + named->n; k++) {
			runset_path(k < s->n ? s->run[k].number : named->run[k - s->n].number,
				    keep);
			kept |= strcmp(path, keep) == 0;
		}
		if (!kept && (e = fs_unlink(root, path)) == ERR_NOTFOUND)
			e = ERR_OK;
	}
	fs_names_free(names, n);
	return e;
}

enum err indexstate_read(int root, struct indexstate *s)
{
	AUTO_BUF struct buf file = {0};
	const uint8_t *p;
	enum err e = fs_read_file(root, STATE, RECORD_BYTES, &file);

	if (e != ERR_OK)
		return e;
	if (file.len != RECORD_BYTES)
		return err_note(ERR_CORRUPT, 0, STATE ": wrong length");
	if ((e = record_check(file.data, STATE_MAGIC, STATE)) != ERR_OK)
		return e;
	p = file.data;
	runset_init(&s->runs, root, false);
	s->changes = le64_get(p + 12);
	s->epoch = le64_get(p + 36);
	s->packs = le32_get(p + 20);
	s->runs.next = le32_get(p + 24);
	s->runs.n = le32_get(p + 28);
	if (s->runs.n > RUNSET_MAX || le32_get(p + 32) != 0)
		return err_note(ERR_CORRUPT, 0, STATE ": impossible count");
	for (uint32_t i = 0; i < s->runs.n; i++) {
		const uint8_t *q = p + RUNS_AT + (size_t)i * RUN_FIELDS;
		struct indexrun *r = &s->runs.run[i];

		*r = (struct indexrun){.fd = -1,
				       .number = le32_get(q),
				       .blocks = le32_get(q + 4),
				       .entries = le64_get(q + 8)};
	}
	return ERR_OK;
}

enum err indexstate_open(int root, struct indexstate *s)
{
	for (uint32_t i = 0; i < s->runs.n; i++) {
		struct indexrun *r = &s->runs.run[i];
		char path[LAYOUT_PATH_BYTES];
		enum err e;

		runset_path(r->number, path);
		e = indexrun_open(root, path, r->number, r->blocks, r->entries, r);
		if (e == ERR_OK)
			continue;
		s->runs.n = i;
		runset_fini(&s->runs);
		return e == ERR_NOTFOUND ? err_note(ERR_CORRUPT, 0, "%s is missing", path) : e;
	}
	return ERR_OK;
}

enum err indexstate_write(int root, const struct indexstate *s)
{
	uint8_t rec[RECORD_BYTES];

	record_begin(rec, STATE_MAGIC);
	le64_put(rec + 12, s->changes);
	le64_put(rec + 36, s->epoch);
	le32_put(rec + 20, s->packs);
	le32_put(rec + 24, s->runs.next);
	le32_put(rec + 28, s->runs.n);
	for (uint32_t i = 0; i < s->runs.n; i++) {
		uint8_t *q = rec + RUNS_AT + (size_t)i * RUN_FIELDS;

		le32_put(q, s->runs.run[i].number);
		le32_put(q + 4, s->runs.run[i].blocks);
		le64_put(q + 8, s->runs.run[i].entries);
	}
	record_seal(rec);
	return fs_write_file(root, STATE, rec, sizeof(rec), 0600);
}
