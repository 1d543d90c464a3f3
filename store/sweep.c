/* SPDX-License-Identifier: Apache-2.0 */
/* sweep: left-overs of dead writers.
 *
 * A writer whose temporary manifest is there and free is dead and will never commit; its
 * packs were never known to anybody else.  Packs without a manifest and without a temporary
 * may have belonged to a checkpoint that was removed, and somebody may still read them: they
 * are for the collection (gc.c), which asks the leases.
 *
 * A power cut may leave both names of a manifest, the temporary and the final one: so the
 * manifests are asked as well, and made durable before a pack goes. */
#include "store/sweep.h"

#include "base/fs.h"
#include "base/log.h"
#include "store/lease.h"
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

enum err sweep_writer(int root, const struct pack_id *pack, enum sweep_writer *state)
{
	AUTO_FD int fd = -1;
	struct writer_id w;
	char path[LAYOUT_PATH_BYTES];
	enum err e;

	memcpy(w.b, pack->b, sizeof(w.b));
	layout_temp_path(&w, path);
	e = fs_open(root, path, O_RDWR, 0, &fd);
	if (e == ERR_OK)
		e = fs_lock(fd, path, true, false);
	*state = e == ERR_OK ? SWEEP_DEAD : e == ERR_BUSY ? SWEEP_ALIVE : SWEEP_GONE;
	return e == ERR_NOTFOUND || e == ERR_BUSY ? ERR_OK : e;
}

static enum err keep_dead(int root, struct pack_id *ids, size_t *n)
{
	size_t kept = 0;

	for (size_t i = 0; i < *n; i++) {
		enum sweep_writer state;
		enum err e = sweep_writer(root, &ids[i], &state);

		if (e != ERR_OK)
			return e;
		if (state == SWEEP_DEAD)
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

enum err sweep_list(int root, struct pack_id **ids, size_t *count)
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

static enum err any_temporary(int root, bool *any)
{
	struct writer_id w;
	size_t n;
	char **names;
	enum err e = fs_list(root, LAYOUT_MANIFESTS, &names, &n);

	*any = false;
	if (e != ERR_OK)
		return e;
	for (size_t i = 0; i < n; i++)
		*any |= layout_temp_parse(names[i], &w);
	fs_names_free(names, n);
	return ERR_OK;
}

static enum err sweep_packs(int root, const struct crypt *crypt)
{
	struct needed needed = {0};
	struct pack_id *ids = NULL;
	size_t n;
	enum err e = sweep_list(root, &ids, &n);

	if (e == ERR_OK && n)
		e = keep_dead(root, ids, &n);
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

static enum err nothing(void *arg, const struct lease_info *info)
{
	(void)arg, (void)info;
	return ERR_OK;
}

enum err sweep(int root, const struct crypt *crypt)
{
	bool any;
	enum err e = any_temporary(root, &any);

	if (e == ERR_OK && any)
		e = sweep_packs(root, crypt);
	if (e == ERR_OK && any)
		e = sweep_temporaries(root);
	if (e == ERR_OK)
		e = lease_list(root, true, nothing, NULL);
	return e == ERR_OK ? number_sweep(root) : e;
}
