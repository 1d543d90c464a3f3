/* SPDX-License-Identifier: Apache-2.0 */
/* verify: read everything, and say of all damage whose data it is.
 *
 * Manifests first, then every pack that a manifest names: what a writer publishes
 * meanwhile is not looked at, and what it was looked at is durable.  Pages of a
 * damaged pack are traced back through the runs of all checkpoints.
 *
 * Of one checkpoint alone: its manifest, and of its packs all but the groups that it does not
 * need.  A sample leaves out groups only; it is the same for the same seed. */
#include "store/verify.h"

#include "base/fs.h"
#include "store/settings.h"
#include "store/cursor.h"
#include "store/forwardcheck.h"
#include "store/keyring.h"
#include "store/listing.h"
#include "store/manifest.h"
#include "store/number.h"
#include "store/packcheck.h"
#include "store/pin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct verification {
	struct archive *a;
	const struct archive_verify_options *opt;
	struct progress *progress;
	archive_damage_fn *fn;
	void *arg;
	struct archive_verify_result *result;
	struct listing_item *items;
	size_t n_items;
};

static void report(struct verification *v, const struct archive_damage *d)
{
	v->result->damages++;
	if (v->fn)
		v->fn(v->arg, d);
}

/* Report the current note; ref may be NULL or "". */
static void report_note(struct verification *v, const char *ref)
{
	struct archive_damage d = {.length = 0};

	snprintf(d.checkpoint, sizeof(d.checkpoint), "%s", ref ? ref : "");
	snprintf(d.what, sizeof(d.what), "%s", err_text());
	err_clear();
	report(v, &d);
}

static bool is_damage(enum err e)
{
	return e == ERR_CORRUPT || e == ERR_VERSION || e == ERR_IO;
}

static void range_begin(struct archive_damage *d, const struct manifest *m, uint32_t stream,
			const char *what)
{
	memset(d, 0, sizeof(*d));
	manifest_ref_text(&m->info, d->checkpoint);
	snprintf(d->stream, sizeof(d->stream), "%s", m->stream[stream].info.name);
	snprintf(d->what, sizeof(d->what), "%s", what);
}

/* Pages [first, end) of a stream, cut at its length. */
static void range_report(struct verification *v, const struct manifest *m, uint32_t stream,
			 struct archive_damage *d, uint64_t first, uint64_t end)
{
	uint64_t length = m->stream[stream].info.length;

	d->offset = first * PAGE_BYTES;
	d->length = (end * PAGE_BYTES < length ? end * PAGE_BYTES : length) - d->offset;
	report(v, d);
}

/* ---- manifests ---- */

static enum err check_block(struct verification *v, const struct manifest *m, int fd,
			    uint32_t stream, uint32_t block, uint64_t *pages)
{
	const struct manifest_block *b = &m->block[block];
	struct run *runs = malloc(b->runs * sizeof(*runs));
	struct archive_damage d;
	enum err e;

	if (!runs)
		return err_note(ERR_NOMEM, 0, "check a manifest: out of memory");
	e = manifest_runs(m, fd, block, runs);
	v->result->bytes_read += b->bytes;
	for (uint32_t i = 0; e == ERR_OK && i < b->runs; i++)
		*pages += runs[i].count;
	free(runs);
	if (!is_damage(e))
		return e;
	range_begin(&d, m, stream, err_text());
	range_report(v, m, stream, &d, b->first, b->end);
	*pages = UINT64_MAX / 2; /* unknown from here on */
	return ERR_OK;
}

static enum err check_stream(struct verification *v, const struct manifest *m, int fd,
			     uint32_t stream)
{
	const struct manifest_stream *s = &m->stream[stream];
	struct archive_damage d;
	uint64_t pages = 0;

	for (uint32_t i = 0; i < s->blocks; i++) {
		enum err e = check_block(v, m, fd, stream, s->first_block + i, &pages);

		if (e != ERR_OK)
			return e;
	}
	if (pages < UINT64_MAX / 2 && pages != s->nonzero_pages) {
		range_begin(&d, m, stream, "its runs do not cover as many pages as they should");
		range_report(v, m, stream, &d, 0, s->pages);
	}
	return ERR_OK;
}

static enum err check_manifest(struct verification *v, const struct listing_item *item)
{
	AUTO_FD int fd = -1;
	char ref[MANIFEST_REF_BYTES];
	struct manifest m;
	enum err e = manifest_load(v->a->root, v->a->crypt, item->name, item->number, &m, &fd);

	if (e == ERR_NOTFOUND)
		return ERR_OK; /* taken back since it was listed */
	v->result->checkpoints++;
	if (is_damage(e)) {
		snprintf(ref, sizeof(ref), "%s@%llu", item->name, (unsigned long long)item->number);
		report_note(v, ref);
		return ERR_OK;
	}
	if (e != ERR_OK)
		return e;
	v->result->bytes_read += m.root_bytes;
	for (uint32_t i = 0; e == ERR_OK && i < m.n_streams; i++)
		e = check_stream(v, &m, fd, i);
	manifest_fini(&m);
	return e;
}

static enum err one_item(struct verification *v)
{
	v->items = calloc(1, sizeof(*v->items));
	if (!v->items)
		return err_note(ERR_NOMEM, 0, "check a checkpoint: out of memory");
	memcpy(v->items->name, v->opt->only->name, sizeof(v->items->name));
	v->items->number = v->opt->only->number;
	v->n_items = 1;
	return ERR_OK;
}

static enum err check_manifests(struct verification *v)
{
	enum err e = v->opt->only ? one_item(v) : listing_read(v->a->root, &v->items, &v->n_items);

	for (size_t i = 0; e == ERR_OK && i < v->n_items; i++) {
		e = progress_check(v->progress);
		if (e == ERR_OK)
			e = check_manifest(v, &v->items[i]);
	}
	return e;
}

/* ---- whose pages a damaged pack holds ---- */

struct trace {
	struct verification *v;
	const struct manifest *m;
	const struct packcheck *pack;
	uint32_t number; /* of the pack in m */
	uint32_t stream;
	struct archive_damage d;
	uint64_t first, end; /* the range that grows; empty if equal */
	bool any;
};

static void trace_flush(struct trace *t)
{
	if (t->first < t->end)
		range_report(t->v, t->m, t->stream, &t->d, t->first, t->end);
	t->first = t->end = 0;
}

static void trace_pages(struct trace *t, uint64_t page, uint32_t count)
{
	t->any = true;
	if (t->first == t->end || page != t->end) {
		trace_flush(t);
		t->first = page;
	}
	t->end = page + count;
}

/* A run that repeats one slot may be of any length: it is not walked. */
static void trace_run(struct trace *t, const struct run *run)
{
	uint32_t step = run->repeat ? run->count : 1;

	if (run->pack != t->number)
		return;
	for (uint32_t i = 0; i < run->count; i += step)
		if (t->pack->bad[run->slot + i])
			trace_pages(t, run->page + i, step);
}

static enum err trace_stream(struct trace *t, int fd, const char *path)
{
	struct cursor c;
	const struct run *run;
	char what[LAYOUT_PATH_BYTES + 64];
	enum err e = cursor_init(&c, t->m, fd, t->stream);

	snprintf(what, sizeof(what), "%s: these pages are damaged or lost", path);
	range_begin(&t->d, t->m, t->stream, what);
	while (e == ERR_OK && (e = cursor_next(&c, &run)) == ERR_OK && run)
		trace_run(t, run);
	trace_flush(t);
	cursor_fini(&c);
	if (is_damage(e)) { /* reported with the manifest; the rest is unknown */
		err_clear();
		e = ERR_OK;
	}
	return e;
}

static enum err trace_checkpoint(struct verification *v, const struct listing_item *item,
				 const struct pack_ref *ref, const struct packcheck *pack,
				 bool *any)
{
	AUTO_FD int fd = -1;
	struct manifest m;
	char path[LAYOUT_PATH_BYTES];
	enum err e = manifest_load(v->a->root, v->a->crypt, item->name, item->number, &m, &fd);

	if (e == ERR_NOTFOUND || is_damage(e)) {
		err_clear();
		return ERR_OK;
	}
	layout_pack_path(&ref->id, path);
	for (uint32_t i = 0; e == ERR_OK && i < m.n_packs; i++) {
		if (!pack_ref_equal(&m.pack[i], ref))
			continue;
		for (uint32_t s = 0; e == ERR_OK && s < m.n_streams; s++) {
			struct trace t = {.v = v, .m = &m, .pack = pack, .number = i, .stream = s};

			e = trace_stream(&t, fd, path);
			*any |= t.any;
		}
	}
	manifest_fini(&m);
	return e;
}

static enum err trace_pack(struct verification *v, const struct pack_ref *ref,
			   const struct packcheck *pack, bool damaged)
{
	char path[LAYOUT_PATH_BYTES];
	bool any = false;
	enum err e = ERR_OK;

	for (size_t i = 0; e == ERR_OK && i < v->n_items; i++)
		e = trace_checkpoint(v, &v->items[i], ref, pack, &any);
	if (e == ERR_OK && !any && damaged) {
		layout_pack_path(&ref->id, path);
		(void)!err_note(ERR_CORRUPT, 0, "%s: pages are damaged that no readable checkpoint "
						"uses", path);
		report_note(v, NULL);
	}
	return e;
}

/* ---- packs ---- */

static void pack_finding(void *arg, const char *what)
{
	struct verification *v = arg;
	struct archive_damage d = {.length = 0};

	snprintf(d.what, sizeof(d.what), "%s", what);
	report(v, &d);
}

/* What a rewritten pack lost is damage if a checkpoint needs it, and only then. */
static enum err check_forward(struct verification *v, const struct pack_ref *ref,
			      const struct packcheck_scope *scope)
{
	struct packcheck pack;
	enum err e = forwardcheck(v->a, v->progress, ref, scope, pack_finding, v, &pack);

	if (e != ERR_OK)
		return e;
	v->result->bytes_read += pack.bytes;
	e = trace_pack(v, ref, &pack, false);
	packcheck_fini(&pack);
	return e;
}

static enum err check_pack(struct verification *v, struct pool *pool, const struct pack_ref *ref,
			   const uint8_t *slots)
{
	struct packcheck_scope scope = {.slots = slots,
					.sample_millionths = v->opt->sample_millionths,
					.seed = v->opt->seed};
	struct packcheck pack;
	bool rewritten;
	enum err e = forwardcheck_applies(v->a, ref, &rewritten);

	if (e != ERR_OK)
		return e;
	if (rewritten)
		return check_forward(v, ref, &scope);
	e = packcheck(v->a->root, v->a->crypt, pool, v->progress, ref, &scope, pack_finding, v,
			       &pack);

	if (e != ERR_OK)
		return e;
	v->result->packs++;
	v->result->pages += pack.pages;
	v->result->bytes_read += pack.bytes;
	if (pack.any_bad)
		e = trace_pack(v, ref, &pack, true);
	packcheck_fini(&pack);
	return e;
}


static enum err check_refs(struct verification *v, const struct pack_ref *refs, size_t n,
			   const uint8_t *slots)
{
	struct pool *pool;
	uint64_t total = 0;
	enum err e = shared_pool(v->a, &pool);

	for (size_t i = 0; i < n; i++)
		total += refs[i].dir_offset - RECORD_BYTES;
	if (v->opt->sample_millionths)
		total = total / 1000000 * v->opt->sample_millionths;
	if (v->progress && !slots)
		atomic_store(&v->progress->total_bytes, total);
	for (size_t i = 0; e == ERR_OK && i < n; i++) {
		e = progress_check(v->progress);
		if (e == ERR_OK)
			e = check_pack(v, pool, &refs[i],
				       slots ? slots + i * (PACK_PAGES / 8) : NULL);
	}
	return e;
}

/* ---- one checkpoint ---- */

static void mark_run(const struct run *run, uint8_t *slots)
{
	slots += (size_t)run->pack * (PACK_PAGES / 8);
	for (uint32_t i = run->slot; i < run->slot + (run->repeat ? 1 : run->count); i++)
		slots[i / 8] = (uint8_t)(slots[i / 8] | 1u << i % 8);
}

/* A bit for each slot that the checkpoint needs.  A damaged block of runs was reported; what it
 * needs is not known. */
static enum err mark_slots(const struct manifest *m, int fd, uint8_t *slots)
{
	for (uint32_t s = 0; s < m->n_streams; s++) {
		struct cursor c;
		const struct run *run;
		enum err e = cursor_init(&c, m, fd, s);

		while (e == ERR_OK && (e = cursor_next(&c, &run)) == ERR_OK && run)
			mark_run(run, slots);
		cursor_fini(&c);
		if (e != ERR_OK && !is_damage(e))
			return e;
		err_clear();
	}
	return ERR_OK;
}

static enum err check_only(struct verification *v)
{
	AUTO_FD int fd = -1;
	struct manifest m;
	uint8_t *slots;
	enum err e = manifest_load(v->a->root, v->a->crypt, v->opt->only->name, v->opt->only->number,
				   &m, &fd);

	if (is_damage(e)) { /* was reported */
		err_clear();
		return ERR_OK;
	}
	if (e != ERR_OK)
		return e;
	slots = calloc(m.n_packs + 1u, PACK_PAGES / 8);
	e = slots ? mark_slots(&m, fd, slots)
		  : err_note(ERR_NOMEM, 0, "check a checkpoint: out of memory");
	if (e == ERR_OK)
		e = check_refs(v, m.pack, m.n_packs, slots);
	free(slots);
	manifest_fini(&m);
	return e;
}

/* The packs that hold now what rewritten ones held. */
static enum err add_targets(struct verification *v, struct pack_ref **refs, size_t *n)
{
	struct pack_ref *all = malloc((*n + 1) * sizeof(*all)), *both;
	size_t n_all = *n, listed = *n;
	enum err e;

	if (!all)
		return err_note(ERR_NOMEM, 0, "list packs: out of memory");
	if (*n)
		memcpy(all, *refs, *n * sizeof(*all));
	e = forward_follow(v->a->root, v->a->crypt, &all, &n_all);
	both = e == ERR_OK ? realloc(*refs, (*n + n_all + 1) * sizeof(*both)) : NULL;
	if (both) {
		*refs = both;
		for (size_t i = 0; i < n_all; i++)
			if (!listing_find(both, listed, &all[i].id))
				both[(*n)++] = all[i];
	} else if (e == ERR_OK) {
		e = err_note(ERR_NOMEM, 0, "list packs: out of memory");
	}
	free(all);
	return e;
}

static enum err check_packs(struct verification *v)
{
	struct pack_ref *refs = NULL;
	size_t n = 0;
	bool complete;
	enum err e = listing_packs(v->a->root, v->a->crypt, &refs, &n, &complete);

	if (e == ERR_OK)
		e = add_targets(v, &refs, &n);
	if (e == ERR_OK)
		e = check_refs(v, refs, n, NULL);
	free(refs);
	return e;
}

/* ---- the rest ---- */

static void finding(void *arg, const char *what)
{
	(void)!err_note(ERR_CORRUPT, 0, "%s", what);
	report_note(arg, NULL);
}

static enum err check_config(struct verification *v)
{
	struct settings c;
	bool damaged = false;
	enum err e = settings_read(v->a->root, &c, &damaged);

	if (e == ERR_NOTFOUND)
		e = err_note(ERR_CORRUPT, 0, LAYOUT_CONFIG " is missing");
	if (e == ERR_OK && damaged)
		finding(v, LAYOUT_CONFIG ": one of its two records is damaged");
	if (e == ERR_OK &&
	    memcmp(c.archive_id, crypt_archive_id(v->a->crypt), sizeof(c.archive_id)) != 0)
		e = err_note(ERR_CORRUPT, 0, LAYOUT_CONFIG ": was replaced by another archive's");
	if (e == ERR_OK)
		e = keyring_verify(v->a->root, &c, finding, v);
	if (!is_damage(e))
		return e;
	report_note(v, NULL);
	return ERR_OK;
}

static enum err check_number(struct verification *v, const char *name)
{
	uint64_t number, listed = 0;
	bool damaged = false;
	enum err e = number_read(v->a->root, name, &number, &damaged);

	for (size_t i = 0; i < v->n_items; i++)
		if (strcmp(v->items[i].name, name) == 0)
			listed = v->items[i].number; /* ascending */
	if (e == ERR_OK && damaged)
		e = err_note(ERR_CORRUPT, 0, LAYOUT_NUMBERS "/%s: one of its two records is damaged",
			     name);
	if (e == ERR_OK && number < listed)
		e = err_note(ERR_CORRUPT, 0, LAYOUT_NUMBERS "/%s: counts less than there are", name);
	if (!is_damage(e))
		return e;
	report_note(v, NULL);
	return ERR_OK;
}

static enum err check_numbers(struct verification *v)
{
	char **names;
	size_t n;
	enum err e = fs_list(v->a->root, LAYOUT_NUMBERS, &names, &n);

	if (e != ERR_OK)
		return e;
	for (size_t i = 0; e == ERR_OK && i < n; i++)
		if (layout_name_ok(names[i]))
			e = check_number(v, names[i]);
	fs_names_free(names, n);
	return e;
}

static enum err check_pin(void *arg, const struct archive_pin *pin)
{
	struct verification *v = arg;

	if (!pin->damaged && !pin->worn)
		return ERR_OK;
	(void)!err_note(ERR_CORRUPT, 0, LAYOUT_PINS "/%s: %s", pin->id,
			pin->damaged ? "damaged: it holds every checkpoint until it is removed"
				     : "one of its two records is damaged");
	report_note(v, NULL);
	return ERR_OK;
}

static enum err check_index(struct verification *v)
{
	enum err e = index_verify(v->a->root, v->a->crypt, v->a->catalog);

	if (!is_damage(e))
		return e;
	report_note(v, NULL);
	return ERR_OK;
}

static enum err check_all(struct verification *v)
{
	enum err e;

	if ((e = check_config(v)) != ERR_OK || (e = check_manifests(v)) != ERR_OK)
		return e;
	if (v->opt->only)
		return check_only(v);
	if ((e = check_numbers(v)) != ERR_OK ||
	    (e = pin_list(v->a->root, check_pin, v)) != ERR_OK || (e = check_packs(v)) != ERR_OK)
		return e;
	return check_index(v);
}

enum err verify(struct archive *a, const struct archive_verify_options *opt,
		struct progress *progress, archive_damage_fn *fn, void *arg,
		struct archive_verify_result *result)
{
	static const struct archive_verify_options everything;
	struct archive_verify_result mine;
	struct verification v = {.a = a, .opt = opt ? opt : &everything, .progress = progress,
				 .fn = fn, .arg = arg, .result = result ? result : &mine};
	enum err e;

	memset(v.result, 0, sizeof(*v.result));
	e = check_all(&v);
	free(v.items);
	if (e == ERR_OK && v.result->damages)
		e = err_note(ERR_CORRUPT, 0, "the archive is damaged in %llu places",
			     (unsigned long long)v.result->damages);
	return e;
}
