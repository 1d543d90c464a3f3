/* SPDX-License-Identifier: Apache-2.0 */
/* repairfiles: the small files of an archive: configuration, numbers, manifests.
 *
 * Part of repair.c.  A record has a twin; a manifest is put together from the root of whichever
 * side has it sound, and for each block of runs from whichever side has that. */
#include "store/repair.h"

#include "base/fs.h"
#include "store/listing.h"
#include "store/manifest.h"
#include "store/number.h"
#include "store/record.h"
#include "store/settings.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* A counter whose records are both lost goes on so far above what is listed, for numbers that
 * were given out and removed must not come back. */
#define NUMBER_LEAP 1000u

static bool is_damage(enum err e)
{
	return e == ERR_CORRUPT || e == ERR_VERSION || e == ERR_IO || e == ERR_NOTFOUND;
}

/* ---- records ---- */

/* Write both records again if one is damaged.  *lost: both are. */
static enum err heal_twin(struct repair_job *j, const char *path, const char *magic, bool *lost)
{
	uint8_t rec[RECORD_BYTES];
	bool damaged;
	enum err e = record_read_twin(j->a->root, path, magic, rec, &damaged);

	*lost = false;
	if (is_damage(e)) {
		*lost = true;
		return ERR_OK;
	}
	if (e != ERR_OK || !damaged)
		return e;
	if ((e = record_write_twin(j->a->root, path, rec)) == ERR_OK)
		repair_say(j, true, "%s: one of its two records was damaged: written again", path);
	return e;
}

static enum err config(struct repair_job *j)
{
	uint8_t rec[RECORD_BYTES];
	bool lost, damaged;
	enum err e = heal_twin(j, LAYOUT_CONFIG, SETTINGS_MAGIC, &lost);

	if (e != ERR_OK || !lost)
		return e;
	/* It was sound when the archive was opened. */
	if (!j->copy || record_read_twin(j->copy->root, LAYOUT_CONFIG, SETTINGS_MAGIC, rec,
					 &damaged) != ERR_OK) {
		repair_say(j, false, LAYOUT_CONFIG ": both records are damaged");
		return ERR_OK;
	}
	if ((e = record_write_twin(j->a->root, LAYOUT_CONFIG, rec)) == ERR_OK)
		repair_say(j, true, LAYOUT_CONFIG ": taken from the copy");
	return e;
}

/* ---- numbers ---- */

static enum err write_number(struct repair_job *j, const char *name, uint64_t number,
			     const char *why)
{
	enum err e = number_write(j->a->root, name, number);

	if (e == ERR_OK)
		repair_say(j, true, LAYOUT_NUMBERS "/%s: %s: goes on after %llu", name, why,
			   (unsigned long long)number);
	return e;
}

/* The counter must be readable and not below what is listed. */
static enum err number(struct repair_job *j, const char *name, uint64_t listed)
{
	char path[LAYOUT_PATH_BYTES];
	uint64_t n, theirs;
	bool lost, damaged;
	enum err e;

	layout_number_path(name, path);
	if ((e = number_read(j->a->root, name, &n, &damaged)) == ERR_OK) {
		if (n < listed)
			return write_number(j, name, listed, "it counted less than there are");
		return damaged ? heal_twin(j, path, NUMBER_MAGIC, &lost) : ERR_OK;
	}
	if (!is_damage(e))
		return e;
	err_clear();
	if (j->copy && number_read(j->copy->root, name, &theirs, &damaged) == ERR_OK &&
	    theirs >= listed && theirs > 0)
		return write_number(j, name, theirs,
				    "both records were damaged; taken from the copy");
	return write_number(j, name, listed + NUMBER_LEAP,
			    "both records were damaged; what was given out is not known");
}

static enum err numbers(struct repair_job *j, const struct listing_item *items, size_t n)
{
	size_t n_names;
	char **names;
	enum err e = fs_list(j->a->root, LAYOUT_NUMBERS, &names, &n_names);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < n_names; i++) {
		uint64_t listed = 0;

		if (!layout_name_ok(names[i]))
			continue;
		for (size_t k = 0; k < n; k++)
			if (strcmp(items[k].name, names[i]) == 0)
				listed = items[k].number; /* ascending */
		e = number(j, names[i], listed);
	}
	fs_names_free(names, n_names);
	return e;
}

/* ---- manifests ---- */

/* One side's file of a checkpoint. */
struct side {
	int fd; /* -1: there is none, or its root is damaged */
	struct manifest m;
};

static enum err side_open(struct archive *a, const struct listing_item *item, struct side *s)
{
	enum err e = ERR_NOTFOUND;

	s->fd = -1;
	memset(&s->m, 0, sizeof(s->m));
	if (a)
		e = manifest_load(a->root, a->crypt, item->name, item->number, &s->m, &s->fd);
	if (!is_damage(e))
		return e;
	err_clear();
	return ERR_OK;
}

static void side_close(struct side *s)
{
	manifest_fini(&s->m);
	fs_auto_close(&s->fd);
}

static bool block_sound(const struct side *s, uint32_t i, struct run *runs)
{
	bool sound = s->fd >= 0 && manifest_runs(&s->m, s->fd, i, runs) == ERR_OK;

	err_clear();
	return sound;
}

static enum err take_bytes(const struct side *s, const char *path, uint64_t offset, size_t len,
			   struct buf *out)
{
	size_t at = out->len;

	buf_put_zero(out, len);
	if (out->failed)
		return buf_check(out);
	return fs_read_at(s->fd, path, out->data + at, len, offset);
}

struct tally {
	uint32_t healed, lost;
};

/* The whole file, from the best of both sides. */
static enum err compose(const struct side *mine, const struct side *theirs, const char *path,
			struct buf *out, struct tally *t)
{
	const struct side *root = mine->fd >= 0 ? mine : theirs;
	struct run *runs = malloc(RUNS_BLOCK_MAX / 4 * sizeof(*runs));
	enum err e = runs ? take_bytes(root, path, 0, root->m.root_bytes, out)
			  : err_note(ERR_NOMEM, 0, "repair a manifest: out of memory");

	for (uint32_t i = 0; e == ERR_OK && i < root->m.n_blocks; i++) {
		const struct manifest_block *b = &root->m.block[i];
		bool ours = block_sound(mine, i, runs),
		     other = !ours && block_sound(theirs, i, runs);

		t->healed += other;
		t->lost += !ours && !other;
		e = take_bytes(other || mine->fd < 0 ? theirs : mine, path, b->offset, b->bytes,
			       out);
	}
	free(runs);
	return e;
}

static enum err put_manifest(struct repair_job *j, const char *path, const struct buf *bytes)
{
	bool there;
	enum err e = fs_exists(j->a->root, path, &there);

	/* What was removed meanwhile is not to come back. */
	if (e != ERR_OK || !there)
		return e;
	return fs_write_file(j->a->root, path, bytes->data, bytes->len, 0600);
}

static enum err manifest(struct repair_job *j, const struct listing_item *item)
{
	AUTO_BUF struct buf bytes = {0};
	struct side mine, theirs = {.fd = -1};
	struct tally t = {0};
	char path[LAYOUT_PATH_BYTES];
	enum err e;

	layout_manifest_path(item->name, item->number, path);
	if ((e = side_open(j->a, item, &mine)) == ERR_OK)
		e = side_open(j->copy, item, &theirs);
	/* Two sound roots of one name and number are the same, or the copy is no help. */
	if (e == ERR_OK && mine.fd >= 0 && theirs.fd >= 0 &&
	    memcmp(&mine.m.info.digest, &theirs.m.info.digest, DIGEST_BYTES) != 0)
		side_close(&theirs);
	if (e == ERR_OK && mine.fd < 0 && theirs.fd < 0)
		repair_say(j, false,
			   "%s: its root is damaged: if it was copied to another archive, copy "
			   "it back from there",
			   path);
	else if (e == ERR_OK)
		e = compose(&mine, &theirs, path, &bytes, &t);
	if (e == ERR_OK && bytes.len && (mine.fd < 0 || t.healed) &&
	    (e = put_manifest(j, path, &bytes)) == ERR_OK)
		repair_say(j, true, "%s: %s taken from the copy", path,
			   mine.fd < 0 ? "its root was" : "blocks of runs were");
	if (e == ERR_OK && t.lost)
		repair_say(j, false, "%s: %u blocks of runs are damaged, and no copy has them",
			   path, t.lost);
	side_close(&mine);
	side_close(&theirs);
	return e;
}

enum err repair_files(struct repair_job *j)
{
	struct listing_item *items;
	size_t n;
	enum err e;

	if ((e = config(j)) != ERR_OK || (e = listing_read(j->a->root, &items, &n)) != ERR_OK)
		return e;
	e = numbers(j, items, n);
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		e = progress_check(j->progress);
		if (e == ERR_OK)
			e = manifest(j, &items[i]);
	}
	free(items);
	return e;
}
