/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_ASKED_H
#define CMD_LIFEBOAT_ASKED_H

#include <stdint.h>

#include "base/err.h"
#include "cmd/lifeboat/cli.h"
#include "cmd/lifeboat/target.h"

/* asked: ask a machine's guest something, and wait until it has answered. */
struct asked {
	enum err (*ask)(struct remote *r);
	/* What of remote_guest's answer is another when the guest has answered. */
	uint64_t (*count)(const struct remote_guest *g);
	const char *what; /* "its heartbeat": that did not come */
};

#define ASKED_OPTIONS                                                                              \
	{.name = "timeout", .key = CLI_KEY_TIMEOUT, .arg = "TIME",                                 \
	 .doc = "How long to wait for the guest (default: 10s)"},                                  \
	CLI_OPTION_JSON, CLI_OPTION_END

/* A whole verb but for what it prints: *t is what the command line said (for target_option), *now
 * the answer.  ERR_GUEST: there was none in time. */
MUST_USE enum err asked_verb(const struct cli_verb *verb, const struct asked *q, int argc, char **argv,
			     struct target *t, struct remote_guest *now);

#endif
