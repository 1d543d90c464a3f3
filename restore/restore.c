/* SPDX-License-Identifier: Apache-2.0 */
/* restore: an image into a new machine, eagerly.  See restore.h.
 *
 * The state is compared with the host before memory moves, and loaded after it:
 * loading may write guest memory (pages that the hypervisor keeps there), and what
 * it writes must be the last word.
 *
 * Memory is written by the threads on which the source decompresses, straight into
 * the worker; nothing is copied in between. */
#include "restore/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fs.h"
#include "hv/state.h"

#define CONFIG_MAX_BYTES (64u << 10)
#define BOOT_FILE_MAX_BYTES (4ull << 30)

/* What a missing stream means: an image without it was not made by us. */
static enum err promised(enum err e, const char *stream)
{
	if (e == ERR_NOTFOUND)
		return err_note(ERR_CORRUPT, 0, "image: has no stream \"%s\"", stream);
	return e;
}

enum err restore_config(struct source *s, struct vm_config *out)
{
	AUTO_BUF struct buf json = {0};
	uint64_t state_bytes;
	enum err e;

	config_init(out);
	e = s->ops->blob(s, "config", CONFIG_MAX_BYTES, &json);
	if (e == ERR_NOTFOUND && s->ops->length(s, "state", &state_bytes) == ERR_OK)
		return promised(e, "config");
	if (e == ERR_NOTFOUND) /* nothing is broken: files are kept in archives too */
		return err_note(ERR_USAGE, 0, "it is no machine's: `lifeboat archive export' gives its "
				"streams out");
	if (e != ERR_OK)
		return e;
	e = config_from_json(json.data, json.len, out);
	if (e == ERR_OK)
		e = config_check(out);
	if (e == ERR_USAGE) /* not this person's mistake */
		e = err_context(ERR_CORRUPT, "image: its configuration");
	return e;
}

/* ---- boot files ---- */

static enum err write_extent(void *arg, uint64_t offset, const void *p, size_t len)
{
	const int *fd = arg;

	return fs_write_at(*fd, "boot file", p, len, offset);
}

static enum err fill_file(struct source *s, const char *stream, uint64_t length, int fd)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
	enum err e = fs_truncate(fd, stream, length);

	if (e == ERR_OK)
		e = s->ops->extents(s, stream, NULL, write_extent, &fd);
	if (e == ERR_OK && fcntl(fd, F_ADD_SEALS, seals) != 0)
		e = err_sys(errno, "seal the %s", stream);
	return e;
}

/* fd -1 and ERR_OK where the image has no such stream. */
static enum err boot_file(struct source *s, const char *stream, int *out)
{
	uint64_t length;
	enum err e = s->ops->length(s, stream, &length);

	*out = -1;
	if (e == ERR_NOTFOUND)
		return ERR_OK;
	if (e == ERR_OK && length > BOOT_FILE_MAX_BYTES)
		e = err_note(ERR_CORRUPT, 0, "image: a %s of %" PRIu64 " bytes", stream, length);
	if (e != ERR_OK)
		return e;
	AUTO_FD int fd = memfd_create(stream, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return err_sys(errno, "memory file for the %s", stream);
	e = fill_file(s, stream, length, fd);
	if (e != ERR_OK)
		return e;
	*out = fd;
	fd = -1;
	return ERR_OK;
}

enum err restore_boot_files(struct source *s, int *kernel_fd, int *initrd_fd)
{
	enum err e = boot_file(s, "kernel", kernel_fd);

	*initrd_fd = -1;
	if (e == ERR_OK)
		e = boot_file(s, "initrd", initrd_fd);
	if (e != ERR_OK && *kernel_fd >= 0) {
		close(*kernel_fd);
		*kernel_fd = -1;
	}
	return e;
}

/* ---- the machine ---- */

struct filling {
	struct remote *remote;
	uint64_t placed_bytes;
};

static enum err place(void *arg, uint64_t offset, const void *p, size_t len)
{
	struct filling *f = arg;

	f->placed_bytes += len;
	return remote_write(f->remote, offset, p, len);
}

static enum err check_memory_size(struct source *s, const struct remote *r,
				  struct restore_report *report)
{
	enum err e = promised(s->ops->length(s, "ram", &report->ram_bytes), "ram");

	if (e == ERR_OK && report->ram_bytes != remote_memory_bytes(r))
		e = err_note(ERR_CORRUPT, 0, "image: its memory has %" PRIu64 " bytes, its "
			     "configuration says %" PRIu64, report->ram_bytes,
			     remote_memory_bytes(r));
	return e;
}

static enum err fill_memory(struct source *s, struct remote *r, struct progress *progress,
			    struct restore_report *report)
{
	struct filling f = {.remote = r};
	uint64_t start = clock_mono_ns();
	enum err e = s->ops->extents(s, "ram", progress, place, &f);

	report->nonzero_bytes = f.placed_bytes;
	report->memory_ns = clock_mono_ns() - start;
	return e;
}

enum err restore_run(struct source *s, struct remote *r, struct progress *progress,
		     struct restore_report *report)
{
	AUTO_BUF struct buf state = {0};
	uint64_t start = clock_mono_ns(), then;
	enum err e;

	*report = (struct restore_report){0};
	e = check_memory_size(s, r, report);
	if (e == ERR_OK)
		e = promised(s->ops->blob(s, "state", STATE_MAX_BYTES, &state), "state");
	if (e != ERR_OK)
		return e;
	report->state_bytes = state.len;
	if (progress)
		atomic_fetch_add(&progress->total_bytes, report->ram_bytes);
	then = clock_mono_ns();
	e = remote_check(r, state.data, state.len);
	report->check_ns = clock_mono_ns() - then;
	if (e == ERR_OK)
		e = fill_memory(s, r, progress, report);
	if (e != ERR_OK)
		return e;
	then = clock_mono_ns();
	e = remote_load(r, state.data, state.len);
	report->state_ns = clock_mono_ns() - then;
	report->total_ns = clock_mono_ns() - start;
	return e;
}
