/* SPDX-License-Identifier: Apache-2.0 */
/* manifest: encode, decode and load the description of one checkpoint.
 *
 * Nothing that a root says is used before its digest was checked, and nothing
 * is allocated from a count before the count was checked against the length.
 *
 * Format: FORMAT.md section 5. */
#include "store/manifest.h"

#include "base/fs.h"
#include "store/record.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_BYTES (MANIFEST_CLEAR_BYTES + 248u)
#define ITEM_ROOT 0u /* blocks are 1, 2, ... */
#define STREAM_BYTES 84u
#define BLOCK_BYTES 56u
#define RUN_MIN_BYTES 4u
#define ROOT_MAX_BYTES (256u << 20)

void manifest_ref_text(const struct checkpoint_info *info, char out[MANIFEST_REF_BYTES])
{
	snprintf(out, MANIFEST_REF_BYTES, "%s@%" PRIu64, info->name, info->number);
}

void manifest_fini(struct manifest *m)
{
	free(m->stream);
	free(m->pack);
	free(m->block);
	crypt_key_wipe(&m->key);
	memset(m, 0, sizeof(*m));
}

static uint64_t root_size(const struct manifest *m, size_t label)
{
	return HEAD_BYTES + label + (uint64_t)m->n_streams * STREAM_BYTES +
	       (uint64_t)m->n_packs * PACK_REF_BYTES + (uint64_t)m->n_blocks * BLOCK_BYTES +
	       crypt_overhead(&m->key) + DIGEST_BYTES;
}

/* Offsets follow from lengths. */
static void place(struct manifest *m)
{
	uint32_t block = 0;

	m->file_bytes = m->root_bytes;
	for (uint32_t i = 0; i < m->n_blocks; i++) {
		m->block[i].offset = m->file_bytes;
		m->file_bytes += m->block[i].bytes;
	}
	for (uint32_t i = 0; i < m->n_streams; i++) {
		m->stream[i].first_block = block;
		block += m->stream[i].blocks;
	}
}

static void parent_put(const struct checkpoint_parent *p, struct buf *b)
{
	buf_put(b, p->name, ARCHIVE_NAME_BYTES);
	buf_put_le64(b, p->number);
	buf_put(b, p->digest.b, DIGEST_BYTES);
}

/* The part that is not hidden. */
static void clear_encode(struct manifest *m)
{
	uint8_t *p = m->clear;

	memset(p, 0, MANIFEST_CLEAR_BYTES);
	memcpy(p, MANIFEST_MAGIC, 8);
	le32_put(p + 8, FORMAT_VERSION);
	le32_put(p + 12, m->root_bytes);
	memcpy(p + 16, m->archive_id, 16);
	memcpy(p + 32, m->info.name, ARCHIVE_NAME_BYTES);
	le64_put(p + 96, m->info.number);
	le32_put(p + 104, m->epoch);
	memcpy(p + 112, m->id, 16);
}

static void head_put(const struct manifest *m, size_t label, struct buf *b)
{
	buf_put(b, m->clear, MANIFEST_CLEAR_BYTES);
	buf_put_le64(b, m->info.created_ns);
	buf_put_le64(b, m->info.nonzero_bytes);
	buf_put_le64(b, m->info.stored_bytes);
	buf_put_le32(b, m->n_streams);
	buf_put_le32(b, m->n_packs);
	buf_put_le32(b, m->n_blocks);
	buf_put_le32(b, (uint32_t)label);
	parent_put(&m->info.parent, b);
	parent_put(&m->info.origin, b);
	buf_put(b, m->info.label, label);
}

static void tables_put(const struct manifest *m, struct buf *b)
{
	for (uint32_t i = 0; i < m->n_streams; i++) {
		buf_put(b, m->stream[i].info.name, ARCHIVE_NAME_BYTES);
		buf_put_le64(b, m->stream[i].info.length);
		buf_put_le64(b, m->stream[i].nonzero_pages);
		buf_put_le32(b, m->stream[i].blocks);
	}
	for (uint32_t i = 0; i < m->n_packs; i++) {
		uint8_t ref[PACK_REF_BYTES];

		pack_ref_encode(&m->pack[i], ref);
		buf_put(b, ref, sizeof(ref));
	}
	for (uint32_t i = 0; i < m->n_blocks; i++) {
		buf_put_le64(b, m->block[i].first);
		buf_put_le64(b, m->block[i].end);
		buf_put_le32(b, m->block[i].bytes);
		buf_put_le32(b, m->block[i].runs);
		buf_put(b, m->block[i].digest.b, DIGEST_BYTES);
	}
}

static size_t label_length(const struct manifest *m)
{
	return strnlen(m->info.label, sizeof(m->info.label) - 1);
}

enum err manifest_prepare(struct manifest *m, const struct crypt *crypt)
{
	uint64_t size;
	enum err e;

	m->epoch = crypt_epoch(crypt);
	if (m->epoch && (e = layout_random(m->id, sizeof(m->id))) != ERR_OK)
		return e;
	if ((e = crypt_manifest_key(crypt, m->epoch, m->id, &m->key)) != ERR_OK)
		return e;
	size = root_size(m, label_length(m));
	if (size > ROOT_MAX_BYTES)
		return err_note(ERR_FAILED, 0, "the manifest grows beyond %u MiB: the checkpoint "
				"has too many streams, packs or runs", ROOT_MAX_BYTES >> 20);
	m->root_bytes = (uint32_t)size;
	m->fresh = true;
	clear_encode(m);
	return ERR_OK;
}

enum err manifest_seal_blocks(struct manifest *m, struct buf *blocks)
{
	AUTO_BUF struct buf sealed = {0};
	size_t at = 0, extra = crypt_overhead(&m->key);

	assert(m->fresh);
	for (uint32_t i = 0; m->epoch && i < m->n_blocks; i++) {
		struct manifest_block *b = &m->block[i];
		size_t to = sealed.len;
		enum err e;

		assert(at + b->bytes <= blocks->len);
		buf_put_zero(&sealed, b->bytes + extra);
		if ((e = buf_check(&sealed)) != ERR_OK ||
		    (e = crypt_seal(&m->key, i + 1ull, m->clear, sizeof(m->clear),
				    blocks->data + at, b->bytes, sealed.data + to)) != ERR_OK)
			return e;
		at += b->bytes;
		b->bytes += (uint32_t)extra;
		digest_of(sealed.data + to, b->bytes, &b->digest);
	}
	if (m->epoch) {
		struct buf old = *blocks;

		*blocks = sealed;
		sealed = old;
	}
	return ERR_OK;
}

enum err manifest_encode(struct manifest *m, struct buf *out)
{
	size_t len;
	enum err e;

	assert(m->fresh || !m->epoch);
	m->fresh = false;
	place(m);
	buf_clear(out);
	head_put(m, label_length(m), out);
	tables_put(m, out);
	len = out->len;
	buf_put_zero(out, crypt_overhead(&m->key));
	if ((e = buf_check(out)) != ERR_OK)
		return e;
	e = crypt_seal(&m->key, ITEM_ROOT, m->clear, sizeof(m->clear),
		       out->data + MANIFEST_CLEAR_BYTES, len - MANIFEST_CLEAR_BYTES,
		       out->data + MANIFEST_CLEAR_BYTES);
	if (e != ERR_OK)
		return e;
	digest_of(out->data, out->len, &m->info.digest);
	buf_put(out, m->info.digest.b, DIGEST_BYTES);
	assert(out->failed || out->len == m->root_bytes);
	return buf_check(out);
}

enum err manifest_file(struct manifest *m, const struct crypt *crypt, struct buf *blocks,
		       struct buf *all)
{
	enum err e;

	if ((e = manifest_prepare(m, crypt)) != ERR_OK ||
	    (e = manifest_seal_blocks(m, blocks)) != ERR_OK ||
	    (e = manifest_encode(m, all)) != ERR_OK)
		return e;
	buf_put(all, blocks->data, blocks->len);
	return buf_check(all);
}

/* ---- decoding ---- */

static enum err bad(const char *why)
{
	return err_note(ERR_CORRUPT, 0, "manifest: %s", why);
}

/* A name padded with zeros to ARCHIVE_NAME_BYTES. */
static bool name_get(struct rd *r, char out[ARCHIVE_NAME_BYTES])
{
	const uint8_t *p = rd_bytes(r, ARCHIVE_NAME_BYTES);
	size_t len;

	if (!p)
		return false;
	memcpy(out, p, ARCHIVE_NAME_BYTES);
	len = strnlen(out, ARCHIVE_NAME_BYTES);
	return len < ARCHIVE_NAME_BYTES && bytes_zero(p + len, ARCHIVE_NAME_BYTES - len) &&
	       layout_name_ok(out);
}

/* All of it or nothing of it. */
static enum err parent_get(struct rd *r, struct checkpoint_parent *out)
{
	const uint8_t *p = rd_bytes(r, ARCHIVE_NAME_BYTES + 8 + DIGEST_BYTES);
	struct rd again;

	if (!p)
		return bad("wrong length");
	memset(out, 0, sizeof(*out));
	if (bytes_zero(p, ARCHIVE_NAME_BYTES + 8 + DIGEST_BYTES))
		return ERR_OK;
	again = rd_make(p, ARCHIVE_NAME_BYTES);
	out->number = le64_get(p + ARCHIVE_NAME_BYTES);
	memcpy(out->digest.b, p + ARCHIVE_NAME_BYTES + 8, DIGEST_BYTES);
	if (!name_get(&again, out->name) || out->number == 0 ||
	    bytes_zero(out->digest.b, DIGEST_BYTES))
		return bad("malformed parent or origin");
	return ERR_OK;
}

static enum err clear_get(const uint8_t *p, size_t len, const struct crypt *crypt,
			  struct manifest *m)
{
	struct rd r = rd_make(p, MANIFEST_CLEAR_BYTES);
	const uint8_t *magic = rd_bytes(&r, 8), *id;
	uint32_t version = rd_le32(&r);

	if (!magic || memcmp(magic, MANIFEST_MAGIC, 8) != 0)
		return bad("no such thing here");
	if (version != FORMAT_VERSION)
		return err_note(ERR_VERSION, 0, "manifest: format version %08x", version);
	m->root_bytes = rd_le32(&r);
	id = rd_bytes(&r, 16);
	if (!id || m->root_bytes != len)
		return bad("wrong length");
	memcpy(m->archive_id, id, 16);
	if (!name_get(&r, m->info.name))
		return bad("malformed name");
	m->info.number = rd_le64(&r);
	m->epoch = rd_le32(&r);
	if (rd_le32(&r) != 0 || !(id = rd_bytes(&r, 16)) || (!m->epoch && !bytes_zero(id, 16)))
		return bad("reserved field is not zero");
	memcpy(m->id, id, 16);
	memcpy(m->clear, p, MANIFEST_CLEAR_BYTES);
	return crypt_manifest_key(crypt, m->epoch, m->id, &m->key);
}

static enum err head_get(struct rd *r, size_t len, struct manifest *m)
{
	struct checkpoint_info *i = &m->info;
	uint32_t label;
	const uint8_t *p;
	enum err e;

	i->created_ns = rd_le64(r);
	i->nonzero_bytes = rd_le64(r);
	i->stored_bytes = rd_le64(r);
	m->n_streams = i->streams = rd_le32(r);
	m->n_packs = rd_le32(r);
	m->n_blocks = rd_le32(r);
	label = rd_le32(r);
	if ((e = parent_get(r, &m->info.parent)) != ERR_OK ||
	    (e = parent_get(r, &m->info.origin)) != ERR_OK)
		return e;
	if (label >= sizeof(i->label) || m->n_streams > MANIFEST_STREAMS_MAX || i->number == 0 ||
	    root_size(m, label) != len)
		return bad("counts and length disagree");
	p = rd_bytes(r, label);
	if (label && (!p || memchr(p, 0, label)))
		return bad("malformed label");
	if (label)
		memcpy(i->label, p, label);
	return rd_check(r, "manifest");
}

static enum err streams_get(struct rd *r, struct manifest *m)
{
	uint64_t blocks = 0;

	for (uint32_t i = 0; i < m->n_streams; i++) {
		struct manifest_stream *s = &m->stream[i];

		if (!name_get(r, s->info.name))
			return bad("malformed stream name");
		for (uint32_t j = 0; j < i; j++)
			if (strcmp(m->stream[j].info.name, s->info.name) == 0)
				return bad("two streams of one name");
		s->info.length = rd_le64(r);
		s->pages = (s->info.length + PAGE_BYTES - 1) / PAGE_BYTES;
		s->nonzero_pages = rd_le64(r);
		s->blocks = rd_le32(r);
		blocks += s->blocks;
		if (s->info.length > MANIFEST_LENGTH_MAX || s->nonzero_pages > s->pages)
			return bad("impossible stream");
		m->info.logical_bytes += s->info.length; /* at most 2^60 more: no wrap */
		if (m->info.logical_bytes > MANIFEST_TOTAL_MAX)
			return bad("impossible streams");
	}
	return blocks == m->n_blocks ? ERR_OK : bad("streams and blocks disagree");
}

static enum err blocks_get(struct rd *r, struct manifest *m)
{
	uint32_t i = 0, extra = (uint32_t)crypt_overhead(&m->key);

	for (uint32_t s = 0; s < m->n_streams; s++) {
		uint64_t after = 0;

		for (uint32_t n = m->stream[s].blocks; n; n--, i++) {
			struct manifest_block *b = &m->block[i];
			const uint8_t *digest;

			b->first = rd_le64(r);
			b->end = rd_le64(r);
			b->bytes = rd_le32(r);
			b->runs = rd_le32(r);
			digest = rd_bytes(r, DIGEST_BYTES);
			if (!digest || b->first < after || b->end <= b->first ||
			    b->end > m->stream[s].pages || b->bytes < extra ||
			    b->bytes - extra > RUNS_BLOCK_MAX || b->runs == 0 ||
			    b->runs > (b->bytes - extra) / RUN_MIN_BYTES)
				return bad("impossible block");
			memcpy(b->digest.b, digest, DIGEST_BYTES);
			after = b->end;
		}
	}
	return ERR_OK;
}

static enum err tables_get(struct rd *r, struct manifest *m)
{
	enum err e;

	m->stream = calloc(m->n_streams + 1u, sizeof(*m->stream));
	m->pack = calloc(m->n_packs + 1u, sizeof(*m->pack));
	m->block = calloc(m->n_blocks + 1u, sizeof(*m->block));
	if (!m->stream || !m->pack || !m->block)
		return err_note(ERR_NOMEM, 0, "read a manifest: out of memory");
	if ((e = streams_get(r, m)) != ERR_OK)
		return e;
	for (uint32_t i = 0; i < m->n_packs; i++)
		if ((e = pack_ref_get(r, &m->pack[i])) != ERR_OK)
			return e;
	if ((e = blocks_get(r, m)) != ERR_OK)
		return e;
	place(m);
	return rd_check(r, "manifest");
}

static enum err hidden_get(const uint8_t *p, size_t len, size_t root, struct manifest *m)
{
	struct rd r = rd_make(p, len);
	enum err e = head_get(&r, root, m);

	return e == ERR_OK ? tables_get(&r, m) : e;
}

/* The hidden part, len bytes with its seal. */
static enum err hidden_open(const uint8_t *p, size_t len, size_t root, struct manifest *m)
{
	uint8_t *open;
	enum err e;

	if (!m->epoch)
		return hidden_get(p, len, root, m);
	open = malloc(len);
	if (!open)
		return err_note(ERR_NOMEM, 0, "read a manifest: out of memory");
	e = crypt_open(&m->key, ITEM_ROOT, m->clear, sizeof(m->clear), p, len, open);
	if (e == ERR_OK)
		e = hidden_get(open, len - crypt_overhead(&m->key), root, m);
	else if (e == ERR_CORRUPT)
		e = bad("it was not written by who has the archive's keys");
	free(open);
	return e;
}

enum err manifest_decode(const void *p, size_t len, const struct crypt *crypt, struct manifest *m)
{
	struct digest d;
	enum err e;

	memset(m, 0, sizeof(*m));
	if (len < HEAD_BYTES + DIGEST_BYTES || len > ROOT_MAX_BYTES)
		return bad("wrong length");
	digest_of(p, len - DIGEST_BYTES, &d);
	if (memcmp(&d, (const uint8_t *)p + len - DIGEST_BYTES, DIGEST_BYTES) != 0)
		return bad("damaged root");
	e = clear_get(p, len, crypt, m);
	if (e == ERR_OK)
		e = hidden_open((const uint8_t *)p + MANIFEST_CLEAR_BYTES,
				len - MANIFEST_CLEAR_BYTES - DIGEST_BYTES, len, m);
	if (e != ERR_OK)
		manifest_fini(m);
	else
		m->info.digest = d;
	return e;
}

/* ---- files ---- */

static enum err read_root(int fd, const char *path, const struct crypt *crypt, struct manifest *m)
{
	uint8_t head[16];
	uint32_t len;
	uint8_t *root;
	uint64_t size;
	enum err e;

	if ((e = fs_size(fd, path, &size)) != ERR_OK)
		return e;
	if ((e = fs_read_at(fd, path, head, sizeof(head), 0)) != ERR_OK)
		return e;
	len = le32_get(head + 12);
	if (len > size || len > ROOT_MAX_BYTES)
		return bad("it is cut off");
	root = malloc(len ? len : 1);
	if (!root)
		return err_note(ERR_NOMEM, 0, "read %s: out of memory", path);
	e = fs_read_at(fd, path, root, len, 0);
	if (e == ERR_OK)
		e = manifest_decode(root, len, crypt, m);
	free(root);
	if (e == ERR_OK && m->file_bytes != size) {
		manifest_fini(m);
		e = bad("its file has the wrong length");
	}
	return e;
}

enum err manifest_load(int root, const struct crypt *crypt, const char *name, uint64_t number,
		       struct manifest *m, int *out)
{
	AUTO_FD int fd = -1;
	char path[LAYOUT_PATH_BYTES];
	enum err e;

	memset(m, 0, sizeof(*m));
	layout_manifest_path(name, number, path);
	if ((e = fs_open(root, path, O_RDONLY, 0, &fd)) != ERR_OK)
		return e;
	if ((e = read_root(fd, path, crypt, m)) != ERR_OK)
		return err_context(e, "%s", path);
	if (strcmp(m->info.name, name) != 0 || m->info.number != number ||
	    memcmp(m->archive_id, crypt_archive_id(crypt), 16) != 0) {
		manifest_fini(m);
		return err_note(ERR_CORRUPT, 0, "%s: holds another checkpoint", path);
	}
	*out = fd;
	fd = -1;
	return ERR_OK;
}

static enum err runs_check(const struct manifest *m, const struct run *run)
{
	if (run->pack >= m->n_packs ||
	    run->slot + (run->repeat ? 1 : run->count) > m->pack[run->pack].slots)
		return bad("a run lies outside of its pack");
	return ERR_OK;
}

enum err manifest_runs(const struct manifest *m, int fd, uint32_t i, struct run *runs)
{
	const struct manifest_block *b = &m->block[i];
	uint8_t bytes[RUNS_BLOCK_MAX + CIPHER_TAG_BYTES];
	char path[LAYOUT_PATH_BYTES];
	struct digest d;
	enum err e;

	layout_manifest_path(m->info.name, m->info.number, path);
	if ((e = fs_read_at(fd, path, bytes, b->bytes, b->offset)) != ERR_OK)
		return e;
	digest_of(bytes, b->bytes, &d);
	if (memcmp(&d, &b->digest, sizeof(d)) != 0)
		return err_note(ERR_CORRUPT, 0, "%s: damaged block of runs", path);
	e = crypt_open(&m->key, i + 1ull, m->clear, sizeof(m->clear), bytes, b->bytes, bytes);
	if (e == ERR_OK)
		e = runs_decode(bytes, b->bytes - crypt_overhead(&m->key), b->first, b->end, b->runs,
				runs);
	for (uint32_t k = 0; e == ERR_OK && k < b->runs; k++)
		e = runs_check(m, &runs[k]);
	return e == ERR_OK ? e : err_context(e, "%s", path);
}
