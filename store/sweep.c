/* SPDX-License-Identifier: Apache-2.0 */
/* sweep: left-overs of dead writers.
 *
 * The order is what makes it safe while others write:
 *   1. list the packs;
 *   2. drop those that a manifest names; only the rest is looked at further;
 *   3. a writer whose temporary manifest is locked lives: its packs stay.  One whose
 *      temporary manifest is there and free is dead and will never commit.  One
 *      whose temporary manifest is gone has committed or was taken back;
 *   4. only now read the manifests again: a commit that happened before 3 is seen.
 * The directory of manifests is made durable before a pack goes, so that no
 * manifest that was taken back can return after a power cut and miss it. */
#include "store/sweep.h"

#include "base/fs.h"
#include "base/log.h"
#include "store/listing.h"
#include "store/number.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

struct needed {
	struct pack_ref *refs;
	size_t count;
	bool complete;
};

static enum err needed_read(int root, const struct crypt *crypt, struct needed *n)
{
	free(n->refs);
	n->refs = NULL;
	return listing_packs(root, crypt, &n->refs, &n->count, &n->complete);
}

/* Keep of the n ids those that no manifest names. */
static size_t unnamed(const struct needed *needed, struct pack_id *ids, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++)
		if (!listing_find(needed->refs, needed->count, &ids[i]))
			ids[kept++] = ids[i];
	return kept;
}

static enum err writer_lives(int root, const struct pack_id *pack, bool *lives)
{
	AUTO_FD int fd = -1;
	struct writer_id w;
	char path[LAYOUT_PATH_BYTES];
	enum err e;

	memcpy(w.b, pack->b, sizeof(w.b));
	layout_temp_path(&w, path);
	*lives = false;
	e = fs_open(root, path, O_RDWR, 0, &fd);
	if (e == ERR_OK)
		e = fs_lock(fd, path, true, false);
	*lives = e == ERR_BUSY;
	return e == ERR_NOTFOUND || e == ERR_BUSY ? ERR_OK : e;
}

static enum err drop_living(int root, struct pack_id *ids, size_t *n)
{
	size_t kept = 0;

	for (size_t i = 0; i < *n; i++) {
		bool lives;
		enum err e = writer_lives(root, &ids[i], &lives);

		if (e != ERR_OK)
			return e;
		if (!lives)
			ids[kept++] = ids[i];
	}
	*n = kept;
	return ERR_OK;
}

static enum err remove_packs(int root, const struct pack_id *ids, size_t n)
{
	AUTO_FD int dir = -1;
	enum err e = fs_open(root, LAYOUT_MANIFESTS, O_RDONLY | O_DIRECTORY, 0, &dir);

	if (e == ERR_OK)
		e = fs_sync_dir(dir, LAYOUT_MANIFESTS);
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		char path[LAYOUT_PATH_BYTES];

		layout_pack_path(&ids[i], path);
		e = fs_unlink(root, path);
		if (e == ERR_NOTFOUND)
			e = ERR_OK;
		else if (e == ERR_OK)
			log_event(LOG_INFO, "sweep pack=%s", path);
	}
	return e;
}

static enum err list_packs(int root, struct pack_id **ids, size_t *count)
{
	size_t n_names, n = 0;
	char **names;
	enum err e = fs_list(root, LAYOUT_PACKS, &names, &n_names);

	if (e != ERR_OK)
		return e;
	*ids = calloc(n_names + 1, sizeof(**ids));
	if (!*ids)
		e = err_note(ERR_NOMEM, 0, "look for left-overs: out of memory");
	for (size_t i = 0; e == ERR_OK && i < n_names; i++)
		if (layout_pack_parse(names[i], &(*ids)[n]))
			n++;
	fs_names_free(names, n_names);
	*count = n;
	return e;
}

static enum err sweep_packs(int root, const struct crypt *crypt)
{
	struct needed needed = {0};
	struct pack_id *ids = NULL;
	size_t n;
	enum err e = list_packs(root, &ids, &n);

	if (e == ERR_OK && n)
		e = needed_read(root, crypt, &needed);
	if (e == ERR_OK && n)
		n = unnamed(&needed, ids, n);
	if (e == ERR_OK && n)
		e = drop_living(root, ids, &n);
	if (e == ERR_OK && n)
		e = needed_read(root, crypt, &needed);
	if (e == ERR_OK && n && needed.complete) {
		n = unnamed(&needed, ids, n);
		if (n)
			e = remove_packs(root, ids, n);
	}
	free(needed.refs);
	free(ids);
	return e;
}

/* Temporary manifests that nobody locks; after their packs, which they prove dead. */
static enum err sweep_temporaries(int root)
{
	size_t n;
	char **names;
	enum err e = fs_list(root, LAYOUT_MANIFESTS, &names, &n);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		AUTO_FD int fd = -1;
		struct writer_id w;
		char path[LAYOUT_PATH_BYTES];

		if (!layout_temp_parse(names[i], &w))
			continue;
		layout_temp_path(&w, path);
		e = fs_open(root, path, O_RDWR, 0, &fd);
		if (e == ERR_OK)
			e = fs_lock(fd, path, true, false);
		if (e == ERR_OK)
			e = fs_unlink(root, path);
		if (e == ERR_NOTFOUND || e == ERR_BUSY)
			e = ERR_OK;
	}
	fs_names_free(names, n);
	return e;
}

enum err sweep(int root, const struct crypt *crypt)
{
	enum err e = sweep_packs(root, crypt);

	if (e == ERR_OK)
		e = sweep_temporaries(root);
	return e == ERR_OK ? number_sweep(root) : e;
}
