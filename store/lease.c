/* SPDX-License-Identifier: Apache-2.0 */
/* lease: see lease.h.
 *
 * States of a file: created -> locked -> described; the lock ends with the job, however it
 * ends.  The epoch is read when the lock is held: who does not see the file yet has set the
 * epoch before that; who sees it without its epoch takes it for the oldest.  So with the bytes of
 * leases/shared, which jobs hold that cannot make a file.  Who looks tries
 * to lock: free means dead.  Between created and locked it looks dead and may be removed; the
 * job sees that and makes another. */
#include "store/lease.h"

#include "base/bytelock.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/fs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct lease {
	int root; /* borrowed */
	int fd;
	bool own; /* a file of its own; else leases/shared, or none if fd is -1 */
	uint64_t epoch;
	char path[LAYOUT_PATH_BYTES];
};

/* ---- records ---- */

void lease_encode(const struct lease_info *info, uint8_t rec[RECORD_BYTES])
{
	record_begin(rec, LEASE_MAGIC);
	le64_put(rec + 12, info->epoch);
	le32_put(rec + 20, info->pid);
	le64_put(rec + 24, info->since_ns);
	memcpy(rec + 32, info->what, strnlen(info->what, LEASE_WHAT_BYTES - 1));
	record_seal(rec);
}

enum err lease_decode(const uint8_t rec[RECORD_BYTES], struct lease_info *info)
{
	enum err e = record_check(rec, LEASE_MAGIC, LAYOUT_LEASES);

	if (e != ERR_OK)
		return e;
	memset(info, 0, sizeof(*info));
	info->epoch = le64_get(rec + 12);
	info->pid = le32_get(rec + 20);
	info->since_ns = le64_get(rec + 24);
	memcpy(info->what, rec + 32, LEASE_WHAT_BYTES);
	if (info->what[LEASE_WHAT_BYTES - 1] != '\0' || info->epoch > LEASE_EPOCH_MAX ||
	    !bytes_zero(rec + 32 + LEASE_WHAT_BYTES, RECORD_BODY - 32 - LEASE_WHAT_BYTES))
		return err_note(ERR_CORRUPT, 0, LAYOUT_LEASES ": malformed lease");
	return ERR_OK;
}

enum err lease_epoch_read(int root, uint64_t *epoch)
{
	uint8_t rec[RECORD_BYTES];
	bool damaged;
	enum err e = record_read_twin(root, LAYOUT_EPOCH, LEASE_EPOCH_MAGIC, rec, &damaged);

	*epoch = 0;
	if (e == ERR_OK && le64_get(rec + 12) <= LEASE_EPOCH_MAX)
		*epoch = le64_get(rec + 12);
	/* The oldest of all is always safe. */
	return e == ERR_NOTFOUND || e == ERR_CORRUPT ? ERR_OK : e;
}

enum err lease_epoch_write(int root, uint64_t epoch)
{
	uint8_t rec[RECORD_BYTES];

	record_begin(rec, LEASE_EPOCH_MAGIC);
	le64_put(rec + 12, epoch);
	record_seal(rec);
	return record_write_twin(root, LAYOUT_EPOCH, rec);
}

/* ---- holding one ---- */

static enum err describe(struct lease *l, const char *what)
{
	struct lease_info info = {.epoch = l->epoch,
				  .pid = (uint32_t)getpid(),
				  .since_ns = clock_real_ns()};
	uint8_t rec[RECORD_BYTES];

	snprintf(info.what, sizeof(info.what), "%s", what);
	lease_encode(&info, rec);
	return fs_write_at(l->fd, l->path, rec, sizeof(rec), 0);
}

static enum err claim(struct lease *l, const char *what)
{
	for (unsigned tries = 0; tries < 100; tries++) {
		bool there = false;
		uint64_t id;
		enum err e = layout_random(&id, sizeof(id));

		if (e != ERR_OK)
			return e;
		layout_id_path(LAYOUT_LEASES, id, l->path);
		e = fs_open(l->root, l->path, O_RDWR | O_CREAT | O_EXCL, 0600, &l->fd);
		if (e != ERR_OK)
			return e;
		l->own = true;
		e = fs_lock(l->fd, l->path, true, false);
		if (e == ERR_OK)
			e = fs_exists(l->root, l->path, &there);
		if (e == ERR_OK && there)
			e = lease_epoch_read(l->root, &l->epoch);
		if (e == ERR_OK && there)
			return describe(l, what);
		fs_auto_close(&l->fd);
		if (e != ERR_OK && e != ERR_BUSY)
			return e;
	}
	return err_note(ERR_BUSY, 0, "take a lease: left-overs are removed all the time");
}

/* Who cannot write there holds a byte of leases/shared: that with the number of the epoch.  Here
 * too the lock comes first and then the question for the epoch; so until it is the same before and
 * after. */
static enum err hold_epoch(struct lease *l)
{
	uint64_t before;
	enum err e = lease_epoch_read(l->root, &l->epoch);

	for (unsigned tries = 0; e == ERR_OK && tries < 100; tries++) {
		before = l->epoch;
		if ((e = bytelock_hold(l->fd, l->path, before)) == ERR_OK)
			e = lease_epoch_read(l->root, &l->epoch);
		if (e == ERR_OK && l->epoch == before)
			return ERR_OK;
	}
	return e != ERR_OK ? e
			   : err_note(ERR_BUSY, 0, "take a lease: collections begin all the time");
}

static enum err join_shared(struct lease *l)
{
	enum err e;

	fs_auto_close(&l->fd);
	if (l->own && fs_unlink(l->root, l->path) != ERR_OK)
		err_clear(); /* it is not locked: the next collection removes it */
	l->own = false;
	snprintf(l->path, sizeof(l->path), LAYOUT_LEASES_SHARED);
	e = fs_open(l->root, l->path, O_RDONLY, 0, &l->fd);
	if (e == ERR_NOTFOUND) /* nobody collects where there is nothing to lock */
		return ERR_OK;
	return e == ERR_OK ? hold_epoch(l) : e;
}

enum err lease_take(int root, const char *what, struct lease **out)
{
	struct lease *l = calloc(1, sizeof(*l));
	enum err e;

	if (!l)
		return err_note(ERR_NOMEM, 0, "take a lease: out of memory");
	l->root = root;
	l->fd = -1;
	e = claim(l, what);
	if (e == ERR_AUTH || e == ERR_NOSPACE || e == ERR_NOTFOUND)
		e = join_shared(l);
	if (e != ERR_OK) {
		lease_end(l);
		return e;
	}
	*out = l;
	return ERR_OK;
}

void lease_end(struct lease *l)
{
	char why[ERR_NOTE_BYTES];

	if (!l)
		return;
	snprintf(why, sizeof(why), "%s", err_text());
	if (l->own && fs_unlink(l->root, l->path) != ERR_OK)
		(void)!err_note(ERR_OK, 0, "%s", why); /* the next collection removes it */
	fs_auto_close(&l->fd);
	free(l);
}

uint64_t lease_epoch(const struct lease *l)
{
	return l->epoch;
}

enum err lease_check(const struct lease *l)
{
	bool there = true;
	enum err e = l->own ? fs_exists(l->root, l->path, &there) : ERR_OK;

	if (e == ERR_OK && !there)
		e = err_note(ERR_BUSY, 0, "%s was taken away while it was needed: begin again",
			     l->path);
	return e;
}

/* ---- looking at those of others ---- */

/* ERR_NOTFOUND: it is dead or gone. */
static enum err look(int root, const char *path, bool clean, struct lease_info *info)
{
	AUTO_FD int fd = -1;
	uint8_t rec[RECORD_BYTES];
	size_t got;
	enum err e = fs_open(root, path, O_RDONLY, 0, &fd);

	if (e != ERR_OK)
		return e;
	e = fs_lock(fd, path, false, false);
	if (e == ERR_OK) {
		if (clean && (e = fs_unlink(root, path)) != ERR_OK && e != ERR_NOTFOUND)
			return e;
		return ERR_NOTFOUND;
	}
	if (e != ERR_BUSY)
		return e;
	memset(info, 0, sizeof(*info));
	if ((e = fs_read_some(fd, path, rec, sizeof(rec), 0, &got)) != ERR_OK)
		return e;
	if (got < sizeof(rec) || lease_decode(rec, info) != ERR_OK) {
		memset(info, 0, sizeof(*info));
		snprintf(info->what, sizeof(info->what), "a job that has just begun");
		err_clear();
	}
	return ERR_OK;
}

/* Those who hold bytes of leases/shared: the first and the last epoch among them. */
static enum err look_shared(int root, bool clean, lease_fn *fn, void *arg)
{
	AUTO_FD int fd = -1;
	struct lease_info info = {.what = "a reader that may not write to the archive, or could "
					  "not"};
	uint64_t lowest, highest;
	bool any;
	enum err e = fs_open(root, LAYOUT_LEASES_SHARED, clean ? O_RDONLY | O_CREAT : O_RDONLY, 0600,
			     &fd);

	if (e != ERR_OK)
		return e == ERR_NOTFOUND ? ERR_OK : e;
	e = bytelock_look(fd, LAYOUT_LEASES_SHARED, &any, &lowest, &highest);
	if (e != ERR_OK || !any)
		return e;
	info.epoch = lowest;
	e = fn(arg, &info);
	info.epoch = highest;
	return e == ERR_OK && highest != lowest ? fn(arg, &info) : e;
}

enum err lease_list(int root, bool clean, lease_fn *fn, void *arg)
{
	size_t n;
	char **names;
	enum err e = fs_list(root, LAYOUT_LEASES, &names, &n);

	if (e == ERR_NOTFOUND)
		return ERR_OK;
	if (e != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		struct lease_info info;
		char path[LAYOUT_PATH_BYTES];
		uint64_t id;

		if (!layout_id_parse(names[i], &id))
			continue;
		layout_id_path(LAYOUT_LEASES, id, path);
		e = look(root, path, clean, &info);
		if (e == ERR_OK)
			e = fn(arg, &info);
		else if (e == ERR_NOTFOUND)
			e = ERR_OK;
	}
	fs_names_free(names, n);
	return e == ERR_OK ? look_shared(root, clean, fn, arg) : e;
}
