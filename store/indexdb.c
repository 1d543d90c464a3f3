/* SPDX-License-Identifier: Apache-2.0 */
/* indexdb: LMDB tables of the index.
 *
 *   "pages"  key: 8 first bytes of the digest   value: pack (le32), slot (le32)
 *   "packs"  key: number (big-endian, so that it sorts)   value: pack_ref, 64 bytes
 *
 * Additions are sorted by key, which makes LMDB several times faster, and are not
 * synced (MDB_NOSYNC writes through the page cache): index.c does that once, at the
 * end, through base/fs.
 * Source: LMDB's lmdb.h, 0.9. */
#include "store/indexdb.h"

#include "base/bytes.h"

#include <lmdb.h>
#include <stdlib.h>
#include <string.h>

/* Address space only: room for a thousand million pages. */
#define MAP_BYTES (64ull << 30)
#define KEY_BYTES 8u
#define VALUE_BYTES 8u

struct indexdb {
	MDB_env *env;
	MDB_dbi pages, packs;
};

static enum err db_err(int rc, const char *what)
{
	if (rc > 0)
		return err_sys(rc, "%s the index", what);
	return err_note(rc == MDB_MAP_FULL ? ERR_NOSPACE : ERR_CORRUPT, 0, "%s the index: %s", what,
			mdb_strerror(rc));
}

static int open_tables(struct indexdb *db, bool writable)
{
	MDB_txn *txn;
	unsigned create = writable ? MDB_CREATE : 0;
	int rc = mdb_txn_begin(db->env, NULL, writable ? 0 : MDB_RDONLY, &txn);

	if (rc)
		return rc;
	rc = mdb_dbi_open(txn, "pages", create, &db->pages);
	if (!rc)
		rc = mdb_dbi_open(txn, "packs", create, &db->packs);
	if (!rc)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	return rc;
}

enum err indexdb_open(const char *dir, bool writable, struct indexdb **out)
{
	struct indexdb *db = calloc(1, sizeof(*db));
	unsigned flags = MDB_NOLOCK | MDB_NOTLS | MDB_NORDAHEAD;
	int rc;

	if (!db)
		return err_note(ERR_NOMEM, 0, "open the index: out of memory");
	flags |= writable ? MDB_NOSYNC : MDB_RDONLY;
	if ((rc = mdb_env_create(&db->env)) == 0 && (rc = mdb_env_set_maxdbs(db->env, 2)) == 0 &&
	    (rc = mdb_env_set_mapsize(db->env, MAP_BYTES)) == 0 &&
	    (rc = mdb_env_open(db->env, dir, flags, 0600)) == 0)
		rc = open_tables(db, writable);
	if (rc) {
		indexdb_close(db);
		return db_err(rc, "open");
	}
	*out = db;
	return ERR_OK;
}

void indexdb_close(struct indexdb *db)
{
	if (!db)
		return;
	if (db->env)
		mdb_env_close(db->env);
	free(db);
}

enum err indexdb_get(struct indexdb *db, const struct digest *digests, size_t n, uint32_t *pack,
		     uint32_t *slot)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn);

	for (size_t i = 0; !rc && i < n; i++) {
		MDB_val key = {KEY_BYTES, (void *)(uintptr_t)digests[i].b}, value;

		if (pack[i] != UINT32_MAX)
			continue;
		rc = mdb_get(txn, db->pages, &key, &value);
		if (rc == 0 && value.mv_size == VALUE_BYTES) {
			pack[i] = le32_get(value.mv_data);
			slot[i] = le32_get((const uint8_t *)value.mv_data + 4);
		}
		if (rc == MDB_NOTFOUND)
			rc = 0;
		if (rc)
			mdb_txn_abort(txn);
	}
	if (rc)
		return db_err(rc, "search");
	mdb_txn_abort(txn);
	return ERR_OK;
}

static void number_key(uint32_t number, uint8_t key[4])
{
	for (unsigned i = 0; i < 4; i++)
		key[i] = (uint8_t)(number >> (24 - 8 * i));
}

static enum err packs_from(MDB_txn *txn, MDB_dbi dbi, struct pack_ref **refs, uint32_t *count)
{
	for (;;) {
		uint8_t bytes[4];
		MDB_val key = {sizeof(bytes), bytes}, value;
		struct pack_ref *more;
		struct rd r;
		enum err e;
		int rc;

		number_key(*count, bytes);
		rc = mdb_get(txn, dbi, &key, &value);
		if (rc == MDB_NOTFOUND)
			return ERR_OK;
		if (rc)
			return db_err(rc, "search");
		more = realloc(*refs, (*count + 1u) * sizeof(*more));
		if (!more)
			return err_note(ERR_NOMEM, 0, "search the index: out of memory");
		*refs = more;
		r = rd_make(value.mv_data, value.mv_size);
		if ((e = pack_ref_get(&r, &more[*count])) != ERR_OK)
			return e;
		(*count)++;
	}
}

enum err indexdb_packs(struct indexdb *db, struct pack_ref **refs, uint32_t *count)
{
	MDB_txn *txn;
	enum err e;
	int rc = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn);

	if (rc)
		return db_err(rc, "search");
	e = packs_from(txn, db->packs, refs, count);
	mdb_txn_abort(txn);
	return e;
}

struct sorted {
	uint8_t key[KEY_BYTES];
	uint32_t slot;
};

static int by_key(const void *a, const void *b)
{
	return memcmp(a, b, KEY_BYTES);
}

static int put_pages(MDB_txn *txn, MDB_dbi dbi, const struct sorted *s, uint32_t n, uint32_t number)
{
	for (uint32_t i = 0; i < n; i++) {
		uint8_t bytes[VALUE_BYTES];
		MDB_val key = {KEY_BYTES, (void *)(uintptr_t)s[i].key}, value = {VALUE_BYTES, bytes};
		int rc;

		le32_put(bytes, number);
		le32_put(bytes + 4, s[i].slot);
		rc = mdb_put(txn, dbi, &key, &value, MDB_NOOVERWRITE);
		if (rc && rc != MDB_KEYEXIST)
			return rc;
	}
	return 0;
}

static int put_pack(MDB_txn *txn, MDB_dbi dbi, const struct pack_ref *ref, uint32_t number)
{
	uint8_t key_bytes[4], bytes[PACK_REF_BYTES];
	MDB_val key = {sizeof(key_bytes), key_bytes}, value = {sizeof(bytes), bytes};

	number_key(number, key_bytes);
	pack_ref_encode(ref, bytes);
	return mdb_put(txn, dbi, &key, &value, MDB_NOOVERWRITE);
}

enum err indexdb_add(struct indexdb *db, const struct pack_ref *ref, const struct digest *digests,
		     uint32_t number)
{
	struct sorted *s = malloc((size_t)ref->slots * sizeof(*s));
	MDB_txn *txn;
	int rc;

	if (!s)
		return err_note(ERR_NOMEM, 0, "add to the index: out of memory");
	for (uint32_t i = 0; i < ref->slots; i++) {
		memcpy(s[i].key, digests[i].b, KEY_BYTES);
		s[i].slot = i;
	}
	qsort(s, ref->slots, sizeof(*s), by_key);
	rc = mdb_txn_begin(db->env, NULL, 0, &txn);
	if (!rc) {
		rc = put_pack(txn, db->packs, ref, number);
		if (!rc)
			rc = put_pages(txn, db->pages, s, ref->slots, number);
		if (!rc)
			rc = mdb_txn_commit(txn);
		else
			mdb_txn_abort(txn);
	}
	free(s);
	return rc ? db_err(rc, "add to") : ERR_OK;
}

enum err indexdb_walk(struct indexdb *db, indexdb_fn *fn, void *arg)
{
	MDB_cursor *cursor;
	MDB_val key, value;
	MDB_txn *txn;
	enum err e = ERR_OK;
	int rc = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn);

	if (rc)
		return db_err(rc, "walk");
	rc = mdb_cursor_open(txn, db->pages, &cursor);
	if (rc) {
		mdb_txn_abort(txn);
		return db_err(rc, "walk");
	}
	while (e == ERR_OK && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
		if (key.mv_size != KEY_BYTES || value.mv_size != VALUE_BYTES)
			e = err_note(ERR_CORRUPT, 0, "walk the index: malformed entry");
		else
			e = fn(arg, key.mv_data, le32_get(value.mv_data),
			       le32_get((const uint8_t *)value.mv_data + 4));
	}
	mdb_cursor_close(cursor);
	mdb_txn_abort(txn);
	if (e == ERR_OK && rc && rc != MDB_NOTFOUND)
		return db_err(rc, "walk");
	return e;
}
