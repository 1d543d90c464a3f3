/* SPDX-License-Identifier: Apache-2.0 */
/* feed: reads files by their data and holes, and pipes until they end.
 *
 * Memory: one piece, whatever the size.  Reading a pipe waits for it and for an interruption at
 * once. */
#include "cmd/lifeboat/feed.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "cmd/lifeboat/cli.h"

#define PIECE_BYTES (1u << 20)
/* A stream whose end is not known yet: whole pages, and more than anybody has. */
#define ENDLESS_BYTES (1ull << 59)

bool feed_stream_name(const char *file, char out[ARCHIVE_NAME_BYTES])
{
	size_t end = strlen(file), from, n = 0;

	if (strcmp(file, "-") == 0)
		file = "stdin", end = 5;
	while (end && file[end - 1] == '/')
		end--;
	for (from = end; from && file[from - 1] != '/'; from--)
		;
	for (; from < end && n < ARCHIVE_NAME_BYTES - 1; from++) {
		char c = file[from];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')))
			c = '-';
		if (c != '-' || n)
			out[n++] = c;
	}
	out[n] = '\0';
	return n > 0;
}

static enum err look(struct feed *f, struct stat *st)
{
	return fstat(f->fd, st) == 0 ? ERR_OK : err_sys(errno, "look at %s", f->file);
}

enum err feed_open(struct feed *f)
{
	struct stat st;
	enum err e = ERR_OK;

	f->fd = -1;
	if (strcmp(f->file, "-") == 0) {
		f->fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
		if (f->fd < 0)
			e = err_sys(errno, "read standard input");
		else if (isatty(f->fd))
			e = err_note(ERR_USAGE, 0,
				     "standard input is a terminal: pipe something in");
	} else {
		e = fs_open(AT_FDCWD, f->file, O_RDONLY, 0, &f->fd);
	}
	if (e != ERR_OK || (e = look(f, &st)) != ERR_OK)
		return e;
	if (S_ISDIR(st.st_mode))
		return err_note(ERR_USAGE, 0, "%s is a directory: name its files", f->file);
	f->changed = st.st_mtim;
	/* Standard input may stand in the middle of a file: from there on, as cat would. */
	f->endless = strcmp(f->file, "-") == 0 || !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
	return f->endless ? ERR_OK : fs_size(f->fd, f->file, &f->bytes);
}

void feed_close(struct feed *f)
{
	fs_auto_close(&f->fd);
}

/* ---- with a size ---- */

static enum err changed_size(const struct feed *f)
{
	return err_note(ERR_FAILED, 0,
			"%s changed its size while it was read: import a snapshot of "
			"it, or when nothing writes to it",
			f->file);
}

static enum err put_data(struct feed *f, struct archive_writer *w, uint8_t *piece, uint64_t from,
			 uint64_t to)
{
	while (from < to) {
		size_t n = to - from < PIECE_BYTES ? (size_t)(to - from) : PIECE_BYTES, got;
		enum err e = fs_read_some(f->fd, f->file, piece, n, from, &got);

		if (e == ERR_OK && got < n)
			e = changed_size(f);
		if (e == ERR_OK)
			e = archive_put(w, f->index, from, piece, n);
		if (e != ERR_OK)
			return e;
		from += n;
	}
	return ERR_OK;
}

static enum err put_sized(struct feed *f, struct archive_writer *w, struct progress *progress,
			  uint8_t *piece)
{
	uint64_t at = 0;

	while (at < f->bytes) {
		uint64_t start, end;
		enum err e = fs_next_data(f->fd, f->file, at, f->bytes, &start, &end);

		if (e == ERR_OK)
			e = progress_check(progress);
		if (e != ERR_OK)
			return e;
		/* Whole pages, though holes may end anywhere. */
		start -= start % ARCHIVE_PAGE_BYTES;
		start = start < at ? at : start;
		end += (ARCHIVE_PAGE_BYTES - end % ARCHIVE_PAGE_BYTES) % ARCHIVE_PAGE_BYTES;
		end = end > f->bytes ? f->bytes : end;
		progress_add(progress, start - at, 0);
		if (start < end && (e = put_data(f, w, piece, start, end)) != ERR_OK)
			return e;
		at = end;
	}
	return ERR_OK;
}

static enum err check_unchanged(struct feed *f, bool *touched)
{
	struct stat st;
	uint64_t size;
	enum err e;

	if ((e = look(f, &st)) != ERR_OK || (e = fs_size(f->fd, f->file, &size)) != ERR_OK)
		return e;
	*touched =
		st.st_mtim.tv_sec != f->changed.tv_sec || st.st_mtim.tv_nsec != f->changed.tv_nsec;
	return size == f->bytes ? ERR_OK : changed_size(f);
}

/* ---- without ---- */

static enum err wait_input(const struct feed *f)
{
	struct pollfd p[] = {{.fd = f->fd, .events = POLLIN},
			     {.fd = cli_signal_fd(), .events = POLLIN}};

	while (poll(p, 2, -1) < 0)
		if (errno != EINTR)
			return err_sys(errno, "read %s", f->file);
	return p[1].revents ? err_note(ERR_CANCELLED, 0, "interrupted") : ERR_OK;
}

static enum err fill_piece(const struct feed *f, uint8_t *piece, size_t *len)
{
	size_t got = 1;

	for (*len = 0; got && *len < PIECE_BYTES; *len += got) {
		enum err e = wait_input(f);

		if (e == ERR_OK)
			e = fs_read_next(f->fd, f->file, piece + *len, PIECE_BYTES - *len, &got);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

static enum err put_endless(struct feed *f, struct archive_writer *w, uint8_t *piece)
{
	for (f->bytes = 0;;) {
		size_t len;
		enum err e = fill_piece(f, piece, &len);

		if (e == ERR_OK && len < PIECE_BYTES) /* now the length is known */
			e = archive_resize(w, f->index, f->bytes + len);
		if (e == ERR_OK && len)
			e = archive_put(w, f->index, f->bytes, piece, len);
		if (e != ERR_OK)
			return e;
		f->bytes += len;
		if (len < PIECE_BYTES)
			return ERR_OK;
	}
}

enum err feed_put(struct feed *f, struct archive_writer *w, struct progress *progress,
		  bool *touched)
{
	uint8_t *piece = malloc(PIECE_BYTES);
	enum err e;

	*touched = false;
	if (!piece)
		return err_note(ERR_NOMEM, 0, "read %s: out of memory", f->file);
	e = archive_stream(w, f->stream, f->endless ? ENDLESS_BYTES : f->bytes, &f->index);
	if (e == ERR_OK)
		e = f->endless ? put_endless(f, w, piece) : put_sized(f, w, progress, piece);
	free(piece);
	if (e == ERR_OK && !f->endless)
		e = check_unchanged(f, touched);
	return e;
}
