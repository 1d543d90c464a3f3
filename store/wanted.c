/* SPDX-License-Identifier: Apache-2.0 */
/* wanted: lost pages, looked for in other archives and in files.
 *
 * Where the other archive knows pages by the same digests its directories are enough; else, and
 * in files, every page is read and hashed.  Memory: 64 bytes a lost page; nothing is kept of
 * what was found but where it is. */
#include "store/wanted.h"

#include "base/fs.h"
#include "store/listing.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES (1u << 20)

enum place_kind { PLACE_NONE, PLACE_PACK, PLACE_FILE };

struct place {
	enum place_kind kind;
	struct archive *in;   /* PLACE_PACK */
	struct pack_ref *ref; /* in refs of the table */
	uint32_t slot;
	unsigned file; /* PLACE_FILE */
	uint64_t offset;
};

struct lost {
	struct digest digest; /* first: the table is ordered by it */
	struct place place;
};

struct wanted {
	struct archive *a;
	struct wanted_sources sources;
	struct progress *progress;
	struct lost *lost;
	size_t n, room, found;
	struct pack_ref **lists; /* of references that places point into */
	size_t n_lists;
	struct fetch *fetch;
};

enum err wanted_create(struct archive *a, struct wanted **out)
{
	struct wanted *w = calloc(1, sizeof(*w));
	enum err e;

	if (!w)
		return err_note(ERR_NOMEM, 0, "look for pages: out of memory");
	w->a = a;
	if ((e = fetch_create(FETCH_DIGEST, FETCH_GROUPS, &w->fetch)) != ERR_OK) {
		wanted_destroy(w);
		return e;
	}
	*out = w;
	return ERR_OK;
}

void wanted_destroy(struct wanted *w)
{
	if (!w)
		return;
	for (size_t i = 0; i < w->n_lists; i++)
		free(w->lists[i]);
	free(w->lists);
	free(w->lost);
	fetch_destroy(w->fetch);
	free(w);
}

enum err wanted_add(struct wanted *w, const struct digest *digest)
{
	if (w->n == w->room) {
		size_t room = 2 * w->room + 256;
		struct lost *more = realloc(w->lost, room * sizeof(*more));

		if (!more)
			return err_note(ERR_NOMEM, 0, "look for pages: out of memory");
		w->lost = more;
		w->room = room;
	}
	w->lost[w->n++] = (struct lost){.digest = *digest};
	return ERR_OK;
}

static int by_digest(const void *a, const void *b)
{
	return memcmp(a, b, DIGEST_BYTES);
}

static void sort(struct wanted *w)
{
	size_t n = 0;

	if (w->n)
		qsort(w->lost, w->n, sizeof(*w->lost), by_digest);
	for (size_t i = 0; i < w->n; i++)
		if (n == 0 || by_digest(&w->lost[n - 1], &w->lost[i]) != 0)
			w->lost[n++] = w->lost[i];
	w->n = n;
}

static struct lost *find(const struct wanted *w, const struct digest *digest)
{
	return w->n ? bsearch(digest, w->lost, w->n, sizeof(*w->lost), by_digest) : NULL;
}

static void note_place(struct wanted *w, const struct digest *digest, const struct place *place)
{
	struct lost *l = find(w, digest);

	if (!l || l->place.kind != PLACE_NONE)
		return;
	l->place = *place;
	w->found++;
}

/* ---- archives ---- */

/* A pack of an archive with other digests: its pages are read and hashed for ours. */
static enum err hash_pack(struct wanted *w, const struct catalog_pack *p, struct place *at)
{
	uint8_t *pages = malloc(GROUP_BYTES);
	enum err e = pages ? ERR_OK : err_note(ERR_NOMEM, 0, "look for pages: out of memory");

	for (uint32_t i = 0; e == ERR_OK && i < p->dir.groups; i++) {
		const struct pack_group *g = &p->dir.group[i];
		uint32_t bad;

		if ((e = progress_check(w->progress)) != ERR_OK)
			break;
		if (fetch_pages(w->fetch, p, g->first_slot, g->pages, false, pages, &bad) !=
		    ERR_OK) {
			err_clear(); /* what is damaged there heals nothing */
			continue;
		}
		for (uint32_t k = 0; k < g->pages; k++) {
			struct digest d;

			crypt_page(w->a->crypt, pages + (size_t)k * PAGE_BYTES, &d);
			at->slot = g->first_slot + k;
			note_place(w, &d, at);
		}
	}
	free(pages);
	return e;
}

static enum err search_pack(struct wanted *w, struct archive *in, struct pack_ref *ref)
{
	struct place at = {.kind = PLACE_PACK, .in = in, .ref = ref};
	const struct catalog_pack *p;
	enum err e = catalog_get(in->catalog, ref, &p);

	if (e == ERR_CORRUPT || e == ERR_IO || e == ERR_VERSION) {
		err_clear();
		return ERR_OK;
	}
	if (e != ERR_OK)
		return e;
	if (!crypt_same_domain(w->a->crypt, in->crypt)) {
		e = hash_pack(w, p, &at);
	} else {
		for (at.slot = 0; at.slot < p->dir.slots; at.slot++)
			note_place(w, &p->dir.digest[at.slot], &at);
	}
	catalog_put(in->catalog, p);
	return e;
}

static enum err search_archive(struct wanted *w, struct archive *in)
{
	struct pack_ref **lists = realloc(w->lists, (w->n_lists + 1) * sizeof(*lists)), *refs;
	size_t n;
	bool complete;
	enum err e;

	if (!lists)
		return err_note(ERR_NOMEM, 0, "look for pages: out of memory");
	w->lists = lists;
	if ((e = listing_packs(in->root, in->crypt, &refs, &n, &complete)) != ERR_OK)
		return e;
	e = forward_follow(in->root, in->crypt, &refs, &n);
	w->lists[w->n_lists++] = refs;
	for (size_t i = 0; e == ERR_OK && w->found < w->n && i < n; i++) {
		if (in == w->a &&
		    listing_find(w->sources.damaged, w->sources.n_damaged, &refs[i].id))
			continue;
		e = progress_check(w->progress);
		if (e == ERR_OK)
			e = search_pack(w, in, &refs[i]);
	}
	return e;
}

/* ---- files ---- */

static enum err search_data(struct wanted *w, unsigned file, int fd, uint8_t *piece, uint64_t from,
			    uint64_t to)
{
	const char *path = w->sources.files[file];

	from -= from % PAGE_BYTES;
	while (from < to && w->found < w->n) {
		size_t got;
		enum err e = fs_read_some(fd, path, piece, PIECE_BYTES, from, &got);

		if (e == ERR_OK)
			e = progress_check(w->progress);
		if (e != ERR_OK)
			return e;
		memset(piece + got, 0, PIECE_BYTES - got);
		for (size_t at = 0; at < got; at += PAGE_BYTES) {
			struct place place = {
				.kind = PLACE_FILE, .file = file, .offset = from + at};
			struct digest d;

			crypt_page(w->a->crypt, piece + at, &d);
			note_place(w, &d, &place);
		}
		from += PIECE_BYTES;
	}
	return ERR_OK;
}

static enum err search_file(struct wanted *w, unsigned file)
{
	AUTO_FD int fd = -1;
	const char *path = w->sources.files[file];
	uint64_t size, at = 0, start, end;
	uint8_t *piece = malloc(PIECE_BYTES);
	enum err e = piece ? ERR_OK : err_note(ERR_NOMEM, 0, "read %s: out of memory", path);

	if (e == ERR_OK && (e = fs_open(AT_FDCWD, path, O_RDONLY, 0, &fd)) == ERR_OK)
		e = fs_size(fd, path, &size);
	while (e == ERR_OK && at < size && w->found < w->n) {
		e = fs_next_data(fd, path, at, size, &start, &end);
		if (e == ERR_OK)
			e = search_data(w, file, fd, piece, start, end);
		at = end;
	}
	free(piece);
	return e;
}

enum err wanted_search(struct wanted *w, const struct wanted_sources *sources,
		       struct progress *progress)
{
	enum err e = ERR_OK;

	w->sources = *sources;
	w->progress = progress;
	sort(w);
	if (sources->from && w->found < w->n)
		e = search_archive(w, sources->from);
	if (e == ERR_OK && w->found < w->n)
		e = search_archive(w, w->a);
	for (unsigned i = 0; e == ERR_OK && w->found < w->n && i < sources->n_files; i++)
		e = search_file(w, i);
	return e;
}

/* ---- reading ---- */

static enum err read_pack(struct wanted *w, const struct place *at, uint8_t *page)
{
	const struct catalog_pack *p;
	uint32_t bad;
	enum err e = catalog_get(at->in->catalog, at->ref, &p);

	if (e != ERR_OK)
		return e;
	e = fetch_pages(w->fetch, p, at->slot, 1, false, page, &bad);
	catalog_put(at->in->catalog, p);
	return e;
}

static enum err read_file(const struct wanted *w, const struct place *at, uint8_t *page)
{
	AUTO_FD int fd = -1;
	const char *path = w->sources.files[at->file];
	size_t got;
	enum err e = fs_open(AT_FDCWD, path, O_RDONLY, 0, &fd);

	if (e == ERR_OK)
		e = fs_read_some(fd, path, page, PAGE_BYTES, at->offset, &got);
	if (e == ERR_OK)
		memset(page + got, 0, PAGE_BYTES - got);
	return e;
}

enum err wanted_read(struct wanted *w, const struct digest *digest, uint8_t *page)
{
	const struct lost *l = find(w, digest);
	enum err e;

	if (!l || l->place.kind == PLACE_NONE)
		return ERR_NOTFOUND;
	e = l->place.kind == PLACE_PACK ? read_pack(w, &l->place, page)
					: read_file(w, &l->place, page);
	/* Files change, and archives are damaged: only the digest counts. */
	if (e == ERR_CORRUPT || e == ERR_IO ||
	    (e == ERR_OK && !crypt_page_is(w->a->crypt, page, digest))) {
		err_clear();
		return ERR_NOTFOUND;
	}
	return e;
}
