/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_TARGET_H
#define CMD_LIFEBOAT_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hv/remote.h"

/* target: the machine that a verb is about, and how it is reached. */
struct target {
	const char *name; /* borrowed from the command line */
	uint64_t timeout_ns;
	bool json;
};

/* For struct cli_verb: args is a struct target.  It takes NAME, and of the options those that the
 * verb lists: --timeout and --json. */
MUST_USE enum err target_option(void *args, int key, char *value);
/* Connect to the machine's worker (*r is given), for answers within timeout_ns (0: as usual). */
MUST_USE enum err target_connect(const struct target *t, uint64_t timeout_ns, struct remote **r);

#endif
