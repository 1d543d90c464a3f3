/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_ATTACH_H
#define CMD_LIFEBOAT_ATTACH_H

#include "base/err.h"

/* attach: this process's standard input and output on a machine's serial line.
 *
 * On a terminal: raw, every key goes to the guest, except
 *   Ctrl-] d       leave; the machine goes on
 *   Ctrl-] Ctrl-]  one Ctrl-] for the guest
 * Otherwise input is passed on as it is, until its end; Ctrl-C is for us. */

#define ATTACH_KEYS "Ctrl-] d"

enum attach_result {
	ATTACH_ENDED,	 /* the machine closed the line, all its output is out */
	ATTACH_LEFT,	 /* the person left it */
	ATTACH_SIGNAL,	 /* cli_signal() says which */
};

/* console_fd: from remote_console (taken).  ERR_IO if standard output fails. */
MUST_USE enum err attach_run(int console_fd, enum attach_result *result);

#endif
