/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_ASK_H
#define CMD_LIFEBOAT_ASK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* ask: a secret from the person at the terminal.  Main thread. */

/* Standard input and standard error are a terminal's. */
bool ask_possible(void);

/* "QUESTION for WHAT: " on standard error, the answer without echo into line (room bytes,
 * ends with NUL); twice: asked again, and both must agree (ERR_USAGE).  ERR_CANCELLED on
 * a signal or the end of the input. */
MUST_USE enum err ask_secret(const char *question, const char *what, bool twice, char *line,
			     size_t room);

#endif
