/* SPDX-License-Identifier: Apache-2.0 */
/* restore_disks: what an image's disks held, into new files; see restore.h.
 *
 * A new file is all holes, which read as zeros, so only what is not zero is written.
 * It is on its medium before the machine may run: a guest relies on what it was told to
 * be durable. */
#include "restore/restore.h"

#include <stdatomic.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/fs.h"

struct target {
	int fd;
	const char *name;
	uint64_t written;
};

static enum err place(void *arg, uint64_t offset, const void *p, size_t len)
{
	struct target *t = arg;

	t->written += len;
	return fs_write_at(t->fd, t->name, p, len, offset);
}

static enum err fill(struct source *s, const char *name, uint64_t bytes, int fd,
		     struct progress *progress, uint64_t *written)
{
	struct target t = {.fd = fd, .name = name};
	uint64_t length, size;
	enum err e = s->ops->length(s, name, &length);

	if (e == ERR_NOTFOUND)
		return err_note(ERR_CORRUPT, 0, "image: has no stream \"%s\"", name);
	if (e == ERR_OK && length != bytes)
		return err_note(ERR_CORRUPT, 0, "image: its %s has %llu bytes, its configuration says "
				"%llu", name, (unsigned long long)length, (unsigned long long)bytes);
	if (e == ERR_OK)
		e = fs_size(fd, name, &size);
	if (e == ERR_OK && size != bytes)
		e = err_note(ERR_FAILED, 0, "%s: its new file has not the disk's size", name);
	if (e == ERR_OK)
		e = s->ops->extents(s, name, progress, place, &t);
	if (e == ERR_OK)
		e = fs_sync(fd, name);
	*written += t.written;
	return e;
}

enum err restore_disks(struct source *s, const struct vm_config *config, const int *fds,
		       struct progress *progress, struct restore_disks_report *report)
{
	uint64_t start = clock_mono_ns();
	enum err e = ERR_OK;

	*report = (struct restore_disks_report){.bytes = 0};
	for (uint32_t i = 0; i < config->disk_count; i++)
		report->bytes += config->disks[i].bytes;
	if (progress)
		atomic_fetch_add(&progress->total_bytes, report->bytes);
	for (uint32_t i = 0; i < config->disk_count && e == ERR_OK; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "disk%u", config->disks[i].lun);
		e = fill(s, name, config->disks[i].bytes, fds[i], progress, &report->nonzero_bytes);
	}
	report->ns = clock_mono_ns() - start;
	return e;
}
