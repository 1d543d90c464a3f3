/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_ASKED_H
#define CMD_LIFEBOAT_ASKED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/remote.h"

/* asked: wait until a guest has answered what it was asked. */

#define ASKED_TIMEOUT_NS 10000000000ull

/* Until *count, of remote_guest's answer, differs from what it was in `before`; *now is
 * that answer.  ERR_GUEST within timeout_ns: it did not answer.  what: "its heartbeat". */
MUST_USE enum err asked_wait(struct remote *r, const struct remote_guest *before,
			     uint64_t (*count)(const struct remote_guest *g), uint64_t timeout_ns,
			     const char *what, struct remote_guest *now);

#endif
