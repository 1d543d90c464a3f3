/* SPDX-License-Identifier: Apache-2.0 */
/* repairfiles: the small files of an archive: configuration, numbers, pins, forwards, manifests.
 *
 * Part of repair.c.  A record has a twin, a forward a second copy; a manifest is put together
 * from the root of whichever side has it sound, and for each block of runs from whichever side has
 * that. */
#include "store/repair.h"

#include "base/bytes.h"
#include "base/fs.h"
#include "store/forward.h"
#include "store/keyring.h"
#include "store/listing.h"
#include "store/manifest.h"
#include "store/number.h"
#include "store/pin.h"
#include "store/record.h"
#include "store/settings.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* A counter whose records are both lost goes on so far above what is listed, for numbers that
 * were given out and removed must not come back. */
#define NUMBER_LEAP 1000u
/* Anybody can make a file that is called NAME@18446744073709551615: it must not use up the numbers. */
#define NUMBER_DOUBTFUL_MAX UINT32_MAX

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

/* Write the copy's record, if it has a sound one. */
static enum err take_twin(struct repair_job *j, const char *path, const char *magic, bool *taken)
{
	uint8_t rec[RECORD_BYTES];
	bool damaged;
	enum err e;

	*taken = false;
	if (!j->copy || record_read_twin(j->copy->root, path, magic, rec, &damaged) != ERR_OK) {
		err_clear();
		return ERR_OK;
	}
	if ((e = record_write_twin(j->a->root, path, rec)) != ERR_OK)
		return e;
	*taken = true;
	repair_say(j, true, "%s: taken from the copy", path);
	return ERR_OK;
}

/* It was sound when the archive was opened. */
static enum err config(struct repair_job *j)
{
	bool lost, taken = false;
	enum err e = heal_twin(j, LAYOUT_CONFIG, SETTINGS_MAGIC, &lost);

	if (e == ERR_OK && lost)
		e = take_twin(j, LAYOUT_CONFIG, SETTINGS_MAGIC, &taken);
	if (e == ERR_OK && lost && !taken)
		repair_say(j, false, LAYOUT_CONFIG ": both records are damaged");
	return e;
}

/* ---- keys ---- */

static void key_healing(void *arg, const char *path, bool healed)
{
	repair_say(arg, healed, healed ? "%s: a damaged copy of the key was written again"
				       : "%s: both copies of the key are damaged", path);
}

static enum err keys(struct repair_job *j)
{
	struct settings c;
	bool damaged;
	enum err e = settings_read(j->a->root, &c, &damaged);

	if (e != ERR_OK) { /* was said above */
		err_clear();
		return ERR_OK;
	}
	return keyring_heal(j->a->root, j->copy ? j->copy->root : -1, &c, key_healing, j);
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

/* The highest number of that name that a sound root has, and the highest that a file has whose root
 * is not: it may be damaged, or never have been one. */
static void highest(struct repair_job *j, const char *name, const struct listing_item *items, size_t n,
		    uint64_t *sound, uint64_t *doubtful)
{
	*sound = *doubtful = 0;
	while (n-- > 0 && *sound == 0) { /* ascending within a name */
		AUTO_FD int fd = -1;
		struct manifest m;

		if (strcmp(items[n].name, name) != 0)
			continue;
		if (manifest_load(j->a->root, j->a->crypt, name, items[n].number, &m, &fd) == ERR_OK)
			*sound = items[n].number;
		else if (items[n].number > *doubtful && items[n].number <= NUMBER_DOUBTFUL_MAX)
			*doubtful = items[n].number;
		manifest_fini(&m);
		err_clear();
	}
}

/* The counter must be readable and not below what is listed. */
static enum err number(struct repair_job *j, const char *name, const struct listing_item *items,
		       size_t n_items)
{
	char path[LAYOUT_PATH_BYTES];
	uint64_t n, theirs, listed, doubtful;
	bool lost, damaged;
	enum err e;

	layout_number_path(name, path);
	highest(j, name, items, n_items, &listed, &doubtful);
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
	err_clear();
	if (doubtful > listed)
		listed = doubtful;
	return write_number(j, name,
			    listed < UINT64_MAX - NUMBER_LEAP ? listed + NUMBER_LEAP : listed,
			    "both records were damaged; what was given out is not known");
}

static enum err numbers(struct repair_job *j, const struct listing_item *items, size_t n)
{
	size_t n_names;
	char **names;
	enum err e = fs_list(j->a->root, LAYOUT_NUMBERS, &names, &n_names);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < n_names; i++)
		if (layout_name_ok(names[i]))
			e = number(j, names[i], items, n);
	fs_names_free(names, n_names);
	return e;
}

/* ---- pins ---- */

static enum err pins(struct repair_job *j)
{
	char **names, path[LAYOUT_PATH_BYTES];
	size_t n;
	uint64_t id;
	enum err e = fs_list(j->a->root, LAYOUT_PINS, &names, &n);

	if (e != ERR_OK)
		return e == ERR_NOTFOUND ? ERR_OK : e;
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		bool lost, taken = false;

		if (!layout_id_parse(names[i], &id))
			continue;
		layout_id_path(LAYOUT_PINS, id, path);
		e = heal_twin(j, path, PIN_MAGIC, &lost);
		if (e == ERR_OK && lost)
			e = take_twin(j, path, PIN_MAGIC, &taken);
		if (e == ERR_OK && lost && !taken)
			repair_say(j, false,
				   "%s: both records are damaged: if nobody needs it, remove it "
				   "with lifeboat archive pins rm",
				   path);
	}
	fs_names_free(names, n);
	return e;
}

/* ---- forwards ---- */

#define FORWARD_MAX (64u << 20)

/* Bytes that a copy has by its own record; 0 if that is not to be believed. */
static size_t forward_claims(const uint8_t *p, size_t left)
{
	uint64_t n;

	if (left < FORWARD_FIXED || record_check(p, FORWARD_MAGIC, "forward") != ERR_OK) {
		err_clear();
		return 0;
	}
	n = FORWARD_FIXED + (uint64_t)le32_get(p + RECORD_FIELDS + 56) +
	    (uint64_t)le32_get(p + 80) * PACK_REF_BYTES + le32_get(p + 88);
	return n <= left ? (size_t)n : 0;
}

/* A sound copy for that pack in the bytes of a file, wherever it lies; NULL: none. */
static const uint8_t *forward_copy(const struct buf *file, const struct pack_id *id, size_t *len)
{
	const size_t at[] = {0, file->len / 2};

	for (unsigned i = 0; i < 2; i++) {
		const uint8_t *p = file->data + at[i];
		struct forward f;
		bool ours;

		*len = file->len ? forward_claims(p, file->len - at[i]) : 0;
		if (*len == 0)
			continue;
		ours = forward_decode(p, *len, &f) == ERR_OK;
		if (ours) {
			ours = memcmp(&f.ref.id, id, sizeof(*id)) == 0;
			forward_fini(&f);
		}
		err_clear();
		if (ours)
			return p;
	}
	return NULL;
}

static enum err forward(struct repair_job *j, const struct pack_id *id)
{
	AUTO_BUF struct buf mine = {0};
	AUTO_BUF struct buf theirs = {0};
	AUTO_BUF struct buf twice = {0};
	const uint8_t *copy;
	char path[LAYOUT_PATH_BYTES];
	size_t len;
	enum err e;

	layout_forward_path(id, path);
	e = fs_read_file(j->a->root, path, FORWARD_MAX, &mine);
	if (e != ERR_OK && !is_damage(e))
		return e;
	copy = forward_copy(&mine, id, &len);
	if (copy && mine.len == 2 * len && memcmp(mine.data, mine.data + len, len) == 0)
		return ERR_OK;
	if (!copy && j->copy && fs_read_file(j->copy->root, path, FORWARD_MAX, &theirs) == ERR_OK)
		copy = forward_copy(&theirs, id, &len);
	if (!copy) {
		repair_say(j, false,
			   "%s: both copies are damaged: only a copy of this archive has it "
			   "(--from)",
			   path);
		return ERR_OK;
	}
	buf_put(&twice, copy, len);
	buf_put(&twice, copy, len);
	if ((e = buf_check(&twice)) == ERR_OK)
		e = fs_write_file(j->a->root, path, twice.data, twice.len, 0600);
	if (e == ERR_OK)
		repair_say(j, true, "%s: written again from a sound copy", path);
	return e;
}

/* A pack that manifests list, of which there is neither the file nor a forward, but the copy has
 * one. */
static enum err lost_forward(struct repair_job *j, const struct pack_ref *ref)
{
	char pack[LAYOUT_PATH_BYTES], path[LAYOUT_PATH_BYTES];
	bool there, moved, theirs;
	enum err e;

	layout_pack_path(&ref->id, pack);
	layout_forward_path(&ref->id, path);
	if ((e = fs_exists(j->a->root, pack, &there)) != ERR_OK ||
	    (e = fs_exists(j->a->root, path, &moved)) != ERR_OK ||
	    (e = fs_exists(j->copy->root, path, &theirs)) != ERR_OK)
		return e;
	return !there && !moved && theirs ? forward(j, &ref->id) : ERR_OK;
}

static enum err lost_forwards(struct repair_job *j)
{
	struct pack_ref *refs;
	bool complete;
	size_t n;
	enum err e = listing_packs(j->a->root, j->a->crypt, &refs, &n, &complete);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < n; i++)
		e = lost_forward(j, &refs[i]);
	free(refs);
	return e;
}

static enum err forwards(struct repair_job *j)
{
	struct pack_id *ids;
	size_t n;
	enum err e = forward_list(j->a->root, &ids, &n);

	for (size_t i = 0; e == ERR_OK && i < n; i++)
		e = forward(j, &ids[i]);
	free(ids);
	return e == ERR_OK && j->copy ? lost_forwards(j) : e;
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

/* Is what is left of our root plainly of another checkpoint than theirs?  A copy that was written to
 * as well has others under the same names.  Two places of it must say so, for one may be what is
 * damaged. */
static enum err differs(struct repair_job *j, const char *path, const struct manifest *theirs, bool *yes)
{
	AUTO_FD int fd = -1;
	uint8_t head[136], digest[DIGEST_BYTES], created[8];
	size_t got, got_digest;
	const uint8_t *mine = theirs->epoch ? head + 112 : head + 128;
	size_t len = theirs->epoch ? sizeof(theirs->id) : sizeof(created);
	enum err e;

	*yes = false;
	le64_put(created, theirs->info.created_ns);
	if ((e = fs_open(j->a->root, path, O_RDONLY, 0, &fd)) == ERR_OK &&
	    (e = fs_read_some(fd, path, head, sizeof(head), 0, &got)) == ERR_OK)
		e = fs_read_some(fd, path, digest, sizeof(digest), theirs->root_bytes - DIGEST_BYTES,
				 &got_digest);
	if (e != ERR_OK) { /* nothing is left to contradict */
		err_clear();
		return is_damage(e) ? ERR_OK : e;
	}
	*yes = got == sizeof(head) && got_digest == sizeof(digest) && !bytes_zero(mine, len) &&
	       !bytes_zero(digest, sizeof(digest)) &&
	       memcmp(mine, theirs->epoch ? theirs->id : created, len) != 0 &&
	       memcmp(digest, &theirs->info.digest, sizeof(digest)) != 0;
	return ERR_OK;
}

/* Two sound roots of one name and number are the same, or the copy is no help. */
static enum err forget_other(struct repair_job *j, const char *path, const struct side *mine,
			     struct side *theirs)
{
	bool other = false;
	enum err e = ERR_OK;

	if (theirs->fd < 0)
		return ERR_OK;
	if (mine->fd < 0)
		e = differs(j, path, &theirs->m, &other);
	else
		other = memcmp(&mine->m.info.digest, &theirs->m.info.digest, DIGEST_BYTES) != 0;
	if (other)
		side_close(theirs);
	return e;
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
	if (e == ERR_OK)
		e = forget_other(j, path, &mine, &theirs);
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

	if ((e = config(j)) != ERR_OK || (e = keys(j)) != ERR_OK ||
	    (e = listing_read(j->a->root, &items, &n)) != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		e = progress_check(j->progress);
		if (e == ERR_OK)
			e = manifest(j, &items[i]);
	}
	if (e == ERR_OK && (e = numbers(j, items, n)) == ERR_OK) /* which ask the manifests */
		e = pins(j);
	free(items);
	return e == ERR_OK ? forwards(j) : e; /* last: manifests tell which are needed */
}
