/* SPDX-License-Identifier: Apache-2.0 */
/* locate: finds the programs that belong to this one; see locate.h. */
#include "cmd/lifeboat/locate.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef LIFEBOAT_LIBEXECDIR
#define LIFEBOAT_LIBEXECDIR "/usr/libexec/lifeboat"
#endif

/* DIR[/../WHERE]/NAME, if it can be run. */
static bool is_there(const char *dir, const char *up, const char *where, const char *name,
		     char path[PATH_MAX])
{
	int len = snprintf(path, PATH_MAX, "%s%s%s/%s", dir, up, where, name);

	return len > 0 && len < PATH_MAX && access(path, X_OK) == 0;
}

enum err locate_program(const char *name, const char *folder, const char *variable, char path[PATH_MAX])
{
	const char *given = variable ? getenv(variable) : NULL;
	char self[PATH_MAX];

	if (given && *given) {
		(void)snprintf(path, PATH_MAX, "%s", given);
		if (access(path, X_OK) == 0)
			return ERR_OK;
		return err_note(ERR_NOTFOUND, errno, "%s (%s)", given, variable);
	}
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[n > 0 ? n : 0] = '\0';
	char *slash = strrchr(self, '/');
	if (slash) {
		*slash = '\0';
		if (is_there(self, "", "", name, path) ||
		    is_there(self, "/../", "libexec/lifeboat", name, path) ||
		    is_there(self, "/../", folder, name, path))
			return ERR_OK;
	}
	if (is_there(LIFEBOAT_LIBEXECDIR, "", "", name, path))
		return ERR_OK;
	return err_note(ERR_NOTFOUND, 0, "%s: not found beside lifeboat nor in %s: install it%s%s", name,
			LIFEBOAT_LIBEXECDIR, variable ? " or name it in " : "", variable ? variable : "");
}
