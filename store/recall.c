/* SPDX-License-Identifier: Apache-2.0 */
/* recall: see recall.h.
 *
 * Blocks of BLOCK_PAGES sums go to a temporary file as the assigner leaves them; at the end
 * come the table of blocks and, at the beginning, the head, and the file gets its name.  A
 * stream that is left and returned to has more than one block for one place: each has
 * zeros where the others have sums.  The table is bound to the checkpoint by the additional
 * data of its seal, and binds the blocks by their digests: a file that was damaged or
 * exchanged is no recall. */
#include "store/recall.h"

#include "base/bytes.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/secret.h"
#include "store/listing.h"
#include "store/record.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "LBRECALL"
#define PREFIX "recall-"
#define PART ".part" /* not .tmp: those go whenever the index changes */
#define BLOCK_PAGES 4096u
#define SUM_BYTES 16u
#define BLOCK_BYTES (BLOCK_PAGES * SUM_BYTES)
#define HEAD_BOUND 12u /* bytes [12, 80) of the head are bound by the table's seal */
#define HEAD_BOUND_END 80u
#define TABLE_ROW 44u
#define TABLE_ITEM (1ull << 32)
#define BLOCKS_MAX (1u << 20) /* 16 TiB of image */

struct row {
	uint32_t stream, item;
	uint64_t block;
	uint8_t digest[DIGEST_BYTES];
};

/* One block of sums, opened. */
struct window {
	uint32_t stream;
	uint64_t block; /* UINT64_MAX: none */
	uint8_t *sums;
};

struct recall {
	int root;
	const struct crypt *crypt;
	struct group_sum_key *key; /* secret memory */

	/* the parent's */
	int fd; /* -1: none */
	struct crypt_key open_key;
	struct row *rows; /* by stream, then block */
	uint32_t n_rows;
	struct window in;
	uint8_t *stored;
	struct group_sum found;

	/* the new one */
	int temp; /* -1: given up */
	char path[LAYOUT_PATH_BYTES];
	uint8_t id[16];
	struct crypt_key seal_key;
	struct buf table;
	uint32_t n_out;
	struct window out;
	uint8_t *sealed;
};

static size_t stored_bytes(const struct crypt_key *k)
{
	return BLOCK_BYTES + crypt_overhead(k);
}

static uint64_t block_at(const struct crypt_key *k, uint32_t item)
{
	return RECORD_BYTES + (uint64_t)item * stored_bytes(k);
}

static void path_of(const char *name, char out[LAYOUT_PATH_BYTES])
{
	snprintf(out, LAYOUT_PATH_BYTES, LAYOUT_INDEX "/" PREFIX "%s", name);
}

/* ---- the parent's ---- */

static void no_parent(struct recall *r)
{
	err_clear();
	fs_auto_close(&r->fd);
	free(r->rows);
	r->rows = NULL;
	r->n_rows = 0;
}

static int by_place(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->stream != y->stream)
		return x->stream < y->stream ? -1 : 1;
	if (x->block != y->block)
		return x->block < y->block ? -1 : 1;
	return x->item < y->item ? -1 : x->item > y->item;
}

static enum err take_table(struct recall *r, const uint8_t *table)
{
	memcpy(r->key->b, table, sizeof(r->key->b));
	r->rows = calloc(r->n_rows + 1u, sizeof(*r->rows));
	if (!r->rows)
		return err_note(ERR_NOMEM, 0, "recall: out of memory");
	for (uint32_t i = 0; i < r->n_rows; i++) {
		const uint8_t *p = table + sizeof(r->key->b) + (size_t)i * TABLE_ROW;

		r->rows[i] = (struct row){.stream = le32_get(p), .block = le64_get(p + 4), .item = i};
		memcpy(r->rows[i].digest, p + 12, DIGEST_BYTES);
	}
	qsort(r->rows, r->n_rows, sizeof(*r->rows), by_place);
	return ERR_OK;
}

static enum err read_table(struct recall *r, const uint8_t head[RECORD_BYTES], const char *path)
{
	size_t len = sizeof(r->key->b) + (size_t)r->n_rows * TABLE_ROW;
	size_t stored = len + crypt_overhead(&r->open_key);
	uint8_t *table = malloc(stored);
	struct digest d;
	enum err e;

	if (!table)
		return err_note(ERR_NOMEM, 0, "recall: out of memory");
	e = fs_read_at(r->fd, path, table, stored, block_at(&r->open_key, r->n_rows));
	if (e == ERR_OK) {
		digest_of(table, stored, &d);
		e = le32_get(head + 84) == stored && memcmp(&d, head + 88, sizeof(d)) == 0
			    ? crypt_open(&r->open_key, TABLE_ITEM, head + HEAD_BOUND,
					 HEAD_BOUND_END - HEAD_BOUND, table, stored, table)
			    : ERR_CORRUPT;
	}
	if (e == ERR_OK)
		e = take_table(r, table);
	secret_wipe(table, stored);
	free(table);
	return e;
}

/* Head and table of a file, whatever checkpoint it is of. */
static enum err read_file(struct recall *r, const char *path, uint8_t head[RECORD_BYTES])
{
	enum err e;

	if ((e = fs_open(r->root, path, O_RDONLY, 0, &r->fd)) != ERR_OK ||
	    (e = fs_read_at(r->fd, path, head, RECORD_BYTES, 0)) != ERR_OK ||
	    (e = record_check(head, MAGIC, path)) != ERR_OK)
		return e;
	r->n_rows = le32_get(head + 80);
	if (memcmp(head + 12, crypt_archive_id(r->crypt), 16) != 0 || r->n_rows > BLOCKS_MAX)
		return ERR_CORRUPT;
	e = crypt_recall_key(r->crypt, le32_get(head + 76), head + 60, &r->open_key);
	return e == ERR_OK ? read_table(r, head, path) : e;
}

static enum err read_parent(struct recall *r, const struct manifest *parent)
{
	char path[LAYOUT_PATH_BYTES];
	uint8_t head[RECORD_BYTES];
	struct group_sum_key own = *r->key;
	enum err e;

	path_of(parent->info.name, path);
	e = read_file(r, path, head);
	if (e == ERR_OK && memcmp(head + 28, &parent->info.digest, DIGEST_BYTES) != 0)
		e = ERR_NOTFOUND; /* another checkpoint's */
	if (e != ERR_OK)
		*r->key = own;
	secret_wipe(&own, sizeof(own));
	return e;
}

/* The first row that is not before the place. */
static uint32_t find_row(const struct recall *r, uint32_t stream, uint64_t block)
{
	uint32_t low = 0, high = r->n_rows;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		const struct row *x = &r->rows[mid];

		if (x->stream < stream || (x->stream == stream && x->block < block))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static enum err add_block(struct recall *r, const struct row *row)
{
	struct digest d;
	enum err e = fs_read_at(r->fd, "recall", r->stored, stored_bytes(&r->open_key),
				block_at(&r->open_key, row->item));

	if (e != ERR_OK)
		return e;
	digest_of(r->stored, stored_bytes(&r->open_key), &d);
	if (memcmp(&d, row->digest, sizeof(d)) != 0)
		return ERR_CORRUPT;
	e = crypt_open(&r->open_key, row->item, NULL, 0, r->stored, stored_bytes(&r->open_key),
		       r->stored);
	for (size_t i = 0; e == ERR_OK && i < BLOCK_BYTES; i++)
		r->in.sums[i] |= r->stored[i];
	return e;
}

static void load(struct recall *r, uint32_t stream, uint64_t block)
{
	enum err e = ERR_OK;

	memset(r->in.sums, 0, BLOCK_BYTES);
	r->in.stream = stream;
	r->in.block = block;
	for (uint32_t i = find_row(r, stream, block);
	     e == ERR_OK && i < r->n_rows && r->rows[i].stream == stream && r->rows[i].block == block;
	     i++)
		e = add_block(r, &r->rows[i]);
	if (e != ERR_OK) {
		memset(r->in.sums, 0, BLOCK_BYTES);
		err_clear();
	}
}

const struct group_sum *recall_expect(struct recall *r, uint32_t stream, uint64_t page)
{
	const uint8_t *p;

	if (r->n_rows == 0)
		return NULL;
	if (r->in.stream != stream || r->in.block != page / BLOCK_PAGES)
		load(r, stream, page / BLOCK_PAGES);
	p = r->in.sums + page % BLOCK_PAGES * SUM_BYTES;
	r->found = (struct group_sum){.low = le64_get(p), .high = le64_get(p + 8)};
	return r->found.low | r->found.high ? &r->found : NULL;
}

/* ---- the new one ---- */

void recall_forget(struct recall *r)
{
	if (r->temp < 0)
		return;
	fs_auto_close(&r->temp);
	if (fs_unlink(r->root, r->path) != ERR_OK)
		err_clear(); /* it goes with the next collection */
}

static void failed(struct recall *r)
{
	log_event(LOG_WARN, "recall_not_written why=\"%s\"", err_text());
	err_clear();
	recall_forget(r);
}

static enum err write_block(struct recall *r)
{
	struct digest d;
	enum err e;

	if (r->n_out == BLOCKS_MAX)
		return err_note(ERR_FAILED, 0, "more than 16 TiB");
	e = crypt_seal(&r->seal_key, r->n_out, NULL, 0, r->out.sums, BLOCK_BYTES, r->sealed);
	if (e == ERR_OK)
		e = fs_write_at(r->temp, r->path, r->sealed, stored_bytes(&r->seal_key),
				block_at(&r->seal_key, r->n_out));
	if (e != ERR_OK)
		return e;
	digest_of(r->sealed, stored_bytes(&r->seal_key), &d);
	buf_put_le32(&r->table, r->out.stream);
	buf_put_le64(&r->table, r->out.block);
	buf_put(&r->table, d.b, DIGEST_BYTES);
	r->n_out++;
	memset(r->out.sums, 0, BLOCK_BYTES);
	return buf_check(&r->table);
}

void recall_note(struct recall *r, uint32_t stream, uint64_t page, const struct group_sum *sum)
{
	uint64_t block = page / BLOCK_PAGES;
	uint8_t *p;

	if (r->temp < 0)
		return;
	if (r->out.block != UINT64_MAX && (r->out.stream != stream || r->out.block != block) &&
	    write_block(r) != ERR_OK) {
		failed(r);
		return;
	}
	r->out.stream = stream;
	r->out.block = block;
	p = r->out.sums + page % BLOCK_PAGES * SUM_BYTES;
	le64_put(p, sum->low);
	le64_put(p + 8, sum->high);
}

/* The head's bytes that the table is bound to, and room for the rest. */
static void head_begin(const struct recall *r, const struct checkpoint_info *info,
		       uint8_t head[RECORD_BYTES])
{
	record_begin(head, MAGIC);
	memcpy(head + 12, crypt_archive_id(r->crypt), 16);
	memcpy(head + 28, &info->digest, DIGEST_BYTES);
	memcpy(head + 60, r->id, sizeof(r->id));
	le32_put(head + 76, r->seal_key.epoch);
}

static enum err finish(struct recall *r, const struct checkpoint_info *info)
{
	uint8_t head[RECORD_BYTES];
	char path[LAYOUT_PATH_BYTES];
	struct digest d;
	size_t len;
	enum err e;

	if (r->out.block != UINT64_MAX && (e = write_block(r)) != ERR_OK)
		return e;
	len = r->table.len;
	buf_put_zero(&r->table, crypt_overhead(&r->seal_key));
	if ((e = buf_check(&r->table)) != ERR_OK)
		return e;
	memcpy(r->table.data, r->key->b, sizeof(r->key->b));
	head_begin(r, info, head);
	e = crypt_seal(&r->seal_key, TABLE_ITEM, head + HEAD_BOUND, HEAD_BOUND_END - HEAD_BOUND,
		       r->table.data, len, r->table.data);
	if (e != ERR_OK)
		return e;
	digest_of(r->table.data, r->table.len, &d);
	le32_put(head + 80, r->n_out);
	le32_put(head + 84, (uint32_t)r->table.len);
	memcpy(head + 88, d.b, DIGEST_BYTES);
	record_seal(head);
	path_of(info->name, path);
	if ((e = fs_write_at(r->temp, r->path, r->table.data, r->table.len,
			     block_at(&r->seal_key, r->n_out))) != ERR_OK ||
	    (e = fs_write_at(r->temp, r->path, head, sizeof(head), 0)) != ERR_OK ||
	    (e = fs_sync(r->temp, r->path)) != ERR_OK) /* after a power cut it is whole, or not there */
		return e;
	return fs_rename(r->root, r->path, path);
}

void recall_keep(struct recall *r, const struct checkpoint_info *info)
{
	if (r->temp < 0)
		return;
	if (finish(r, info) != ERR_OK)
		failed(r);
	else
		fs_auto_close(&r->temp);
}

/* ---- making and ending ---- */

static enum err create(struct recall *r, const struct writer_id *id)
{
	int n = snprintf(r->path, sizeof(r->path), LAYOUT_INDEX "/" PREFIX);
	enum err e = layout_random(r->id, sizeof(r->id));

	for (size_t i = 0; i < sizeof(id->b); i++)
		n += snprintf(r->path + n, sizeof(r->path) - (size_t)n, "%02x", id->b[i]);
	snprintf(r->path + n, sizeof(r->path) - (size_t)n, PART);
	if (e == ERR_OK)
		e = crypt_recall_key(r->crypt, crypt_epoch(r->crypt), r->id, &r->seal_key);
	if (e == ERR_OK)
		e = fs_open(r->root, r->path, O_WRONLY | O_CREAT | O_EXCL, 0600, &r->temp);
	return e;
}

static bool stock(struct recall *r)
{
	size_t stored = BLOCK_BYTES + CIPHER_TAG_BYTES;

	r->key = secret_alloc(sizeof(*r->key));
	r->in = (struct window){.block = UINT64_MAX, .sums = malloc(BLOCK_BYTES)};
	r->out = (struct window){.block = UINT64_MAX, .sums = calloc(1, BLOCK_BYTES)};
	r->stored = malloc(stored);
	r->sealed = malloc(stored);
	buf_put_zero(&r->table, sizeof(r->key->b)); /* where the key goes */
	return r->key && r->in.sums && r->out.sums && r->stored && r->sealed;
}

enum err recall_open(int root, const struct crypt *crypt, const struct writer_id *id,
		     const struct manifest *parent, struct recall **out)
{
	struct recall *r = calloc(1, sizeof(*r));
	enum err e;

	if (!r)
		return err_note(ERR_NOMEM, 0, "begin a checkpoint: out of memory");
	r->root = root;
	r->crypt = crypt;
	r->fd = r->temp = -1;
	e = stock(r) ? layout_random(r->key->b, sizeof(r->key->b))
		     : err_note(ERR_NOMEM, 0, "begin a checkpoint: out of memory");
	if (e != ERR_OK) {
		recall_close(r);
		return e;
	}
	if (parent && read_parent(r, parent) != ERR_OK)
		no_parent(r);
	if (create(r, id) != ERR_OK)
		failed(r);
	*out = r;
	return ERR_OK;
}

static void fini(struct recall *r)
{
	fs_auto_close(&r->fd);
	secret_free(r->key, sizeof(*r->key));
	crypt_key_wipe(&r->open_key);
	crypt_key_wipe(&r->seal_key);
	buf_fini(&r->table);
	free(r->rows);
	free(r->in.sums);
	free(r->out.sums);
	free(r->stored);
	free(r->sealed);
}

void recall_close(struct recall *r)
{
	if (!r)
		return;
	recall_forget(r);
	fini(r);
	free(r);
}

const struct group_sum_key *recall_key(const struct recall *r)
{
	return r->key;
}

/* ---- all of them ---- */

static enum err verify_file(int root, const struct crypt *crypt, const char *path)
{
	struct recall r = {.root = root, .crypt = crypt, .fd = -1, .temp = -1};
	uint8_t head[RECORD_BYTES];
	uint64_t size = 0;
	enum err e = stock(&r) ? ERR_OK : err_note(ERR_NOMEM, 0, "%s: out of memory", path);

	if (e == ERR_OK)
		e = read_file(&r, path, head);
	for (uint32_t i = 0; e == ERR_OK && i < r.n_rows; i++)
		e = add_block(&r, &r.rows[i]);
	if (e == ERR_OK)
		e = fs_size(r.fd, path, &size);
	if (e == ERR_OK && size != block_at(&r.open_key, r.n_rows) + le32_get(head + 84))
		e = ERR_CORRUPT;
	fini(&r);
	if (e == ERR_NOTFOUND || e == ERR_NOMEM) /* replaced just now */
		return e == ERR_NOTFOUND ? ERR_OK : e;
	return e == ERR_OK ? e : err_note(e, 0, "%s is damaged: pages would be hashed instead", path);
}

/* Calls fn for each file, by its path. */
static enum err each(int root, enum err (*fn)(int root, const struct crypt *crypt, const char *path),
		     const struct crypt *crypt)
{
	char **files = NULL, path[LAYOUT_PATH_BYTES];
	size_t n = 0;
	enum err e = fs_list(root, LAYOUT_INDEX, &files, &n);

	if (e == ERR_NOTFOUND)
		return ERR_OK;
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		if (strncmp(files[i], PREFIX, strlen(PREFIX)) != 0 ||
		    !layout_name_ok(files[i] + strlen(PREFIX)))
			continue;
		path_of(files[i] + strlen(PREFIX), path);
		e = fn(root, crypt, path);
	}
	fs_names_free(files, n);
	return e;
}

enum err recall_verify(int root, const struct crypt *crypt)
{
	return each(root, verify_file, crypt);
}

static enum err drop(int root, const struct crypt *crypt, const char *path)
{
	(void)crypt;
	(void)!fs_unlink(root, path);
	return ERR_OK;
}

void recall_drop(int root)
{
	(void)!each(root, drop, NULL);
	err_clear();
}

static bool has_checkpoint(const struct listing_item *items, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(items[i].name, name) == 0)
			return true;
	return false;
}

/* Of a name that has gone, or of a writer: one that lives does without. */
static bool is_garbage(const char *file, const struct listing_item *items, size_t n)
{
	const char *name = file + strlen(PREFIX);
	size_t len = strlen(file);

	if (strncmp(file, PREFIX, strlen(PREFIX)) != 0 || len > 96)
		return false;
	return layout_name_ok(name) ? !has_checkpoint(items, n, name)
				    : strcmp(file + len - strlen(PART), PART) == 0;
}

void recall_prune(int root)
{
	struct listing_item *items = NULL;
	char **files = NULL, path[LAYOUT_PATH_BYTES];
	size_t n = 0, n_files = 0;

	if (fs_list(root, LAYOUT_INDEX, &files, &n_files) == ERR_OK &&
	    listing_read(root, &items, &n) == ERR_OK)
		for (size_t i = 0; i < n_files; i++)
			if (is_garbage(files[i], items, n)) {
				path_of(files[i] + strlen(PREFIX), path);
				(void)!fs_unlink(root, path);
			}
	err_clear();
	fs_names_free(files, n_files);
	free(items);
}

uint64_t recall_bytes(int root)
{
	char **files, path[LAYOUT_PATH_BYTES];
	uint64_t sum = 0, size;
	size_t n;

	if (fs_list(root, LAYOUT_INDEX, &files, &n) != ERR_OK) {
		err_clear();
		return 0;
	}
	for (size_t i = 0; i < n; i++) {
		AUTO_FD int fd = -1;

		if (strncmp(files[i], PREFIX, strlen(PREFIX)) != 0 || strlen(files[i]) > 96)
			continue;
		snprintf(path, sizeof(path), LAYOUT_INDEX "/%s", files[i]);
		if (fs_open(root, path, O_RDONLY, 0, &fd) == ERR_OK &&
		    fs_size(fd, path, &size) == ERR_OK)
			sum += size;
	}
	err_clear();
	fs_names_free(files, n);
	return sum;
}
