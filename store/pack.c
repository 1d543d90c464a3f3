/* SPDX-License-Identifier: Apache-2.0 */
/* pack: append-only files of groups.
 *
 * States of a writer: OPEN -> APPENDING [pack_append] -> SEALED [pack_seal] ->
 * durable [pack_sync].  A pack that was not sealed is never opened again: its
 * bytes are dropped by sweep.c, so nothing is ever appended to an old file.
 *
 * Format: pack.h and FORMAT.md section 4. */
#include "store/pack.h"

#include "base/fs.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIR_MAGIC "LBPACKDR"
#define DIR_HEAD 40u
#define DIR_GROUP 16u
#define ALIGN 512u

struct pack_writer {
	int fd;
	struct pack_id id;
	struct crypt_key key;
	const struct digest *digests;
	struct buf groups; /* encoded directory entries */
	uint32_t n_groups, slots;
	int level; /* of compression */
	uint64_t offset;
	bool sealed;
	char path[LAYOUT_PATH_BYTES];
};

static uint64_t align_up(uint64_t v)
{
	return (v + ALIGN - 1) / ALIGN * ALIGN;
}

/* ---- references ---- */

void pack_ref_encode(const struct pack_ref *ref, uint8_t out[PACK_REF_BYTES])
{
	memcpy(out, ref->id.b, PACK_ID_BYTES);
	memcpy(out + 16, ref->dir_digest.b, DIGEST_BYTES);
	le64_put(out + 48, ref->dir_offset);
	le32_put(out + 56, ref->dir_bytes);
	le32_put(out + 60, ref->slots);
	le32_put(out + 64, ref->epoch);
}

static enum err ref_check(const struct pack_ref *ref)
{
	uint64_t tag = ref->epoch ? CIPHER_TAG_BYTES : 0;
	uint64_t least = tag + DIR_HEAD + (uint64_t)ref->slots * DIGEST_BYTES +
			 (ref->slots + GROUP_PAGES - 1) / GROUP_PAGES * DIR_GROUP;
	uint64_t most = tag + DIR_HEAD + (uint64_t)ref->slots * (DIGEST_BYTES + DIR_GROUP);

	if (ref->slots == 0 || ref->slots > PACK_PAGES || ref->dir_bytes < least ||
	    ref->dir_bytes > most || ref->dir_offset % ALIGN ||
	    ref->dir_offset < RECORD_BYTES + ALIGN ||
	    ref->dir_offset > RECORD_BYTES + ALIGN + (uint64_t)PACK_PAGES * (PAGE_BYTES + tag))
		return err_note(ERR_CORRUPT, 0, "reference to a pack contradicts itself");
	return ERR_OK;
}

enum err pack_ref_get(struct rd *r, struct pack_ref *ref)
{
	const uint8_t *id = rd_bytes(r, PACK_ID_BYTES);
	const uint8_t *digest = rd_bytes(r, DIGEST_BYTES);
	enum err e;

	memset(ref, 0, sizeof(*ref));
	ref->dir_offset = rd_le64(r);
	ref->dir_bytes = rd_le32(r);
	ref->slots = rd_le32(r);
	ref->epoch = rd_le32(r);
	if ((e = rd_check(r, "reference to a pack")) != ERR_OK)
		return e;
	memcpy(ref->id.b, id, PACK_ID_BYTES);
	memcpy(ref->dir_digest.b, digest, DIGEST_BYTES);
	return ref_check(ref);
}

bool pack_ref_equal(const struct pack_ref *a, const struct pack_ref *b)
{
	return memcmp(&a->id, &b->id, sizeof(a->id)) == 0 &&
	       memcmp(&a->dir_digest, &b->dir_digest, sizeof(a->dir_digest)) == 0 &&
	       a->dir_offset == b->dir_offset && a->dir_bytes == b->dir_bytes &&
	       a->slots == b->slots && a->epoch == b->epoch;
}

uint64_t pack_second_dir(const struct pack_ref *ref)
{
	return align_up(ref->dir_offset + ref->dir_bytes);
}

uint64_t pack_trailer(const struct pack_ref *ref)
{
	return align_up(pack_second_dir(ref) + ref->dir_bytes);
}

uint64_t pack_file_bytes(const struct pack_ref *ref)
{
	return pack_trailer(ref) + 2 * RECORD_BYTES;
}

/* ---- directory ---- */

void pack_dir_fini(struct pack_dir *dir)
{
	free(dir->group);
	free(dir->digest);
	memset(dir, 0, sizeof(*dir));
}

static enum err dir_bad(const char *why)
{
	return err_note(ERR_CORRUPT, 0, "directory of a pack: %s", why);
}

static enum err dir_groups(struct rd *r, size_t overhead, struct pack_dir *dir)
{
	uint64_t offset = RECORD_BYTES;
	uint32_t slot = 0;

	for (uint32_t i = 0; i < dir->groups; i++) {
		struct pack_group *g = &dir->group[i];
		const uint8_t *check;

		g->offset = offset;
		g->first_slot = slot;
		g->stored_bytes = rd_le32(r);
		g->pages = rd_le8(r);
		g->codec = rd_le8(r);
		if (rd_le16(r) != 0 || g->pages == 0 || g->pages > GROUP_PAGES ||
		    g->codec > GROUP_ZSTD || g->stored_bytes <= overhead ||
		    g->stored_bytes - overhead > g->pages * PAGE_BYTES)
			return dir_bad("a group is malformed");
		check = rd_bytes(r, GROUP_CHECK_BYTES);
		if (!check)
			return dir_bad("it ends too early");
		memcpy(g->check, check, GROUP_CHECK_BYTES);
		offset += g->stored_bytes;
		slot += g->pages;
	}
	if (slot != dir->slots)
		return dir_bad("groups and slots disagree");
	dir->data_end = offset;
	return ERR_OK;
}

static enum err dir_fill(struct rd *r, size_t overhead, struct pack_dir *dir)
{
	const uint8_t *digests;
	enum err e;

	dir->group = calloc(dir->groups, sizeof(*dir->group));
	dir->digest = malloc((size_t)dir->slots * sizeof(*dir->digest));
	if (!dir->group || !dir->digest)
		return err_note(ERR_NOMEM, 0, "read the directory of a pack: out of memory");
	if ((e = dir_groups(r, overhead, dir)) != ERR_OK)
		return e;
	digests = rd_bytes(r, (size_t)dir->slots * DIGEST_BYTES);
	if (!digests || rd_left(r) != 0)
		return dir_bad("wrong length");
	memcpy(dir->digest, digests, (size_t)dir->slots * DIGEST_BYTES);
	return ERR_OK;
}

enum err pack_dir_decode(const void *p, size_t len, const struct pack_id *id, size_t overhead,
			 struct pack_dir *dir)
{
	struct rd r = rd_make(p, len);
	const uint8_t *magic = rd_bytes(&r, 8), *own;
	uint32_t version = rd_le32(&r);
	enum err e;

	memset(dir, 0, sizeof(*dir));
	dir->groups = rd_le32(&r);
	dir->slots = rd_le32(&r);
	dir->level = (int)(int32_t)rd_le32(&r);
	own = rd_bytes(&r, PACK_ID_BYTES);
	if (!magic || !own || memcmp(magic, DIR_MAGIC, 8) != 0)
		return dir_bad("no such thing here");
	if (version != FORMAT_VERSION)
		return err_note(ERR_VERSION, 0, "directory of a pack: format version %08x",
				version);
	if (!group_level_ok(dir->level))
		return dir_bad("there is no such level of compression");
	if (memcmp(own, id->b, PACK_ID_BYTES) != 0)
		return dir_bad("it belongs to another pack");
	if (dir->slots == 0 || dir->slots > PACK_PAGES || dir->groups == 0 ||
	    dir->groups > dir->slots ||
	    len != DIR_HEAD + (uint64_t)dir->groups * DIR_GROUP +
			    (uint64_t)dir->slots * DIGEST_BYTES)
		return dir_bad("counts and length disagree");
	e = dir_fill(&r, overhead, dir);
	if (e != ERR_OK)
		pack_dir_fini(dir);
	return e;
}

const struct pack_group *pack_dir_find(const struct pack_dir *dir, uint32_t slot)
{
	uint32_t low = 0, high = dir->groups;

	assert(slot < dir->slots);
	while (high - low > 1) {
		uint32_t mid = low + (high - low) / 2;

		if (dir->group[mid].first_slot <= slot)
			low = mid;
		else
			high = mid;
	}
	return &dir->group[low];
}

/* ---- records ---- */

void pack_header_encode(const struct pack_id *id, const struct crypt *crypt, uint32_t epoch,
			uint8_t rec[RECORD_BYTES])
{
	record_begin(rec, PACK_HEADER_MAGIC);
	memcpy(rec + 12, id->b, PACK_ID_BYTES);
	memcpy(rec + 28, crypt_archive_id(crypt), 16);
	le32_put(rec + 44, PAGE_BYTES);
	le64_put(rec + 48, epoch);
	record_seal(rec);
}

enum err pack_header_check(const uint8_t rec[RECORD_BYTES], const struct pack_id *id,
			   const struct crypt *crypt, uint32_t epoch, const char *what)
{
	uint8_t want[RECORD_BYTES];
	enum err e = record_check(rec, PACK_HEADER_MAGIC, what);

	if (e != ERR_OK)
		return e;
	pack_header_encode(id, crypt, epoch, want);
	if (memcmp(rec, want, RECORD_BYTES) != 0)
		return err_note(ERR_CORRUPT, 0, "%s: its header belongs to another pack", what);
	return ERR_OK;
}

void pack_trailer_encode(const struct pack_ref *ref, uint8_t rec[RECORD_BYTES])
{
	record_begin(rec, PACK_TRAILER_MAGIC);
	pack_ref_encode(ref, rec + RECORD_FIELDS);
	record_seal(rec);
}

enum err pack_trailer_decode(const uint8_t rec[RECORD_BYTES], const char *what,
			     struct pack_ref *ref)
{
	struct rd r = rd_make(rec + RECORD_FIELDS, PACK_REF_BYTES);
	enum err e = record_check(rec, PACK_TRAILER_MAGIC, what);

	if (e != ERR_OK)
		return e;
	if ((e = pack_ref_get(&r, ref)) != ERR_OK)
		return err_context(e, "%s", what);
	return ERR_OK;
}

/* ---- writing ---- */

enum err pack_create(int root, const struct pack_id *id, const struct crypt *crypt,
		     const struct crypt_key *key, int level, const struct digest *digests,
		     struct pack_writer **out)
{
	char path[LAYOUT_PATH_BYTES];

	layout_pack_path(id, path);
	return pack_create_at(root, path, id, crypt, key, level, digests, out);
}

enum err pack_create_at(int root, const char *path, const struct pack_id *id,
			const struct crypt *crypt, const struct crypt_key *key, int level,
			const struct digest *digests, struct pack_writer **out)
{
	struct pack_writer *p = calloc(1, sizeof(*p));
	uint8_t header[RECORD_BYTES];
	enum err e;

	if (!p)
		return err_note(ERR_NOMEM, 0, "make a pack: out of memory");
	p->fd = -1;
	p->id = *id;
	p->key = *key;
	p->level = level;
	p->digests = digests;
	snprintf(p->path, sizeof(p->path), "%s", path);
	pack_header_encode(id, crypt, key->epoch, header);
	if ((e = fs_open(root, p->path, O_WRONLY | O_CREAT | O_EXCL, 0600, &p->fd)) != ERR_OK ||
	    (e = fs_write_at(p->fd, p->path, header, sizeof(header), 0)) != ERR_OK)
		goto fail;
	p->offset = sizeof(header);
	*out = p;
	return ERR_OK;
fail:
	pack_close(p);
	return e;
}

enum err pack_append(struct pack_writer *p, const uint8_t *stored, uint32_t len, uint8_t codec,
		     const uint8_t check[GROUP_CHECK_BYTES], unsigned n_pages)
{
	enum err e;

	assert(!p->sealed && p->slots + n_pages <= PACK_PAGES);
	e = fs_write_at(p->fd, p->path, stored, len, p->offset);
	if (e != ERR_OK)
		return e;
	buf_put_le32(&p->groups, len);
	buf_put_le8(&p->groups, (uint8_t)n_pages);
	buf_put_le8(&p->groups, codec);
	buf_put_le16(&p->groups, 0);
	buf_put(&p->groups, check, GROUP_CHECK_BYTES);
	p->offset += len;
	p->slots += n_pages;
	p->n_groups++;
	return buf_check(&p->groups);
}

/* Encoded and sealed. */
static enum err dir_encode(const struct pack_writer *p, struct buf *b)
{
	size_t len;

	buf_put(b, DIR_MAGIC, 8);
	buf_put_le32(b, FORMAT_VERSION);
	buf_put_le32(b, p->n_groups);
	buf_put_le32(b, p->slots);
	buf_put_le32(b, (uint32_t)p->level);
	buf_put(b, p->id.b, PACK_ID_BYTES);
	buf_put(b, p->groups.data, p->groups.len);
	buf_put(b, p->digests, (size_t)p->slots * DIGEST_BYTES);
	len = b->len;
	buf_put_zero(b, crypt_overhead(&p->key));
	if (b->failed)
		return buf_check(b);
	return crypt_seal(&p->key, PACK_ITEM_DIR, NULL, 0, b->data, len, b->data);
}

enum err pack_seal(struct pack_writer *p, struct pack_ref *ref)
{
	AUTO_BUF struct buf dir = {0};
	AUTO_BUF struct buf tail = {0};
	uint8_t trailer[RECORD_BYTES];
	enum err e;

	assert(!p->sealed && p->slots > 0);
	if ((e = dir_encode(p, &dir)) != ERR_OK)
		return e;
	*ref = (struct pack_ref){.id = p->id,
				 .dir_offset = align_up(p->offset),
				 .dir_bytes = (uint32_t)dir.len,
				 .slots = p->slots,
				 .epoch = p->key.epoch};
	digest_of(dir.data, dir.len, &ref->dir_digest);
	buf_put_zero(&tail, ref->dir_offset - p->offset);
	buf_put(&tail, dir.data, dir.len);
	buf_put_zero(&tail, pack_second_dir(ref) - p->offset - tail.len);
	buf_put(&tail, dir.data, dir.len);
	buf_put_zero(&tail, pack_trailer(ref) - p->offset - tail.len);
	pack_trailer_encode(ref, trailer);
	buf_put(&tail, trailer, sizeof(trailer));
	buf_put(&tail, trailer, sizeof(trailer));
	if ((e = buf_check(&tail)) != ERR_OK)
		return e;
	if ((e = fs_write_at(p->fd, p->path, tail.data, tail.len, p->offset)) != ERR_OK)
		return e;
	p->offset += tail.len;
	p->sealed = true;
	assert(p->offset == pack_file_bytes(ref));
	return ERR_OK;
}

enum err pack_sync(struct pack_writer *p)
{
	return fs_sync(p->fd, p->path);
}

uint64_t pack_size(const struct pack_writer *p)
{
	return p->offset;
}

void pack_close(struct pack_writer *p)
{
	if (!p)
		return;
	fs_auto_close(&p->fd);
	buf_fini(&p->groups);
	crypt_key_wipe(&p->key);
	free(p);
}

/* ---- reading ---- */

static enum err dir_check(const uint8_t *bytes, const char *path, const struct pack_ref *ref)
{
	struct digest d;

	digest_of(bytes, ref->dir_bytes, &d);
	if (memcmp(&d, &ref->dir_digest, sizeof(d)) != 0)
		return err_note(ERR_CORRUPT, 0, "%s: damaged directory", path);
	return ERR_OK;
}

/* Opened bytes, without the seal. */
static enum err dir_parse(const uint8_t *bytes, const char *path, const struct pack_ref *ref,
			  size_t overhead, struct pack_dir *dir)
{
	enum err e = pack_dir_decode(bytes, ref->dir_bytes - overhead, &ref->id, overhead, dir);

	if (e != ERR_OK)
		return err_context(e, "%s", path);
	if (dir->slots != ref->slots || align_up(dir->data_end) != ref->dir_offset) {
		pack_dir_fini(dir);
		return err_note(ERR_CORRUPT, 0, "%s: directory and its reference disagree", path);
	}
	return ERR_OK;
}

enum err pack_dir_parse(const uint8_t *bytes, const char *path, const struct pack_ref *ref,
			const struct crypt_key *key, struct pack_dir *dir)
{
	uint8_t *open;
	enum err e = dir_check(bytes, path, ref);

	if (e != ERR_OK)
		return e;
	open = malloc(ref->dir_bytes);
	if (!open)
		return err_note(ERR_NOMEM, 0, "%s: read its directory: out of memory", path);
	e = crypt_open(key, PACK_ITEM_DIR, NULL, 0, bytes, ref->dir_bytes, open);
	if (e == ERR_OK)
		e = dir_parse(open, path, ref, crypt_overhead(key), dir);
	else
		e = err_context(e, "%s", path);
	free(open);
	return e;
}

enum err pack_dir_bytes(int fd, const char *path, const struct pack_ref *ref, uint8_t *out)
{
	enum err e = fs_read_at(fd, path, out, ref->dir_bytes, ref->dir_offset);

	if (e == ERR_OK)
		e = dir_check(out, path, ref);
	if (e != ERR_CORRUPT && e != ERR_IO)
		return e;
	e = fs_read_at(fd, path, out, ref->dir_bytes, pack_second_dir(ref));
	return e == ERR_OK ? dir_check(out, path, ref) : e;
}

enum err pack_dir_read(int fd, const char *path, const struct pack_ref *ref,
		       const struct crypt_key *key, struct pack_dir *dir)
{
	uint8_t *bytes = malloc(ref->dir_bytes);
	enum err e;

	if (!bytes)
		return err_note(ERR_NOMEM, 0, "%s: read its directory: out of memory", path);
	e = pack_dir_bytes(fd, path, ref, bytes);
	if (e == ERR_OK)
		e = pack_dir_parse(bytes, path, ref, key, dir);
	free(bytes);
	return e;
}

enum err pack_group_open(const struct crypt_key *key, const struct pack_group *g, uint8_t *stored,
			 uint32_t *len, bool *sealed)
{
	enum err e = crypt_open(key, g->first_slot, NULL, 0, stored, g->stored_bytes, stored);

	*sealed = e == ERR_OK && key->epoch != 0;
	*len = g->stored_bytes - (uint32_t)crypt_overhead(key);
	/* Pages that were stored as they are prove themselves one by one, by a keyed digest
	 * from the sealed directory: a broken seal then costs only those that are broken. */
	if (e == ERR_CORRUPT && g->codec == GROUP_RAW && g->stored_bytes >= crypt_overhead(key)) {
		err_clear();
		return ERR_OK;
	}
	return e;
}
