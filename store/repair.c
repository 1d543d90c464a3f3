/* SPDX-License-Identifier: Apache-2.0 */
/* repair: make damaged files again, from what is left of them and from elsewhere.
 *
 * Order: left-overs of an interrupted repair; the small files (repairfiles.c), for without
 * manifests nobody knows which packs there are; then every pack is checked, and of the damaged ones
 * the missing pages are looked for, in all places at once (wanted.c), before each is made
 * again (mend.c), or its pages at least are kept (transfer.c); last the index, which is only
 * dropped if it is damaged.
 *
 * Each file takes its place by a rename of a complete and durable one, so a crash at any point leaves
 * every file either as it was or healed, and at most a temporary, which the next repair or
 * collection removes.
 * gc.lock keeps collections and other repairs away: a pack that is being made again is not to be
 * deleted meanwhile. */
#include "store/repair.h"

#include "base/fs.h"
#include "store/keyring.h"
#include "store/listing.h"
#include "store/mend.h"
#include "store/packcheck.h"
#include "store/record.h"
#include "store/settings.h"
#include "store/upkeep.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void repair_say(struct repair_job *j, bool healed, const char *fmt, ...)
{
	char text[ERR_NOTE_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	j->result->healed += healed;
	if (j->fn)
		j->fn(j->arg, text);
}

/* ---- packs ---- */

struct sick {
	struct pack_ref *refs;
	bool *frame;
	size_t n;
	unsigned findings; /* of the pack that is being checked */
};

static void on_finding(void *arg, const char *what)
{
	struct sick *s = arg;

	(void)what;
	s->findings++;
}

/* Check all packs; the damaged ones into s. */
static enum err check_packs(struct repair_job *j, struct pack_ref *refs, size_t n, struct sick *s)
{
	static const struct packcheck_scope everything;
	struct pool *pool;
	enum err e = shared_pool(j->a, &pool);

	s->refs = calloc(n + 1, sizeof(*s->refs));
	s->frame = calloc(n + 1, sizeof(*s->frame));
	if (!s->refs || !s->frame)
		return err_note(ERR_NOMEM, 0, "repair an archive: out of memory");
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		struct packcheck check;

		s->findings = 0;
		if ((e = progress_check(j->progress)) != ERR_OK ||
		    (e = packcheck(j->a->root, j->a->crypt, pool, j->progress, &refs[i],
				   &everything, on_finding, s, &check)) != ERR_OK)
			return e;
		if (check.any_bad || s->findings) {
			s->refs[s->n] = refs[i];
			s->frame[s->n++] = s->findings > 0;
		}
		packcheck_fini(&check);
	}
	return e;
}

static void report_pack(struct repair_job *j, const struct pack_ref *ref,
			const struct mend_result *r)
{
	char path[LAYOUT_PATH_BYTES];

	layout_pack_path(&ref->id, path);
	j->result->pages_lost += r->missing ? ref->slots : r->lost_pages;
	j->result->unfit += r->unfit;
	if (r->missing)
		repair_say(j, false,
			   "%s: it is lost with its directory: only a copy of this archive "
			   "has that (--from)",
			   path);
	else if (r->healed || r->frame)
		repair_say(j, true, "%s: made again: groups healed: %u%s", path, r->healed,
			   r->frame ? ", and its frame" : "");
	if (r->lost - r->unfit)
		repair_say(j, false, "%s: %u pages of %u groups are nowhere", path, r->lost_pages,
			   r->lost - r->unfit);
	if (r->moved)
		repair_say(j, true,
			   "%s: its pages are in new packs: of %u groups all of them were found, but "
			   "another version of the compressor had made their stored form",
			   path, r->moved);
	if (r->unfit)
		repair_say(j, false,
			   "%s: all pages of %u groups were found, but another version of the "
			   "compressor made their stored form, and others of the pack are nowhere",
			   path, r->unfit);
}

static enum err mend_all(struct repair_job *j, const struct sick *s)
{
	struct wanted_sources sources = {.from = j->opt->from,
					 .files = j->opt->files,
					 .n_files = j->opt->n_files,
					 .damaged = s->refs,
					 .n_damaged = s->n};
	struct wanted *wanted = NULL;
	struct mend m = {.a = NULL};
	enum err e;

	if ((e = wanted_create(j->a, &wanted)) == ERR_OK)
		e = mend_init(&m, j->a, j->copy, wanted, j->progress);
	for (size_t i = 0; e == ERR_OK && i < s->n; i++)
		e = mend_survey(&m, &s->refs[i]);
	if (e == ERR_OK)
		e = wanted_search(wanted, &sources, j->progress);
	for (size_t i = 0; e == ERR_OK && i < s->n; i++) {
		struct mend_result result;

		e = mend_pack(&m, &s->refs[i], s->frame[i], &result);
		if (e == ERR_OK)
			report_pack(j, &s->refs[i], &result);
	}
	mend_fini(&m);
	wanted_destroy(wanted);
	return e;
}

static enum err packs(struct repair_job *j)
{
	struct pack_ref *refs;
	struct sick s = {.refs = NULL};
	uint64_t total = 0;
	bool complete;
	size_t n;
	enum err e = listing_packs(j->a->root, j->a->crypt, &refs, &n, &complete);

	if (e != ERR_OK)
		return e;
	if ((e = forward_follow(j->a->root, j->a->crypt, &refs, &n)) != ERR_OK) {
		free(refs);
		return e;
	}
	for (size_t i = 0; i < n; i++)
		total += refs[i].dir_offset;
	if (j->progress)
		atomic_store(&j->progress->total_bytes, total);
	e = check_packs(j, refs, n, &s);
	if (e == ERR_OK && s.n)
		e = mend_all(j, &s);
	free(s.refs);
	free(s.frame);
	free(refs);
	return e;
}

/* ---- the index ---- */

static enum err index_heal(struct repair_job *j)
{
	enum err e = index_verify(j->a->root, j->a->crypt, j->a->catalog);

	if (e != ERR_CORRUPT && e != ERR_VERSION && e != ERR_IO)
		return e;
	err_clear();
	if ((e = index_drop(j->a->root)) == ERR_OK)
		repair_say(j, true,
			   LAYOUT_INDEX "/: it was damaged, and is dropped: the next writer "
					"makes it again");
	return e;
}

enum err repair(struct archive *a, const struct archive_repair_options *opt,
		struct progress *progress, archive_repair_fn *fn, void *arg,
		struct archive_repair_result *result)
{
	AUTO_FD int locked = -1;
	struct repair_job j = {
		.a = a, .opt = opt, .progress = progress, .fn = fn, .arg = arg, .result = result};
	enum err e;

	memset(result, 0, sizeof(*result));
	if (!a->writable)
		return err_note(ERR_USAGE, 0, "the archive was opened for reading only");
	if (opt->from &&
	    memcmp(crypt_archive_id(opt->from->crypt), crypt_archive_id(a->crypt), 16) == 0)
		j.copy = opt->from;
	if ((e = upkeep_begin(a->root, &locked)) != ERR_OK || (e = repair_files(&j)) != ERR_OK ||
	    (e = packs(&j)) != ERR_OK)
		return e;
	return index_heal(&j);
}

/* ---- an archive that does not open ---- */

/* The archive id in the first 44 bytes of any pack or manifest that has a sound-looking one. */
static enum err belongs(int root, const uint8_t id[16], bool *ours)
{
	char **names, path[LAYOUT_PATH_BYTES + 256];
	size_t n;
	enum err e = fs_list(root, LAYOUT_PACKS, &names, &n);

	*ours = false;
	if (e != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && !*ours && i < n; i++) {
		AUTO_FD int fd = -1;
		uint8_t rec[RECORD_BYTES];
		struct pack_id pack;

		if (!layout_pack_parse(names[i], &pack))
			continue;
		snprintf(path, sizeof(path), LAYOUT_PACKS "/%s", names[i]);
		if (fs_open(root, path, O_RDONLY, 0, &fd) == ERR_OK &&
		    fs_read_at(fd, path, rec, sizeof(rec), 0) == ERR_OK &&
		    record_check(rec, PACK_HEADER_MAGIC, path) == ERR_OK)
			*ours = memcmp(rec + 28, id, 16) == 0;
		err_clear();
	}
	fs_names_free(names, n);
	return e;
}

static void note_healed(void *arg, const char *path, bool healed)
{
	(void)path;
	*(bool *)arg |= healed;
}

/* The configuration from the copy, if this archive is what it is a copy of. */
static enum err config_heal(int root, int copy, const char *path, const char *from, bool *healed)
{
	uint8_t rec[RECORD_BYTES];
	bool damaged, ours;
	enum err e;

	e = record_read_twin(copy, LAYOUT_CONFIG, SETTINGS_MAGIC, rec, &damaged);
	if (e != ERR_OK)
		return err_context(e, "%s", from);
	if ((e = belongs(root, rec + 16, &ours)) != ERR_OK)
		return e;
	if (!ours)
		return err_note(
			ERR_CORRUPT, 0,
			"%s: its configuration is lost, and none of its packs shows that %s is "
			"a copy of it",
			path, from);
	e = record_write_twin(root, LAYOUT_CONFIG, rec);
	*healed = e == ERR_OK;
	return e;
}

static enum err parts_heal(int root, bool *healed)
{
	for (size_t i = 0; i < layout_part_count; i++) {
		enum err e = fs_mkdir(root, layout_parts[i], 0700);

		if (e != ERR_OK && e != ERR_BUSY)
			return e;
		*healed |= e == ERR_OK;
	}
	err_clear();
	return fs_sync_dir(root, ".");
}

/* What the copy has that is missing here. */
static enum err from_copy(int root, const char *path, const char *from, struct settings *c, bool *healed)
{
	AUTO_FD int copy = -1;
	bool damaged;
	enum err e = fs_open(AT_FDCWD, from, O_RDONLY | O_DIRECTORY, 0, &copy);

	if (e != ERR_OK)
		return e;
	if (settings_read(root, c, &damaged) != ERR_OK &&
	    ((e = config_heal(root, copy, path, from, healed)) != ERR_OK ||
	     (e = settings_read(root, c, &damaged)) != ERR_OK))
		return e;
	return keyring_heal(root, copy, c, note_healed, healed);
}

enum err repair_config(const char *path, const char *from, bool *healed)
{
	AUTO_FD int root = -1, lock = -1;
	struct settings c;
	bool damaged;
	enum err e;

	*healed = false;
	if ((e = fs_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, &root)) != ERR_OK)
		return e;
	e = settings_read(root, &c, &damaged);
	if (e != ERR_OK && (!from || (e != ERR_CORRUPT && e != ERR_NOTFOUND)))
		return e;
	if ((e = upkeep_begin(root, &lock)) != ERR_OK ||
	    (from && (e = from_copy(root, path, from, &c, healed)) != ERR_OK))
		return e;
	return parts_heal(root, healed);
}
