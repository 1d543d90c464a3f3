/* SPDX-License-Identifier: Apache-2.0 */
/* index: which runs and packs there are, and who may change that.
 *
 * The files change only under the exclusive lock, in this order: the references of
 * new packs, the new runs, all durable; then the state that names them; then runs that it
 * names no more are removed.  Whoever looks up meanwhile has them open.  Numbers of packs
 * are never given out again, so that a number means the same in each state; state
 * counts its changes, so that who has the index open sees when others added to it.
 *
 * Why not LMDB: measured on this machine's like, it made 335,000 entries a second at 32
 * million and used 347 MB, crashed on flipped bits, and therefore had to be hashed whole
 * at each opening and closing.  A run is written in one go, costs 20 bytes an entry,
 * and each of its blocks is checked when it is read (docs/BENCHMARKS.md). */
#include "store/index.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/thread.h"
#include "store/condemn.h"
#include "store/forward.h"
#include "store/indexstate.h"
#include "store/listing.h"
#include "store/recall.h"
#include "store/record.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define STATE LAYOUT_INDEX "/state"
#define PACKS LAYOUT_INDEX "/packs"
#define LOCK LAYOUT_INDEX "/lock"
#define ADD_PACKS 16u /* at once: 8 MiB of entries to sort */
#define REF_BYTES (PACK_REF_BYTES + 8u)
#define DEAD_MIN 16u

struct known_ref {
	struct pack_ref ref;
	bool use;
};

struct index {
	int root;		 /* borrowed */
	struct catalog *catalog; /* borrowed */
	pthread_mutex_t lock;	 /* all below */
	struct runset runs;
	uint64_t epoch, changes; /* of the state that runs are of; 0: none */
	/* Only ever appended to, for hits were given out by their place here: that is base and
	 * the number on disk, and after the index was made again base is another. */
	struct known_ref *refs;
	uint32_t n_refs, base;
	bool damaged;
};

/* ---- references ---- */

static enum err refs_grow(struct index *x, size_t n)
{
	struct known_ref *more = realloc(x->refs, (x->n_refs + n + 1) * sizeof(*more));

	if (!more)
		return err_note(ERR_NOMEM, 0, "open the index: out of memory");
	x->refs = more;
	return ERR_OK;
}

/* The references on disk, `count` of them, that x does not have yet. */
static enum err refs_read(struct index *x, uint32_t count, bool use)
{
	AUTO_FD int fd = -1;
	uint32_t have = x->n_refs - x->base;
	uint64_t size;
	enum err e;

	if (count <= have)
		return ERR_OK;
	if ((e = fs_open(x->root, PACKS, O_RDONLY, 0, &fd)) == ERR_NOTFOUND)
		return err_note(ERR_CORRUPT, 0, PACKS " is missing");
	if (e != ERR_OK || (e = fs_size(fd, PACKS, &size)) != ERR_OK)
		return e;
	if (size / REF_BYTES < count) /* before memory is asked for so many */
		return err_note(ERR_CORRUPT, 0, PACKS " is too short");
	if ((e = refs_grow(x, count - have)) != ERR_OK)
		return e;
	for (; have < count; have++) {
		struct known_ref *k = &x->refs[x->n_refs];
		uint8_t bytes[REF_BYTES];
		struct rd r = rd_make(bytes, PACK_REF_BYTES);

		e = fs_read_at(fd, PACKS, bytes, sizeof(bytes), (uint64_t)have * REF_BYTES);
		if (e == ERR_OK &&
		    le64_get(bytes + PACK_REF_BYTES) != XXH3_64bits(bytes, PACK_REF_BYTES))
			e = err_note(ERR_CORRUPT, 0, "damaged reference");
		if (e != ERR_OK || (e = pack_ref_get(&r, &k->ref)) != ERR_OK)
			return err_context(e, PACKS);
		k->use = use;
		x->n_refs++;
	}
	return ERR_OK;
}

static enum err refs_append(struct index *x, const struct pack_ref *refs, size_t n)
{
	AUTO_FD int fd = -1;
	enum err e;

	if ((e = refs_grow(x, n)) != ERR_OK ||
	    (e = fs_open(x->root, PACKS, O_RDWR | O_CREAT, 0600, &fd)) != ERR_OK)
		return e;
	for (size_t i = 0; i < n; i++) {
		uint8_t bytes[REF_BYTES];

		pack_ref_encode(&refs[i], bytes);
		le64_put(bytes + PACK_REF_BYTES, XXH3_64bits(bytes, PACK_REF_BYTES));
		e = fs_write_at(fd, PACKS, bytes, sizeof(bytes),
				(uint64_t)(x->n_refs - x->base) * REF_BYTES);
		if (e != ERR_OK)
			return e;
		x->refs[x->n_refs++] = (struct known_ref){refs[i], true};
	}
	return fs_sync(fd, PACKS);
}

/* ---- taking over what is on disk ---- */

static void forget(struct index *x)
{
	runset_fini(&x->runs);
	runset_init(&x->runs, x->root, false);
	x->base = x->n_refs;
	x->epoch = x->changes = 0;
}

static bool is_damage(enum err e)
{
	return e == ERR_CORRUPT || e == ERR_VERSION || e == ERR_NOTFOUND;
}

/* The caller holds the files' lock.  What is there replaces what x has, if it differs;
 * what cannot be used counts as nothing there. */
static enum err reload(struct index *x, bool use)
{
	struct indexstate s;
	enum err e = indexstate_read(x->root, &s);

	if (e == ERR_OK && x->changes == s.changes && x->changes)
		return ERR_OK;
	if (e == ERR_OK && (e = indexstate_open(x->root, &s)) == ERR_OK) {
		if (x->epoch != s.epoch)
			forget(x);
		runset_fini(&x->runs);
		x->runs = s.runs;
		x->epoch = s.epoch;
		x->changes = s.changes;
		e = refs_read(x, s.packs, use);
	}
	if (!is_damage(e))
		return e;
	log_event(LOG_INFO, "index_rebuild why=\"%s\"", err_text());
	err_clear();
	forget(x);
	e = fs_unlink(x->root, STATE);
	return e == ERR_NOTFOUND ? ERR_OK : e;
}

/* The names of new files, before the state gets its own: a power cut may keep that one alone. */
static enum err sync_names(int root)
{
	AUTO_FD int fd = -1;
	enum err e = fs_open(root, LAYOUT_INDEX, O_RDONLY | O_DIRECTORY, 0, &fd);

	return e == ERR_OK ? fs_sync_dir(fd, LAYOUT_INDEX) : e;
}

/* Make durable what x has, and then name it. */
static enum err settle(struct index *x)
{
	bool fresh = false;
	enum err e = ERR_OK;

	for (uint32_t i = 0; e == ERR_OK && i < x->runs.n; i++) {
		fresh |= !x->runs.run[i].synced;
		e = indexrun_sync(&x->runs.run[i]);
	}
	if (e == ERR_OK && fresh)
		e = sync_names(x->root);
	if (e == ERR_OK && !x->epoch)
		e = layout_random(&x->epoch, sizeof(x->epoch));
	if (e == ERR_OK && (e = layout_random(&x->changes, sizeof(x->changes))) == ERR_OK)
		e = indexstate_write(x->root, &(struct indexstate){.epoch = x->epoch,
								   .changes = x->changes,
								   .packs = x->n_refs - x->base,
								   .runs = x->runs});
	return e == ERR_OK ? indexstate_prune(x->root, &x->runs, &x->runs) : e;
}

/* ---- additions ---- */

static enum err entries_of(struct index *x, const struct pack_ref *ref, uint32_t number,
			   struct index_entry *out)
{
	const struct catalog_pack *p;
	enum err e = catalog_get(x->catalog, ref, &p);

	if (e != ERR_OK)
		return e;
	for (uint32_t i = 0; i < ref->slots; i++)
		out[i] = (struct index_entry){le64_get(p->dir.digest[i].b), number, i};
	catalog_put(x->catalog, p);
	return ERR_OK;
}

/* Some packs at once, as one run.  A pack that cannot be read is left out. */
static enum err add_some(struct index *x, const struct pack_ref *refs, size_t n)
{
	struct index_entry *entries;
	struct pack_ref good[ADD_PACKS];
	uint32_t k = 0;
	size_t total = 0;
	enum err e = ERR_OK;

	for (size_t i = 0; i < n; i++)
		total += refs[i].slots;
	entries = malloc((total + 1) * sizeof(*entries));
	if (!entries)
		return err_note(ERR_NOMEM, 0, "add to the index: out of memory");
	total = 0;
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		e = entries_of(x, &refs[i], x->n_refs - x->base + k, entries + total);
		if (e == ERR_OK) {
			total += refs[i].slots;
			good[k++] = refs[i];
		} else if (e == ERR_CORRUPT || e == ERR_IO || e == ERR_VERSION) {
			log_event(LOG_WARN, "index_skips why=\"%s\"", err_text());
			err_clear();
			e = ERR_OK;
		}
	}
	if (e == ERR_OK && k)
		e = refs_append(x, good, k);
	if (e == ERR_OK && total)
		e = runset_add(&x->runs, entries, total);
	free(entries);
	return e;
}

static bool knows(const struct index *x, const struct pack_ref *ref)
{
	for (uint32_t i = x->n_refs; i > x->base; i--)
		if (memcmp(&x->refs[i - 1].ref.id, &ref->id, sizeof(ref->id)) == 0)
			return true;
	return false;
}

enum err index_add(struct index *x, const struct pack_ref *refs, size_t n)
{
	AUTO_LOCK(&x->lock);
	AUTO_FD int fd = -1;
	struct pack_ref fresh[ADD_PACKS];
	enum err e = n ? indexstate_lock(x->root, &fd) : ERR_OK;

	if (e != ERR_OK || n == 0 || (e = reload(x, true)) != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < n;) {
		size_t k = 0;

		for (; k < ADD_PACKS && i < n; i++)
			if (!knows(x, &refs[i]))
				fresh[k++] = refs[i];
		if (k)
			e = add_some(x, fresh, k);
	}
	if (e == ERR_OK)
		e = settle(x);
	if (e != ERR_OK)
		forget(x); /* what is on disk counts */
	return e;
}

struct known_pack {
	struct pack_id id;
	uint32_t number;
};

static int by_id(const void *a, const void *b)
{
	return memcmp(a, b, PACK_ID_BYTES);
}

/* What of refs (ordered by id) x knows is to be used; what it does not know is left in
 * refs. */
static enum err compare(struct index *x, struct pack_ref *refs, size_t *count)
{
	struct known_pack *known = malloc((x->n_refs + 1u) * sizeof(*known));
	size_t left = 0, n = 0;

	if (!known)
		return err_note(ERR_NOMEM, 0, "open the index: out of memory");
	for (uint32_t i = x->base; i < x->n_refs; i++)
		known[n++] = (struct known_pack){x->refs[i].ref.id, i};
	qsort(known, n, sizeof(*known), by_id);
	for (size_t i = 0; i < *count; i++) {
		const struct known_pack *k = bsearch(&refs[i].id, known, n, sizeof(*known), by_id);

		if (k && pack_ref_equal(&x->refs[k->number].ref, &refs[i]))
			x->refs[k->number].use = true;
		else
			refs[left++] = refs[i];
	}
	free(known);
	*count = left;
	return ERR_OK;
}

static uint32_t dead(const struct index *x)
{
	uint32_t n = 0;

	for (uint32_t i = x->base; i < x->n_refs; i++)
		n += !x->refs[i].use;
	return n;
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

/* Bring the index to what the manifests name. */
static enum err fill(struct index *x, const struct crypt *crypt, struct progress *progress)
{
	AUTO_FD int fd = -1;
	struct pack_ref *refs = NULL;
	size_t count, missing;
	bool complete;
	enum err e = indexstate_lock(x->root, &fd);

	if (e != ERR_OK || (e = reload(x, false)) != ERR_OK ||
	    (e = listing_packs(x->root, crypt, &refs, &count, &complete)) != ERR_OK)
		return e;
	if ((e = forward_follow(x->root, crypt, &refs, &count)) == ERR_OK)
		e = set_aside_condemned(x->root, refs, &count);
	missing = count;
	if (e == ERR_OK)
		e = compare(x, refs, &missing);
	for (size_t i = 0, k; e == ERR_OK && i < missing; i += k) {
		k = missing - i < ADD_PACKS ? missing - i : ADD_PACKS;
		if ((e = progress_check(progress)) == ERR_OK)
			e = add_some(x, refs + i, k);
		if (e == ERR_OK) {
			struct indexstate s = {.runs = {.n = 0}};

			(void)!indexstate_read(x->root, &s);
			e = indexstate_prune(x->root, &x->runs, &s.runs);
		}
	}
	free(refs);
	return e == ERR_OK && (missing || !x->changes) ? settle(x) : e;
}

enum err index_open(int root, const struct crypt *crypt, struct catalog *catalog,
		    struct progress *progress, struct index **out)
{
	struct index *x = calloc(1, sizeof(*x));
	enum err e;

	if (!x)
		return err_note(ERR_NOMEM, 0, "open the index: out of memory");
	x->root = root;
	x->catalog = catalog;
	runset_init(&x->runs, root, false);
	pthread_mutex_init(&x->lock, NULL);
	e = fill(x, crypt, progress);
	if (e == ERR_OK && dead(x) > DEAD_MIN && dead(x) > (x->n_refs - x->base) / 2) {
		forget(x);
		if ((e = index_drop(root)) == ERR_OK)
			e = fill(x, crypt, progress);
	}
	if (e != ERR_OK) {
		index_close(x);
		return e;
	}
	*out = x;
	return ERR_OK;
}

void index_close(struct index *x)
{
	if (!x)
		return;
	runset_fini(&x->runs);
	pthread_mutex_destroy(&x->lock);
	free(x->refs);
	free(x);
}

/* ---- lookups ---- */

/* A block fails its check: what can be read is still used, and the next to open the
 * index makes it again. */
static void note_damage(struct index *x)
{
	log_event(LOG_WARN, "index_damaged why=\"%s\"", err_text());
	err_clear();
	if (x->damaged)
		return;
	x->damaged = true;
	if (fs_unlink(x->root, STATE) != ERR_OK)
		err_clear();
}

/* The pack of a hit, if it can be used; held until catalog_put. */
static const struct catalog_pack *usable(struct index *x, uint32_t number)
{
	const struct catalog_pack *p;

	if (number >= x->n_refs || !x->refs[number].use)
		return NULL;
	if (catalog_get(x->catalog, &x->refs[number].ref, &p) == ERR_OK)
		return p;
	log_event(LOG_WARN, "index_pack_unusable why=\"%s\"", err_text());
	err_clear();
	x->refs[number].use = false;
	return NULL;
}

static bool same(const struct catalog_pack *p, uint32_t slot, const struct digest *d)
{
	return p && slot < p->dir.slots && memcmp(&p->dir.digest[slot], d, sizeof(*d)) == 0;
}

/* A hit counts only if the pack's directory says the same; else an older one may.  Pages that follow each
 * other there usually follow each other here, so the next slot is tried first, without
 * asking the runs at all. */
void index_lookup(struct index *x, const struct digest *digests, size_t n, struct index_hit *hits)
{
	AUTO_LOCK(&x->lock);
	const struct catalog_pack *p = NULL;
	uint32_t number = INDEX_MISS, next = 0;

	for (size_t i = 0; i < n; i++) {
		struct index_entry found;
		enum err e;

		hits[i] = (struct index_hit){.pack = INDEX_MISS};
		if (same(p, next, &digests[i])) {
			hits[i] = (struct index_hit){number, next++};
			continue;
		}
		for (uint32_t run = 0; hits[i].pack == INDEX_MISS; next = found.slot + 1) {
			e = runset_next(&x->runs, le64_get(digests[i].b), &run, &found);
			if (e != ERR_OK && e != ERR_NOTFOUND)
				note_damage(x);
			if (e != ERR_OK || found.pack > UINT32_MAX / 2)
				break;
			if (x->base + found.pack != number) {
				catalog_put(x->catalog, p);
				number = x->base + found.pack;
				p = usable(x, number);
			}
			if (same(p, found.slot, &digests[i]))
				hits[i] = (struct index_hit){number, found.slot};
		}
	}
	catalog_put(x->catalog, p);
}

struct pack_ref index_ref(struct index *x, uint32_t pack)
{
	AUTO_LOCK(&x->lock);
	return x->refs[pack].ref;
}

/* ---- all of it ---- */

enum err index_drop(int root)
{
	AUTO_FD int fd = -1;
	struct runset none = {.n = 0};
	enum err e = indexstate_lock(root, &fd);

	if (e != ERR_OK)
		return e;
	recall_drop(root);
	if ((e = fs_unlink(root, STATE)) == ERR_NOTFOUND)
		e = ERR_OK;
	return e == ERR_OK ? indexstate_prune(root, &none, &none) : e;
}

enum err index_bytes(int root, uint64_t *bytes)
{
	struct indexstate s;
	enum err e = indexstate_read(root, &s);

	*bytes = 0;
	if (e == ERR_OK && (e = indexstate_open(root, &s)) == ERR_OK) {
		*bytes = runset_bytes(&s.runs) + RECORD_BYTES + (uint64_t)s.packs * REF_BYTES;
		runset_fini(&s.runs);
	}
	if (!is_damage(e))
		return e;
	err_clear();
	return ERR_OK;
}

static enum err check_run(const struct index *x, const struct indexrun *r)
{
	const struct index_entry *entry;
	struct indexrun_scan *s;
	enum err e = indexrun_scan_create(r, &s);

	if (e != ERR_OK)
		return e;
	while ((e = indexrun_scan_next(s, &entry)) == ERR_OK && entry)
		if (entry->pack >= x->n_refs) {
			e = err_note(ERR_CORRUPT, 0, "%s: an entry names pack %u of %u", r->path,
				     entry->pack, x->n_refs);
			break;
		}
	indexrun_scan_destroy(s);
	return e;
}

/* Each page of a pack is found, there or where it was stored again. */
static enum err check_pack(struct index *x, uint32_t number)
{
	const struct catalog_pack *p = usable(x, number);
	struct index_entry found;
	enum err e = ERR_OK;

	/* A missing or damaged pack is found by itself, and costs a miss here. */
	for (uint32_t i = 0; p && e == ERR_OK && i < p->dir.slots; i++) {
		e = runset_find(&x->runs, le64_get(p->dir.digest[i].b), &found);
		if (e == ERR_NOTFOUND)
			e = err_note(ERR_CORRUPT, 0, LAYOUT_INDEX ": slot %u of %s is not in it", i,
				     p->path);
	}
	catalog_put(x->catalog, p);
	return e;
}

enum err index_verify(int root, const struct crypt *crypt, struct catalog *catalog)
{
	AUTO_FD int fd = -1;
	struct index x = {.root = root, .catalog = catalog};
	struct pack_ref *refs = NULL;
	struct indexstate s;
	size_t count;
	bool complete;
	enum err e = fs_open(root, LOCK, O_RDONLY, 0, &fd);

	if (e == ERR_OK)
		e = fs_lock(fd, LOCK, false, true);
	if (e == ERR_OK)
		e = indexstate_read(root, &s);
	if (e == ERR_NOTFOUND) {
		err_clear();
		return recall_verify(root, crypt);
	}
	if (e != ERR_OK || (e = indexstate_open(root, &s)) != ERR_OK)
		return e;
	x.runs = s.runs;
	if ((e = refs_read(&x, s.packs, false)) == ERR_OK)
		e = listing_packs(root, crypt, &refs, &count, &complete);
	if (e == ERR_OK)
		e = compare(&x, refs, &count);
	for (uint32_t i = 0; e == ERR_OK && i < x.runs.n; i++)
		e = check_run(&x, &x.runs.run[i]);
	for (uint32_t i = 0; e == ERR_OK && i < x.n_refs; i++)
		e = check_pack(&x, i);
	runset_fini(&x.runs);
	free(x.refs);
	free(refs);
	return e == ERR_OK ? recall_verify(root, crypt) : e;
}
