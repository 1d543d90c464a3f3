/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_WORKER_OPS_H
#define CMD_WORKER_OPS_H

#include <jansson.h>

#include "base/err.h"
#include "cmd/worker/steward.h"
#include "hv/line.h"

/* ops: what the control protocol can ask of a machine, one table.
 * docs/CONTROL.md describes each.  Loop thread. */

struct ops_call {
	struct steward *steward;
	const void *who;	/* the connection, for holds */
	struct line_io *io;	/* descriptors that came with the request wait there */
	const json_t *request;
	json_t *reply;		/* an object to add to */
	int fds[2];		/* to send with the reply, borrowed */
	unsigned fd_count;
	bool subscribe;		/* the connection wants events from now on */
};

/* Carry out request's "op".  ERR_USAGE: no such op, or one that was misused. */
MUST_USE enum err ops_run(struct ops_call *call);

#endif
