/* SPDX-License-Identifier: Apache-2.0 */
/* capture: a paused, full checkpoint.  See capture.h.
 *
 * What does not change while the guest runs (configuration, boot files) goes to the
 * sink before the hold; the seal comes after it.  Under the hold a reader thread
 * copies touched memory into a few buffers while this thread hands filled ones to
 * the sink, whose own threads hash and compress.
 *
 * Order of errors: the first one is reported; giving the machine back and throwing
 * the half image away never hide it. */
#include "capture/capture.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/thread.h"
#include "capture/disk.h"

#define BLOCK_BYTES (1u << 20)
#define BLOCKS 6u

struct block {
	uint64_t offset;
	size_t len;
	uint8_t *data;
};

/* The reader thread fills what it pops from `empty` and pushes it to `full`. */
struct reading {
	const struct remote *remote;
	struct queue *empty, *full;
	struct block blocks[BLOCKS];
	struct thread thread;
	enum err result; /* the reader's, with its note; valid after the join */
	char note[ERR_NOTE_BYTES];
};

/* ---- before the hold ---- */

/* A stream whose length is known only now: the sink counts what is put into it, so the
 * whole is longer by that. */
static enum err more_stream(struct sink *s, const char *stream, uint64_t len,
			    struct progress *progress, unsigned *index)
{
	if (progress)
		atomic_fetch_add(&progress->total_bytes, len);
	return s->ops->stream(s, stream, len, index);
}

static enum err put_blob(struct sink *s, const char *stream, const void *p, size_t len,
			 struct progress *progress)
{
	unsigned index;
	enum err e = more_stream(s, stream, len, progress, &index);

	return e == ERR_OK ? s->ops->put(s, index, 0, p, len) : e;
}

static enum err put_config(struct remote *r, struct sink *s, struct disk_set *disks,
			   struct progress *progress, struct buf *json)
{
	enum err e = remote_config(r, json);

	if (e == ERR_OK)
		e = put_blob(s, "config", json->data, json->len, progress);
	return e == ERR_OK ? disk_open(disks, r, json->data, json->len) : e;
}

/* A kernel or initrd, from the worker's descriptor; which is not trusted to be what
 * it should be, so only a plain, unmoving file is read. */
static enum err put_file(struct sink *s, const char *stream, int fd, struct progress *progress)
{
	struct stat st;
	unsigned index;
	uint64_t at = 0;
	enum err e = ERR_OK;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return err_note(ERR_PEER, 0, "worker: its %s is not a file", stream);
	uint8_t *bytes = malloc(BLOCK_BYTES);
	if (!bytes)
		return err_note(ERR_NOMEM, 0, "checkpoint: out of memory");
	const uint64_t size = (uint64_t)st.st_size;
	e = more_stream(s, stream, size, progress, &index);
	while (e == ERR_OK && at < size) {
		size_t len = size - at < BLOCK_BYTES ? (size_t)(size - at) : BLOCK_BYTES;
		e = fs_read_at(fd, stream, bytes, len, at);
		if (e == ERR_OK)
			e = s->ops->put(s, index, at, bytes, len);
		at += len;
	}
	free(bytes);
	return e;
}

static enum err put_boot_files(struct remote *r, struct sink *s, struct progress *progress)
{
	AUTO_FD int kernel = -1;
	AUTO_FD int initrd = -1;
	enum err e = remote_boot_files(r, &kernel, &initrd);

	if (e == ERR_OK && kernel >= 0)
		e = put_file(s, "kernel", kernel, progress);
	if (e == ERR_OK && initrd >= 0)
		e = put_file(s, "initrd", initrd, progress);
	return e;
}

/* ---- under the hold: memory ---- */

/* ERR_CANCELLED when the other side closed the queues: it knows why. */
static enum err read_range(struct reading *g, uint64_t offset, uint64_t len)
{
	while (len > 0) {
		void *item;
		if (!queue_pop(g->empty, &item))
			return ERR_CANCELLED;
		struct block *b = item;
		b->offset = offset;
		b->len = len < BLOCK_BYTES ? (size_t)len : BLOCK_BYTES;
		enum err e = remote_read(g->remote, b->offset, b->data, b->len);
		if (e != ERR_OK)
			return e;
		offset += b->len;
		len -= b->len;
		if (!queue_push(g->full, b))
			return ERR_CANCELLED;
	}
	return ERR_OK;
}

static void reader(void *arg)
{
	struct reading *g = arg;
	uint64_t offset = 0, len;
	enum err e;

	for (;;) {
		e = remote_next_touched(g->remote, &offset, &len);
		if (e != ERR_OK || len == 0)
			break;
		e = read_range(g, offset, len);
		if (e != ERR_OK)
			break;
		offset += len;
	}
	g->result = e;
	(void)snprintf(g->note, sizeof(g->note), "%s", err_text());
	queue_close(g->full);
}

static enum err drain(struct reading *g, struct sink *s, unsigned index, struct progress *progress,
		      struct capture_report *report)
{
	uint64_t next = 0;
	void *item;
	enum err e = ERR_OK;

	while (e == ERR_OK && queue_pop(g->full, &item)) {
		struct block *b = item;
		/* The sink counts what it is given; what was never touched, we do. */
		progress_add(progress, b->offset - next, 0);
		next = b->offset + b->len;
		report->read_bytes += b->len;
		e = s->ops->put(s, index, b->offset, b->data, b->len);
		if (e == ERR_OK && !queue_push(g->empty, b))
			break;
	}
	if (e == ERR_OK)
		progress_add(progress, report->ram_bytes - next, 0);
	return e;
}

static void reading_fini(struct reading *g)
{
	for (unsigned i = 0; i < BLOCKS; i++)
		free(g->blocks[i].data);
	queue_destroy(g->empty);
	queue_destroy(g->full);
}

static enum err reading_init(struct reading *g, const struct remote *r)
{
	enum err e;

	*g = (struct reading){.remote = r};
	e = queue_create(BLOCKS, &g->empty);
	if (e == ERR_OK)
		e = queue_create(BLOCKS, &g->full);
	for (unsigned i = 0; i < BLOCKS && e == ERR_OK; i++) {
		g->blocks[i].data = malloc(BLOCK_BYTES);
		if (!g->blocks[i].data)
			e = err_note(ERR_NOMEM, 0, "checkpoint: out of memory");
		else
			(void)queue_push(g->empty, &g->blocks[i]);
	}
	if (e != ERR_OK)
		reading_fini(g);
	return e;
}

static enum err put_memory(struct reading *g, struct sink *s, struct progress *progress,
			   struct capture_report *report)
{
	unsigned index;
	enum err e = s->ops->stream(s, "ram", report->ram_bytes, &index);

	if (e == ERR_OK)
		e = thread_start(&g->thread, "read-memory", reader, g);
	if (e != ERR_OK)
		return e;
	e = drain(g, s, index, progress, report);
	queue_close(g->empty);
	queue_close(g->full);
	thread_join(&g->thread);
	if (e == ERR_OK && g->result != ERR_OK)
		e = err_note(g->result, 0, "%s", g->note);
	return e;
}

/* ---- under the hold: all of it ---- */

static enum err put_state(struct remote *r, struct sink *s, struct progress *progress,
			  struct capture_report *report)
{
	AUTO_BUF struct buf state = {0};
	enum err e = remote_save(r, &state);

	report->state_bytes = state.len;
	return e == ERR_OK ? put_blob(s, "state", state.data, state.len, progress) : e;
}

/* Held: is it still made of what was put down before? */
static enum err check_config(struct remote *r, const struct buf *before)
{
	AUTO_BUF struct buf now = {0};
	enum err e = remote_config(r, &now);

	if (e == ERR_OK && (now.len != before->len || memcmp(now.data, before->data, now.len) != 0))
		e = err_note(ERR_BUSY, 0, "its disks were changed while the checkpoint began: take "
			     "another");
	return e;
}

static enum err capture_held(struct remote *r, struct reading *g, struct disk_set *disks,
			     struct sink *s, struct progress *progress,
			     struct capture_report *report)
{
	uint64_t start = clock_mono_ns();
	enum err e = put_state(r, s, progress, report);

	report->state_ns = clock_mono_ns() - start;
	if (e != ERR_OK)
		return e;
	start = clock_mono_ns();
	e = put_memory(g, s, progress, report);
	report->memory_ns = clock_mono_ns() - start;
	if (e != ERR_OK)
		return e;
	start = clock_mono_ns();
	e = disk_put(disks, s, false, progress);
	report->disks_ns = clock_mono_ns() - start;
	return e;
}

/* Give the machine back; an earlier error stays the one that is told. */
static enum err release(struct remote *r, enum err earlier, struct capture_report *report)
{
	char note[ERR_NOTE_BYTES];

	(void)snprintf(note, sizeof(note), "%s", err_text());
	enum err e = remote_release(r, &report->pause_ns);
	return earlier == ERR_OK ? e : err_note(earlier, 0, "%s", note);
}

static enum err capture_image(struct remote *r, struct disk_set *disks, struct sink *s,
			      struct progress *progress, struct capture_report *report)
{
	AUTO_BUF struct buf config = {0};
	struct reading g;
	enum err e = put_config(r, s, disks, progress, &config);

	report->disk_bytes = disks->bytes;
	if (progress)
		atomic_fetch_add(&progress->total_bytes, disks->bytes);
	if (e == ERR_OK)
		e = put_boot_files(r, s, progress);
	if (e == ERR_OK)
		e = disk_put(disks, s, true, progress);
	if (e == ERR_OK)
		e = reading_init(&g, r);
	if (e != ERR_OK)
		return e;
	e = remote_hold(r, &report->was_running, &report->park_ns);
	if (e == ERR_OK) {
		e = check_config(r, &config);
		if (e == ERR_OK)
			e = capture_held(r, &g, disks, s, progress, report);
		e = release(r, e, report);
	}
	report->disk_read_bytes = disks->read_bytes;
	reading_fini(&g);
	return e;
}

enum err capture_run(struct remote *r, struct sink *s, const char *label,
		     struct progress *progress, struct checkpoint_info *info,
		     struct capture_report *report)
{
	char note[ERR_NOTE_BYTES];
	uint64_t start = clock_mono_ns();

	*report = (struct capture_report){.ram_bytes = remote_memory_bytes(r)};
	if (progress)
		atomic_store(&progress->total_bytes, report->ram_bytes);
	struct disk_set disks = {.count = 0};
	enum err e = capture_image(r, &disks, s, progress, report);
	disk_close(&disks);
	if (e != ERR_OK) {
		(void)snprintf(note, sizeof(note), "%s", err_text());
		s->ops->abort(s);
		return err_note(e, 0, "%s", note);
	}
	e = s->ops->commit(s, label, info);
	if (e != ERR_OK)
		return e;
	report->nonzero_bytes = info->nonzero_bytes;
	report->stored_bytes = info->stored_bytes;
	report->total_ns = clock_mono_ns() - start;
	return ERR_OK;
}
