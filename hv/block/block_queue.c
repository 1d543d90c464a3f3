/* SPDX-License-Identifier: Apache-2.0 */
/* block_queue: an io_uring of one thread; see block.h.
 *
 * A request is one or more steps (a short transfer goes on where it ended; what cannot
 * be durable by itself is followed by a flush); at most one step of a request is in the
 * kernel, and at most `depth` requests are there, so that the ring never overflows.  The
 * others wait in order.  Completions wake the loop by an eventfd.
 *
 * The ring permits what disks need and no more (restrictions), for io_uring passes by
 * a filter of system calls: reads, writes, flushes and allocation of descriptors that
 * the process has anyway.  It is made before the sandbox closes.
 *
 * Source: io_uring(7), io_uring_register(2), restrictions. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "hv/block/block_parts.h"

static void kick_first(struct block_queue *q)
{
	while (q->first && q->in_kernel < q->depth) {
		struct block_io *io = q->first;

		q->first = io->next;
		if (!q->first)
			q->last = &q->first;
		q->in_kernel++;
		io->block->ops->submit(io->block, q, io);
	}
}

struct io_uring_sqe *block_queue_step(struct block_queue *q, struct block_io *io)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);

	if (!sqe) { /* full of what the kernel was not given yet */
		q->unsubmitted = true;
		block_queue_kick(q);
		sqe = io_uring_get_sqe(&q->ring);
	}
	assert(sqe);
	io_uring_sqe_set_data(sqe, io);
	q->unsubmitted = true;
	return sqe;
}

void block_queue_kick(struct block_queue *q)
{
	static struct log_limit limit = LOG_LIMIT(4, 60000);
	int n;

	while (q->unsubmitted) {
		n = io_uring_submit(&q->ring);
		if (n == -EINTR || n == -EAGAIN || n == -EBUSY || n == -ENOMEM) {
			uint64_t one = 1;

			/* The host is short of something: again on the loop's next turn. */
			if (n != -EINTR && write(q->event_fd, &one, sizeof(one)) > 0)
				return;
			continue;
		}
		if (n < 0)
			log_limited(&limit, LOG_ERROR, "io-uring-failed reason=\"%s\"",
				    strerror(-n));
		q->unsubmitted = io_uring_sq_ready(&q->ring) > 0 && n > 0;
	}
}

static void reap(struct block_queue *q)
{
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&q->ring, &cqe) == 0) {
		struct block_io *io = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&q->ring, cqe);
		io->block->ops->stepped(io->block, q, io, result);
	}
}

static void on_event(void *arg, int fd, uint32_t events)
{
	struct block_queue *q = arg;
	uint64_t n;

	(void)events;
	if (read(fd, &n, sizeof(n)) != sizeof(n))
		return;
	reap(q);
	kick_first(q);
	block_queue_kick(q);
}

static enum err ring_error(int r)
{
	return err_note(
		r == -ENOMEM ? ERR_NOMEM : ERR_UNSUPPORTED, -r,
		"disks: io_uring is not to be had: see the sysctl kernel.io_uring_disabled, "
		"or the container's rules");
}

/* Debian 12's liburing declares functions for these two, and lacks them. */
static int ring_register(struct block_queue *q, unsigned what, void *arg, unsigned count)
{
	return syscall(SYS_io_uring_register, q->ring.ring_fd, what, arg, count) < 0 ? -errno : 0;
}

static enum err make_ring(struct block_queue *q)
{
	static const uint8_t permitted[] = {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC,
					    IORING_OP_FALLOCATE};
	struct io_uring_restriction rules[sizeof(permitted)];
	struct io_uring_params params = {.flags = IORING_SETUP_R_DISABLED};
	int r = io_uring_queue_init_params(q->depth, &q->ring, &params);

	if (r < 0)
		return ring_error(r);
	q->ring_made = true;
	if ((r = io_uring_register_eventfd(&q->ring, q->event_fd)) < 0)
		return ring_error(r);
	memset(rules, 0, sizeof(rules));
	for (size_t i = 0; i < sizeof(permitted); i++) {
		rules[i].opcode = IORING_RESTRICTION_SQE_OP;
		rules[i].sqe_op = permitted[i];
	}
	r = ring_register(q, IORING_REGISTER_RESTRICTIONS, rules, sizeof(permitted));
	if (r == 0)
		r = ring_register(q, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	return r < 0 ? ring_error(r) : ERR_OK;
}

enum err block_queue_create(struct loop *loop, unsigned depth, struct block_queue **out)
{
	struct block_queue *q = calloc(1, sizeof(*q));
	enum err e;

	if (!q)
		return err_note(ERR_NOMEM, 0, "disks: out of memory");
	q->loop = loop;
	q->depth = depth;
	q->last = &q->first;
	q->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->event_fd < 0) {
		e = err_sys(errno, "disks: event descriptor");
		goto fail;
	}
	if ((e = make_ring(q)) != ERR_OK)
		goto fail;
	if ((e = loop_add(loop, q->event_fd, EPOLLIN, on_event, q, &q->watch)) != ERR_OK)
		goto fail;
	*out = q;
	return ERR_OK;
fail:
	block_queue_destroy(q);
	return e;
}

void block_queue_destroy(struct block_queue *q)
{
	if (!q)
		return;
	assert(q->busy == 0);
	loop_remove(q->watch);
	if (q->ring_made)
		io_uring_queue_exit(&q->ring);
	if (q->event_fd >= 0)
		close(q->event_fd);
	free(q);
}

unsigned block_queue_busy(const struct block_queue *q)
{
	return q->busy;
}
