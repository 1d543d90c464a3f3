/* SPDX-License-Identifier: Apache-2.0 */
/* condemn: see condemn.h. */
#include "store/condemn.h"

#include "base/bytes.h"
#include "base/fs.h"
#include "store/lease.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void condemned_encode(const struct condemned *c, uint8_t rec[RECORD_BYTES])
{
	record_begin(rec, CONDEMN_MAGIC);
	memcpy(rec + 12, c->id.b, PACK_ID_BYTES);
	le64_put(rec + 28, c->epoch);
	le32_put(rec + 36, c->forward);
	record_seal(rec);
}

enum err condemned_decode(const uint8_t rec[RECORD_BYTES], struct condemned *c)
{
	enum err e = record_check(rec, CONDEMN_MAGIC, LAYOUT_CONDEMNED);

	if (e != ERR_OK)
		return e;
	memcpy(c->id.b, rec + 12, PACK_ID_BYTES);
	c->epoch = le64_get(rec + 28);
	c->forward = le32_get(rec + 36) != 0;
	if (le32_get(rec + 36) > 1 || c->epoch > LEASE_EPOCH_MAX || !bytes_zero(rec + 40, RECORD_BODY - 40))
		return err_note(ERR_CORRUPT, 0, LAYOUT_CONDEMNED ": malformed record");
	return ERR_OK;
}

static int by_id(const void *a, const void *b)
{
	const struct condemned *x = a, *y = b;
	int c = memcmp(&x->id, &y->id, sizeof(x->id));

	return c ? c : x->forward - y->forward;
}

static enum err read_one(int root, const char *path, struct condemned *c)
{
	AUTO_BUF struct buf file = {0};
	enum err e = fs_read_file(root, path, RECORD_BYTES, &file);

	if (e != ERR_OK)
		return e;
	if (file.len != RECORD_BYTES)
		return err_note(ERR_CORRUPT, 0, "%s: wrong length", path);
	return condemned_decode(file.data, c);
}

/* *used: it is one, and goes into the set. */
static enum err load_one(int root, const char *file, bool clean, struct condemned *c, bool *used)
{
	char path[LAYOUT_PATH_BYTES + 256];
	struct condemned named;
	enum err e;

	*used = false;
	snprintf(path, sizeof(path), LAYOUT_CONDEMNED "/%s", file);
	if (!layout_condemned_parse(file, &named.id, &named.forward))
		return ERR_OK;
	e = read_one(root, path, c);
	if (e == ERR_OK && by_id(c, &named) != 0)
		e = ERR_CORRUPT;
	*used = e == ERR_OK;
	if ((e == ERR_CORRUPT || e == ERR_VERSION) && clean)
		e = fs_unlink(root, path);
	if (e == ERR_NOTFOUND || e == ERR_CORRUPT || e == ERR_VERSION)
		e = ERR_OK;
	return e;
}

enum err condemned_load(int root, bool clean, struct condemned_set *set)
{
	size_t n;
	char **names;
	enum err e = fs_list(root, LAYOUT_CONDEMNED, &names, &n);

	memset(set, 0, sizeof(*set));
	if (e == ERR_NOTFOUND)
		return ERR_OK;
	if (e != ERR_OK)
		return e;
	set->item = calloc(n + 1, sizeof(*set->item));
	if (!set->item)
		e = err_note(ERR_NOMEM, 0, "list what is condemned: out of memory");
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		bool used;

		e = load_one(root, names[i], clean, &set->item[set->count], &used);
		set->count += used;
	}
	fs_names_free(names, n);
	if (e != ERR_OK)
		condemned_fini(set);
	else if (set->count)
		qsort(set->item, set->count, sizeof(*set->item), by_id);
	return e;
}

void condemned_fini(struct condemned_set *set)
{
	free(set->item);
	memset(set, 0, sizeof(*set));
}

const struct condemned *condemned_find(const struct condemned_set *set, const struct pack_id *id,
				       bool forward)
{
	struct condemned key = {.id = *id, .forward = forward};

	return set->count ? bsearch(&key, set->item, set->count, sizeof(key), by_id) : NULL;
}

enum err condemned_add(int root, const struct condemned *c)
{
	AUTO_FD int fd = -1;
	uint8_t rec[RECORD_BYTES];
	char path[LAYOUT_PATH_BYTES];
	enum err e;

	condemned_encode(c, rec);
	layout_condemned_path(&c->id, c->forward, path);
	if ((e = fs_open(root, path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd)) != ERR_OK)
		return e;
	return fs_write_at(fd, path, rec, sizeof(rec), 0);
}

enum err condemned_lift(int root, const struct pack_id *id, bool forward)
{
	char path[LAYOUT_PATH_BYTES];
	enum err e;

	layout_condemned_path(id, forward, path);
	e = fs_unlink(root, path);
	return e == ERR_NOTFOUND ? ERR_OK : e;
}

enum err condemned_allows(int root, const struct condemned_set *set, uint64_t epoch,
			  const struct pack_id *id)
{
	const struct condemned *c = condemned_find(set, id, false);
	char path[LAYOUT_PATH_BYTES];
	bool there = false;
	enum err e;

	layout_pack_path(id, path);
	if (!c || c->epoch > epoch) {
		if ((e = fs_exists(root, path, &there)) != ERR_OK || there)
			return e;
	}
	return err_note(ERR_BUSY, 0, "%s was %s while the checkpoint was made: make it again", path,
			there ? "condemned" : "collected");
}

enum err condemned_stands(int root, const struct condemned *c, bool *stands)
{
	struct condemned now;
	char path[LAYOUT_PATH_BYTES];
	enum err e;

	layout_condemned_path(&c->id, c->forward, path);
	e = read_one(root, path, &now);
	*stands = e == ERR_OK && now.epoch == c->epoch && by_id(&now, c) == 0;
	return e == ERR_NOTFOUND || e == ERR_CORRUPT || e == ERR_VERSION ? ERR_OK : e;
}
