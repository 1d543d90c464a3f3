/* SPDX-License-Identifier: Apache-2.0 */
/* block_raw: a disk that is a file or a block device; see block.h.
 *
 * With a second descriptor that bypasses the host's cache, transfers whose place,
 * length and memory are all aligned go there; others go through the cache, which the
 * kernel keeps in step with direct transfers that are not in flight at the same time.
 *
 * Discards punch holes where the file can have them, which is asked once, beyond its
 * end, where it changes nothing; where it cannot, guests are not offered discards, and
 * zeroing writes zeros.
 *
 * Source: io_uring_enter(2), fallocate(2), open(2) O_DIRECT. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/log.h"
#include "hv/block/block_parts.h"

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZEROS_BYTES 65536u

struct raw {
	struct block base;
	struct block_raw raw;
	char *name;
};

static uint8_t zeros[ZEROS_BYTES] __attribute__((aligned(4096)));

static struct raw *raw_of(struct block *b)
{
	return (struct raw *)b; /* its first member */
}

static bool aligned(const struct block_io *io, uint32_t align)
{
	if (io->at % align || io->left % align)
		return false;
	for (unsigned i = 0; i < io->iov_count; i++)
		if ((uintptr_t)io->iov[i].iov_base % align || io->iov[i].iov_len % align)
			return false;
	return true;
}

/* As many whole pieces as fit into len bytes, but one at least. */
static unsigned pieces_for(const struct iovec *iov, unsigned count, size_t len)
{
	unsigned n = 0;

	for (size_t sum = 0; n < count && sum + iov[n].iov_len <= len; n++)
		sum += iov[n].iov_len;
	return n ? n : 1;
}

static void step_transfer(struct raw *r, struct block_queue *q, struct block_io *io, size_t len)
{
	const struct block_raw *raw = &r->raw;
	int fd = raw->direct_fd >= 0 && aligned(io, raw->direct_align) ? raw->direct_fd : raw->fd;
	struct io_uring_sqe *sqe = block_queue_step(q, io);
	unsigned count = len < io->left ? pieces_for(io->iov, io->iov_count, len) : io->iov_count;

	if (io->op == BLOCK_READ)
		io_uring_prep_readv(sqe, fd, io->iov, count, io->at);
	else
		io_uring_prep_writev2(sqe, fd, io->iov, count, io->at, io->fua ? RWF_DSYNC : 0);
}

/* Zeros for a file that can have no holes. */
static void step_zeros(struct raw *r, struct block_queue *q, struct block_io *io)
{
	struct io_uring_sqe *sqe = block_queue_step(q, io);
	uint64_t left = io->left;
	unsigned n = 0;

	for (; n < BLOCK_ZERO_PIECES && left > 0; n++) {
		size_t len = left < ZEROS_BYTES ? (size_t)left : ZEROS_BYTES;

		io->zeros[n] = (struct iovec){zeros, len};
		left -= len;
	}
	io_uring_prep_writev(sqe, r->raw.fd, io->zeros, n, io->at);
}

static void step_sync(struct raw *r, struct block_queue *q, struct block_io *io)
{
	io->syncing = true;
	io_uring_prep_fsync(block_queue_step(q, io), r->raw.fd, IORING_FSYNC_DATASYNC);
}

static void raw_submit(struct block *b, struct block_queue *q, struct block_io *io)
{
	struct raw *r = raw_of(b);
	size_t len = (size_t)io->left;
	int error = block_fault(io, &len);

	if (error) {
		/* As the kernel would answer: not before the submitter has returned. */
		io->syncing = true;
		io->error = error;
		io_uring_prep_fsync(block_queue_step(q, io), -1, 0);
		return;
	}
	switch (io->op) {
	case BLOCK_READ:
	case BLOCK_WRITE: step_transfer(r, q, io, len); return;
	case BLOCK_FLUSH: step_sync(r, q, io); return;
	case BLOCK_DISCARD:
	case BLOCK_ZERO:
		if (b->info.discard)
			io_uring_prep_fallocate(block_queue_step(q, io), r->raw.fd, PUNCH,
						(off_t)io->at, (off_t)io->left);
		else
			step_zeros(r, q, io);
		return;
	}
}

/* n bytes are done: the rest of the pieces. */
static void advance(struct block_io *io, size_t n)
{
	io->at += n;
	io->left -= n;
	while (n > 0 && io->iov_count > 0) {
		size_t part = n < io->iov->iov_len ? n : io->iov->iov_len;

		io->iov->iov_base = (uint8_t *)io->iov->iov_base + part;
		io->iov->iov_len -= part;
		n -= part;
		if (io->iov->iov_len == 0) {
			io->iov++;
			io->iov_count--;
		}
	}
}

static void log_failure(const struct raw *r, const struct block_io *io, int error)
{
	static const char *const words[] = {"read", "write", "flush", "discard", "zero"};
	static struct log_limit limit = LOG_LIMIT(16, 10000);

	log_limited(&limit, LOG_WARN,
		    "disk-error disk=%s op=%s offset=%llu bytes=%llu reason=\"%s\"", r->name,
		    words[io->op], (unsigned long long)io->offset, (unsigned long long)io->bytes,
		    strerror(error));
}

static void finish(struct raw *r, struct block_queue *q, struct block_io *io, int error)
{
	if (error)
		log_failure(r, io, error);
	block_done(q, io, error);
}

static void raw_stepped(struct block *b, struct block_queue *q, struct block_io *io, int result)
{
	struct raw *r = raw_of(b);
	bool punched = (io->op == BLOCK_DISCARD || io->op == BLOCK_ZERO) && b->info.discard;

	if (io->error) { /* a fault of a test */
		finish(r, q, io, io->error);
		return;
	}
	if (result == -EINTR || result == -EAGAIN) {
		b->ops->submit(b, q, io);
		return;
	}
	if (result < 0) {
		finish(r, q, io, -result);
		return;
	}
	if (io->syncing) {
		finish(r, q, io, 0);
		return;
	}
	if (!punched && result == 0) { /* somebody made the file shorter */
		finish(r, q, io, EIO);
		return;
	}
	advance(io, punched ? (size_t)io->left : (size_t)result);
	if (io->left > 0)
		b->ops->submit(b, q, io);
	else if (io->fua && io->op != BLOCK_WRITE)
		step_sync(r, q, io);
	else
		finish(r, q, io, 0);
}

static enum err raw_resize(struct block *b, uint64_t bytes)
{
	struct raw *r = raw_of(b);
	struct stat st;
	uint64_t size;
	enum err e;

	if (fstat(r->raw.fd, &st) != 0)
		return err_sys(errno, "look at %s", r->name);
	if (!S_ISBLK(st.st_mode))
		return fs_truncate(r->raw.fd, r->name, bytes);
	if ((e = fs_size(r->raw.fd, r->name, &size)) == ERR_OK && size < bytes)
		e = err_note(ERR_USAGE, 0, "its block device has %llu bytes only: enlarge that first",
			     (unsigned long long)size);
	return e;
}

static void raw_destroy(struct block *b)
{
	block_fini(b);
	free(raw_of(b)->name);
	free(b);
}

static bool can_punch(const struct raw *r)
{
	bool can = fs_punch(r->raw.fd, r->name, (r->base.info.bytes + 4095) & ~4095ull, 4096) ==
		   ERR_OK;

	err_clear();
	return can;
}

enum err block_raw_create(const struct block_raw *raw, struct block **out)
{
	static const struct block_ops ops = {raw_submit, raw_stepped, raw_resize, raw_destroy};
	struct raw *r = calloc(1, sizeof(*r));
	enum err e;

	if (!r)
		return err_note(ERR_NOMEM, 0, "disk: out of memory");
	r->raw = *raw;
	r->name = strdup(raw->name);
	if (!r->name) {
		e = err_note(ERR_NOMEM, 0, "disk: out of memory");
		goto fail;
	}
	r->raw.name = r->name;
	if ((e = fs_size(raw->fd, r->name, &r->base.info.bytes)) != ERR_OK)
		goto fail;
	r->base.info.read_only = raw->read_only;
	r->base.info.discard = !raw->read_only && can_punch(r);
	memcpy(r->base.info.id, raw->id, BLOCK_ID_BYTES);
	if ((e = block_init(&r->base, &ops)) != ERR_OK) {
		e = err_context(e, "%s", r->name);
		goto fail;
	}
	*out = &r->base;
	return ERR_OK;
fail:
	raw_destroy(&r->base);
	return e;
}
