/* SPDX-License-Identifier: Apache-2.0 */
/* forward: see forward.h; written by repack.c, used by catalog.c and fetch.c. */
#include "store/forward.h"

#include "base/bytes.h"
#include "base/fs.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RUN_BYTES 20u
#define MAX_SLOT_BYTES (DIGEST_BYTES + 16 + PACK_REF_BYTES + MAX_RUN_BYTES)
#define MAX_BYTES (FORWARD_FIXED + (uint64_t)PACK_PAGES * MAX_SLOT_BYTES + 65536)

void forward_fini(struct forward *f)
{
	free(f->target);
	free(f->run);
	memset(f, 0, sizeof(*f));
}

uint64_t forward_bytes(const struct forward *f)
{
	return FORWARD_FIXED + (uint64_t)f->ref.dir_bytes +
	       (uint64_t)f->n_targets * PACK_REF_BYTES + f->runs_bytes;
}

static enum err bad(const char *why)
{
	return err_note(ERR_CORRUPT, 0, "forward of a pack: %s", why);
}

/* ---- decoding ---- */

static enum err record_get(const uint8_t *p, size_t len, struct forward *f)
{
	struct rd r = rd_make(p + RECORD_FIELDS, RECORD_BODY - RECORD_FIELDS);
	struct digest d;
	enum err e;

	if (len < FORWARD_FIXED)
		return bad("it is cut off");
	if ((e = record_check(p, FORWARD_MAGIC, LAYOUT_FORWARDS)) != ERR_OK ||
	    (e = pack_ref_get(&r, &f->ref)) != ERR_OK)
		return e;
	f->n_targets = rd_le32(&r);
	f->n_runs = rd_le32(&r);
	f->runs_bytes = rd_le32(&r);
	f->first = rd_le32(&r);
	f->end = rd_le32(&r);
	if (f->n_targets > PACK_PAGES || f->n_runs > PACK_PAGES || f->end > f->ref.slots ||
	    f->first > f->end || !bytes_zero(p + 132, RECORD_BODY - 132) ||
	    forward_bytes(f) != len)
		return bad("counts and length disagree");
	digest_of(p + RECORD_BYTES, len - RECORD_BYTES, &d);
	return memcmp(&d, p + 100, sizeof(d)) == 0 ? ERR_OK : bad("damaged");
}

static enum err tables_get(const uint8_t *p, struct forward *f)
{
	const uint8_t *at = p + FORWARD_FIXED + f->ref.dir_bytes;
	struct rd r = rd_make(at, (size_t)f->n_targets * PACK_REF_BYTES);
	enum err e;

	f->target = calloc(f->n_targets + 1u, sizeof(*f->target));
	f->run = calloc(f->n_runs + 1u, sizeof(*f->run));
	if (!f->target || !f->run)
		return err_note(ERR_NOMEM, 0, "read the forward of a pack: out of memory");
	for (uint32_t i = 0; i < f->n_targets; i++)
		if ((e = pack_ref_get(&r, &f->target[i])) != ERR_OK)
			return e;
	at += (size_t)f->n_targets * PACK_REF_BYTES;
	if ((e = runs_decode(at, f->runs_bytes, f->first, f->end, f->n_runs, f->run)) != ERR_OK)
		return e;
	for (uint32_t i = 0; i < f->n_runs; i++) {
		const struct run *run = &f->run[i];

		if (run->pack >= f->n_targets ||
		    run->slot + (run->repeat ? 1 : run->count) > f->target[run->pack].slots)
			return bad("it leads outside of a pack");
	}
	return ERR_OK;
}

enum err forward_decode(const uint8_t *p, size_t len, struct forward *f)
{
	enum err e;

	memset(f, 0, sizeof(*f));
	e = record_get(p, len, f);
	if (e == ERR_OK)
		e = tables_get(p, f);
	if (e != ERR_OK)
		forward_fini(f);
	return e;
}

static enum err copy_load(const uint8_t *p, size_t len, const char *path, const struct crypt *crypt,
			  const struct pack_id *id, struct forward *f, struct pack_dir *dir)
{
	struct crypt_key key;
	enum err e = forward_decode(p, len, f);

	if (e == ERR_OK && memcmp(&f->ref.id, id, sizeof(*id)) != 0)
		e = bad("it belongs to another pack");
	if (e == ERR_OK && dir)
		e = crypt_pack_key(crypt, f->ref.epoch, id, &key);
	if (e == ERR_OK && dir) {
		e = pack_dir_parse(p + FORWARD_FIXED, path, &f->ref, &key, dir);
		crypt_key_wipe(&key);
	}
	if (e != ERR_OK)
		forward_fini(f);
	return e == ERR_OK ? e : err_context(e, "%s", path);
}

enum err forward_load(int root, const struct crypt *crypt, const struct pack_id *id,
		      struct forward *f, struct pack_dir *dir, bool *damaged)
{
	AUTO_BUF struct buf file = {0};
	char path[LAYOUT_PATH_BYTES];
	size_t half;
	enum err e;

	memset(f, 0, sizeof(*f));
	layout_forward_path(id, path);
	if ((e = fs_read_file(root, path, 2 * MAX_BYTES, &file)) != ERR_OK)
		return e;
	half = file.len / 2;
	e = copy_load(file.data, half, path, crypt, id, f, dir);
	*damaged = e != ERR_OK || file.len % 2 || memcmp(file.data, file.data + half, half) != 0;
	if (e == ERR_CORRUPT)
		e = copy_load(file.data + half, half, path, crypt, id, f, dir);
	return e;
}

/* ---- encoding ---- */

static enum err encode(int fd, const char *path, struct forward *f, struct buf *out)
{
	AUTO_BUF struct buf body = {0};
	uint8_t rec[RECORD_BYTES], ref[PACK_REF_BYTES], *old;
	struct runs_at at = {.page = f->n_runs ? f->run[0].page : 0};
	struct digest d;
	size_t before;
	enum err e;

	old = malloc(RECORD_BYTES + f->ref.dir_bytes);
	if (!old)
		return err_note(ERR_NOMEM, 0, "write the forward of a pack: out of memory");
	e = fs_read_at(fd, path, old, RECORD_BYTES, 0);
	if (e == ERR_OK)
		e = pack_dir_bytes(fd, path, &f->ref, old + RECORD_BYTES);
	if (e == ERR_OK)
		buf_put(&body, old, RECORD_BYTES + f->ref.dir_bytes);
	free(old);
	if (e != ERR_OK)
		return e;
	for (uint32_t i = 0; i < f->n_targets; i++) {
		pack_ref_encode(&f->target[i], ref);
		buf_put(&body, ref, sizeof(ref));
	}
	before = body.len;
	f->first = (uint32_t)at.page;
	for (uint32_t i = 0; i < f->n_runs; i++)
		runs_put(&body, &at, &f->run[i]);
	f->end = (uint32_t)at.page;
	if ((e = buf_check(&body)) != ERR_OK)
		return e;
	f->runs_bytes = (uint32_t)(body.len - before);
	record_begin(rec, FORWARD_MAGIC);
	pack_ref_encode(&f->ref, rec + RECORD_FIELDS);
	le32_put(rec + 80, f->n_targets);
	le32_put(rec + 84, f->n_runs);
	le32_put(rec + 88, f->runs_bytes);
	le32_put(rec + 92, f->first);
	le32_put(rec + 96, f->end);
	digest_of(body.data, body.len, &d);
	memcpy(rec + 100, d.b, sizeof(d));
	record_seal(rec);
	for (unsigned copy = 0; copy < 2; copy++) {
		buf_put(out, rec, sizeof(rec));
		buf_put(out, body.data, body.len);
	}
	return buf_check(out);
}

enum err forward_write(int root, int fd, const char *path, struct forward *f)
{
	AUTO_BUF struct buf bytes = {0};
	AUTO_FD int out = -1;
	char to[LAYOUT_PATH_BYTES];
	enum err e = encode(fd, path, f, &bytes);

	if (e != ERR_OK)
		return e;
	layout_forward_path(&f->ref.id, to);
	if ((e = fs_open(root, to, O_WRONLY | O_CREAT | O_TRUNC, 0600, &out)) != ERR_OK ||
	    (e = fs_write_at(out, to, bytes.data, bytes.len, 0)) != ERR_OK)
		return e;
	return fs_sync(out, to);
}

/* ---- using ---- */

enum err forward_find(const struct forward *f, uint32_t slot, const struct pack_ref **target,
		      uint32_t *target_slot, uint32_t *count)
{
	uint32_t low = 0, high = f->n_runs;
	const struct run *run;
	uint32_t skip;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (f->run[mid].page + f->run[mid].count <= slot)
			low = mid + 1;
		else
			high = mid;
	}
	run = &f->run[low];
	if (low == f->n_runs || run->page > slot)
		return err_note(ERR_CORRUPT, 0, "slot %u of a rewritten pack was dropped", slot);
	skip = slot - (uint32_t)run->page;
	*target = &f->target[run->pack];
	*target_slot = run->slot + (run->repeat ? 0 : skip);
	*count = run->repeat ? 1 : run->count - skip;
	return ERR_OK;
}

enum err forward_list(int root, struct pack_id **ids, size_t *count)
{
	size_t n_names, n = 0;
	char **names;
	enum err e = fs_list(root, LAYOUT_FORWARDS, &names, &n_names);

	*count = 0;
	*ids = NULL;
	if (e == ERR_NOTFOUND)
		return ERR_OK;
	if (e != ERR_OK)
		return e;
	*ids = calloc(n_names + 1, sizeof(**ids));
	if (!*ids)
		e = err_note(ERR_NOMEM, 0, "list forwards: out of memory");
	for (size_t i = 0; e == ERR_OK && i < n_names; i++)
		if (layout_forward_parse(names[i], &(*ids)[n]))
			n++;
	fs_names_free(names, n_names);
	*count = n;
	return e;
}

static int by_id(const void *a, const void *b)
{
	return memcmp(a, b, PACK_ID_BYTES);
}

/* Put the targets of refs[i] in its place. */
static enum err replace(struct pack_ref **refs, size_t *count, size_t i, const struct forward *f)
{
	struct pack_ref *more = realloc(*refs, (*count + f->n_targets + 1) * sizeof(*more));

	if (!more)
		return err_note(ERR_NOMEM, 0, "list packs: out of memory");
	*refs = more;
	more[i] = more[--*count];
	if (f->n_targets)
		memcpy(more + *count, f->target, f->n_targets * sizeof(*more));
	*count += f->n_targets;
	return ERR_OK;
}

static void sort(struct pack_ref *refs, size_t *count)
{
	size_t n = 0;

	if (*count)
		qsort(refs, *count, sizeof(*refs), by_id);
	for (size_t i = 0; i < *count; i++)
		if (n == 0 || by_id(&refs[n - 1], &refs[i]) != 0)
			refs[n++] = refs[i];
	*count = n;
}

static bool leads_to(const struct forward *f, const struct pack_id *ids, const bool *reached, size_t n,
		     const struct pack_id *id)
{
	for (uint32_t i = 0; i < f->n_targets; i++) {
		const struct pack_id *target = &f->target[i].id, *known;

		if (memcmp(target, id, sizeof(*id)) == 0)
			return true;
		known = n ? bsearch(target, ids, n, sizeof(*ids), by_id) : NULL;
		if (known && reached[known - ids])
			return true;
	}
	return false;
}

/* One step back: mark those that lead to id or to one that was reached before. */
static enum err step_back(int root, const struct crypt *crypt, const struct pack_id *ids, size_t n,
			  const struct pack_id *id, bool *reached, bool *any)
{
	bool *now = calloc(n + 1, sizeof(*now));
	enum err e = now ? ERR_OK : err_note(ERR_NOMEM, 0, "follow forwards: out of memory");

	*any = false;
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		struct forward f;
		bool damaged;

		if (reached[i])
			continue;
		e = forward_load(root, crypt, &ids[i], &f, NULL, &damaged);
		if (e == ERR_OK) {
			now[i] = leads_to(&f, ids, reached, n, id);
			*any |= now[i];
			forward_fini(&f);
		} else if (e == ERR_NOTFOUND || e == ERR_CORRUPT || e == ERR_IO || e == ERR_VERSION) {
			err_clear();
			e = ERR_OK;
		}
	}
	for (size_t i = 0; e == ERR_OK && i < n; i++)
		reached[i] |= now[i];
	free(now);
	return e;
}

enum err forward_depth(int root, const struct crypt *crypt, const struct pack_id *id,
		       unsigned *depth)
{
	struct pack_id *ids;
	bool *reached, any = true;
	size_t n;
	enum err e = forward_list(root, &ids, &n);

	*depth = 0;
	if (e != ERR_OK)
		return e;
	reached = calloc(n + 1, sizeof(*reached));
	if (!reached)
		e = err_note(ERR_NOMEM, 0, "follow forwards: out of memory");
	while (e == ERR_OK && any)
		if ((e = step_back(root, crypt, ids, n, id, reached, &any)) == ERR_OK)
			*depth += any;
	free(reached);
	free(ids);
	return e;
}

static enum err follow_once(int root, const struct crypt *crypt, const struct pack_id *ids,
			    size_t n_ids, struct pack_ref **refs, size_t *count, bool *any)
{
	*any = false;
	for (size_t i = 0; i < *count;) {
		struct forward f;
		char path[LAYOUT_PATH_BYTES];
		bool there, damaged;
		enum err e;

		if (!bsearch(&(*refs)[i].id, ids, n_ids, sizeof(*ids), by_id)) {
			i++;
			continue;
		}
		layout_pack_path(&(*refs)[i].id, path);
		if ((e = fs_exists(root, path, &there)) != ERR_OK)
			return e;
		e = there ? ERR_NOTFOUND : forward_load(root, crypt, &(*refs)[i].id, &f, NULL, &damaged);
		if (e == ERR_NOTFOUND || e == ERR_CORRUPT || e == ERR_IO || e == ERR_VERSION) {
			i++; /* who needs it will say what is wrong */
			continue;
		}
		if (e != ERR_OK)
			return e;
		e = replace(refs, count, i, &f);
		forward_fini(&f);
		if (e != ERR_OK)
			return e;
		*any = true;
	}
	return ERR_OK;
}

enum err forward_follow(int root, const struct crypt *crypt, struct pack_ref **refs, size_t *count)
{
	struct pack_id *ids;
	size_t n;
	bool any = true;
	enum err e = forward_list(root, &ids, &n);

	for (unsigned depth = 0; e == ERR_OK && n && any && depth < FORWARD_DEPTH; depth++) {
		e = follow_once(root, crypt, ids, n, refs, count, &any);
		sort(*refs, count);
	}
	free(ids);
	return e;
}
