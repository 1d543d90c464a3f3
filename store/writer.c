/* SPDX-License-Identifier: Apache-2.0 */
/* writer: one checkpoint in the making.
 *
 * States: OPEN -> SEALED (packs durable) -> NUMBERED -> PUBLISHED; any error
 * leads to ABORTED.  Until PUBLISHED, the temporary manifest, locked for as long as
 * we live, is the only sign of us; the packs are known to nobody.
 *
 * Order of durability, and why: the packs' bytes (pipeline), the packs' names (fsync
 * of packs/), the number (so that it is never used again), the manifest's bytes,
 * then its name, by a rename within one directory and an fsync of it.  So a
 * name that survives a power cut names only what survived as well. */
#include "store/writer.h"

#include "base/clock.h"
#include "base/fs.h"
#include "store/fence.h"
#include "store/fetch.h"
#include "store/lease.h"
#include "store/manifest.h"
#include "store/number.h"
#include "store/parent.h"
#include "store/pipeline.h"
#include "store/runlist.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct stream {
	struct archive_stream_info info;
	uint64_t next; /* offset that the next put must not be below */
	struct runlist runs;
};

struct archive_writer {
	struct archive *a;
	struct progress *progress;
	char name[ARCHIVE_NAME_BYTES];
	struct writer_id id;
	struct lease *lease;
	struct index *index; /* borrowed from a */
	int temp; /* the locked temporary manifest */
	char temp_path[LAYOUT_PATH_BYTES];
	struct pipeline *pipeline;
	struct parent *parent; /* NULL: none */
	struct parent_view view;
	struct fetch *fetch; /* NULL until a page of the parent is stored again */
	uint8_t *again;	     /* GROUP_BYTES for that */
	struct stream *streams;
	uint32_t n_streams;
	uint64_t nonzero_bytes;
	struct checkpoint_parent origin;
	uint64_t created_ns; /* 0: at commit */
	bool keep_packs; /* a manifest that names them may have become durable */
};

/* ---- begin ---- */

/* Create and lock the temporary manifest; what a sweep takes for dead between is made again. */
static enum err claim(struct archive_writer *w)
{
	for (unsigned tries = 0; tries < 100; tries++) {
		bool there = false;
		enum err e = layout_random(w->id.b, sizeof(w->id.b));

		if (e != ERR_OK)
			return e;
		layout_temp_path(&w->id, w->temp_path);
		e = fs_open(w->a->root, w->temp_path, O_RDWR | O_CREAT | O_EXCL, 0600, &w->temp);
		if (e != ERR_OK)
			return e;
		e = fs_lock(w->temp, w->temp_path, true, false);
		if (e == ERR_OK)
			e = fs_exists(w->a->root, w->temp_path, &there);
		if (e == ERR_OK && there)
			return ERR_OK;
		if (e != ERR_OK && e != ERR_BUSY)
			return e;
		fs_auto_close(&w->temp);
	}
	return err_note(ERR_BUSY, 0, "begin a checkpoint: left-overs are removed all the time");
}

static enum err place(void *arg, uint32_t stream, const struct run *run)
{
	struct archive_writer *w = arg;

	return runlist_add_run(&w->streams[stream].runs, run);
}

static enum err start_pipeline(struct archive_writer *w)
{
	struct archive *a = w->a;
	struct pipeline_options opt = {
		.root = a->root, .crypt = a->crypt, .level = a->level, .writer = w->id,
		.catalog = a->catalog, .index = w->index, .parent = w->parent, .recall = true,
		.progress = w->progress, .place = place, .arg = w};
	enum err e = shared_pool(a, &opt.pool);

	return e == ERR_OK ? pipeline_create(&opt, &w->pipeline) : e;
}

static enum err begin(struct archive_writer *w, const struct checkpoint_info *parent)
{
	char what[LEASE_WHAT_BYTES];
	enum err e;

	snprintf(what, sizeof(what), "makes a checkpoint of %s", w->name);
	if ((e = lease_take(w->a->root, what, &w->lease)) != ERR_OK)
		return e;
	w->a->writers++;
	if (parent && (e = parent_open(w->a->root, w->a->crypt, parent, &w->parent)) != ERR_OK)
		return e;
	if (w->parent)
		parent_view_init(&w->view, w->parent);
	if ((e = shared_index(w->a, lease_epoch(w->lease), w->progress)) != ERR_OK ||
	    (e = claim(w)) != ERR_OK)
		return e;
	w->index = w->a->index;
	return start_pipeline(w);
}

enum err writer_create(struct archive *a, const char *name, const struct checkpoint_info *parent,
		       struct progress *progress, struct archive_writer **out)
{
	struct archive_writer *w;
	enum err e;

	if (!a->writable)
		return err_note(ERR_USAGE, 0, "the archive was opened for reading only");
	if (!layout_name_ok(name))
		return err_note(ERR_USAGE, 0, "\"%s\" is no name for a checkpoint: use 1 to 63 of "
					      "a-z, 0-9 and -, not beginning with -", name);
	w = calloc(1, sizeof(*w));
	if (w)
		w->streams = calloc(MANIFEST_STREAMS_MAX, sizeof(*w->streams));
	if (!w || !w->streams) {
		free(w);
		return err_note(ERR_NOMEM, 0, "begin a checkpoint: out of memory");
	}
	w->a = a;
	w->progress = progress;
	w->temp = -1;
	snprintf(w->name, sizeof(w->name), "%s", name);
	if ((e = begin(w, parent)) != ERR_OK) {
		writer_abort(w);
		return e;
	}
	*out = w;
	return ERR_OK;
}

/* ---- streams and data ---- */

enum err writer_stream(struct archive_writer *w, const char *stream, uint64_t length,
		       unsigned *index)
{
	struct stream *s = &w->streams[w->n_streams];
	uint64_t total = length;

	if (!layout_name_ok(stream))
		return err_note(ERR_USAGE, 0, "\"%s\" is no name for a stream", stream);
	for (uint32_t i = 0; i < w->n_streams; i++) {
		total += w->streams[i].info.length;
		if (strcmp(w->streams[i].info.name, stream) == 0)
			return err_note(ERR_USAGE, 0, "stream %s was added already", stream);
	}
	if (w->n_streams == MANIFEST_STREAMS_MAX || length > MANIFEST_LENGTH_MAX ||
	    total > MANIFEST_TOTAL_MAX)
		return err_note(ERR_USAGE, 0, "stream %s: too many streams, or too long", stream);
	snprintf(s->info.name, sizeof(s->info.name), "%s", stream);
	s->info.length = length;
	if (w->parent)
		parent_bind(w->parent, w->n_streams, stream);
	*index = w->n_streams++;
	return ERR_OK;
}

enum err writer_resize(struct archive_writer *w, unsigned index, uint64_t length)
{
	struct stream *s = &w->streams[index];

	if (index >= w->n_streams || length < s->next || length > MANIFEST_LENGTH_MAX)
		return err_note(ERR_USAGE, 0, "give stream %u a length of %llu: impossible", index,
				(unsigned long long)length);
	s->info.length = length;
	return ERR_OK;
}

void writer_origin(struct archive_writer *w, const struct checkpoint_parent *origin,
		   uint64_t created_ns)
{
	w->origin = *origin;
	w->created_ns = created_ns;
}

static enum err put_check(const struct archive_writer *w, unsigned index, uint64_t offset,
			  uint64_t len)
{
	const struct stream *s;

	if (index >= w->n_streams)
		return err_note(ERR_USAGE, 0, "put: no stream %u", index);
	s = &w->streams[index];
	if (offset % PAGE_BYTES || offset > s->info.length || len > s->info.length - offset ||
	    (len % PAGE_BYTES && offset + len != s->info.length))
		return err_note(ERR_USAGE, 0, "put to stream %s at %llu: not whole pages within "
					      "the stream",
				s->info.name, (unsigned long long)offset);
	if (offset < s->next)
		return err_note(ERR_USAGE, 0, "put to stream %s at %llu: offsets must ascend",
				s->info.name, (unsigned long long)offset);
	return ERR_OK;
}

static enum err put_page(struct archive_writer *w, unsigned index, uint64_t page,
			 const uint8_t *data, size_t len)
{
	uint8_t padded[PAGE_BYTES];

	if (len < PAGE_BYTES) {
		memcpy(padded, data, len);
		memset(padded + len, 0, PAGE_BYTES - len);
		data = padded;
	}
	return pipeline_put(w->pipeline, index, page, data);
}

enum err writer_put(struct archive_writer *w, unsigned index, uint64_t offset, const void *data,
		    size_t len)
{
	const uint8_t *p = data;
	uint64_t nonzero = 0;
	enum err e = put_check(w, index, offset, len);

	for (size_t done = 0, part; e == ERR_OK && done < len; done += part) {
		part = len - done < PAGE_BYTES ? len - done : PAGE_BYTES;
		if (bytes_zero(p + done, part))
			continue;
		if ((e = progress_check(w->progress)) != ERR_OK)
			break;
		nonzero += part;
		e = put_page(w, index, (offset + done) / PAGE_BYTES, p + done, part);
	}
	if (e != ERR_OK)
		return e;
	w->streams[index].next = offset + len;
	w->nonzero_bytes += nonzero;
	progress_add(w->progress, len, nonzero);
	return progress_check(w->progress);
}

/* ---- what the archive has ---- */

void writer_ask(struct archive_writer *w, const struct digest *digests, size_t n,
		struct index_hit *hits)
{
	index_lookup(w->index, digests, n, hits);
}

enum err writer_have(struct archive_writer *w, unsigned index, uint64_t page,
		     const struct index_hit *hit)
{
	struct run run = {.page = page, .count = 1, .pack = hit->pack, .slot = hit->slot};
	uint64_t offset = page * PAGE_BYTES, len = PAGE_BYTES;
	enum err e;

	if (index < w->n_streams && offset < w->streams[index].info.length &&
	    w->streams[index].info.length - offset < len)
		len = w->streams[index].info.length - offset;
	if ((e = put_check(w, index, offset, len)) != ERR_OK ||
	    (e = pipeline_have(w->pipeline, index, &run)) != ERR_OK)
		return e;
	w->streams[index].next = offset + len;
	w->nonzero_bytes += len;
	progress_add(w->progress, len, len);
	return ERR_OK;
}

/* ---- what the parent has ---- */

static enum err keep_check(const struct archive_writer *w, unsigned index, uint64_t offset,
			   uint64_t len)
{
	uint64_t length;
	enum err e = put_check(w, index, offset, len);

	if (e != ERR_OK)
		return e;
	if (!w->parent || !parent_length(w->parent, index, &length))
		return err_note(ERR_USAGE, 0, "keep of stream %s: it has no parent",
				w->streams[index].info.name);
	if (len % PAGE_BYTES && length != offset + len)
		return err_note(ERR_USAGE, 0, "keep of stream %s: its parent does not end there",
				w->streams[index].info.name);
	return ERR_OK;
}

/* Too far from their neighbours. */
static enum err put_again(struct archive_writer *w, unsigned index, const struct run *run)
{
	const struct catalog_pack *pack;
	uint32_t bad;
	enum err e = w->fetch ? ERR_OK : fetch_create(FETCH_DIGEST, FETCH_GROUPS, &w->fetch);

	if (e == ERR_OK && !w->again && !(w->again = malloc(GROUP_BYTES)))
		e = err_note(ERR_NOMEM, 0, "store pages again: out of memory");
	if (e == ERR_OK)
		e = catalog_get(w->a->catalog, &w->parent->m.pack[run->pack], &pack);
	if (e != ERR_OK)
		return e;
	e = fetch_pages(w->fetch, pack, run->slot, run->count, run->repeat, w->again, &bad);
	catalog_put(w->a->catalog, pack);
	for (uint32_t i = 0; e == ERR_OK && i < run->count; i++)
		e = pipeline_put(w->pipeline, index, run->page + i,
				 w->again + (size_t)i * PAGE_BYTES);
	return e;
}

/* A part of a run of the parent, within one region: group by group. */
static enum err keep_run(struct archive_writer *w, unsigned index, const struct run *run)
{
	const struct budget *plan;
	enum err e = parent_view_plan(&w->view, index, run->page, &plan);

	for (uint32_t done = 0, n; e == ERR_OK && done < run->count; done += n) {
		struct run part = *run;

		n = run->repeat ? GROUP_PAGES : GROUP_PAGES - (run->slot + done) % GROUP_PAGES;
		if (n > run->count - done)
			n = run->count - done;
		part.page += done;
		part.slot += run->repeat ? 0 : done;
		part.count = n;
		part.repeat = run->repeat && n > 1;
		e = budget_has(plan, part.pack, part.slot) && !w->parent->gone[part.pack]
			    ? pipeline_keep(w->pipeline, index, &part)
			    : put_again(w, index, &part);
	}
	return e;
}

/* Pages [page, end): the next run of the parent in them; *page is after it, its bytes are
 * added to *kept. */
static enum err keep_next(struct archive_writer *w, unsigned index, uint64_t *page, uint64_t end,
			  uint64_t *kept)
{
	const uint64_t length = w->streams[index].info.length;
	const struct run *run;
	struct run part;
	uint64_t to;
	enum err e = parent_view_run(&w->view, index, *page, &run);

	if (e != ERR_OK)
		return e;
	if (!run || run->page >= end) {
		*page = end;
		return ERR_OK;
	}
	part = *run;
	if (part.page < *page) {
		part.slot += part.repeat ? 0 : (uint32_t)(*page - part.page);
		part.page = *page;
	}
	to = (part.page / BUDGET_PAGES + 1) * BUDGET_PAGES;
	if (to > run->page + run->count)
		to = run->page + run->count;
	if (to > end)
		to = end;
	part.count = (uint32_t)(to - part.page);
	*page = to;
	*kept += (to * PAGE_BYTES < length ? to * PAGE_BYTES : length) - part.page * PAGE_BYTES;
	return keep_run(w, index, &part);
}

enum err writer_keep(struct archive_writer *w, unsigned index, uint64_t offset, uint64_t len)
{
	uint64_t page = offset / PAGE_BYTES, end = (offset + len + PAGE_BYTES - 1) / PAGE_BYTES;
	uint64_t kept = 0;
	enum err e = keep_check(w, index, offset, len);

	while (e == ERR_OK && page < end)
		if ((e = progress_check(w->progress)) == ERR_OK)
			e = keep_next(w, index, &page, end, &kept);
	if (e != ERR_OK)
		return e;
	w->streams[index].next = offset + len;
	w->nonzero_bytes += kept;
	progress_add(w->progress, len, kept);
	return progress_check(w->progress);
}

/* ---- commit ---- */

static enum err sync_dir(int root, const char *path)
{
	AUTO_FD int fd = -1;
	enum err e = fs_open(root, path, O_RDONLY | O_DIRECTORY, 0, &fd);

	return e == ERR_OK ? fs_sync_dir(fd, path) : e;
}

/* The packs of others must still be there, and ours known by their names. */
static enum err check_packs(struct archive_writer *w)
{
	uint32_t n;
	const struct pipeline_pack *packs = pipeline_packs(w->pipeline, &n);
	enum err e = fence_check(w->a->root, w->lease, packs, n);

	for (uint32_t i = 0; e == ERR_OK && i < n; i++)
		if (packs[i].ours)
			return sync_dir(w->a->root, LAYOUT_PACKS);
	return e;
}

/* Move the collected runs into the manifest's tables; blocks' bytes into data. */
static enum err fill_streams(struct archive_writer *w, struct manifest *m, struct buf *data)
{
	uint32_t block = 0;

	m->n_streams = m->info.streams = w->n_streams;
	for (uint32_t i = 0; i < w->n_streams; i++) {
		enum err e = runlist_finish(&w->streams[i].runs);

		if (e != ERR_OK)
			return e;
		m->n_blocks += w->streams[i].runs.blocks;
	}
	m->stream = calloc(m->n_streams + 1u, sizeof(*m->stream));
	m->block = calloc(m->n_blocks + 1u, sizeof(*m->block));
	if (!m->stream || !m->block)
		return err_note(ERR_NOMEM, 0, "make a manifest: out of memory");
	for (uint32_t i = 0; i < w->n_streams; i++) {
		struct runlist *l = &w->streams[i].runs;

		m->stream[i].info = w->streams[i].info;
		m->stream[i].nonzero_pages = l->pages;
		m->stream[i].blocks = l->blocks;
		if (l->blocks)
			memcpy(m->block + block, l->block, l->blocks * sizeof(*l->block));
		block += l->blocks;
		buf_put(data, l->data.data, l->data.len);
		m->info.logical_bytes += w->streams[i].info.length;
	}
	return buf_check(data);
}

static enum err fill_packs(struct archive_writer *w, struct manifest *m)
{
	uint32_t n;
	const struct pipeline_pack *packs = pipeline_packs(w->pipeline, &n);

	m->pack = calloc(n + 1u, sizeof(*m->pack));
	if (!m->pack)
		return err_note(ERR_NOMEM, 0, "make a manifest: out of memory");
	m->n_packs = n;
	for (uint32_t i = 0; i < n; i++)
		m->pack[i] = packs[i].ref;
	return ERR_OK;
}

static enum err write_manifest(struct archive_writer *w, struct manifest *m)
{
	AUTO_BUF struct buf data = {0};
	AUTO_BUF struct buf all = {0};
	enum err e;

	if ((e = fill_streams(w, m, &data)) != ERR_OK || (e = fill_packs(w, m)) != ERR_OK ||
	    (e = manifest_file(m, w->a->crypt, &data, &all)) != ERR_OK ||
	    (e = fs_write_at(w->temp, w->temp_path, all.data, all.len, 0)) != ERR_OK)
		return e;
	return fs_sync(w->temp, w->temp_path);
}

/* Give the manifest its name.  If that fails half-way the name is taken back, and
 * the packs may go only when it is sure that the name does not return. */
static enum err publish(struct archive_writer *w, const struct manifest *m)
{
	char path[LAYOUT_PATH_BYTES];
	enum err e;

	layout_manifest_path(m->info.name, m->info.number, path);
	e = fs_rename_new(w->a->root, w->temp_path, path);
	if (e == ERR_BUSY) /* the name is another checkpoint's: it stays */
		return e;
	w->keep_packs = true;
	if (e == ERR_OK)
		e = sync_dir(w->a->root, LAYOUT_MANIFESTS);
	if (e != ERR_OK) {
		char why[ERR_NOTE_BYTES];

		snprintf(why, sizeof(why), "%s", err_text());
		enum err back = fs_unlink(w->a->root, path);
		if ((back == ERR_OK || back == ERR_NOTFOUND) &&
		    sync_dir(w->a->root, LAYOUT_MANIFESTS) == ERR_OK)
			w->keep_packs = false;
		return err_note(e, 0, "%s", why);
	}
	return ERR_OK;
}

/* Others may use the new packs from now on; after a failure, when the index is opened next. */
static void tell_index(struct archive_writer *w)
{
	uint32_t n;
	const struct pipeline_pack *packs = pipeline_packs(w->pipeline, &n);
	struct pack_ref *ours = malloc((n + 1u) * sizeof(*ours));
	size_t k = 0;

	for (uint32_t i = 0; ours && i < n; i++)
		if (packs[i].ours)
			ours[k++] = packs[i].ref;
	if (ours && index_add(w->a->index, ours, k) != ERR_OK)
		err_clear();
	free(ours);
}

static void writer_free(struct archive_writer *w)
{
	fs_auto_close(&w->temp);
	pipeline_destroy(w->pipeline);
	parent_view_fini(&w->view);
	parent_close(w->parent);
	fetch_destroy(w->fetch);
	free(w->again);
	if (w->lease)
		w->a->writers--;
	lease_end(w->lease);
	for (uint32_t i = 0; i < w->n_streams; i++)
		runlist_fini(&w->streams[i].runs);
	free(w->streams);
	free(w);
}

static enum err commit(struct archive_writer *w, const char *label, struct manifest *m)
{
	enum err e;

	if ((e = pipeline_finish(w->pipeline)) != ERR_OK ||
	    (e = progress_check(w->progress)) != ERR_OK || (e = check_packs(w)) != ERR_OK ||
	    (e = number_take(w->a->root, w->a->crypt, w->name, &m->info.number)) != ERR_OK)
		return e;
	snprintf(m->info.name, sizeof(m->info.name), "%s", w->name);
	snprintf(m->info.label, sizeof(m->info.label), "%s", label);
	memcpy(m->archive_id, crypt_archive_id(w->a->crypt), sizeof(m->archive_id));
	if (w->parent)
		parent_name(w->parent, &m->info.parent);
	m->info.origin = w->origin;
	m->info.created_ns = w->created_ns ? w->created_ns : clock_real_ns();
	m->info.nonzero_bytes = w->nonzero_bytes;
	m->info.stored_bytes = pipeline_stored(w->pipeline);
	if ((e = write_manifest(w, m)) != ERR_OK)
		return e;
	return publish(w, m);
}

enum err writer_commit(struct archive_writer *w, const char *label, struct checkpoint_info *out)
{
	struct manifest m = {0};
	enum err e;

	if (!label)
		label = "";
	if (strlen(label) >= sizeof(m.info.label))
		e = err_note(ERR_USAGE, 0, "the label is longer than %zu bytes",
			     sizeof(m.info.label) - 1);
	else
		e = commit(w, label, &m);
	if (e == ERR_OK) {
		if (out)
			*out = m.info;
		tell_index(w);
		pipeline_published(w->pipeline, &m.info);
		writer_free(w);
	} else {
		writer_abort(w);
	}
	manifest_fini(&m);
	return e;
}

void writer_abort(struct archive_writer *w)
{
	char why[ERR_NOTE_BYTES];

	if (!w)
		return;
	snprintf(why, sizeof(why), "%s", err_text());
	if (w->pipeline && !w->keep_packs)
		pipeline_remove(w->pipeline);
	if (w->temp >= 0)
		(void)!fs_unlink(w->a->root, w->temp_path);
	writer_free(w);
	(void)!err_note(ERR_OK, 0, "%s", why); /* the first reason is the one that counts */
}
