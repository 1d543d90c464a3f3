/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_FOREGROUND_H
#define CMD_LIFEBOAT_FOREGROUND_H

#include "base/err.h"
#include "cmd/lifeboat/launch.h"
#include "cmd/lifeboat/words.h"
#include "hv/remote.h"

/* foreground: a launched machine whose verb stays with it: `run` and `restore`
 * without --detach. */

/* The session on the line that is on stdio, opened before the machine runs so
 * that nothing of its output is missed; -1 if none is. */
MUST_USE enum err foreground_open(const struct machine *m, struct remote *r, int *console_fd);

/* Stay until the machine ends or the person leaves.  console_fd is taken.
 * ERR_OK: it switched itself off, or was left.  ERR_CANCELLED: SIGINT or SIGTERM
 * came, and the machine was killed. */
MUST_USE enum err foreground_stay(const struct home *h, const struct machine *m, struct launch *l,
				  struct remote *r, int console_fd);

#endif
