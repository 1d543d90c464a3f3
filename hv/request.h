/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HV_REQUEST_H
#define HV_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/line.h"
#include "hv/remote.h"

/* request: requests, replies and events over a control connection; the part of
 * remote.h that knows how long to wait and when to give up.
 * Threads: one connection belongs to one thread. */

#define REQUEST_EVENTS_MAX 64u

/* How long a reply may take. */
enum request_kind {
	REQUEST_QUICK,	 /* as long as the person says */
	REQUEST_LONG,	 /* work on all of memory or state: at least two minutes */
	REQUEST_RELEASE, /* long, but made even after an interruption, with little time then */
	REQUEST_END,	 /* little time, and not to be interrupted: force comes after it */
};

struct request_io {
	struct line_io line;
	struct remote_wait wait;
	json_int_t next_id;
	bool given_up; /* a reply is overdue: what comes next would be taken for it */
	struct remote_event events[REQUEST_EVENTS_MAX]; /* arrived while a reply was awaited */
	unsigned event_first, event_count;
};

/* fd is taken, on errors too, and made non-blocking.  wait: see remote_connect. */
MUST_USE enum err request_init(struct request_io *q, int fd, const struct remote_wait *wait);
void request_fini(struct request_io *q);

/* Send body (taken; may be NULL after a failed allocation) as op, with fd if it is not
 * -1 (borrowed), and wait for the answer (given).  The worker's own error if it refuses;
 * ERR_PEER if it does not answer in time, now or earlier; ERR_CANCELLED. */
MUST_USE enum err request_call(struct request_io *q, enum request_kind kind, const char *op,
			       json_t *body, int fd, json_t **reply);

/* The same with any number of them. */
MUST_USE enum err request_call_fds(struct request_io *q, enum request_kind kind, const char *op,
				   json_t *body, const int *fds, unsigned count, json_t **reply);

/* Wait up to timeout_ns for an event (given); kind "" and no text after it. */
MUST_USE enum err request_event(struct request_io *q, uint64_t timeout_ns,
				struct remote_event *out);
/* Take what has arrived from one that answers no more; is there any event in it? */
bool request_last_words(struct request_io *q);
/* The end of the connection, whatever comes before it; ERR_PEER with a note if it has
 * not come by then. */
MUST_USE enum err request_await_end(struct request_io *q, uint64_t timeout_ns);
/* ERR_PEER, and the sentence for it. */
MUST_USE enum err request_no_answer(uint64_t waited_ns);
/* Has the other end closed? */
bool request_gone(const struct request_io *q);

#endif
