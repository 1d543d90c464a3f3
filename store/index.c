/* SPDX-License-Identifier: Apache-2.0 */
/* index: the policy around the LMDB tables: who may trust them, and when.
 *
 * States of the files (all moves by the holder of the exclusive lock on users):
 *   AT REST   clean mark, no live file
 *   IN USE    live file, no clean mark              [take_over: check or rebuild]
 *   UNCLEAN   neither, or live without users: the last user did not end cleanly
 * IN USE -> AT REST when the last user ends [index_close]; a kill or a power cut
 * leaves UNCLEAN, and the next user rebuilds.
 *
 * The mark goes durably before the tables change and comes after they are
 * durable, so it never vouches for bytes that a power cut took. */
#include "store/index.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/thread.h"
#include "store/condemn.h"
#include "store/forward.h"
#include "store/indexdb.h"
#include "store/listing.h"
#include "store/record.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DATA LAYOUT_INDEX "/data.mdb"
#define CLEAN LAYOUT_INDEX "/clean"
#define LIVE LAYOUT_INDEX "/live"
#define USERS LAYOUT_INDEX "/users"
#define TXN LAYOUT_INDEX "/txn"
#define STALE LAYOUT_INDEX "/stale"
#define CLEAN_MAGIC "LBINDEXC"

struct index {
	int root; /* borrowed */
	int users;
	struct catalog *catalog; /* borrowed */
	struct indexdb *db;
	pthread_mutex_t lock; /* all below, and db */
	struct pack_ref *refs; /* by number; slots == 0: not to be used */
	uint32_t n_refs;
	char dir[4096];
};

/* ---- the mark ---- */

static enum err hash_file(int root, uint64_t *size, struct digest *out)
{
	AUTO_FD int fd = -1;
	struct digest_ctx *ctx = NULL;
	uint8_t *part = malloc(1u << 20);
	size_t got = 1;
	enum err e = part ? digest_create(&ctx) : err_note(ERR_NOMEM, 0, "read the index");

	if (e == ERR_OK)
		e = fs_open(root, DATA, O_RDONLY, 0, &fd);
	*size = 0;
	while (e == ERR_OK && got > 0) {
		e = fs_read_some(fd, DATA, part, 1u << 20, *size, &got);
		if (e != ERR_OK)
			break;
		digest_update(ctx, part, got);
		*size += got;
	}
	if (e == ERR_OK)
		digest_final(ctx, out);
	digest_destroy(ctx);
	free(part);
	return e;
}

static enum err mark_make(int root, uint8_t rec[RECORD_BYTES])
{
	struct digest d;
	uint64_t size;
	enum err e = hash_file(root, &size, &d);

	if (e != ERR_OK)
		return e;
	record_begin(rec, CLEAN_MAGIC);
	le64_put(rec + 12, size);
	memcpy(rec + 20, d.b, DIGEST_BYTES);
	record_seal(rec);
	return ERR_OK;
}

/* ERR_OK: the tables are what a clean end left.  ERR_NOTFOUND: no mark. */
static enum err mark_check(int root)
{
	AUTO_BUF struct buf file = {0};
	uint8_t want[RECORD_BYTES];
	enum err e = fs_read_file(root, CLEAN, RECORD_BYTES, &file);

	if (e != ERR_OK)
		return e;
	if (file.len != RECORD_BYTES)
		return err_note(ERR_CORRUPT, 0, CLEAN ": wrong length");
	if ((e = record_check(file.data, CLEAN_MAGIC, CLEAN)) != ERR_OK)
		return e;
	e = mark_make(root, want);
	if (e == ERR_NOTFOUND)
		return err_note(ERR_CORRUPT, 0, DATA " is missing");
	if (e == ERR_OK && memcmp(file.data, want, RECORD_BYTES) != 0)
		e = err_note(ERR_CORRUPT, 0, DATA ": differs from what was written");
	return e;
}

/* ---- taking over ---- */

static enum err unlink_if(int root, const char *path)
{
	enum err e = fs_unlink(root, path);

	return e == ERR_NOTFOUND ? ERR_OK : e;
}

static enum err sync_index_dir(int root)
{
	AUTO_FD int fd = -1;
	enum err e = fs_open(root, LAYOUT_INDEX, O_RDONLY | O_DIRECTORY, 0, &fd);

	return e == ERR_OK ? fs_sync_dir(fd, LAYOUT_INDEX) : e;
}

/* What an interrupted fs_write_file of the mark left. */
static enum err remove_temporaries(int root)
{
	char **names, path[LAYOUT_PATH_BYTES + 256];
	size_t n;
	enum err e = fs_list(root, LAYOUT_INDEX, &names, &n);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		size_t len = strlen(names[i]);

		if (len < 4 || strcmp(names[i] + len - 4, ".tmp") != 0)
			continue;
		snprintf(path, sizeof(path), LAYOUT_INDEX "/%s", names[i]);
		e = unlink_if(root, path);
	}
	fs_names_free(names, n);
	return e;
}

static enum err forget(int root)
{
	enum err e;

	if ((e = unlink_if(root, LIVE)) != ERR_OK || (e = unlink_if(root, CLEAN)) != ERR_OK ||
	    (e = remove_temporaries(root)) != ERR_OK)
		return e;
	return sync_index_dir(root);
}

static enum err create_empty(int root, const char *path)
{
	AUTO_FD int fd = -1;

	return fs_open(root, path, O_WRONLY | O_CREAT, 0600, &fd);
}

/* The caller holds users exclusively. */
static enum err take_over(struct index *x)
{
	enum err sound, e;
	bool stale;

	if ((e = fs_exists(x->root, STALE, &stale)) != ERR_OK)
		return e;
	sound = stale ? err_note(ERR_CORRUPT, 0, "packs were deleted") : mark_check(x->root);
	if ((e = forget(x->root)) != ERR_OK)
		return e;
	if (sound != ERR_OK) {
		log_event(LOG_INFO, "index_rebuild why=\"%s\"", err_text());
		err_clear();
		if ((e = unlink_if(x->root, DATA)) != ERR_OK ||
		    (e = unlink_if(x->root, STALE)) != ERR_OK)
			return e;
	}
	if ((e = indexdb_open(x->dir, true, &x->db)) != ERR_OK)
		return e;
	return create_empty(x->root, LIVE);
}

static enum err open_users(struct index *x)
{
	enum err e = fs_mkdir(x->root, LAYOUT_INDEX, 0700);

	if (e != ERR_OK && e != ERR_BUSY)
		return e;
	fs_auto_close(&x->users);
	if ((e = create_empty(x->root, TXN)) != ERR_OK)
		return e;
	return fs_open(x->root, USERS, O_RDWR | O_CREAT, 0600, &x->users);
}

/* Join those who use the index, or be the first. */
static enum err join(struct index *x, struct progress *progress)
{
	for (;;) {
		bool live;
		enum err e = progress_check(progress);

		if (e != ERR_OK || (e = open_users(x)) != ERR_OK)
			return e;
		e = fs_lock(x->users, USERS, true, false);
		if (e == ERR_OK) {
			if ((e = take_over(x)) != ERR_OK)
				return e;
			return fs_lock(x->users, USERS, false, false);
		}
		if (e != ERR_BUSY)
			return e;
		if ((e = fs_lock(x->users, USERS, false, true)) != ERR_OK ||
		    (e = fs_exists(x->root, LIVE, &live)) != ERR_OK)
			return e;
		if (live)
			return indexdb_open(x->dir, true, &x->db);
		/* Whoever held it ended, died or only looks: from the start.  Without
		 * the lock while asleep: several who wait so would keep each other
		 * from ever getting it exclusively. */
		fs_auto_close(&x->users);
		nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
	}
}

/* ---- additions ---- */

static uint32_t number_of(const struct index *x, const struct pack_ref *ref)
{
	for (uint32_t i = 0; i < x->n_refs; i++)
		if (memcmp(&x->refs[i].id, &ref->id, sizeof(ref->id)) == 0)
			return i;
	return INDEX_MISS;
}

static enum err add_locked(struct index *x, const struct pack_ref *ref)
{
	AUTO_FD int txn = -1;
	const struct catalog_pack *p;
	enum err e = catalog_get(x->catalog, ref, &p);

	if (e != ERR_OK)
		return e;
	if ((e = fs_open(x->root, TXN, O_RDWR, 0, &txn)) == ERR_OK &&
	    (e = fs_lock(txn, TXN, true, true)) == ERR_OK &&
	    (e = indexdb_packs(x->db, &x->refs, &x->n_refs)) == ERR_OK &&
	    number_of(x, ref) == INDEX_MISS &&
	    (e = indexdb_add(x->db, ref, p->dir.digest, x->n_refs)) == ERR_OK)
		e = indexdb_packs(x->db, &x->refs, &x->n_refs);
	catalog_put(x->catalog, p);
	return e;
}

enum err index_add(struct index *x, const struct pack_ref *ref)
{
	AUTO_LOCK(&x->lock);
	return add_locked(x, ref);
}

static int by_id(const void *a, const void *b)
{
	return memcmp(a, b, PACK_ID_BYTES);
}

/* Add what the manifests name and the tables do not, and set aside what no
 * manifest names (any more): it may go at any time. */
static enum err catch_up(struct index *x, struct progress *progress, const struct pack_ref *refs,
			 size_t count)
{
	struct pack_ref *known;
	uint32_t before = x->n_refs;

	for (uint32_t i = 0; i < before; i++)
		if (!listing_find(refs, count, &x->refs[i].id))
			x->refs[i].slots = 0;
	known = malloc((before + 1u) * sizeof(*known));
	if (!known)
		return err_note(ERR_NOMEM, 0, "open the index: out of memory");
	if (before) {
		memcpy(known, x->refs, before * sizeof(*known));
		qsort(known, before, sizeof(*known), by_id);
	}
	for (size_t i = 0; i < count; i++) {
		enum err e = progress_check(progress);

		if (e == ERR_OK && !listing_find(known, before, &refs[i].id))
			e = add_locked(x, &refs[i]);
		if (e == ERR_CORRUPT || e == ERR_IO) {
			log_event(LOG_WARN, "index_skips why=\"%s\"", err_text());
			e = ERR_OK;
		}
		if (e != ERR_OK) {
			free(known);
			return e;
		}
	}
	free(known);
	return ERR_OK;
}

/* What is to go must not be referred to anew. */
static enum err set_aside_condemned(int root, struct pack_ref *refs, size_t *count)
{
	struct condemned_set set;
	size_t n = 0;
	enum err e = condemned_load(root, false, &set);

	for (size_t i = 0; e == ERR_OK && i < *count; i++)
		if (!condemned_find(&set, &refs[i].id, false))
			refs[n++] = refs[i];
	if (e == ERR_OK)
		*count = n;
	condemned_fini(&set);
	return e;
}

static enum err fill(struct index *x, const struct crypt *crypt, struct progress *progress)
{
	AUTO_LOCK(&x->lock);
	AUTO_FD int txn = -1;
	struct pack_ref *refs;
	size_t count;
	bool complete;
	enum err e;

	if ((e = fs_open(x->root, TXN, O_RDWR, 0, &txn)) != ERR_OK ||
	    (e = fs_lock(txn, TXN, false, true)) != ERR_OK ||
	    (e = indexdb_packs(x->db, &x->refs, &x->n_refs)) != ERR_OK)
		return e;
	fs_auto_close(&txn);
	if ((e = listing_packs(x->root, crypt, &refs, &count, &complete)) != ERR_OK)
		return e;
	e = forward_follow(x->root, crypt, &refs, &count);
	if (e == ERR_OK)
		e = set_aside_condemned(x->root, refs, &count);
	if (e == ERR_OK)
		e = catch_up(x, progress, refs, count);
	free(refs);
	return e;
}

enum err index_open(int root, const char *path, const struct crypt *crypt,
		    struct catalog *catalog, struct progress *progress, struct index **out)
{
	struct index *x = calloc(1, sizeof(*x));
	enum err e;

	if (!x)
		return err_note(ERR_NOMEM, 0, "open the index: out of memory");
	x->root = root;
	x->users = -1;
	x->catalog = catalog;
	pthread_mutex_init(&x->lock, NULL);
	if (snprintf(x->dir, sizeof(x->dir), "%s/" LAYOUT_INDEX, path) >= (int)sizeof(x->dir))
		e = err_note(ERR_USAGE, 0, "%s: the path is too long", path);
	else
		e = join(x, progress);
	if (e == ERR_OK)
		e = fill(x, crypt, progress);
	if (e != ERR_OK) {
		index_close(x);
		return e;
	}
	*out = x;
	return ERR_OK;
}

/* The caller holds users exclusively. */
static enum err leave_clean(struct index *x)
{
	AUTO_FD int data = -1;
	uint8_t rec[RECORD_BYTES];
	bool stale;
	enum err e;

	indexdb_close(x->db);
	x->db = NULL;
	if ((e = fs_exists(x->root, STALE, &stale)) != ERR_OK || stale)
		return e; /* the next user makes it again */
	if ((e = fs_open(x->root, DATA, O_RDWR, 0, &data)) != ERR_OK ||
	    (e = fs_sync(data, DATA)) != ERR_OK || (e = unlink_if(x->root, LIVE)) != ERR_OK ||
	    (e = sync_index_dir(x->root)) != ERR_OK || (e = mark_make(x->root, rec)) != ERR_OK)
		return e;
	return fs_write_file(x->root, CLEAN, rec, sizeof(rec), 0600);
}

void index_close(struct index *x)
{
	if (!x)
		return;
	if (x->db) {
		enum err e = fs_lock(x->users, USERS, true, false);

		if (e == ERR_OK)
			e = leave_clean(x);
		if (e != ERR_OK && e != ERR_BUSY)
			log_event(LOG_WARN, "index_unclean why=\"%s\"", err_text());
	}
	indexdb_close(x->db);
	fs_auto_close(&x->users);
	pthread_mutex_destroy(&x->lock);
	free(x->refs);
	free(x);
}

/* ---- lookups ---- */

/* The pack of a hit, if it can be used; held until catalog_put. */
static const struct catalog_pack *usable(struct index *x, uint32_t number)
{
	const struct catalog_pack *p;

	if (number >= x->n_refs || x->refs[number].slots == 0)
		return NULL;
	if (catalog_get(x->catalog, &x->refs[number], &p) == ERR_OK)
		return p;
	log_event(LOG_WARN, "index_pack_unusable why=\"%s\"", err_text());
	err_clear();
	x->refs[number].slots = 0;
	return NULL;
}

static bool same(const struct catalog_pack *p, uint32_t slot, const struct digest *d)
{
	return p && slot < p->dir.slots && memcmp(&p->dir.digest[slot], d, sizeof(*d)) == 0;
}

/* Believe a hit only if the pack's directory says the same.  Pages that follow
 * each other there usually follow each other here, so the next slot is tried
 * first. */
static void confirm(struct index *x, const struct digest *digests, size_t n, struct index_hit *hits)
{
	const struct catalog_pack *p = NULL;
	uint32_t number = INDEX_MISS, next = 0;

	for (size_t i = 0; i < n; i++) {
		struct index_hit *h = &hits[i];

		if (h->pack == INDEX_MISS)
			continue;
		if (number != INDEX_MISS && same(p, next, &digests[i])) {
			h->pack = number;
			h->slot = next++;
			continue;
		}
		if (h->pack != number) {
			catalog_put(x->catalog, p);
			number = h->pack;
			p = usable(x, number);
		}
		if (!same(p, h->slot, &digests[i]))
			h->pack = INDEX_MISS;
		next = h->slot + 1;
	}
	catalog_put(x->catalog, p);
}

static enum err search(struct index *x, const struct digest *digests, size_t n,
		       struct index_hit *hits)
{
	AUTO_FD int txn = -1;
	uint32_t pack[64], slot[64];
	enum err e;

	if ((e = fs_open(x->root, TXN, O_RDWR, 0, &txn)) != ERR_OK ||
	    (e = fs_lock(txn, TXN, false, true)) != ERR_OK ||
	    (e = indexdb_packs(x->db, &x->refs, &x->n_refs)) != ERR_OK)
		return e;
	for (size_t done = 0; done < n;) {
		size_t part = n - done < 64 ? n - done : 64;

		memset(pack, 0xff, sizeof(pack));
		if ((e = indexdb_get(x->db, digests + done, part, pack, slot)) != ERR_OK)
			return e;
		for (size_t i = 0; i < part; i++)
			hits[done + i] = (struct index_hit){pack[i], slot[i]};
		done += part;
	}
	return ERR_OK;
}

void index_lookup(struct index *x, const struct digest *digests, size_t n, struct index_hit *hits)
{
	AUTO_LOCK(&x->lock);
	for (size_t i = 0; i < n; i++)
		hits[i] = (struct index_hit){INDEX_MISS, 0};
	if (search(x, digests, n, hits) != ERR_OK) {
		log_event(LOG_WARN, "index_unusable why=\"%s\"", err_text());
		err_clear();
	}
	confirm(x, digests, n, hits);
}

struct pack_ref index_ref(struct index *x, uint32_t pack)
{
	AUTO_LOCK(&x->lock);
	return x->refs[pack];
}

/* ---- at rest ---- */

enum err index_drop(int root)
{
	AUTO_FD int users = -1;
	enum err e = fs_open(root, USERS, O_RDWR, 0, &users);

	if (e == ERR_NOTFOUND)
		return ERR_OK;
	if (e != ERR_OK)
		return e;
	e = fs_lock(users, USERS, true, false);
	if (e == ERR_BUSY)
		return err_note(e, 0, "the index is in use: end what writes to the archive first");
	if (e != ERR_OK || (e = forget(root)) != ERR_OK)
		return e;
	return unlink_if(root, DATA);
}

enum err index_outdated(int root)
{
	return create_empty(root, STALE);
}

enum err index_bytes(int root, uint64_t *bytes)
{
	AUTO_FD int fd = -1;
	enum err e = fs_open(root, DATA, O_RDONLY, 0, &fd);

	*bytes = 0;
	if (e == ERR_NOTFOUND)
		return ERR_OK;
	return e == ERR_OK ? fs_size(fd, DATA, bytes) : e;
}

struct compare {
	struct catalog *catalog;
	struct pack_ref *refs;
	uint32_t n_refs;
};

static enum err compare_entry(void *arg, const uint8_t key[8], uint32_t pack, uint32_t slot)
{
	struct compare *c = arg;
	const struct catalog_pack *p;
	bool equal;

	if (pack >= c->n_refs)
		return err_note(ERR_CORRUPT, 0, DATA ": an entry names pack %u of %u", pack,
				c->n_refs);
	/* A missing or damaged pack is found by itself, and costs a miss here. */
	if (catalog_get(c->catalog, &c->refs[pack], &p) != ERR_OK) {
		err_clear();
		return ERR_OK;
	}
	equal = slot < p->dir.slots && memcmp(p->dir.digest[slot].b, key, 8) == 0;
	catalog_put(c->catalog, p);
	return equal ? ERR_OK
		     : err_note(ERR_CORRUPT, 0, DATA ": an entry disagrees with the directory of "
							"its pack");
}

enum err index_verify(int root, const char *path, struct catalog *catalog)
{
	AUTO_FD int txn = -1;
	struct compare c = {.catalog = catalog};
	struct indexdb *db = NULL;
	char dir[4096];
	/* Not users: who finds that held takes a left-over `live' for a user's. */
	enum err e = fs_open(root, TXN, O_RDONLY, 0, &txn);

	if (e == ERR_NOTFOUND)
		return ERR_OK;
	if (e == ERR_OK)
		e = fs_lock(txn, TXN, false, false);
	if (e == ERR_OK)
		e = mark_check(root);
	if (e == ERR_BUSY || e == ERR_NOTFOUND) {
		err_clear();
		return ERR_OK;
	}
	if (e != ERR_OK)
		return e;
	if (snprintf(dir, sizeof(dir), "%s/" LAYOUT_INDEX, path) >= (int)sizeof(dir))
		return err_note(ERR_USAGE, 0, "%s: the path is too long", path);
	e = indexdb_open(dir, false, &db);
	if (e == ERR_OK)
		e = indexdb_packs(db, &c.refs, &c.n_refs);
	if (e == ERR_OK)
		e = indexdb_walk(db, compare_entry, &c);
	indexdb_close(db);
	free(c.refs);
	return e;
}
