/* SPDX-License-Identifier: Apache-2.0 */
/* disk: disks into a sink; see capture/disk.h.  A worker is not trusted to give a
 * descriptor that is what it should be: it has to be a file or a block device of the size
 * that the configuration says. */
#include "capture/disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fs.h"

#define PIECE_BYTES (1u << 20)

static enum err check(const struct disk_set *d, uint32_t i)
{
	struct stat st;
	uint64_t bytes;
	enum err e;

	if (fstat(d->fds[i], &st) != 0 || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
		return err_note(ERR_PEER, 0, "worker: its disk%u is no file",
				d->disks[i].lun);
	if ((e = fs_size(d->fds[i], "disk", &bytes)) != ERR_OK)
		return e;
	if (bytes != d->disks[i].bytes)
		return err_note(ERR_FAILED, 0, "disk%u: its file has %llu bytes now, the machine "
				"knows %llu: somebody changed it", d->disks[i].lun, (unsigned long long)bytes,
				(unsigned long long)d->disks[i].bytes);
	return ERR_OK;
}

enum err disk_open(struct disk_set *d, struct remote *r, const void *config, size_t len)
{
	struct vm_config c;
	enum err e;

	*d = (struct disk_set){.count = 0};
	config_init(&c);
	if ((e = config_from_json(config, len, &c)) != ERR_OK)
		return err_context(ERR_PEER, "worker");
	for (uint32_t i = 0; i < c.disk_count && e == ERR_OK; i++) {
		d->disks[i] = c.disks[i];
		d->fds[i] = -1;
		d->count++;
		d->bytes += c.disks[i].bytes;
		e = remote_disk(r, c.disks[i].lun, &d->fds[i]);
		if (e == ERR_OK)
			e = check(d, i);
	}
	config_fini(&c);
	return e;
}

void disk_close(struct disk_set *d)
{
	for (uint32_t i = 0; i < d->count; i++)
		fs_auto_close(&d->fds[i]);
	d->count = 0;
}

/* [start, end) of the disk, which is no hole. */
static enum err put_range(struct disk_set *d, uint32_t i, struct sink *s, unsigned index,
			  uint64_t start, uint64_t end, uint8_t *piece)
{
	enum err e = ERR_OK;

	while (start < end && e == ERR_OK) {
		size_t len = end - start < PIECE_BYTES ? (size_t)(end - start) : PIECE_BYTES;

		e = fs_read_at(d->fds[i], "disk", piece, len, start);
		if (e == ERR_OK)
			e = s->ops->put(s, index, start, piece, len);
		d->read_bytes += len;
		start += len;
	}
	return e;
}

static enum err put_one(struct disk_set *d, uint32_t i, struct sink *s, uint8_t *piece,
			struct progress *progress)
{
	uint64_t at = 0, start, end, bytes = d->disks[i].bytes;
	unsigned index;
	char name[16];
	enum err e;

	(void)snprintf(name, sizeof(name), "disk%u", d->disks[i].lun);
	e = s->ops->stream(s, name, bytes, &index);
	while (e == ERR_OK && at < bytes) {
		e = fs_next_data(d->fds[i], name, at, bytes, &start, &end);
		if (e != ERR_OK)
			break;
		/* The sink counts what it is given; holes, we do.  It wants whole pages. */
		start -= start % 4096;
		if (end % 4096 && end < bytes)
			end = end + 4096 - end % 4096 < bytes ? end + 4096 - end % 4096 : bytes;
		if (start < at)
			start = at;
		progress_add(progress, start - at, 0);
		e = put_range(d, i, s, index, start, end, piece);
		at = end;
		if (e == ERR_OK)
			e = progress_check(progress);
	}
	return e;
}

enum err disk_put(struct disk_set *d, struct sink *s, bool read_only, struct progress *progress)
{
	uint8_t *piece = d->count ? malloc(PIECE_BYTES) : NULL;
	enum err e = ERR_OK;

	if (d->count && !piece)
		return err_note(ERR_NOMEM, 0, "checkpoint: out of memory");
	for (uint32_t i = 0; i < d->count && e == ERR_OK; i++)
		if (d->disks[i].read_only == read_only)
			e = put_one(d, i, s, piece, progress);
	free(piece);
	return e;
}
