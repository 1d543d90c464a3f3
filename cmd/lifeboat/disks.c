/* SPDX-License-Identifier: Apache-2.0 */
/* disks: opening, locking, creating the files of disks; see disks.h.
 *
 * The order of the descriptors in a pack is that of the disks; after each whose cache is
 * "direct" comes the same file again, opened so that it bypasses the host's cache. */
#include "cmd/lifeboat/disks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/fs.h"
#include "base/units.h"
#include "hv/fdpack.h"

#define PARTIAL ".partial"

/* ---- words ---- */

/* Take one option off the end of text; false: there is none. */
static bool take_option(char *text, struct config_disk *d, enum err *e)
{
	char *comma = strrchr(text, ',');
	const char *word = comma ? comma + 1 : "";

	*e = ERR_OK;
	if (strcmp(word, "ro") == 0)
		d->read_only = true;
	else if (strncmp(word, "cache=", 6) == 0)
		*e = config_cache_parse(word + 6, &d->cache);
	else if (strncmp(word, "on-error=", 9) == 0)
		*e = config_on_error_parse(word + 9, &d->on_error);
	else
		return false;
	*comma = '\0';
	return *e == ERR_OK;
}

enum err disks_parse(struct machine *m, const char *value, const char *dir_of)
{
	struct config_disk d = {0};
	char *text;
	enum err e;

	if (m->disk_count == CONFIG_MAX_DISKS)
		return err_note(ERR_USAGE, 0, "more than %u disks", CONFIG_MAX_DISKS);
	text = strdup(value);
	if (!text)
		return err_note(ERR_NOMEM, 0, "keep a value");
	while (take_option(text, &d, &e))
		;
	if (e == ERR_OK)
		e = words_path(&m->disks[m->disk_count].path, text, dir_of);
	free(text);
	if (e != ERR_OK)
		return e;
	m->disks[m->disk_count].fd = m->disks[m->disk_count].direct_fd = -1;
	d.lun = (uint8_t)m->disk_count;
	m->config.disks[m->disk_count++] = d;
	return ERR_OK;
}

enum err disks_number(const char *text, unsigned *lun)
{
	const char *digits = strncmp(text, "disk", 4) == 0 ? text + 4 : text;
	uint64_t n = 0;

	if (units_number(digits, "number of a disk", 0, CONFIG_MAX_DISKS - 1, &n) != ERR_OK)
		return err_note(ERR_USAGE, 0, "\"%s\" is no disk: disk0 to disk%u are", text,
				CONFIG_MAX_DISKS - 1);
	*lun = (unsigned)n;
	return ERR_OK;
}

/* ---- files that are there ---- */

/* The same file again, past the host's cache. */
static enum err open_direct(struct machine_disk *d, const struct config_disk *c)
{
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", d->fd);
	d->direct_fd = open(path, (c->read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
	if (d->direct_fd < 0)
		return err_note(ERR_USAGE, errno, "disk %s: its file system cannot do cache=direct",
				d->path);
	return ERR_OK;
}

static enum err lock(const struct machine_disk *d, const struct config_disk *c)
{
	enum err e = fs_lock(d->fd, d->path, !c->read_only, false);

	if (e != ERR_BUSY)
		return e;
	return err_note(ERR_BUSY, 0, "disk %s: it is in use by another machine: a disk belongs to one, "
			"or, with \",ro\" everywhere, to several", d->path);
}

static enum err measure(const struct machine_disk *d, struct config_disk *c)
{
	struct stat st;
	enum err e;

	if (fstat(d->fd, &st) != 0)
		return err_sys(errno, "disk %s", d->path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_note(ERR_USAGE, 0, "disk %s: it is neither a file nor a block device",
				d->path);
	if ((e = fs_size(d->fd, d->path, &c->bytes)) != ERR_OK)
		return e;
	if (c->bytes == 0 || c->bytes % 512)
		return err_note(ERR_USAGE, 0, "disk %s: its %llu bytes are no disk: a raw image has a "
				"multiple of 512", d->path, (unsigned long long)c->bytes);
	return ERR_OK;
}

enum err disks_open(struct machine *m)
{
	for (unsigned i = 0; i < m->disk_count; i++) {
		struct config_disk *c = &m->config.disks[i];
		struct machine_disk *d = &m->disks[i];
		/* O_NONBLOCK: a named pipe must not hang us. */
		int flags = (c->read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK;
		enum err e = fs_open(AT_FDCWD, d->path, flags, 0, &d->fd);

		if (e != ERR_OK)
			return err_context(e, "disk");
		if ((e = measure(d, c)) != ERR_OK || (e = lock(d, c)) != ERR_OK)
			return e;
		if (c->cache == CONFIG_CACHE_DIRECT && (e = open_direct(d, c)) != ERR_OK)
			return e;
	}
	m->config.disk_count = m->disk_count;
	return ERR_OK;
}

/* ---- new ones ---- */

/* What an earlier restore, that was killed, may have left. */
static enum err remove_leftover(const char *path)
{
	AUTO_FD int fd = -1;
	enum err e = fs_open(AT_FDCWD, path, O_RDWR | O_NONBLOCK, 0, &fd);

	if (e == ERR_NOTFOUND)
		return ERR_OK;
	if (e == ERR_OK)
		e = fs_lock(fd, path, true, false);
	if (e == ERR_BUSY)
		return err_context(e, "another restore is at it");
	return e == ERR_OK ? fs_unlink(AT_FDCWD, path) : e;
}

static enum err create_one(struct machine *m, unsigned i, const char *dir)
{
	struct config_disk *c = &m->config.disks[i];
	struct machine_disk *d = &m->disks[i];
	char *partial = NULL;
	bool exists;
	enum err e;

	if (asprintf(&d->path, "%s/%s-disk%u.raw", dir, m->config.name, c->lun) < 0 ||
	    asprintf(&partial, "%s" PARTIAL, d->path) < 0) {
		free(partial);
		return err_note(ERR_NOMEM, 0, "keep a path");
	}
	e = fs_exists(AT_FDCWD, d->path, &exists);
	if (e == ERR_OK && exists)
		e = err_note(ERR_BUSY, 0, "disk%u: %s exists already: nothing is overwritten; choose "
			     "another --disk-dir or --name", c->lun, d->path);
	if (e == ERR_OK)
		e = remove_leftover(partial);
	if (e == ERR_OK)
		e = fs_open(AT_FDCWD, partial, O_RDWR | O_CREAT | O_EXCL, 0600, &d->fd);
	d->partial = e == ERR_OK;
	free(partial);
	if (e == ERR_OK)
		e = fs_lock(d->fd, d->path, !c->read_only, false);
	if (e == ERR_OK)
		e = fs_truncate(d->fd, d->path, c->bytes);
	if (e == ERR_OK && c->cache == CONFIG_CACHE_DIRECT)
		e = open_direct(d, c);
	return e;
}

enum err disks_create(struct machine *m, const char *dir)
{
	enum err e = ERR_OK;

	if (m->config.disk_count == 0)
		return ERR_OK;
	if (!dir)
		return err_note(ERR_USAGE, 0, "restore: the checkpoint has %u disk%s: say where new "
				"files for them may be made, by --disk-dir DIR", m->config.disk_count,
				m->config.disk_count == 1 ? "" : "s");
	m->disks_from_image = true;
	for (; m->disk_count < m->config.disk_count && e == ERR_OK; m->disk_count++) {
		m->disks[m->disk_count] = (struct machine_disk){.fd = -1, .direct_fd = -1};
		e = create_one(m, m->disk_count, dir);
	}
	return e;
}

static enum err keep_one(struct machine_disk *d)
{
	char *partial = NULL;
	enum err e;

	if (asprintf(&partial, "%s" PARTIAL, d->path) < 0)
		return err_note(ERR_NOMEM, 0, "keep a path");
	e = fs_rename_new(AT_FDCWD, partial, d->path);
	free(partial);
	if (e == ERR_BUSY)
		return err_note(e, 0, "disk %s: somebody made a file of that name meanwhile", d->path);
	d->partial = e != ERR_OK && d->partial;
	d->renamed = e == ERR_OK;
	return e;
}

enum err disks_keep(struct machine *m)
{
	for (unsigned i = 0; i < m->disk_count && m->disks_from_image; i++) {
		enum err e = keep_one(&m->disks[i]);

		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

/* ---- all ---- */

void disks_identify_one(struct config_disk *d, const char *name)
{
	AUTO_BUF struct buf text = {0};
	struct digest digest;

	buf_printf(&text, "lifeboat disk%u of %s", d->lun, name);
	digest_of(text.data, text.len, &digest);
	memcpy(d->id, digest.b, CONFIG_DISK_ID_BYTES);
}

void disks_identify(struct vm_config *c)
{
	for (uint32_t i = 0; i < c->disk_count; i++)
		if (bytes_zero(c->disks[i].id, CONFIG_DISK_ID_BYTES))
			disks_identify_one(&c->disks[i], c->name);
}

enum err disks_pack(const struct machine *m, int *pack)
{
	int fds[2 * CONFIG_MAX_DISKS];
	unsigned n = 0;

	_Static_assert(2 * CONFIG_MAX_DISKS <= FDPACK_MAX, "all fit into one pack");
	*pack = -1;
	for (unsigned i = 0; i < m->disk_count; i++) {
		fds[n++] = m->disks[i].fd;
		if (m->disks[i].direct_fd >= 0)
			fds[n++] = m->disks[i].direct_fd;
	}
	return n ? fdpack_make(fds, n, pack) : ERR_OK;
}

void disks_fini(struct machine *m)
{
	for (unsigned i = 0; i < m->disk_count; i++) {
		struct machine_disk *d = &m->disks[i];
		char *path = NULL;
		enum err e = ERR_OK;

		if (d->partial && asprintf(&path, "%s" PARTIAL, d->path) >= 0)
			e = fs_unlink(AT_FDCWD, path);
		else if (d->renamed && !m->kept)
			e = fs_unlink(AT_FDCWD, d->path);
		if (e != ERR_OK) /* nothing that could be done about it */
			err_clear();
		free(path);
		free(d->path);
		fs_auto_close(&d->fd);
		fs_auto_close(&d->direct_fd);
	}
	m->disk_count = 0;
}
