/* SPDX-License-Identifier: Apache-2.0 */
/* archive: the public face of store/; opens, lists, and hands on.
 *
 * See FORMAT.md for what is on disk, writer.c for how a checkpoint comes to be,
 * reader.c and extract.c for how it is read, verify.c for how it is checked. */
#include "store/archive.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/thread.h"
#include "store/copy.h"
#include "store/gc.h"
#include "store/init.h"
#include "store/keyring.h"
#include "store/lease.h"
#include "store/listing.h"
#include "store/manifest.h"
#include "store/pin.h"
#include "store/reader.h"
#include "store/recall.h"
#include "store/repair.h"
#include "store/removal.h"
#include "store/reserve.h"
#include "store/salvage.h"
#include "store/settings.h"
#include "store/shared.h"
#include "store/shares.h"
#include "store/sweep.h"
#include "store/verify.h"
#include "store/writer.h"

#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening ---- */

static enum err open_keys(struct archive *a, const char *path, const struct settings *c,
			  const struct archive_options *opt)
{
	struct crypt_plan plan = {.archive_id = c->archive_id,
				  .domain_id = c->domain_id,
				  .epoch = c->epoch};
	struct keyring *ring = NULL;
	enum err e;

	if (!c->encrypted && opt->key)
		return err_note(ERR_AUTH, 0, "open %s: a key was given, but this archive is not "
					     "encrypted: leave the key away if that is as it should be",
				path);
	if (c->encrypted && !opt->key)
		return err_note(ERR_AUTH, 0, "open %s: it is encrypted: give its key with --key-file, "
					     "--passphrase-file or --identity", path);
	if (!c->encrypted && (e = keyring_absent(a->root, path)) != ERR_OK)
		return e;
	if (c->encrypted && (e = keyring_open(a->root, path, c, opt->key, &ring)) != ERR_OK)
		return e;
	plan.ring = ring;
	e = crypt_create(&plan, &a->crypt);
	keyring_close(ring);
	return e;
}

static enum err read_config(struct archive *a, const char *path, const struct archive_options *opt)
{
	struct settings c;
	bool damaged;
	enum err e = settings_read(a->root, &c, &damaged);

	if (e == ERR_NOTFOUND)
		return err_note(e, 0, "%s is no archive: make one there with lifeboat archive init",
				path);
	if (e != ERR_OK)
		return err_context(e, "%s", path);
	if (damaged)
		log_event(LOG_WARN, "archive_config_damaged path=%s", path);
	a->level = c.level;
	return open_keys(a, path, &c, opt);
}

/* Files are removed below these by name: they must be the archive's own directories and
 * not links to somebody else's. */
static enum err check_parts(int root, const char *path)
{
	for (size_t i = 0; i < layout_part_count; i++) {
		enum fs_kind kind;
		enum err e = fs_kind(root, layout_parts[i], &kind);

		if (e != ERR_OK)
			return err_context(e, "archive %s", path);
		if (kind == FS_NOTHING)
			continue;
		if (kind != FS_DIRECTORY)
			return err_note(ERR_CORRUPT, 0,
					"archive %s: %s is not a directory of its own", path,
					layout_parts[i]);
	}
	return ERR_OK;
}

/* Asked when it is known to be an archive. */
static enum err check_whole(struct archive *a, const char *path)
{
	for (size_t i = 0; i < layout_part_count; i++) {
		bool there = true;
		enum err e = ERR_OK;

		if (layout_part_needed(layout_parts[i], a->writable))
			e = fs_exists(a->root, layout_parts[i], &there);
		if (e != ERR_OK)
			return err_context(e, "archive %s", path);
		if (!there)
			return err_note(ERR_CORRUPT, 0,
					"archive %s: its directory %s is missing: if that is a file "
					"system of its own, mount it; else bring it back from a copy, or "
					"let lifeboat archive repair make an empty one",
					path, layout_parts[i]);
	}
	return ERR_OK;
}

static enum err open_for_writing(struct archive *a, const char *path)
{
	enum err e = fs_writable(a->root, LAYOUT_MANIFESTS);

	if (e == ERR_AUTH)
		return err_note(e, 0,
				"archive %s may not be written here (%s): mount it writable, get "
				"permission, or use another archive",
				path, err_text());
	return e == ERR_OK ? sweep(a->root, a->crypt) : e;
}

static enum err open_parts(struct archive *a, const char *path, const struct archive_options *opt)
{
	enum err e = fs_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, &a->root);

	if (e != ERR_OK)
		return e;
	if ((e = check_parts(a->root, path)) != ERR_OK || (e = read_config(a, path, opt)) != ERR_OK ||
	    (e = check_whole(a, path)) != ERR_OK ||
	    (e = catalog_create(a->root, a->crypt, &a->catalog)) != ERR_OK)
		return e;
	return a->writable ? open_for_writing(a, path) : ERR_OK;
}

enum err archive_init(const char *path, const struct archive_init_options *opt)
{
	return init_archive(path, opt);
}

enum err archive_opens_by(const char *path, struct archive_opens_by *out)
{
	AUTO_FD int root = -1;
	struct settings c;
	bool damaged;
	enum err e = fs_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, &root);

	memset(out, 0, sizeof(*out));
	if (e == ERR_OK)
		e = settings_read(root, &c, &damaged);
	if (e != ERR_OK || !c.encrypted)
		return e;
	out->encrypted = true;
	return keyring_kinds(root, &out->passphrase, &out->key_file, &out->identity);
}

enum err archive_compress(struct archive *a, int level)
{
	static_assert(ARCHIVE_LEVEL_MIN == GROUP_LEVEL_MIN && ARCHIVE_LEVEL_MAX == GROUP_LEVEL_MAX,
		      "what the header promises");
	if (!group_level_ok(level))
		return err_note(ERR_USAGE, 0, "there is no level of compression %d", level);
	a->level = level;
	return ERR_OK;
}

bool archive_same_domain(const struct archive *a, const struct archive *b)
{
	return crypt_same_domain(a->crypt, b->crypt);
}

enum err archive_open(const char *path, const struct archive_options *opt, struct archive **out)
{
	struct archive *a = calloc(1, sizeof(*a));
	enum err e;

	if (!a)
		return err_note(ERR_NOMEM, 0, "open %s: out of memory", path);
	a->root = -1;
	a->writable = opt->writable;
	a->threads = opt->threads ? opt->threads : thread_cpus();
	if ((e = open_parts(a, path, opt)) != ERR_OK) {
		archive_close(a);
		return e;
	}
	*out = a;
	return ERR_OK;
}

void archive_close(struct archive *a)
{
	if (!a)
		return;
	shared_index_close(a);
	pool_destroy(a->pool);
	catalog_destroy(a->catalog);
	crypt_destroy(a->crypt);
	fs_auto_close(&a->root);
	free(a);
}

/* ---- listing ---- */

static enum err info_of(struct archive *a, const struct listing_item *item,
			struct checkpoint_info *info)
{
	AUTO_FD int fd = -1;
	struct manifest m;
	enum err e = manifest_load(a->root, a->crypt, item->name, item->number, &m, &fd);

	if (e == ERR_OK)
		*info = m.info;
	manifest_fini(&m);
	return e;
}

enum err archive_list(struct archive *a, archive_list_fn *fn, void *arg)
{
	struct listing_item *items;
	size_t n;
	enum err e = listing_read(a->root, &items, &n);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		struct checkpoint_info info;

		e = info_of(a, &items[i], &info);
		if (e == ERR_NOTFOUND) {
			e = ERR_OK; /* taken back since it was listed */
			continue;
		}
		/* One that cannot be read hides no other. */
		if (e == ERR_CORRUPT || e == ERR_VERSION || e == ERR_IO || e == ERR_AUTH) {
			memset(&info, 0, sizeof(info));
			memcpy(info.name, items[i].name, sizeof(info.name));
			info.number = items[i].number;
			e = ERR_OK;
		}
		if (e == ERR_OK)
			e = fn(arg, &info);
	}
	free(items);
	return e;
}

static enum err find_newest(struct archive *a, const char *name, struct listing_item *found)
{
	struct listing_item *items;
	size_t n;
	enum err e = listing_read(a->root, &items, &n);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; i < n; i++) /* in ascending order */
		if (strcmp(items[i].name, name) == 0)
			*found = items[i];
	free(items);
	return ERR_OK;
}

struct by_digest {
	char prefix[2 * DIGEST_BYTES + 1];
	unsigned found;
	struct checkpoint_info *out;
};

static enum err match_digest(void *arg, const struct checkpoint_info *info)
{
	struct by_digest *d = arg;
	char hex[2 * DIGEST_BYTES + 1];

	bytes_hex(info->digest.b, DIGEST_BYTES, hex);
	if (strncmp(hex, d->prefix, strlen(d->prefix)) != 0 ||
	    bytes_zero(info->digest.b, DIGEST_BYTES))
		return ERR_OK;
	d->found++;
	*d->out = *info;
	return ERR_OK;
}

static bool is_prefix(const char *ref)
{
	size_t n = strspn(ref, "0123456789abcdef");

	return ref[n] == '\0' && n >= 6 && n <= 2 * DIGEST_BYTES;
}

static enum err find_digest(struct archive *a, const char *ref, struct checkpoint_info *out)
{
	struct by_digest d = {.out = out};
	enum err e;

	memcpy(d.prefix, ref, strlen(ref));
	e = archive_list(a, match_digest, &d);
	if (e != ERR_OK)
		return e;
	if (d.found > 1)
		return err_note(ERR_USAGE, 0, "%s: %u checkpoints begin so: give more digits", ref,
				d.found);
	return d.found ? ERR_OK : err_note(ERR_NOTFOUND, 0, "no checkpoint %s in the archive", ref);
}

enum err archive_find(struct archive *a, const char *ref, struct checkpoint_info *out)
{
	struct listing_item item = {.number = 0};
	bool named = layout_name_ok(ref);
	enum err e;

	if (!named && !layout_manifest_parse(ref, item.name, &item.number) && !is_prefix(ref))
		return err_note(ERR_USAGE, 0,
				"\"%s\" names no checkpoint: give NAME@NUMBER, NAME or "
				"the first digits of a digest",
				ref);
	if (named && (e = find_newest(a, ref, &item)) != ERR_OK)
		return e;
	if (item.number == 0 && is_prefix(ref))
		return find_digest(a, ref, out);
	if (item.number == 0)
		return err_note(ERR_NOTFOUND, 0, "no checkpoint of %s in the archive", ref);
	e = info_of(a, &item, out);
	if (e == ERR_NOTFOUND)
		return err_note(e, 0, "no checkpoint %s in the archive", ref);
	return e;
}

/* ---- handing on ---- */

enum err archive_begin(struct archive *a, const char *name, struct progress *progress,
		       struct archive_writer **out)
{
	return writer_create(a, name, NULL, progress, out);
}

enum err archive_begin_from(struct archive *a, const char *name,
			    const struct checkpoint_info *parent, struct progress *progress,
			    struct archive_writer **out)
{
	return writer_create(a, name, parent, progress, out);
}

enum err archive_stream(struct archive_writer *w, const char *stream, uint64_t length,
			unsigned *index)
{
	return writer_stream(w, stream, length, index);
}

enum err archive_put(struct archive_writer *w, unsigned index, uint64_t offset, const void *data,
		     size_t len)
{
	return writer_put(w, index, offset, data, len);
}

enum err archive_resize(struct archive_writer *w, unsigned index, uint64_t length)
{
	return writer_resize(w, index, length);
}

enum err archive_keep(struct archive_writer *w, unsigned index, uint64_t offset, uint64_t len)
{
	return writer_keep(w, index, offset, len);
}

void archive_origin(struct archive_writer *w, const struct checkpoint_parent *origin,
		    uint64_t created_ns)
{
	writer_origin(w, origin, created_ns);
}

enum err archive_commit(struct archive_writer *w, const char *label, struct checkpoint_info *out)
{
	return writer_commit(w, label, out);
}

void archive_abort(struct archive_writer *w)
{
	writer_abort(w);
}

enum err archive_read_open(struct archive *a, const struct checkpoint_info *c,
			   struct archive_reader **out)
{
	return reader_create(a, c, out);
}

void archive_read_close(struct archive_reader *r)
{
	reader_destroy(r);
}

unsigned archive_read_streams(const struct archive_reader *r)
{
	return r->m.n_streams;
}

const struct archive_stream_info *archive_read_stream(const struct archive_reader *r, unsigned i)
{
	return i < r->m.n_streams ? &r->m.stream[i].info : NULL;
}

enum err archive_read_find(const struct archive_reader *r, const char *stream, unsigned *index)
{
	for (unsigned i = 0; i < r->m.n_streams; i++) {
		if (strcmp(r->m.stream[i].info.name, stream) == 0) {
			*index = i;
			return ERR_OK;
		}
	}
	return err_note(ERR_NOTFOUND, 0, "%s@%llu has no stream %s: `lifeboat archive ls "
			"--streams' names those it has", r->m.info.name,
			(unsigned long long)r->m.info.number, stream);
}

enum err archive_read(struct archive_reader *r, unsigned index, uint64_t offset, void *buf,
		      size_t len)
{
	return reader_read(r, index, offset, buf, len);
}

enum err archive_read_all(struct archive_reader *r, unsigned index, struct progress *progress,
			  archive_extent_fn *fn, void *arg)
{
	return extract(r, index, progress, fn, arg);
}

enum err archive_salvage(struct archive_reader *r, unsigned index, uint64_t offset,
			 uint64_t length, struct progress *progress, archive_extent_fn *fn,
			 archive_lost_fn *lost, void *arg)
{
	return salvage(r, index, offset, length, progress, fn, lost, arg);
}

enum err archive_copy(struct archive *from, const struct checkpoint_info *c, struct archive *to,
		      const struct archive_copy_options *opt, struct progress *progress,
		      struct archive_copy_result *result)
{
	return copy(from, c, to, opt, progress, result);
}

enum err archive_remove(struct archive *a, const struct checkpoint_info *c)
{
	return removal(a, c);
}

enum err archive_pin(struct archive *a, const struct checkpoint_info *c, const char *owner,
		     struct archive_pin *out)
{
	return removal_pin(a, c, owner, out);
}

enum err archive_unpin(struct archive *a, const char *id)
{
	return removal_unpin(a, id);
}

enum err archive_pins(struct archive *a, archive_pin_fn *fn, void *arg)
{
	return pin_list(a->root, fn, arg);
}

enum err archive_gc(struct archive *a, const struct archive_gc_options *opt,
		    struct progress *progress, archive_holder_fn *fn, void *arg,
		    struct archive_gc_result *result)
{
	return gc(a, opt, progress, fn, arg, result);
}

enum err archive_verify(struct archive *a, const struct archive_verify_options *opt,
			struct progress *progress, archive_damage_fn *fn, void *arg,
			struct archive_verify_result *result)
{
	struct lease *lease;
	enum err e = lease_take(a->root, "verifies the archive", &lease);

	if (e != ERR_OK)
		return e;
	e = verify(a, opt, progress, fn, arg, result);
	lease_end(lease);
	return e;
}

enum err archive_repair(struct archive *a, const struct archive_repair_options *opt,
			struct progress *progress, archive_repair_fn *fn, void *arg,
			struct archive_repair_result *result)
{
	return repair(a, opt, progress, fn, arg, result);
}

enum err archive_repair_config(const char *path, const char *from, bool *healed)
{
	return repair_config(path, from, healed);
}

enum err archive_rebuild_index(struct archive *a, struct progress *progress)
{
	enum err e;

	if (!a->writable)
		return err_note(ERR_USAGE, 0, "the archive was opened for reading only");
	shared_index_close(a);
	if ((e = index_drop(a->root)) != ERR_OK)
		return e;
	return index_open(a->root, a->crypt, a->catalog, progress, &a->index);
}

/* ---- figures ---- */

static enum err file_bytes(int root, const char *path, uint64_t *sum)
{
	AUTO_FD int fd = -1;
	uint64_t size;
	enum err e = fs_open(root, path, O_RDONLY, 0, &fd);

	if (e == ERR_OK)
		e = fs_size(fd, path, &size);
	if (e == ERR_OK)
		*sum += size;
	return e == ERR_NOTFOUND ? ERR_OK : e;
}

struct counting {
	struct archive *a;
	struct archive_stats *s;
};

static enum err count_checkpoint(void *arg, const struct checkpoint_info *info)
{
	struct counting *c = arg;
	char path[LAYOUT_PATH_BYTES];

	c->s->checkpoints++;
	c->s->logical_bytes += info->logical_bytes;
	layout_manifest_path(info->name, info->number, path);
	return file_bytes(c->a->root, path, &c->s->manifest_bytes);
}

enum err archive_stats(struct archive *a, struct archive_stats *out)
{
	struct counting c = {.a = a, .s = out};
	struct pack_ref *refs;
	size_t n;
	bool complete;
	enum err e;

	memset(out, 0, sizeof(*out));
	if ((e = archive_list(a, count_checkpoint, &c)) != ERR_OK ||
	    (e = listing_packs(a->root, a->crypt, &refs, &n, &complete)) != ERR_OK)
		return e;
	e = forward_follow(a->root, a->crypt, &refs, &n);
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		char path[LAYOUT_PATH_BYTES];

		out->packs++;
		out->unique_pages += refs[i].slots;
		layout_pack_path(&refs[i].id, path);
		e = file_bytes(a->root, path, &out->pack_bytes);
	}
	free(refs);
	if (e == ERR_OK && (e = index_bytes(a->root, &out->index_bytes)) == ERR_OK)
		out->index_bytes += recall_bytes(a->root);
	return e;
}

enum err archive_shares(struct archive *a, struct progress *progress, archive_share_fn *fn,
			void *arg)
{
	struct lease *lease;
	enum err e = lease_take(a->root, "counts what checkpoints share", &lease);

	if (e != ERR_OK)
		return e;
	e = shares(a, progress, fn, arg);
	lease_end(lease);
	return e;
}
