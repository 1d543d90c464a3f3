/* SPDX-License-Identifier: Apache-2.0 */
/* packcheck: header, directories, trailers and gaps by the caller, groups by the pool.
 *
 * A group's stored bytes are compared with their check in the directory, so that a
 * flipped bit is found even where it does not change what the group expands to. */
#include "store/packcheck.h"

#include "base/fs.h"
#include "base/thread.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum group_state { GROUP_SKIPPED, GROUP_SOUND, GROUP_CHANGED, GROUP_BAD };

struct check {
	int root, fd;
	const struct crypt *crypt;
	const struct pack_ref *ref;
	const struct packcheck_scope *scope;
	struct progress *progress;
	packcheck_fn *fn;
	void *arg;
	struct packcheck *out;
	char path[LAYOUT_PATH_BYTES];
	struct crypt_key key;
	struct pack_dir dir;

	pthread_mutex_t lock; /* all below */
	pthread_cond_t moved;
	uint32_t next;
	unsigned running;
	enum err err;
	char why[ERR_NOTE_BYTES];
	uint8_t *state; /* by group; each written by one job, read after the last */
};

struct check_job {
	struct pool_job job; /* first: found from it */
	struct check *c;
	uint8_t *stored;
};

void packcheck_fini(struct packcheck *c)
{
	free(c->bad);
	memset(c, 0, sizeof(*c));
}

static void found(struct check *c, const char *what)
{
	c->fn(c->arg, what);
}

static void found_note(struct check *c)
{
	found(c, err_text());
	err_clear();
}

static void all_bad(struct check *c)
{
	memset(c->out->bad, true, c->ref->slots);
	c->out->any_bad = true;
}

/* ---- frame: everything but the groups ---- */

/* True if e is an error of the stored bytes, which is then reported. */
static bool damage(struct check *c, enum err e)
{
	if (e != ERR_CORRUPT && e != ERR_VERSION && e != ERR_IO)
		return false;
	found_note(c);
	return true;
}

static enum err check_header(struct check *c)
{
	uint8_t rec[RECORD_BYTES];
	enum err e = fs_read_at(c->fd, c->path, rec, sizeof(rec), 0);

	if (e == ERR_OK)
		e = pack_header_check(rec, &c->ref->id, c->crypt, c->ref->epoch, c->path);
	c->out->bytes += sizeof(rec);
	return e == ERR_OK || damage(c, e) ? ERR_OK : e;
}

static enum err check_trailer(struct check *c, uint64_t offset)
{
	uint8_t rec[RECORD_BYTES], want[RECORD_BYTES];
	char text[LAYOUT_PATH_BYTES + 64];
	enum err e = fs_read_at(c->fd, c->path, rec, sizeof(rec), offset);

	c->out->bytes += sizeof(rec);
	pack_trailer_encode(c->ref, want);
	if (e == ERR_OK && memcmp(rec, want, sizeof(rec)) != 0) {
		snprintf(text, sizeof(text), "%s: damaged trailer at byte %llu", c->path,
			 (unsigned long long)offset);
		found(c, text);
	}
	return e == ERR_OK || damage(c, e) ? ERR_OK : e;
}

static enum err check_gap(struct check *c, uint64_t from, uint64_t to)
{
	uint8_t gap[RECORD_BYTES];
	char text[LAYOUT_PATH_BYTES + 64];
	enum err e = fs_read_at(c->fd, c->path, gap, (size_t)(to - from), from);

	c->out->bytes += to - from;
	if (e == ERR_OK && !bytes_zero(gap, (size_t)(to - from))) {
		snprintf(text, sizeof(text), "%s: the gap at byte %llu is not zero", c->path,
			 (unsigned long long)from);
		found(c, text);
	}
	return e == ERR_OK || damage(c, e) ? ERR_OK : e;
}

/* One copy of the directory; *sound if it is what the reference promises. */
static enum err check_dir(struct check *c, uint64_t offset, bool *sound)
{
	uint8_t *bytes = malloc(c->ref->dir_bytes);
	char text[LAYOUT_PATH_BYTES + 64];
	struct digest d;
	enum err e;

	*sound = false;
	if (!bytes)
		return err_note(ERR_NOMEM, 0, "check %s: out of memory", c->path);
	c->out->bytes += c->ref->dir_bytes;
	e = fs_read_at(c->fd, c->path, bytes, c->ref->dir_bytes, offset);
	if (e == ERR_OK) {
		digest_of(bytes, c->ref->dir_bytes, &d);
		*sound = memcmp(&d, &c->ref->dir_digest, sizeof(d)) == 0;
	}
	free(bytes);
	if (e == ERR_OK && !*sound) {
		snprintf(text, sizeof(text), "%s: damaged directory at byte %llu", c->path,
			 (unsigned long long)offset);
		found(c, text);
	}
	return e == ERR_OK || damage(c, e) ? ERR_OK : e;
}

static enum err check_dirs(struct check *c, bool *usable)
{
	bool first, second;
	enum err e;

	*usable = false;
	if ((e = check_dir(c, c->ref->dir_offset, &first)) != ERR_OK ||
	    (e = check_dir(c, pack_second_dir(c->ref), &second)) != ERR_OK || !(first || second))
		return e;
	e = crypt_pack_key(c->crypt, c->ref->epoch, &c->ref->id, &c->key);
	if (e == ERR_OK)
		e = pack_dir_read(c->fd, c->path, c->ref, &c->key, &c->dir);
	else if (e == ERR_CORRUPT)
		e = err_context(e, "%s", c->path);
	*usable = e == ERR_OK;
	return e == ERR_OK || damage(c, e) ? ERR_OK : e;
}

static enum err check_rest(struct check *c)
{
	const struct pack_ref *r = c->ref;
	uint64_t size;
	char text[LAYOUT_PATH_BYTES + 96];
	enum err e;

	if ((e = fs_size(c->fd, c->path, &size)) != ERR_OK)
		return e;
	if (size != pack_file_bytes(r)) {
		snprintf(text, sizeof(text), "%s has %llu bytes instead of %llu", c->path,
			 (unsigned long long)size, (unsigned long long)pack_file_bytes(r));
		found(c, text);
	}
	if ((e = check_header(c)) != ERR_OK ||
	    (e = check_gap(c, r->dir_offset + r->dir_bytes, pack_second_dir(r))) != ERR_OK ||
	    (e = check_gap(c, pack_second_dir(r) + r->dir_bytes, pack_trailer(r))) != ERR_OK ||
	    (e = check_trailer(c, pack_trailer(r))) != ERR_OK)
		return e;
	return check_trailer(c, pack_trailer(r) + RECORD_BYTES);
}

/* ---- groups ---- */

static enum err check_group(struct check *c, uint32_t i, uint8_t *stored, struct pool_worker *w)
{
	const struct pack_group *g = &c->dir.group[i];
	uint8_t sum[GROUP_CHECK_BYTES];
	uint32_t len;
	bool sealed;
	enum err e = fs_read_at(c->fd, c->path, stored, g->stored_bytes, g->offset);

	c->state[i] = GROUP_SOUND;
	if (e == ERR_OK) {
		group_check(stored, g->stored_bytes, sum);
		if (memcmp(sum, g->check, sizeof(sum)) != 0)
			c->state[i] = GROUP_CHANGED;
		e = pack_group_open(&c->key, g, stored, &len, &sealed);
		if (e == ERR_OK)
			e = group_decode(w->codec, stored, len, g->codec, g->pages, w->scratch);
	}
	if (e != ERR_OK && e != ERR_CORRUPT && e != ERR_IO)
		return e;
	for (unsigned k = 0; k < g->pages; k++) {
		if (e != ERR_OK || !crypt_page_is(c->crypt, w->scratch + (size_t)k * PAGE_BYTES,
						  &c->dir.digest[g->first_slot + k])) {
			c->out->bad[g->first_slot + k] = true;
			c->state[i] = GROUP_BAD;
		}
	}
	err_clear();
	progress_add(c->progress, g->stored_bytes, (uint64_t)g->pages * PAGE_BYTES);
	return progress_check(c->progress);
}

/* The same choice for the same seed, whatever the number of threads. */
static bool drawn(const struct check *c, uint32_t i)
{
	uint64_t z = c->scope->seed ^ le64_get(c->ref->id.b) ^ le64_get(c->ref->id.b + 8);

	if (c->scope->sample_millionths == 0)
		return true;
	z = (z + i + 1) * 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (z ^ z >> 31) % 1000000 < c->scope->sample_millionths;
}

static bool wanted(const struct check *c, uint32_t i)
{
	const struct pack_group *g = &c->dir.group[i];
	bool any = !c->scope->slots;

	for (uint32_t k = g->first_slot; !any && k < g->first_slot + g->pages; k++)
		any = c->scope->slots[k / 8] >> k % 8 & 1;
	return any && drawn(c, i);
}

static bool take(struct check *c, uint32_t *i)
{
	AUTO_LOCK(&c->lock);
	while (c->err == ERR_OK && c->next < c->dir.groups) {
		*i = c->next++;
		if (wanted(c, *i))
			return true;
	}
	return false;
}

static void groups_run(struct pool_job *job, struct pool_worker *w)
{
	struct check_job *j = (struct check_job *)(void *)job;
	struct check *c = j->c;
	uint32_t i;

	while (take(c, &i)) {
		enum err e = check_group(c, i, j->stored, w);

		if (e != ERR_OK) {
			AUTO_LOCK(&c->lock);
			c->err = e;
			snprintf(c->why, sizeof(c->why), "%s", err_text());
		}
	}
	pthread_mutex_lock(&c->lock);
	c->running--;
	pthread_cond_signal(&c->moved);
	pthread_mutex_unlock(&c->lock);
}

static enum err run_jobs(struct check *c, struct pool *pool, struct check_job *jobs, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		jobs[i].c = c;
		jobs[i].job.run = groups_run;
		jobs[i].stored = malloc(GROUP_STORED_MAX);
		if (!jobs[i].stored)
			return err_note(ERR_NOMEM, 0, "check %s: out of memory", c->path);
	}
	c->running = n;
	for (unsigned i = 0; i < n; i++)
		pool_submit(pool, &jobs[i].job, false);
	pthread_mutex_lock(&c->lock);
	while (c->running)
		pthread_cond_wait(&c->moved, &c->lock);
	pthread_mutex_unlock(&c->lock);
	return c->err == ERR_OK ? ERR_OK : err_note(c->err, 0, "%s", c->why);
}

static void report_groups(struct check *c)
{
	char text[LAYOUT_PATH_BYTES + 96];

	for (uint32_t i = 0; i < c->dir.groups; i++) {
		const struct pack_group *g = &c->dir.group[i];

		if (c->state[i] == GROUP_SKIPPED)
			continue;
		c->out->bytes += g->stored_bytes;
		c->out->any_bad |= c->state[i] == GROUP_BAD;
		for (uint32_t k = 0; k < g->pages; k++)
			c->out->pages += !c->out->bad[g->first_slot + k];
		if (c->state[i] != GROUP_CHANGED)
			continue;
		snprintf(text, sizeof(text),
			 "%s: the group at byte %llu is not what was written, though its pages are",
			 c->path, (unsigned long long)g->offset);
		found(c, text);
	}
}

static enum err check_groups(struct check *c, struct pool *pool)
{
	unsigned n = pool_threads(pool);
	struct check_job *jobs = calloc(n, sizeof(*jobs));
	enum err e;

	c->state = calloc(c->dir.groups, 1);
	if (jobs && c->state)
		e = run_jobs(c, pool, jobs, n);
	else
		e = err_note(ERR_NOMEM, 0, "check %s: out of memory", c->path);
	if (e == ERR_OK)
		report_groups(c);
	for (unsigned i = 0; jobs && i < n; i++)
		free(jobs[i].stored);
	free(jobs);
	free(c->state);
	return e;
}

static enum err check_all(struct check *c, struct pool *pool)
{
	bool usable = false;
	enum err e = fs_open(c->root, c->path, O_RDONLY, 0, &c->fd);

	if (e == ERR_NOTFOUND) {
		e = err_note(ERR_CORRUPT, 0, "%s is missing", c->path);
	}
	if (e != ERR_OK) {
		all_bad(c);
		return damage(c, e) ? ERR_OK : e;
	}
	if ((e = check_rest(c)) != ERR_OK || (e = check_dirs(c, &usable)) != ERR_OK)
		return e;
	if (!usable) {
		all_bad(c);
		return ERR_OK;
	}
	e = check_gap(c, c->dir.data_end, c->ref->dir_offset);
	return e == ERR_OK ? check_groups(c, pool) : e;
}

enum err packcheck(int root, const struct crypt *crypt, struct pool *pool,
		   struct progress *progress, const struct pack_ref *ref,
		   const struct packcheck_scope *scope, packcheck_fn *fn, void *arg,
		   struct packcheck *out)
{
	struct check c = {.root = root, .fd = -1, .crypt = crypt, .ref = ref,
			  .scope = scope, .progress = progress, .fn = fn, .arg = arg, .out = out};
	enum err e;

	memset(out, 0, sizeof(*out));
	out->bad = calloc(ref->slots, sizeof(*out->bad));
	if (!out->bad)
		return err_note(ERR_NOMEM, 0, "check a pack: out of memory");
	pthread_mutex_init(&c.lock, NULL);
	pthread_cond_init(&c.moved, NULL);
	layout_pack_path(&ref->id, c.path);
	e = check_all(&c, pool);
	fs_auto_close(&c.fd);
	pack_dir_fini(&c.dir);
	crypt_key_wipe(&c.key);
	pthread_cond_destroy(&c.moved);
	pthread_mutex_destroy(&c.lock);
	if (e != ERR_OK)
		packcheck_fini(out);
	return e;
}
