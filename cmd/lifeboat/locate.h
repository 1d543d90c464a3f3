/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CMD_LIFEBOAT_LOCATE_H
#define CMD_LIFEBOAT_LOCATE_H

#include <limits.h>

#include "base/err.h"

/* locate: where the programs are that lifeboat starts.  Looked for beside this program, in
 * ../libexec/lifeboat and ../FOLDER relative to it (an installation, a build), and in the
 * directory that was configured at build time.  variable: an environment variable that
 * names it before all that; NULL: none.  ERR_NOTFOUND. */
MUST_USE enum err locate_program(const char *name, const char *folder, const char *variable,
				 char path[PATH_MAX]);

#endif
