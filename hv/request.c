/* SPDX-License-Identifier: Apache-2.0 */
/* request: the client's end of the control protocol.  See request.h.
 *
 * Nothing here waits without an end: a worker that was stopped, or hangs in the
 * kernel, still has an open socket, and only time tells.  Whoever has waited in vain
 * once does not wait again on that connection.
 *
 * The descriptor is non-blocking.  A request is sent only after the last one was
 * answered, so that the socket's buffer is empty and takes all of it.
 *
 * Source: unix(7). */
#include "hv/request.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"

#define LONG_NS (120 * NS_PER_SEC)
#define LAST_NS (2 * NS_PER_SEC)
#define POLL_MAX_MS 60000

/* ---- life ---- */

enum err request_init(struct request_io *q, int fd, const struct remote_wait *wait)
{
	int flags = fcntl(fd, F_GETFL);

	*q = (struct request_io){.wait = wait ? *wait : (struct remote_wait)REMOTE_WAIT_DEFAULT};
	q->next_id = 1;
	if (q->wait.timeout_ns == 0)
		q->wait.timeout_ns = REMOTE_TIMEOUT_NS;
	enum err e = line_init(&q->line, fd, true);
	if (e == ERR_OK && (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0))
		e = err_sys(errno, "control connection");
	return e;
}

void request_fini(struct request_io *q)
{
	for (; q->event_count > 0; q->event_count--)
		free(q->events[q->event_first++ % REQUEST_EVENTS_MAX].text);
	line_fini(&q->line);
}

bool request_gone(const struct request_io *q)
{
	struct pollfd p = {.fd = q->line.fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) != 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* ---- lines ---- */

static void keep_event(struct request_io *q, const json_t *line)
{
	const char *kind = json_string_value(json_object_get(line, "event"));
	const char *text = json_string_value(json_object_get(line, "text"));

	if (!kind || q->event_count == REQUEST_EVENTS_MAX)
		return;
	unsigned at = (q->event_first + q->event_count) % REQUEST_EVENTS_MAX;
	struct remote_event *ev = &q->events[at];
	(void)snprintf(ev->kind, sizeof(ev->kind), "%s", kind);
	ev->text = strdup(text ? text : "");
	if (ev->text)
		q->event_count++;
}

/* Wait until the socket has something; ERR_OK with *ready false after the time. */
static enum err wait_readable(struct request_io *q, uint64_t deadline_ns, bool heed_cancel,
			      bool *ready)
{
	for (;;) {
		struct pollfd p[2] = {
			{.fd = q->line.fd, .events = POLLIN},
			{.fd = heed_cancel ? q->wait.cancel_fd : -1, .events = POLLIN}};
		uint64_t now = clock_mono_ns();
		uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
		uint64_t ms = (left + NS_PER_MS - 1) / NS_PER_MS;
		int n = poll(p, 2, ms > POLL_MAX_MS ? POLL_MAX_MS : (int)ms);

		if (n < 0 && errno != EINTR)
			return err_sys(errno, "control connection: poll");
		*ready = n > 0 && p[0].revents;
		if (*ready)
			return ERR_OK;
		if (n > 0)
			return err_note(ERR_CANCELLED, 0, "interrupted");
		if (n == 0 && ms <= POLL_MAX_MS)
			return ERR_OK;
	}
}

/* The next line as an object (given); NULL after the deadline. */
static enum err next_line(struct request_io *q, uint64_t deadline_ns, bool heed_cancel,
			  json_t **out)
{
	size_t len;
	char *text;
	bool ready, more;
	enum err e;

	*out = NULL;
	while (!(text = line_next(&q->line, &len))) {
		e = wait_readable(q, deadline_ns, heed_cancel, &ready);
		if (e != ERR_OK || !ready)
			return e;
		e = line_receive(&q->line, &more);
		if (e != ERR_OK)
			return err_context(e, "worker");
	}
	*out = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(*out)) {
		json_decref(*out);
		*out = NULL;
		return err_note(ERR_PEER, 0, "worker: its answer is not a JSON object");
	}
	return ERR_OK;
}

/* ---- replies ---- */

/* The worker's own error, as ours. */
static enum err reply_error(const json_t *reply)
{
	const char *word = json_string_value(json_object_get(reply, "error"));
	const char *text = json_string_value(json_object_get(reply, "message"));

	return err_note(err_from_name(word ? word : ""), 0, "%s",
			text && *text ? text : "worker: failed without saying why");
}

enum err request_no_answer(uint64_t waited_ns)
{
	return err_note(ERR_PEER, 0,
			"worker: no answer within %.3g s: it hangs, or this host is very "
			"busy: try again, or end it by `lifeboat kill'",
			(double)waited_ns / (double)NS_PER_SEC);
}

static bool cancelled(const struct request_io *q)
{
	struct pollfd p = {.fd = q->wait.cancel_fd, .events = POLLIN};

	return p.fd >= 0 && poll(&p, 1, 0) > 0;
}

static bool can_cancel(enum request_kind kind)
{
	return kind == REQUEST_QUICK || kind == REQUEST_LONG;
}

static uint64_t patience(const struct request_io *q, enum request_kind kind)
{
	if (kind == REQUEST_END || (kind == REQUEST_RELEASE && cancelled(q)))
		return LAST_NS;
	if (kind != REQUEST_QUICK && q->wait.timeout_ns < LONG_NS)
		return LONG_NS;
	return q->wait.timeout_ns;
}

/* The worker is told at once, not when somebody gets round to closing: what this
 * connection holds ends with it. */
static void give_up(struct request_io *q)
{
	q->given_up = true;
	(void)shutdown(q->line.fd, SHUT_WR);
}

static enum err await_reply(struct request_io *q, enum request_kind kind, json_int_t id,
			    json_t **out)
{
	uint64_t time = patience(q, kind), deadline = clock_mono_ns() + time;
	json_t *line;
	enum err e;

	for (;;) {
		e = next_line(q, deadline, can_cancel(kind), &line);
		if (e == ERR_OK && !line)
			e = request_no_answer(time);
		if (e != ERR_OK) {
			give_up(q);
			return e;
		}
		if (!json_object_get(line, "event"))
			break;
		keep_event(q, line);
		json_decref(line);
	}
	if (json_integer_value(json_object_get(line, "id")) != id)
		e = err_note(ERR_PEER, 0, "worker: answered what was not asked");
	else if (!json_is_true(json_object_get(line, "ok")))
		e = reply_error(line);
	if (e == ERR_OK)
		*out = line;
	else
		json_decref(line);
	return e;
}

static enum err send_text(struct request_io *q, char *text, const int *fds, unsigned count)
{
	size_t sent, len = strlen(text);

	text[len] = '\n'; /* takes the place of the NUL */
	enum err e = line_send(q->line.fd, text, len + 1, fds, count, &sent);
	if (e != ERR_OK)
		return err_context(e, "worker");
	if (sent < len + 1)
		return err_note(ERR_PEER, 0, "worker: does not read its control connection");
	return ERR_OK;
}

enum err request_call(struct request_io *q, enum request_kind kind, const char *op, json_t *body,
		      int fd, json_t **reply)
{
	return request_call_fds(q, kind, op, body, &fd, fd >= 0 ? 1 : 0, reply);
}

enum err request_call_fds(struct request_io *q, enum request_kind kind, const char *op,
			  json_t *body, const int *fds, unsigned count, json_t **reply)
{
	json_int_t id = q->next_id++;
	char *text = NULL;
	enum err e;

	line_drop_fds(&q->line);
	if (body && json_object_set_new(body, "id", json_integer(id)) == 0 &&
	    json_object_set_new(body, "op", json_string(op)) == 0)
		text = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	if (!text)
		return err_note(ERR_NOMEM, 0, "request to the worker: out of memory");
	if (q->given_up)
		e = err_note(ERR_PEER, 0, "worker: it had not answered before");
	else if (can_cancel(kind) && cancelled(q))
		e = err_note(ERR_CANCELLED, 0, "interrupted");
	else
		e = send_text(q, text, fds, count);
	free(text);
	return e == ERR_OK ? await_reply(q, kind, id, reply) : e;
}

/* ---- events ---- */

enum err request_event(struct request_io *q, uint64_t timeout_ns, struct remote_event *out)
{
	uint64_t deadline = clock_mono_ns() + timeout_ns;
	json_t *line;

	*out = (struct remote_event){.kind = ""};
	while (q->event_count == 0) {
		enum err e = next_line(q, deadline, true, &line);
		if (e != ERR_OK || !line)
			return e;
		keep_event(q, line);
		json_decref(line);
	}
	*out = q->events[q->event_first];
	q->event_first = (q->event_first + 1) % REQUEST_EVENTS_MAX;
	q->event_count--;
	return ERR_OK;
}

bool request_last_words(struct request_io *q)
{
	json_t *line = NULL;

	while (next_line(q, 0, false, &line) == ERR_OK && line) {
		keep_event(q, line);
		json_decref(line);
	}
	return q->event_count > 0;
}

enum err request_await_end(struct request_io *q, uint64_t timeout_ns)
{
	uint64_t deadline = clock_mono_ns() + timeout_ns;
	json_t *line = NULL;
	enum err e;

	while ((e = next_line(q, deadline, false, &line)) == ERR_OK && line)
		json_decref(line);
	if (e == ERR_OK)
		return err_note(ERR_PEER, 0, "worker: still there %.3g s after it was told to end",
				(double)timeout_ns / (double)NS_PER_SEC);
	err_clear();
	return ERR_OK;
}
