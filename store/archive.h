/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_ARCHIVE_H
#define STORE_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/progress.h"
#include "store/archive_key.h"

/* archive: the public face of store/.
 *
 * An archive is a directory of checkpoints.  A checkpoint is a set of named
 * streams (byte ranges of known length) and exists when archive_commit has
 * returned ERR_OK, and not before; it is complete by itself (by reference).
 *
 * Positions and lengths are bytes; data moves in pages of ARCHIVE_PAGE_BYTES at
 * offsets that are multiples of it; only the last page of a stream may be
 * shorter.  Bytes never put are zero.
 *
 * Threads: an archive and what hangs on it belong to one thread at a time;
 * inside, hashing and compression use the pool that `threads` asks for.
 * Errors: ERR_CORRUPT names file and place (and checkpoint and page where
 * known); ERR_NOSPACE and ERR_IO leave the archive as it was before. */

#define ARCHIVE_PAGE_BYTES 4096u
#define ARCHIVE_NAME_BYTES 64u /* with NUL; [a-z0-9][a-z0-9-]{0,62} */

struct archive;

struct archive_options {
	bool writable;
	unsigned threads; /* 0 = all CPUs */
	/* What opens an encrypted archive (borrowed during archive_open); NULL: none. */
	const struct archive_key *key;
};
/* Levels of compression are zstd's, from ARCHIVE_LEVEL_MIN to ARCHIVE_LEVEL_MAX without 0. */
#define ARCHIVE_LEVEL_MIN (-7)
#define ARCHIVE_LEVEL_MAX 19
struct archive_init_options {
	int level;  /* of compression, for writers that say nothing else; 0: 1 */
	bool plain; /* not encrypted; then no keys may be given */
	const struct archive_key *const *keys; /* each of them opens the archive */
	unsigned n_keys;		       /* at least 1 */
	const struct recipient *const *recipients; /* and so do these people's private keys */
	unsigned n_recipients;
	const struct archive *domain_of; /* share its dedup domain; NULL: a new one */
	unsigned scrypt_log2_n;		 /* cost of passphrases; 0: 17, which is 128 MiB */
};

/* Make an empty archive at path (created if missing; an existing directory must
 * be empty: ERR_BUSY).  Durable when it returns. */
MUST_USE enum err archive_init(const char *path, const struct archive_init_options *opt);
/* Whether an archive needs a key, and which kinds there are; without one. */
struct archive_opens_by {
	bool encrypted, passphrase, key_file, identity;
};
MUST_USE enum err archive_opens_by(const char *path, struct archive_opens_by *out);
/* ERR_NOTFOUND: no archive there.  ERR_VERSION: other format version.  ERR_AUTH: its key
 * is missing or wrong, or one was given for an archive that is not encrypted.
 * Removes or ignores what an interrupted writer left. */
MUST_USE enum err archive_open(const char *path, const struct archive_options *opt,
			       struct archive **out);
void archive_close(struct archive *a); /* NULL allowed */
/* Compress at that level from now on, whoever writes through `a`: ERR_USAGE if there is none such.
 * Pages that are there already stay as they are. */
MUST_USE enum err archive_compress(struct archive *a, int level);
/* Whether equal pages have equal digests in both. */
bool archive_same_domain(const struct archive *a, const struct archive *b);

/* ---- listing ---- */
/* Which checkpoint another one was made from; number 0: none.  For people and for the
 * next increment: a checkpoint never needs its parent to be read. */
struct checkpoint_parent {
	char name[ARCHIVE_NAME_BYTES];
	uint64_t number;
	struct digest digest;
};
struct checkpoint_info {
	char name[ARCHIVE_NAME_BYTES]; /* VM */
	uint64_t number;	       /* VM@number, from 1, never reused */
	struct digest digest;	       /* of the manifest; identifies it */
	struct checkpoint_parent parent;
	struct checkpoint_parent origin; /* in another archive: of what it is a copy */
	uint64_t created_ns;	       /* real time */
	char label[256];	       /* free text, may be empty */
	uint64_t logical_bytes;	       /* sum of stream lengths */
	uint64_t nonzero_bytes;
	uint64_t stored_bytes;	       /* newly appended by this checkpoint */
	unsigned streams;
};
/* Calls fn for each checkpoint, ordered by name, then number.  fn returning
 * anything but ERR_OK ends the listing with that.  A damaged checkpoint is
 * reported with digest all zero and its name and number. */
typedef enum err archive_list_fn(void *arg, const struct checkpoint_info *info);
MUST_USE enum err archive_list(struct archive *a, archive_list_fn *fn, void *arg);
/* ref: "NAME@N", "NAME" (its newest), or a unique prefix (>= 6 digits) of the
 * digest.  ERR_NOTFOUND; ERR_USAGE if malformed or ambiguous. */
MUST_USE enum err archive_find(struct archive *a, const char *ref, struct checkpoint_info *out);

/* ---- writing ---- */
struct archive_writer;
/* Like archive_begin, with a parent (borrowed until return; NULL: none): a checkpoint
 * that the new one is expected to resemble, usually the newest of the same VM.  Its
 * pages are found by their position, without the index, and archive_keep can take
 * them over.  ERR_NOTFOUND, ERR_CORRUPT: the parent cannot be used. */
MUST_USE enum err archive_begin_from(struct archive *a, const char *name,
				     const struct checkpoint_info *parent,
				     struct progress *progress, struct archive_writer **out);
/* Start checkpoint `name`; its number is chosen at commit.  Several writers, also
 * in other processes, may be open on one archive at once. */
MUST_USE enum err archive_begin(struct archive *a, const char *name, struct progress *progress,
				struct archive_writer **out);
/* Add a stream (name as for VMs) of length bytes; *index counts from 0. */
MUST_USE enum err archive_stream(struct archive_writer *w, const char *stream, uint64_t length,
				 unsigned *index);
/* Put len bytes (borrowed until return) at offset of stream index.  Offsets of one
 * stream must not go backwards.  All-zero pages may be put or left out. */
MUST_USE enum err archive_put(struct archive_writer *w, unsigned index, uint64_t offset,
			      const void *data, size_t len);
/* Give a stream another length, not below what was put: for streams whose end comes as a
 * surprise. */
MUST_USE enum err archive_resize(struct archive_writer *w, unsigned index, uint64_t length);
/* The bytes [offset, offset + len) are those of the parent's stream of the same name (zero
 * beyond its end): they are taken over as runs, not read or hashed again, except where
 * they would leave the stream too fragmented (budget.h).  Offsets are as for
 * archive_put and ascend together with its.  ERR_USAGE: there is no parent, it has no
 * such stream, or the range ends within a page that is longer there. */
MUST_USE enum err archive_keep(struct archive_writer *w, unsigned index, uint64_t offset,
			       uint64_t len);
/* What is made is a copy of a checkpoint elsewhere (borrowed until return), made then. */
void archive_origin(struct archive_writer *w, const struct checkpoint_parent *origin,
		    uint64_t created_ns);
/* Everything durable, then visible, atomically.  Frees w whatever happens. */
MUST_USE enum err archive_commit(struct archive_writer *w, const char *label,
				 struct checkpoint_info *out);
void archive_abort(struct archive_writer *w); /* NULL allowed; leaves nothing behind */

/* ---- reading ---- */
struct archive_reader;
struct archive_stream_info {
	char name[ARCHIVE_NAME_BYTES];
	uint64_t length;
};
MUST_USE enum err archive_read_open(struct archive *a, const struct checkpoint_info *c,
				    struct archive_reader **out);
void archive_read_close(struct archive_reader *r); /* NULL allowed */
unsigned archive_read_streams(const struct archive_reader *r);
const struct archive_stream_info *archive_read_stream(const struct archive_reader *r, unsigned i);
/* Index of the stream of that name; ERR_NOTFOUND. */
MUST_USE enum err archive_read_find(const struct archive_reader *r, const char *stream,
				    unsigned *index);
/* Any bytes of a stream, verified page by page.  Any thread, also several at once on one
 * reader: for random access, 16 or more keep a disk and all cores busy. */
MUST_USE enum err archive_read(struct archive_reader *r, unsigned index, uint64_t offset,
			       void *buf, size_t len);
/* Deliver all non-zero extents of a stream in ascending order of offset, verified,
 * decompressed on the pool, so that it runs at the speed of all cores.  Calls to
 * fn come one at a time, but from pool threads; data is borrowed during the call.
 * fn's error ends it.  len is a multiple of pages except at the stream's end. */
typedef enum err archive_extent_fn(void *arg, uint64_t offset, const void *data, size_t len);
MUST_USE enum err archive_read_all(struct archive_reader *r, unsigned index,
				   struct progress *progress, archive_extent_fn *fn, void *arg);

/* As archive_read_all, of the pages that [offset, offset + length) touches, from a stream that
 * may be damaged: what can be read goes to fn, what cannot to lost, both in ascending order and in
 * the caller's thread.  ERR_OK if all was said, whatever was lost. */
typedef void archive_lost_fn(void *arg, uint64_t offset, uint64_t length, const char *why);
MUST_USE enum err archive_salvage(struct archive_reader *r, unsigned index, uint64_t offset,
				  uint64_t length, struct progress *progress,
				  archive_extent_fn *fn, archive_lost_fn *lost, void *arg);

/* ---- copying ---- */
struct archive_copy_options {
	const char *name; /* of the copy; NULL: the same */
};
struct archive_copy_result {
	struct checkpoint_info info; /* of the copy */
	bool existed;		     /* it was there already, under that name: nothing was done */
	bool rehashed; /* the archives know pages by different digests, so that nothing that the
			* other has could be recognised before it was read */
	uint64_t pages_known, pages_read; /* if it asked: what was there, and what was not */
};
/* Copy c of `from` into `to` (writable): with a number of its own, the label and time of c, and c
 * as its origin.  Stores what `to` lacks.  Nothing is there before all of it is. */
MUST_USE enum err archive_copy(struct archive *from, const struct checkpoint_info *c,
			       struct archive *to, const struct archive_copy_options *opt,
			       struct progress *progress, struct archive_copy_result *result);

/* ---- removing ---- */
/* Durably remove a checkpoint (name and number count, so a damaged one too).  Others are
 * complete without it; its space is freed by archive_gc.  ERR_BUSY, naming the pin, if one
 * holds it; ERR_NOTFOUND.  Who is just reading it can go on. */
MUST_USE enum err archive_remove(struct archive *a, const struct checkpoint_info *c);

/* A pin keeps a checkpoint from being removed, until it is taken away by its id. */
struct archive_pin {
	char id[17]; /* 16 hexadecimal digits */
	char name[ARCHIVE_NAME_BYTES];
	uint64_t number;
	uint64_t created_ns; /* real time */
	char owner[256];     /* who needs it, in words */
	bool damaged;	     /* only the id is known, and it may hold any checkpoint */
	bool worn;	     /* one of its two copies is damaged */
};
/* Durable when it returns.  ERR_NOTFOUND: no such checkpoint (any more). */
MUST_USE enum err archive_pin(struct archive *a, const struct checkpoint_info *c,
			      const char *owner, struct archive_pin *out);
MUST_USE enum err archive_unpin(struct archive *a, const char *id); /* ERR_NOTFOUND */
/* Calls fn for each pin; anything but ERR_OK ends it. */
typedef enum err archive_pin_fn(void *arg, const struct archive_pin *pin);
MUST_USE enum err archive_pins(struct archive *a, archive_pin_fn *fn, void *arg);

/* Collection: delete packs of which no checkpoint needs anything, and rewrite those of which
 * little is needed.  It may be interrupted at any point: nothing is lost, and the next one
 * goes on.  What a running job may still need stays, until a later collection. */
struct archive_gc_options {
	bool dry_run; /* only say what there is to do */
	/* Rewrite packs of which less than this part of the pages is needed; 0: none. */
	unsigned threshold_percent;
};
#define ARCHIVE_GC_THRESHOLD 50u
struct archive_gc_result {
	uint64_t checkpoints, packs; /* looked at */
	uint64_t pages, live_pages;  /* in the packs that checkpoints list; needed of them */
	uint64_t packs_removed, packs_rewritten, packs_made, forwards_removed;
	uint64_t removed_bytes, made_bytes; /* freed: their difference */
	uint64_t packs_waiting, waiting_bytes; /* to go when those who may need them have ended */
	uint64_t packs_unmoved; /* would be rewritten, but for damage or want of space */
};
/* A job that something waits for. */
struct archive_holder {
	uint32_t pid; /* 0: not known */
	uint64_t since_ns;
	char what[128]; /* "reads web@3" */
};
typedef void archive_holder_fn(void *arg, const struct archive_holder *holder);
/* ERR_BUSY: another collection runs.  ERR_CORRUPT: a manifest cannot be read, so that nobody
 * knows what it needs; nothing was deleted.  fn (may be NULL) is called for each job that
 * something waits for. */
MUST_USE enum err archive_gc(struct archive *a, const struct archive_gc_options *opt,
			     struct progress *progress, archive_holder_fn *fn, void *arg,
			     struct archive_gc_result *result);

/* ---- checking ---- */
/* One finding.  checkpoint is "" where damage touches none (yet). */
struct archive_damage {
	char checkpoint[ARCHIVE_NAME_BYTES + 24]; /* NAME@N */
	char stream[ARCHIVE_NAME_BYTES];	  /* "" if not of one stream */
	uint64_t offset, length;		  /* bytes in that stream */
	char what[256];				  /* one sentence naming the file */
};
typedef void archive_damage_fn(void *arg, const struct archive_damage *d);
struct archive_verify_result {
	uint64_t checkpoints, packs, pages, bytes_read, damages;
};
/* What to look at; all zero: everything. */
struct archive_verify_options {
	const struct checkpoint_info *only; /* one checkpoint and what it needs; NULL: all */
	/* Of the packs' groups only so many of a million, chosen by seed; 0: all.  Manifests,
	 * directories and all else are read in full. */
	uint32_t sample_millionths;
	uint64_t seed;
};
/* Read back every pack, directory, manifest, and the index against them, or what opt (NULL:
 * everything) leaves of that.  ERR_OK: sound.  ERR_CORRUPT after all damage was reported
 * through fn. */
MUST_USE enum err archive_verify(struct archive *a, const struct archive_verify_options *opt,
				 struct progress *progress, archive_damage_fn *fn, void *arg,
				 struct archive_verify_result *result);

/* Where the healing comes from. */
struct archive_repair_options {
	struct archive *from;	  /* another archive, open for reading, of the same machines; best a
				   * copy of this one, file by file.  NULL: none */
	const char *const *files; /* disks, memory images: anything with the same pages */
	unsigned n_files;
};
struct archive_repair_result {
	uint64_t healed;     /* files that are better than before */
	uint64_t pages_lost; /* pages that are nowhere */
	uint64_t unfit;	     /* groups of pages that were found, but whose stored form could not be
			      * made again */
};
/* One sentence for each file that was healed, and for each that could not be. */
typedef void archive_repair_fn(void *arg, const char *what);
/* Heal what is damaged: records from their twin, a manifest from a copy, a pack from a copy or from
 * its pages, wherever there are pages of the same digests.  Every file is made beside the damaged one
 * and takes its place whole, so that it may be interrupted at any point.  ERR_OK also if not all could
 * be healed: archive_verify, of the archive opened again, tells what is left.  ERR_BUSY: another
 * repair or collection runs. */
MUST_USE enum err archive_repair(struct archive *a, const struct archive_repair_options *opt,
				 struct progress *progress, archive_repair_fn *fn, void *arg,
				 struct archive_repair_result *result);
/* The same for an archive at path that cannot be opened, for its configuration or keys are lost:
 * take them from a copy at `from` (NULL: there is none); or directories: make them.  *healed is false
 * if there was nothing to do.  ERR_CORRUPT: there are no files that show that the two are the same
 * archive. */
MUST_USE enum err archive_repair_config(const char *path, const char *from, bool *healed);

/* Drop the index and make it again from the packs' directories. */
MUST_USE enum err archive_rebuild_index(struct archive *a, struct progress *progress);

struct archive_stats {
	uint64_t checkpoints, packs;
	uint64_t logical_bytes;	 /* all streams of all checkpoints */
	uint64_t unique_pages;	 /* stored once each */
	uint64_t pack_bytes, manifest_bytes, index_bytes;
};
MUST_USE enum err archive_stats(struct archive *a, struct archive_stats *out);

/* What one checkpoint has, and what would go with it. */
struct archive_share {
	char name[ARCHIVE_NAME_BYTES];
	uint64_t number; /* 0: all checkpoints of that name together */
	bool damaged;	 /* its manifest cannot be read (all): then the rest is not complete */
	uint64_t checkpoints;
	uint64_t logical_bytes, nonzero_bytes;
	uint64_t added_bytes;	  /* new in the archive when it was made */
	uint64_t referenced_bytes; /* stored form of the pages that it needs, each once */
	uint64_t exclusive_bytes; /* of those, that nothing else needs: what removing it frees */
};
/* Calls fn for each checkpoint, ordered by name, then number, and after the last one of a name
 * for all of that name.  Reads every manifest and every directory of a pack. */
typedef enum err archive_share_fn(void *arg, const struct archive_share *share);
MUST_USE enum err archive_shares(struct archive *a, struct progress *progress,
				 archive_share_fn *fn, void *arg);

#endif
