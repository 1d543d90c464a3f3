/* SPDX-License-Identifier: Apache-2.0 */
/* console: scrollback ring, outlets, input queue.
 *
 * There is one buffer for output: the scrollback ring.  Each attached descriptor
 * (an outlet) has only a position in the guest's output; its backlog is what
 * lies between that position and the end.  When the ring has overwritten part of it,
 * that part is lost for this outlet, and it is told.  A file has a buffer and a thread
 * of its own (console_file.h): to write one can take as long as its file system likes.
 *
 * Kinds of outlets: STREAM (socket, pipe, terminal), PTY (a master: its other side
 * comes and goes, so hang-ups are retried and not the end), FILE (anything epoll
 * refuses: regular files, /dev/null).
 *
 * Threads: `lock` guards ring, input queue, list links and the failure of FILE
 * outlets.  All else of an outlet belongs to the loop thread, which never holds the
 * lock while it writes to a STREAM or calls back.  vCPU threads reach the loop
 * through wake_fd, at most once per round of it.
 *
 * Source: pty(7), epoll(7). */
#include "hv/console.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/thread.h"
#include "hv/console_file.h"

#define INPUT_BYTES 4096u
#define COPY_BYTES 16384u
#define RETRY_NS (100 * NS_PER_MS)
#define DRAIN_NS NS_PER_SEC
#define PTMX_MAJOR 5u
#define PTMX_MINOR 2u

enum outlet_kind { STREAM, PTY, FILE_LIKE };

struct outlet {
	struct outlet *next;
	struct console *console;
	struct loop_watch *watch;
	enum outlet_kind kind;
	int fd;
	bool socket, reads, writes;
	bool blocked;	/* a write would have blocked */
	bool hung;	/* PTY: nobody has the other side open */
	bool failed;	/* FILE_LIKE: a write failed; to be detached */
	struct console_file *file; /* FILE_LIKE that is written */
	uint64_t sent;	/* position in the output */
	uint64_t lost;	/* bytes not yet owned up to */
	char notice[64];
	size_t notice_len, notice_sent;
};

struct console {
	pthread_mutex_t lock;
	struct loop *loop;
	struct loop_watch *wake_watch;
	struct loop_timer *retry;
	int wake_fd;
	bool woken;	  /* wake_fd is signalled and not served yet */
	bool room_wanted; /* the loop stopped reading for want of room */
	console_input_fn *input_fn;
	void *input_arg;
	struct outlet *outlets;
	_Atomic uint64_t written; /* changed under lock */
	size_t in_first, in_count;
	uint8_t input[INPUT_BYTES];
	uint8_t *scroll; /* byte n of the output is at n % CONSOLE_SCROLLBACK */
};

static void outlet_detach(struct outlet *o);

/* ---- ring; lock held ---- */

static uint64_t oldest(const struct console *c)
{
	return c->written > CONSOLE_SCROLLBACK ? c->written - CONSOLE_SCROLLBACK : 0;
}

/* The bytes at position `from` that lie in one piece, at most max. */
static size_t piece(const struct console *c, uint64_t from, size_t max, const uint8_t **p)
{
	size_t at = from % CONSOLE_SCROLLBACK, n = CONSOLE_SCROLLBACK - at;

	assert(from >= oldest(c) && from <= c->written);
	if (n > c->written - from)
		n = c->written - from;
	*p = c->scroll + at;
	return n < max ? n : max;
}

static void wake(struct console *c)
{
	uint64_t one = 1;
	ssize_t n;

	if (c->woken)
		return;
	c->woken = true;
	n = write(c->wake_fd, &one, sizeof(one));
	(void)n; /* cannot be full: it is 0 while not woken */
}

void console_output(struct console *c, const void *p, size_t len)
{
	const uint8_t *from = p;
	AUTO_LOCK(&c->lock);

	if (len && c->outlets)
		wake(c);
	for (struct outlet *o = c->outlets; o; o = o->next)
		if (o->file)
			console_file_put(o->file, p, len);
	while (len) {
		size_t at = c->written % CONSOLE_SCROLLBACK, n = CONSOLE_SCROLLBACK - at;
		if (n > len)
			n = len;
		memcpy(c->scroll + at, from, n);
		c->written += n;
		from += n;
		len -= n;
	}
}

void console_scrollback(struct console *c, struct buf *out)
{
	const uint8_t *p;
	AUTO_LOCK(&c->lock);

	for (uint64_t at = oldest(c); at < c->written;) {
		size_t n = piece(c, at, SIZE_MAX, &p);
		buf_put(out, p, n);
		at += n;
	}
}

uint64_t console_written(const struct console *c)
{
	return c->written;
}

/* ---- input queue ---- */

size_t console_input_take(struct console *c, void *p, size_t len)
{
	uint8_t *to = p;
	size_t n = 0;
	AUTO_LOCK(&c->lock);

	for (; n < len && c->in_count; n++, c->in_count--) {
		to[n] = c->input[c->in_first];
		c->in_first = (c->in_first + 1) % INPUT_BYTES;
	}
	if (n && c->room_wanted) {
		c->room_wanted = false;
		wake(c);
	}
	return n;
}

/* Only the loop fills the queue: what it finds as room stays room. */
static size_t input_room(struct console *c)
{
	AUTO_LOCK(&c->lock);

	if (c->in_count == INPUT_BYTES)
		c->room_wanted = true;
	return INPUT_BYTES - c->in_count;
}

static void input_put(struct console *c, const uint8_t *p, size_t len)
{
	AUTO_LOCK(&c->lock);

	assert(len <= INPUT_BYTES - c->in_count);
	for (size_t i = 0; i < len; i++)
		c->input[(c->in_first + c->in_count++) % INPUT_BYTES] = p[i];
}

/* ---- outlets; loop thread ---- */

static void on_event(void *arg, int fd, uint32_t events);

static void set_hung(struct outlet *o)
{
	o->hung = true;
	loop_timer_set(o->console->retry, RETRY_NS);
}

/* Watch for what this outlet needs now.  A full queue and nothing to send: no watch
 * at all, for a hang-up that cannot be served would be reported for ever. */
static void watch_update(struct outlet *o)
{
	struct console *c = o->console;
	bool room = o->reads && input_room(c) > 0;
	uint32_t events = (room ? (uint32_t)EPOLLIN : 0) | (o->blocked ? (uint32_t)EPOLLOUT : 0);
	bool wanted = o->kind != FILE_LIKE && !o->hung && (events || !o->reads);

	if (!wanted) {
		loop_remove(o->watch);
		o->watch = NULL;
	} else if (!o->watch) {
		if (loop_add(c->loop, o->fd, events, on_event, o, &o->watch) != ERR_OK)
			log_event(LOG_ERROR, "console-watch-failed error=\"%s\"", err_text());
	} else if (loop_modify(o->watch, events) != ERR_OK) {
		log_event(LOG_ERROR, "console-watch-failed error=\"%s\"", err_text());
	}
}

/* Next bytes for a stream: a notice of loss, or a copy of output. */
static size_t next_bytes(struct outlet *o, uint8_t *copy, const void **p)
{
	struct console *c = o->console;
	const uint8_t *from;
	size_t n;
	AUTO_LOCK(&c->lock);

	if (o->sent < oldest(c)) {
		o->lost += oldest(c) - o->sent;
		o->sent = oldest(c);
	}
	if (o->lost && o->notice_sent == o->notice_len) {
		o->notice_len = (size_t)snprintf(o->notice, sizeof(o->notice),
						 "\r\n[lifeboat: %llu bytes lost]\r\n",
						 (unsigned long long)o->lost);
		o->notice_sent = 0;
		o->lost = 0;
	}
	if (o->notice_sent < o->notice_len) {
		*p = o->notice + o->notice_sent;
		return o->notice_len - o->notice_sent;
	}
	n = piece(c, o->sent, COPY_BYTES, &from);
	memcpy(copy, from, n);
	*p = copy;
	return n;
}

static void advance(struct outlet *o, size_t n)
{
	if (o->notice_sent < o->notice_len)
		o->notice_sent += n;
	else
		o->sent += n;
}

/* Send what there is, as far as the other side takes it.  False: it is gone. */
static bool stream_flush(struct outlet *o)
{
	uint8_t copy[COPY_BYTES];
	const void *p;

	/* Bounded, so that a busy guest cannot keep the loop here. */
	for (size_t budget = CONSOLE_SCROLLBACK; budget > COPY_BYTES;) {
		size_t n = next_bytes(o, copy, &p);
		ssize_t done;
		if (!n)
			return true;
		done = o->socket ? send(o->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT)
				 : write(o->fd, p, n);
		if (done >= 0) {
			advance(o, (size_t)done);
			budget -= (size_t)done + 1;
		} else if (errno == EAGAIN) {
			o->blocked = true;
			return true;
		} else if (errno == EIO && o->kind == PTY) {
			set_hung(o);
			return true;
		} else if (errno != EINTR) {
			return false;
		}
	}
	AUTO_LOCK(&o->console->lock);
	wake(o->console);
	return true;
}

static bool outlet_flush(struct outlet *o)
{
	if (!o->writes || o->blocked || o->hung)
		return true;
	if (o->kind != FILE_LIKE)
		return stream_flush(o);
	AUTO_LOCK(&o->console->lock);
	return !o->failed;
}

/* Take input as long as there is some and room for it.  False: it has ended. */
static bool outlet_read(struct outlet *o, bool *any)
{
	uint8_t bytes[INPUT_BYTES];
	size_t room;

	while (o->reads && !o->hung && (room = input_room(o->console)) > 0) {
		/* Whoever shares a socket may make it blocking again. */
		ssize_t n = o->socket ? recv(o->fd, bytes, room, MSG_DONTWAIT)
				      : read(o->fd, bytes, room);
		if (n > 0) {
			input_put(o->console, bytes, (size_t)n);
			*any = true;
		} else if (n == 0) {
			return false;
		} else if (errno == EAGAIN) {
			return true;
		} else if (errno == EIO && o->kind == PTY) {
			set_hung(o);
		} else if (errno != EINTR) {
			return false;
		}
	}
	return true;
}

/* Serve one outlet in both directions; it may be gone afterwards. */
static void outlet_serve(struct outlet *o, bool hang_up)
{
	struct console *c = o->console;
	bool any = false, alive;

	/* Read first: who hung up may have left something. */
	alive = outlet_read(o, &any) && outlet_flush(o);
	if (hang_up && !o->reads && o->kind == PTY)
		set_hung(o);
	else if (hang_up && !o->reads)
		alive = false;
	if (!alive)
		outlet_detach(o);
	else
		watch_update(o);
	if (any && c->input_fn)
		c->input_fn(c->input_arg);
}

static void on_event(void *arg, int fd, uint32_t events)
{
	struct outlet *o = arg;

	(void)fd;
	o->blocked = false;
	outlet_serve(o, events & (EPOLLHUP | EPOLLERR));
}

static void serve_all(struct console *c)
{
	struct outlet *next;

	for (struct outlet *o = c->outlets; o; o = next) {
		next = o->next;
		outlet_serve(o, false);
	}
}

static void on_wake(void *arg, int fd, uint32_t events)
{
	struct console *c = arg;
	uint64_t n;

	(void)events;
	pthread_mutex_lock(&c->lock);
	if (read(fd, &n, sizeof(n)) == sizeof(n))
		c->woken = false;
	pthread_mutex_unlock(&c->lock);
	serve_all(c);
}

/* Has somebody opened the other side meanwhile? */
static void on_retry(void *arg)
{
	struct console *c = arg;
	struct outlet *next;

	for (struct outlet *o = c->outlets; o; o = next) {
		struct pollfd p = {.fd = o->fd, .events = POLLIN};
		next = o->next;
		if (!o->hung)
			continue;
		if (poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLIN)) == POLLHUP) {
			set_hung(o);
			continue;
		}
		o->hung = false;
		o->blocked = false;
		outlet_serve(o, false);
	}
}

static void outlet_unlink(struct outlet *o)
{
	AUTO_LOCK(&o->console->lock);

	for (struct outlet **at = &o->console->outlets; *at; at = &(*at)->next) {
		if (*at == o) {
			*at = o->next;
			break;
		}
	}
}

static void outlet_detach(struct outlet *o)
{
	(void)outlet_flush(o); /* what an outlet that only stopped sending still takes */
	outlet_unlink(o);
	loop_remove(o->watch);
	if (o->file)
		console_file_destroy(o->file);
	else
		close(o->fd);
	free(o);
}

static void on_file_failed(void *arg)
{
	struct outlet *o = arg;
	AUTO_LOCK(&o->console->lock);

	o->failed = true;
	wake(o->console);
}

/* What is fd, and which directions has it? */
static enum err outlet_open(struct outlet *o, int fd, bool can_input)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL), access = flags & O_ACCMODE;

	if (flags < 0 || fstat(fd, &st) != 0)
		return err_sys(errno, "console: descriptor %d", fd);
	o->socket = S_ISSOCK(st.st_mode);
	o->writes = access != O_RDONLY;
	o->reads = can_input && access != O_WRONLY;
	if (S_ISREG(st.st_mode) && o->writes)
		o->reads = false; /* it would read its own output */
	if (S_ISCHR(st.st_mode) && major(st.st_rdev) == PTMX_MAJOR &&
	    minor(st.st_rdev) == PTMX_MINOR)
		o->kind = PTY;
	if (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
		return err_sys(errno, "console: descriptor %d", fd);
	return ERR_OK;
}

static enum err outlet_create(struct console *c, int fd, bool can_input, struct outlet **out)
{
	struct outlet *o = calloc(1, sizeof(*o));
	enum err e;

	if (!o)
		return err_note(ERR_NOMEM, 0, "console: no memory");
	o->console = c;
	o->fd = fd;
	if ((e = outlet_open(o, fd, can_input)) != ERR_OK)
		goto fail;
	e = loop_add(c->loop, fd, 0, on_event, o, &o->watch);
	if (e == ERR_AUTH) { /* EPERM: epoll does not do files */
		err_clear();
		o->kind = FILE_LIKE;
		e = o->writes ? console_file_create(fd, on_file_failed, o, &o->file) : ERR_OK;
	}
	if (e != ERR_OK)
		goto fail;
	*out = o;
	return ERR_OK;
fail:
	free(o);
	return e;
}

static unsigned outlet_count(const struct console *c)
{
	unsigned n = 0;

	for (const struct outlet *o = c->outlets; o; o = o->next)
		n++;
	return n;
}

enum err console_attach(struct console *c, int fd, bool replay, bool can_input)
{
	struct outlet *o = NULL;
	const uint8_t *from;
	enum err e;

	if (outlet_count(c) >= CONSOLE_ATTACHED_MAX)
		e = err_note(ERR_BUSY, 0, "console: %u are attached already: close one of them",
			     CONSOLE_ATTACHED_MAX);
	else
		e = outlet_create(c, fd, can_input, &o);
	if (e != ERR_OK) {
		close(fd);
		return e;
	}
	pthread_mutex_lock(&c->lock);
	o->sent = replay ? oldest(c) : c->written;
	while (o->file && o->sent < c->written) {
		size_t n = piece(c, o->sent, SIZE_MAX, &from);
		console_file_put(o->file, from, n);
		o->sent += n;
	}
	o->next = c->outlets;
	c->outlets = o;
	/* Served by the loop's next round, not here: callers hold what a callback may need. */
	wake(c);
	pthread_mutex_unlock(&c->lock);
	return ERR_OK;
}

/* ---- life ---- */

void console_set_input(struct console *c, console_input_fn *fn, void *arg)
{
	c->input_fn = fn;
	c->input_arg = arg;
}

enum err console_create(struct loop *loop, struct console **out)
{
	struct console *c = calloc(1, sizeof(*c));
	enum err e;

	if (!c)
		return err_note(ERR_NOMEM, 0, "console: no memory");
	pthread_mutex_init(&c->lock, NULL);
	c->loop = loop;
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->wake_fd < 0) {
		e = err_sys(errno, "console: event descriptor");
		goto fail;
	}
	c->scroll = calloc(1, CONSOLE_SCROLLBACK);
	if (!c->scroll) {
		e = err_note(ERR_NOMEM, 0, "console: no memory for the scrollback");
		goto fail;
	}
	if ((e = loop_timer_create(loop, on_retry, c, &c->retry)) != ERR_OK)
		goto fail;
	if ((e = loop_add(loop, c->wake_fd, EPOLLIN, on_wake, c, &c->wake_watch)) != ERR_OK)
		goto fail;
	*out = c;
	return ERR_OK;
fail:
	console_destroy(c);
	return e;
}

/* The last words of a machine matter: give a reader that is only slow some time. */
static void outlet_drain(struct outlet *o, uint64_t deadline)
{
	struct pollfd p = {.fd = o->fd, .events = POLLOUT};
	uint64_t now;

	do {
		o->blocked = false;
		if (!outlet_flush(o))
			return;
		now = clock_mono_ns();
	} while (o->blocked && now < deadline &&
		 poll(&p, 1, (int)((deadline - now) / NS_PER_MS) + 1) > 0 && p.revents & POLLOUT);
}

void console_destroy(struct console *c)
{
	uint64_t deadline = clock_mono_ns() + DRAIN_NS;

	if (!c)
		return;
	c->input_fn = NULL;
	while (c->outlets) {
		outlet_drain(c->outlets, deadline);
		outlet_detach(c->outlets);
	}
	loop_remove(c->wake_watch);
	loop_timer_destroy(c->retry);
	fs_auto_close(&c->wake_fd);
	free(c->scroll);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
