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

#define HEAD_BYTES 360u
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
	memset(m, 0, sizeof(*m));
}

static uint64_t root_size(const struct manifest *m, size_t label)
{
	return HEAD_BYTES + label + (uint64_t)m->n_streams * STREAM_BYTES +
	       (uint64_t)m->n_packs * PACK_REF_BYTES + (uint64_t)m->n_blocks * BLOCK_BYTES +
	       DIGEST_BYTES;
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

static void head_put(const struct manifest *m, size_t label, struct buf *b)
{
	buf_put(b, MANIFEST_MAGIC, 8);
	buf_put_le32(b, FORMAT_VERSION);
	buf_put_le32(b, m->root_bytes);
	buf_put(b, m->archive_id, 16);
	buf_put(b, m->info.name, ARCHIVE_NAME_BYTES);
	buf_put_le64(b, m->info.number);
	buf_put_le64(b, m->info.created_ns);
	buf_put_le64(b, m->info.nonzero_bytes);
	buf_put_le64(b, m->info.stored_bytes);
	buf_put_le32(b, m->n_streams);
	buf_put_le32(b, m->n_packs);
	buf_put_le32(b, m->n_blocks);
	buf_put_le32(b, (uint32_t)label);
	buf_put_le64(b, 0); /* key of the encryption: none */
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

enum err manifest_encode(struct manifest *m, struct buf *out)
{
	size_t label = strnlen(m->info.label, sizeof(m->info.label) - 1);
	uint64_t size = root_size(m, label);
	enum err e;

	if (size > ROOT_MAX_BYTES)
		return err_note(ERR_FAILED, 0, "the manifest grows beyond %u MiB: the checkpoint "
				"has too many streams, packs or runs", ROOT_MAX_BYTES >> 20);
	m->root_bytes = (uint32_t)size;
	place(m);
	buf_clear(out);
	head_put(m, label, out);
	tables_put(m, out);
	if ((e = buf_check(out)) != ERR_OK)
		return e;
	digest_of(out->data, out->len, &m->info.digest);
	buf_put(out, m->info.digest.b, DIGEST_BYTES);
	assert(out->failed || out->len == m->root_bytes);
	return buf_check(out);
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

static enum err head_get(struct rd *r, size_t len, struct manifest *m)
{
	struct checkpoint_info *i = &m->info;
	uint32_t label, version;
	const uint8_t *p;
	enum err e;

	p = rd_bytes(r, 8);
	if (!p || memcmp(p, MANIFEST_MAGIC, 8) != 0)
		return bad("no such thing here");
	version = rd_le32(r);
	if (version != FORMAT_VERSION)
		return err_note(ERR_VERSION, 0, "manifest: format version %08x", version);
	m->root_bytes = rd_le32(r);
	p = rd_bytes(r, 16);
	if (!p || m->root_bytes != len)
		return bad("wrong length");
	memcpy(m->archive_id, p, 16);
	if (!name_get(r, i->name))
		return bad("malformed name");
	i->number = rd_le64(r);
	i->created_ns = rd_le64(r);
	i->nonzero_bytes = rd_le64(r);
	i->stored_bytes = rd_le64(r);
	m->n_streams = i->streams = rd_le32(r);
	m->n_packs = rd_le32(r);
	m->n_blocks = rd_le32(r);
	label = rd_le32(r);
	if (rd_le64(r) != 0)
		return err_note(ERR_VERSION, 0, "manifest: it is encrypted");
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
		m->info.logical_bytes += s->info.length;
	}
	return blocks == m->n_blocks ? ERR_OK : bad("streams and blocks disagree");
}

static enum err blocks_get(struct rd *r, struct manifest *m)
{
	uint32_t i = 0;

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
			    b->end > m->stream[s].pages || b->bytes > RUNS_BLOCK_MAX ||
			    b->runs == 0 || b->runs > b->bytes / RUN_MIN_BYTES)
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

enum err manifest_decode(const void *p, size_t len, struct manifest *m)
{
	struct rd r;
	enum err e;

	memset(m, 0, sizeof(*m));
	if (len < HEAD_BYTES + DIGEST_BYTES || len > ROOT_MAX_BYTES)
		return bad("wrong length");
	digest_of(p, len - DIGEST_BYTES, &m->info.digest);
	if (memcmp(&m->info.digest, (const uint8_t *)p + len - DIGEST_BYTES, DIGEST_BYTES) != 0)
		return bad("damaged root");
	r = rd_make(p, len - DIGEST_BYTES);
	e = head_get(&r, len, m);
	if (e == ERR_OK)
		e = tables_get(&r, m);
	if (e != ERR_OK)
		manifest_fini(m);
	return e;
}

/* ---- files ---- */

static enum err read_root(int fd, const char *path, struct manifest *m)
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
		e = manifest_decode(root, len, m);
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
	if ((e = read_root(fd, path, m)) != ERR_OK)
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
	uint8_t bytes[RUNS_BLOCK_MAX];
	char path[LAYOUT_PATH_BYTES];
	struct digest d;
	enum err e;

	layout_manifest_path(m->info.name, m->info.number, path);
	if ((e = fs_read_at(fd, path, bytes, b->bytes, b->offset)) != ERR_OK)
		return e;
	digest_of(bytes, b->bytes, &d);
	if (memcmp(&d, &b->digest, sizeof(d)) != 0)
		return err_note(ERR_CORRUPT, 0, "%s: damaged block of runs", path);
	e = runs_decode(bytes, b->bytes, b->first, b->end, b->runs, runs);
	for (uint32_t k = 0; e == ERR_OK && k < b->runs; k++)
		e = runs_check(m, &runs[k]);
	return e == ERR_OK ? e : err_context(e, "%s", path);
}
