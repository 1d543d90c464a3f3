/* SPDX-License-Identifier: Apache-2.0 */
/* control: connections of the control protocol.  See control.h; the requests
 * themselves are in ops.c.
 *
 * A connection is closed in one place (sweep), at the end of the callback in which
 * it broke: until then it is only marked, so that an event which is being sent to
 * all never meets a freed one. */
#include "cmd/worker/control.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cmd/worker/ops.h"
#include "hv/line.h"

#define OUT_MAX_BYTES (4u * LINE_MAX_BYTES)
#define TEXT_MAX_BYTES 8192u /* of an event; escaped it still fits a line */
#define FLUSH_NS (200 * NS_PER_MS)
#define ACCEPT_AGAIN_NS (100 * NS_PER_MS)

struct conn {
	struct control *control;
	struct conn *next;
	struct line_io io;
	struct buf out; /* not yet sent */
	struct loop_watch *watch;
	uint64_t heard_ns;
	bool first, subscribed, broken;
};

struct control {
	struct loop *loop;
	struct steward *steward;
	int listen_fd;
	struct loop_watch *listen_watch;
	struct loop_timer *listen_again;
	struct conn *conns;
	unsigned count;
	void (*finish)(void *arg, int status);
	void *arg;
};

/* ---- sending ---- */

static void flush_out(struct conn *k)
{
	size_t sent;

	if (k->broken || k->out.len == 0)
		return;
	if (line_send(k->io.fd, k->out.data, k->out.len, NULL, 0, &sent) != ERR_OK) {
		k->broken = true;
		return;
	}
	k->out.len -= sent;
	memmove(k->out.data, k->out.data + sent, k->out.len);
	if (loop_modify(k->watch, k->out.len ? EPOLLIN | EPOLLOUT : EPOLLIN) != ERR_OK)
		k->broken = true;
}

/* Send or queue one line; descriptors only with a line that needs no queue. */
static void send_line(struct conn *k, const char *text, size_t len, const int *fds, unsigned count)
{
	size_t sent = 0;

	if (k->broken)
		return;
	if (k->out.len == 0 && line_send(k->io.fd, text, len, fds, count, &sent) != ERR_OK)
		k->broken = true;
	if (k->broken || sent == len)
		return;
	if ((count > 0 && sent == 0) || k->out.len + len - sent > OUT_MAX_BYTES) {
		log_event(LOG_WARN, "control connection closed reason=\"does not read\"");
		k->broken = true;
		return;
	}
	buf_put(&k->out, text + sent, len - sent);
	if (buf_check(&k->out) != ERR_OK || loop_modify(k->watch, EPOLLIN | EPOLLOUT) != ERR_OK)
		k->broken = true;
}

/* o is taken; may be NULL after a failed allocation. */
static void send_object(struct conn *k, json_t *o, const int *fds, unsigned count)
{
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	size_t len = text ? strlen(text) : 0;

	json_decref(o);
	if (!text || len >= LINE_MAX_BYTES) {
		k->broken = true;
	} else {
		text[len] = '\n';
		send_line(k, text, len + 1, fds, count);
	}
	free(text);
}

static void send_error(struct conn *k, json_t *id, enum err e)
{
	/* What a guest or a file wrote into a sentence need not be UTF-8. */
	json_t *text = json_string(err_text());

	send_object(k, json_pack("{s:O?, s:b, s:s, s:o}", "id", id, "ok", 0, "error", err_name(e),
				 "message", text ? text : json_string("unprintable error")), NULL, 0);
}

/* ---- receiving ---- */

static void handle(struct conn *k, json_t *request)
{
	struct ops_call call = {.steward = k->control->steward, .who = k, .io = &k->io,
				.request = request, .reply = json_object()};
	json_t *id = json_object_get(request, "id");
	enum err e = ERR_OK;

	if (!call.reply || json_object_set(call.reply, "id", id ? id : json_null()) != 0 ||
	    json_object_set_new(call.reply, "ok", json_true()) != 0)
		e = err_note(ERR_NOMEM, 0, "reply: out of memory");
	if (e == ERR_OK)
		e = ops_run(&call);
	if (e != ERR_OK) {
		json_decref(call.reply);
		send_error(k, id, e);
		return;
	}
	k->subscribed = k->subscribed || call.subscribe;
	send_object(k, call.reply, call.fds, call.fd_count);
}

static void handle_line(struct conn *k, const char *text, size_t len)
{
	json_t *request = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);

	if (json_is_object(request))
		handle(k, request);
	else
		send_error(k, NULL, err_note(ERR_USAGE, 0, "request: not a JSON object"));
	json_decref(request);
}

static void sweep(struct control *c);

static void on_readable(void *arg, int fd, uint32_t events)
{
	struct conn *k = arg;
	const char *text;
	size_t len;
	bool more = false;

	(void)fd;
	if (events & EPOLLOUT)
		flush_out(k);
	if (!k->broken && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
		enum err e = line_receive(&k->io, &more);
		if (e != ERR_OK) {
			send_error(k, NULL, e);
			k->broken = true;
		}
	}
	if (more)
		k->heard_ns = clock_mono_ns();
	while (!k->broken && (text = line_next(&k->io, &len)))
		handle_line(k, text, len);
	if (k->io.in.len == k->io.used) /* no line has begun that they could belong to */
		line_drop_fds(&k->io);
	sweep(k->control);
}

/* ---- connections ---- */

static void conn_free(struct conn *k)
{
	loop_remove(k->watch);
	line_fini(&k->io);
	buf_fini(&k->out);
	free(k);
}

static void sweep(struct control *c)
{
	struct conn **at = &c->conns;

	while (*at) {
		struct conn *k = *at;
		if (!k->broken) {
			at = &k->next;
			continue;
		}
		*at = k->next;
		c->count--;
		bool first = k->first;
		/* This may send events, which may break others: they are met later
		 * in this list or by the next sweep. */
		steward_forget(c->steward, k);
		conn_free(k);
		if (first && !steward_started(c->steward))
			c->finish(c->arg, STEWARD_EXIT_DONE);
		at = &c->conns;
	}
}

/* Make room: the one that has been silent for longest goes, unless it has a right
 * to stay. */
static void evict(struct control *c)
{
	struct conn *oldest = NULL;

	for (struct conn *k = c->conns; k; k = k->next)
		if (!k->first && !k->broken && (!oldest || k->heard_ns < oldest->heard_ns) &&
		    !steward_holds(c->steward, k))
			oldest = k;
	if (!oldest)
		return;
	log_event(LOG_WARN, "control connection closed reason=\"too many\"");
	oldest->broken = true;
	sweep(c);
}

/* fd is taken. */
static enum err conn_create(struct control *c, int fd, bool first)
{
	struct conn *k = calloc(1, sizeof(*k));
	enum err e;

	if (!k) {
		close(fd);
		return err_note(ERR_NOMEM, 0, "control connection: out of memory");
	}
	k->control = c;
	k->first = k->subscribed = first;
	k->heard_ns = clock_mono_ns();
	e = line_init(&k->io, fd, false);
	if (e == ERR_OK)
		e = loop_add(c->loop, fd, EPOLLIN, on_readable, k, &k->watch);
	if (e != ERR_OK) {
		conn_free(k);
		return e;
	}
	k->next = c->conns;
	c->conns = k;
	c->count++;
	return ERR_OK;
}

static void on_listen_again(void *arg)
{
	struct control *c = arg;

	if (loop_modify(c->listen_watch, EPOLLIN) != ERR_OK)
		log_event(LOG_ERROR, "control socket lost");
}

static void on_connect(void *arg, int fd, uint32_t events)
{
	struct control *c = arg;
	int got = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (got < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
		/* The connection stays in the queue and would wake us at once. */
		evict(c);
		if (loop_modify(c->listen_watch, 0) == ERR_OK)
			loop_timer_set(c->listen_again, ACCEPT_AGAIN_NS);
		return;
	}
	if (got < 0)
		return;
	if (c->count >= CONTROL_MAX)
		evict(c);
	if (conn_create(c, got, false) != ERR_OK)
		log_event(LOG_WARN, "control connection refused reason=\"%s\"", err_text());
}

void control_event(struct control *c, const char *event, const char *text)
{
	json_t *words = json_stringn_nocheck(text, strnlen(text, TEXT_MAX_BYTES));
	json_t *line = json_pack("{s:s, s:o}", "event", event, "text", words);
	char *dump = line ? json_dumps(line, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;

	json_decref(line);
	if (!dump) { /* a guest's text that is no UTF-8 */
		line = json_pack("{s:s, s:s}", "event", event, "text", "unprintable");
		dump = line ? json_dumps(line, JSON_COMPACT) : NULL;
		json_decref(line);
	}
	if (!dump)
		return;
	size_t len = strlen(dump);
	dump[len] = '\n';
	for (struct conn *k = c->conns; k; k = k->next)
		if (k->subscribed)
			send_line(k, dump, len + 1, NULL, 0);
	free(dump);
}

static enum err nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
		return err_sys(errno, "control socket");
	return ERR_OK;
}

enum err control_create(struct loop *loop, int listen_fd, int first_fd, struct steward *steward,
			void (*finish)(void *arg, int status), void *arg, struct control **out)
{
	struct control *c = calloc(1, sizeof(*c));
	enum err e;

	if (!c) {
		close(first_fd);
		return err_note(ERR_NOMEM, 0, "control: out of memory");
	}
	*c = (struct control){.loop = loop, .steward = steward, .listen_fd = listen_fd,
			      .finish = finish, .arg = arg};
	e = nonblocking(first_fd);
	if (e == ERR_OK) {
		e = conn_create(c, first_fd, true);
	} else {
		close(first_fd);
	}
	if (e == ERR_OK && listen_fd >= 0)
		e = nonblocking(listen_fd);
	if (e == ERR_OK)
		e = loop_timer_create(loop, on_listen_again, c, &c->listen_again);
	if (e == ERR_OK && listen_fd >= 0)
		e = loop_add(loop, listen_fd, EPOLLIN, on_connect, c, &c->listen_watch);
	if (e != ERR_OK) {
		control_destroy(c);
		return e;
	}
	*out = c;
	return ERR_OK;
}

void control_destroy(struct control *c)
{
	uint64_t deadline = clock_mono_ns() + FLUSH_NS;

	if (!c)
		return;
	while (c->conns) {
		struct conn *k = c->conns;
		uint64_t now;
		while (!k->broken && k->out.len > 0 && (now = clock_mono_ns()) < deadline) {
			struct pollfd p = {.fd = k->io.fd, .events = POLLOUT};
			(void)poll(&p, 1, (int)((deadline - now) / NS_PER_MS) + 1);
			flush_out(k);
		}
		c->conns = k->next;
		conn_free(k);
	}
	loop_remove(c->listen_watch);
	if (c->listen_again)
		loop_timer_destroy(c->listen_again);
	free(c);
}
