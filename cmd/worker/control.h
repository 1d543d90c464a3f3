/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_WORKER_CONTROL_H
#define CMD_WORKER_CONTROL_H

#include "base/err.h"
#include "base/loop.h"
#include "cmd/worker/steward.h"

/* control: the server of the control protocol (docs/CONTROL.md).
 *
 * Accepts connections, reads requests, sends replies and events.  No client can
 * stall the machine: input and output of each are bounded, nothing blocks, one
 * that does not read its replies is closed, and when there are CONTROL_MAX of
 * them the one that has been silent for longest goes.
 * Threads: all on the loop. */

#define CONTROL_MAX 32u

struct control;

/* listen_fd (borrowed; -1: none): where others connect.  first_fd (taken): the
 * keeper's own connection, subscribed to events; while the machine was never
 * started, its end is the worker's end (finish). */
MUST_USE enum err control_create(struct loop *loop, int listen_fd, int first_fd,
				 struct steward *steward, void (*finish)(void *arg, int status),
				 void *arg, struct control **out);
/* Sends what is still queued, for at most 200 ms in all, and closes.  NULL allowed. */
void control_destroy(struct control *c);
/* Tell every subscriber. */
void control_event(struct control *c, const char *event, const char *text);

#endif
